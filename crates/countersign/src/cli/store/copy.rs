//! `countersign store copy`: moves an installation to another database.

use super::place;
use crate::{
    cli::{
        failure::{Exit, Failure},
        screen::{Screen, Tone, plain},
    },
    config::Data,
    store::copy::{Phase, Progress, Report},
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

#[derive(Debug, Default, clap::Args)]
#[command(
    after_help = "Example: countersign store copy --from /var/lib/countersign --to postgres://countersign@db.example/mfa\n\n\
                  STORE is a data directory, postgres://USER@HOST/DATABASE, or the word config for what the configuration\n\
                  says. Stop all servers first. The source stays as it is; the target must be empty, or a copy that was cut\n\
                  short, which then goes on. Exit code 6 means that the two sides are not the same in the end."
)]
pub(in crate::cli) struct Args {
    /// What is copied
    #[arg(long, value_name = "STORE")]
    pub from: String,
    /// Where to
    #[arg(long, value_name = "STORE")]
    pub to: String,
    /// Configuration file (TOML)
    #[arg(long, env = "COUNTERSIGN_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

impl Args {
    /// Returns the settings of both ends.
    pub(in crate::cli) fn ends(&self, settings: &Data) -> Result<(Data, Data), Failure> {
        Ok((end(settings, "--from", &self.from)?, end(settings, "--to", &self.to)?))
    }
}

fn end(settings: &Data, option: &str, text: &str) -> Result<Data, Failure> {
    if text == "config" {
        return Ok(settings.clone());
    }
    match place::named(settings.clone(), option, text)? {
        Some(named) => Ok(named),
        None if text.is_empty() || text.contains("://") || text == "sqlite:" => {
            Err(Failure::usage(format!("{option}: expected a directory, {}, or config", place::FORMS))
                .hint("a directory that is called config is ./config"))
        }
        None => Ok(place::in_directory(settings.clone(), text)),
    }
}

/// Takes how far the copy is.
pub(in crate::cli) type Watch<'a> = &'a mut dyn FnMut(Progress);

/// Has `copy` copy, shows how far it is where somebody looks on, and prints what became of it.
pub(super) async fn run(
    args: Args,
    copy: impl AsyncFnOnce(&Args, Watch<'_>) -> Result<Report, Failure>,
) -> Result<(), Failure> {
    let screen = Screen::new();
    let mut bar = Bar::default();
    let outcome = copy(&args, &mut |progress| bar.show(progress)).await;
    bar.clear();
    print(screen, &outcome?, args.json)
}

fn print(screen: Screen, report: &Report, json: bool) -> Result<(), Failure> {
    if json {
        screen.json(&to_json(report))?;
        return if report.finding.is_none() { Ok(()) } else { Err(Failure::silent(Exit::Integrity)) };
    }
    if let Some(finding) = &report.finding {
        return Err(Failure::new(format!("the copy is not like the source: {}", plain(finding)))
            .exit(Exit::Integrity)
            .hint("no server starts on it; find out who else wrote there, empty the target and begin anew"));
    }
    screen.print(&to_text(screen, report))
}

fn to_text(screen: Screen, report: &Report) -> String {
    let Report { heads, interrupted, .. } = report;
    let rows: Vec<_> = report.rows.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let newest = report.newest_event.map_or("none".to_owned(), |row| row.to_string());
    let last = report.last_checkpoint.map_or("none".to_owned(), |seq| seq.to_string());
    let again = if report.is_resumed { " (begun by an earlier run)" } else { "" };
    let mut text = screen.done(&format!("copied: {}{again}\n", rows.join(", ")));
    let same = format!(
        "compared: every row is the same on both sides; {heads} heads, newest event {newest}, last checkpoint {last}\n"
    );
    text.push_str(&screen.done(&same));
    if *interrupted > 0 {
        let mark = screen.paint(Tone::Warning, "!");
        text.push_str(&format!(
            "{mark} {interrupted} messages were being sent when the source was stopped, and are sent again\n"
        ));
    }
    text.push_str(
        "The master key is in no database: start the copy with the key of the source, as master.key in the data\n\
         directory or where keys.master_key_file says. Then prove its trail: countersign audit verify\n",
    );
    text
}

fn to_json(report: &Report) -> Value {
    let rows: Map<_, _> =
        report.rows.iter().map(|(name, count)| (name.replace(' ', "_"), json!(count))).collect();
    json!({
        "rows": rows,
        "written": report.written,
        "resumed": report.is_resumed,
        "heads": report.heads,
        "newestEvent": report.newest_event,
        "lastCheckpoint": report.last_checkpoint,
        "interrupted": report.interrupted,
        "equal": report.finding.is_none(),
        "finding": report.finding,
    })
}

/// How far it is, on a terminal.
#[derive(Default)]
struct Bar(Option<(Phase, ProgressBar)>);

impl Bar {
    fn show(&mut self, progress: Progress) {
        if self.0.as_ref().is_none_or(|(phase, _)| *phase != progress.phase) {
            self.clear();
            self.0 = Some((progress.phase, bar(&progress)));
        }
        if let Some((_, bar)) = &self.0 {
            bar.set_message(progress.table);
            bar.set_position(progress.done);
        }
    }

    fn clear(&mut self) {
        if let Some((_, bar)) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

fn bar(progress: &Progress) -> ProgressBar {
    let doing = match progress.phase {
        Phase::Copying => "copying",
        Phase::Comparing => "comparing",
    };
    // Shows nothing where standard error is no terminal.
    let bar = ProgressBar::with_draw_target(Some(progress.total), ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template("{prefix} {msg:14} {wide_bar} {percent:>3} % of {len} rows, {eta} left");
    // An earlier run's rows say nothing of how fast this one is.
    bar.set_position(progress.done);
    bar.reset_eta();
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_prefix(doing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn report() -> Report {
        Report {
            rows: vec![("organisations", 1), ("people", 2), ("revoked tokens", 0)],
            written: 3,
            heads: 3,
            newest_event: Some(7),
            ..Report::default()
        }
    }

    #[test]
    fn an_end_is_a_directory_a_server_or_what_is_configured() {
        let ours = Data { url_file: Some("url".into()), ..Data::default() };
        let args = |from: &str, to: &str| Args { from: from.into(), to: to.into(), ..Args::default() };

        let (from, to) = args("/srv/mfa", "postgres://db/mfa").ends(&ours).expect("two ends");
        let (config, named) = args("config", "sqlite:./config").ends(&ours).expect("two ends");

        assert!(!from.is_remote() && from.directory == Path::new("/srv/mfa"));
        assert!(to.url.is_some() && to.url_file.is_none());
        assert_eq!(config, ours);
        assert!(!named.is_remote() && named.directory == Path::new("./config"));
        for wrong in ["", "mysql://db/mfa", "sqlite:", "postgres://ada:hunter2@db/mfa"] {
            let failure = args("d", wrong).ends(&ours).expect_err(wrong);
            assert_eq!(failure.exit, Exit::Usage, "{wrong}");
            assert!(!format!("{failure:?}").contains("hunter2"));
        }
    }

    #[test]
    fn the_result_says_what_was_copied_and_what_to_do_next() {
        let screen = Screen { colours: false, width: None };

        let text = to_text(screen, &Report { interrupted: 2, is_resumed: true, ..report() });

        for said in [
            "✓ copied: 1 organisations, 2 people, 0 revoked tokens (begun by an earlier run)\n",
            "3 heads, newest event 7, last checkpoint none\n",
            "! 2 messages",
            "master.key",
            "countersign audit verify",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(!to_text(screen, &report()).contains('!'));
    }

    #[test]
    fn machines_read_the_same() {
        assert_eq!(
            to_json(&report()),
            json!({
                "rows": {"organisations": 1, "people": 2, "revoked_tokens": 0}, "written": 3, "resumed": false, "heads": 3,
                "newestEvent": 7, "lastCheckpoint": null, "interrupted": 0, "equal": true, "finding": null,
            })
        );
    }

    #[test]
    fn a_difference_is_a_failure() {
        let screen = Screen { colours: false, width: None };
        let differs = Report { finding: Some("people: row 3".into()), ..report() };

        let failure = print(screen, &differs, false).expect_err("a failure");

        assert_eq!(failure.exit, Exit::Integrity);
        assert!(failure.message.contains("people: row 3"));
        assert_eq!(print(screen, &differs, true), Err(Failure::silent(Exit::Integrity)));
    }
}
