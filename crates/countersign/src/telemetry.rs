//! What is logged and counted.

use crate::{
    config::{Log, LogFormat},
    error::{Error, Result},
    store::{ChannelGauges, Gauges},
};
use countersign_core::{Channel, Timestamp, Verdict};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    io::IsTerminal,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tracing_subscriber::EnvFilter;

/// Starts logging to standard error. Codes, secrets, tokens and addresses never reach it: their types do not print.
pub fn start_logging(log: &Log) -> Result<()> {
    let filter =
        EnvFilter::try_new(&log.filter).map_err(|error| Error::Store(format!("read log.filter: {error}")))?;
    let is_terminal = std::io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_terminal);
    let is_json = match log.format {
        LogFormat::Json => true,
        LogFormat::Pretty => false,
        LogFormat::Auto => !is_terminal,
    };
    let started = if is_json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_target(false).try_init()
    };
    started.map_err(|error| Error::Internal(format!("start logging: {error}")))
}

type Labels = Vec<(&'static str, &'static str)>;

/// What the server counts. Handles are static: counting takes no lock.
pub struct Metrics {
    registry: Mutex<Registry>,
    verdicts: [Counter; 6],
    answers: [Counter; 5],
    durations: Histogram,
    pruned: Counter,
    pruning: Gauge<f64, AtomicU64>,
    store: StoreMetrics,
    deliveries: [DeliveryMetrics; Channel::ALL.len()],
}

struct StoreMetrics {
    commits: Gauge<i64>,
    changes: Gauge<i64>,
    waiting: Gauge<i64>,
    wal_bytes: Gauge<i64>,
    commit_seconds: Gauge<f64, AtomicU64>,
    fsync_seconds: Gauge<f64, AtomicU64>,
}

const VERDICTS: [&str; 6] = ["accepted", "rejected", "locked", "replayed", "expired", "no_factor"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers everything that is counted.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("countersign");
        let verdicts: Family<Labels, Counter> = Family::default();
        registry.register("verifications", "Attempts by verdict", verdicts.clone());
        let answers: Family<Labels, Counter> = Family::default();
        registry.register("http_answers", "HTTP answers by class of status", answers.clone());
        let buckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
        let durations = Histogram::new(buckets);
        registry.register_with_unit("http_duration", "Time to answer", Unit::Seconds, durations.clone());
        let (pruned, pruning) = (Counter::default(), Gauge::default());
        registry.register("audit_pruned", "Events that were archived and pruned", pruned.clone());
        let help = "When pruning last went through, as a Unix time; 0 if not since the start";
        registry.register_with_unit("audit_pruning", help, Unit::Seconds, pruning.clone());
        Self {
            pruned,
            pruning,
            verdicts: VERDICTS.map(|name| verdicts.get_or_create(&vec![("verdict", name)]).clone()),
            answers: CLASSES.map(|name| answers.get_or_create(&vec![("class", name)]).clone()),
            durations,
            store: StoreMetrics::register(&mut registry),
            deliveries: DeliveryMetrics::register(&mut registry),
            registry: Mutex::new(registry),
        }
    }

    /// Counts a verdict.
    pub fn verdict(&self, verdict: &Verdict) {
        let place = match verdict {
            Verdict::Accepted { .. } => 0,
            Verdict::Rejected { .. } => 1,
            Verdict::Locked { .. } => 2,
            Verdict::Replayed => 3,
            Verdict::Expired => 4,
            Verdict::NoFactor => 5,
        };
        self.verdicts[place].inc();
    }

    /// Counts an answer.
    pub fn answer(&self, status: http::StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.answers[class].inc();
        self.durations.observe(took.as_secs_f64());
    }

    /// Counts events that were archived and pruned.
    pub fn pruned(&self, count: u64) {
        self.pruned.inc_by(count);
    }

    /// Notes that pruning went through.
    pub fn pruning_ended(&self, now: Timestamp) {
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit for millions of years")]
        self.pruning.set(now.seconds() as f64);
    }

    /// Writes everything in the OpenMetrics text format. `oldest` says of each channel since when its oldest message waits.
    pub fn render(
        &self,
        gauges: &Gauges,
        oldest: [Option<Timestamp>; Channel::ALL.len()],
        now: Timestamp,
    ) -> Result<String> {
        self.store.set(gauges);
        for ((metrics, channel), oldest) in self.deliveries.iter().zip(&gauges.channels).zip(oldest) {
            metrics.set(channel, oldest.map_or(Duration::ZERO, |oldest| oldest.until(now)));
        }
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut text = String::new();
        encode(&mut text, &registry).map_err(|error| Error::Internal(format!("write metrics: {error}")))?;
        Ok(text)
    }
}

impl StoreMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            commits: Gauge::default(),
            changes: Gauge::default(),
            waiting: Gauge::default(),
            wal_bytes: Gauge::default(),
            commit_seconds: Gauge::default(),
            fsync_seconds: Gauge::default(),
        };
        registry.register("store_commits", "Durable commits since the start", metrics.commits.clone());
        registry.register("store_changes", "Changes in those commits", metrics.changes.clone());
        registry.register("store_waiting", "Changes waiting for the writer", metrics.waiting.clone());
        registry.register_with_unit("store_wal", "Write-ahead log", Unit::Bytes, metrics.wal_bytes.clone());
        let help = "The last commit";
        registry.register_with_unit("store_commit", help, Unit::Seconds, metrics.commit_seconds.clone());
        let help = "One durable write when the store was opened";
        registry.register_with_unit("store_fsync", help, Unit::Seconds, metrics.fsync_seconds.clone());
        metrics
    }

    fn set(&self, gauges: &Gauges) {
        let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.commits.set(whole(gauges.commits));
        self.changes.set(whole(gauges.changes));
        self.waiting.set(whole(gauges.waiting));
        self.wal_bytes.set(whole(gauges.wal_bytes));
        self.commit_seconds.set(gauges.last_commit_seconds);
        self.fsync_seconds.set(gauges.fsync_seconds);
    }
}

/// What is counted of the messages of one channel. Never where they go.
struct DeliveryMetrics {
    queued: Gauge<i64>,
    oldest: Gauge<f64, AtomicU64>,
    outcomes: [Counter; OUTCOMES.len()],
}

const OUTCOMES: [&str; 6] = ["sent", "failed", "expired", "superseded", "retried", "interrupted"];

impl DeliveryMetrics {
    fn register(registry: &mut Registry) -> [Self; Channel::ALL.len()] {
        let queued: Family<Labels, Gauge<i64>> = Family::default();
        registry.register("deliveries_queued", "Messages that wait or are being sent", queued.clone());
        let oldest: Family<Labels, Gauge<f64, AtomicU64>> = Family::default();
        let help = "How long the oldest of them has waited";
        registry.register_with_unit("deliveries_oldest", help, Unit::Seconds, oldest.clone());
        let outcomes: Family<Labels, Counter> = Family::default();
        registry.register(
            "deliveries",
            "What became of messages and attempts to send them",
            outcomes.clone(),
        );
        Channel::ALL.map(|channel| {
            let label = ("channel", channel.name());
            Self {
                queued: queued.get_or_create(&vec![label]).clone(),
                oldest: oldest.get_or_create(&vec![label]).clone(),
                outcomes: OUTCOMES
                    .map(|outcome| outcomes.get_or_create(&vec![label, ("outcome", outcome)]).clone()),
            }
        })
    }

    fn set(&self, gauges: &ChannelGauges, oldest: Duration) {
        self.queued.set(i64::try_from(gauges.queued).unwrap_or(i64::MAX));
        self.oldest.set(oldest.as_secs_f64());
        let counted = [
            gauges.sent,
            gauges.failed,
            gauges.expired,
            gauges.superseded,
            gauges.retried,
            gauges.interrupted,
        ];
        for (counter, count) in self.outcomes.iter().zip(counted) {
            // The store counts; this shows what it counted.
            counter.inner().store(count, Relaxed);
        }
    }
}
