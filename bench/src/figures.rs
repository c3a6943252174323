//! Tables and plots out of what runs found: the document's figures are a run's, and nobody's typing.

use crate::{
    plot::{self, Bars, Line, short},
    report::{
        AtConnections, AtLoad, Beside, BesideChore, OverloadReport, PruningReport, Report, Verification,
        grouped, range, with_range,
    },
    sample::Percentiles,
};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// What runs found, and where the figures go.
#[derive(Args)]
pub(crate) struct Options {
    /// Files that runs wrote by --json: of several estates, of PostgreSQL, of an overload, of pruning.
    #[arg(required = true)]
    found: Vec<PathBuf>,
    #[command(flatten)]
    into: Into,
}

/// Where figures go.
#[derive(Args, Default)]
pub(crate) struct Into {
    /// Draws plots into a folder.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Writes tables: between the marks of a document that has them, else into a new file.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// All that was found.
#[derive(Default)]
pub(crate) struct Found {
    /// On the embedded store, smallest estate first, each number of people once.
    estates: Vec<Report>,
    /// Of as many people as one of those, over other connections.
    others: Vec<Report>,
    postgres: Vec<Report>,
    overloads: Vec<OverloadReport>,
    /// Shortest trail first.
    prunings: Vec<PruningReport>,
}

/// Reads files and makes figures of them.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut found = Found::default();
    for path in &options.found {
        let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        if let Ok(report) = serde_json::from_slice(&text) {
            found.add(report);
        } else if let Ok(pruning) = serde_json::from_slice(&text) {
            found.add_pruning(pruning);
        } else {
            let overload = serde_json::from_slice(&text);
            found.overloads.push(overload.with_context(|| format!("read {}", path.display()))?);
        }
    }
    found.write(&options.into)
}

impl Found {
    /// Takes what a run found. Of several with as many people the last is the estate that is compared with others; the table of
    /// operations may still be of one before.
    pub(crate) fn add(&mut self, report: Report) {
        let users = report.settings.users;
        if report.postgres.is_some() {
            self.postgres.push(report);
        } else if let Some(before) = self.estates.iter_mut().find(|before| before.settings.users == users) {
            self.others.push(std::mem::replace(before, report));
        } else {
            self.estates.push(report);
        }
        self.estates.sort_by_key(|report| report.settings.users);
    }

    /// Takes what a run of pruning found.
    pub(crate) fn add_pruning(&mut self, report: PruningReport) {
        self.prunings.push(report);
        self.prunings.sort_by_key(|report| report.events);
    }

    /// Returns the run that measured the most operations.
    fn of_operations(&self) -> Option<&Report> {
        self.estates.iter().chain(&self.others).max_by_key(|report| report.operations.len())
    }

    /// Writes tables and plots.
    pub(crate) fn write(&self, into: &Into) -> Result<()> {
        if let Some(folder) = &into.plots {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
            for (name, svg) in self.plots() {
                let path = folder.join(name);
                fs::write(&path, svg).with_context(|| format!("write {}", path.display()))?;
            }
        }
        if let Some(path) = &into.markdown {
            self.write_tables(path)?;
        }
        Ok(())
    }

    fn write_tables(&self, path: &Path) -> Result<()> {
        let tables = self.tables();
        let text = match fs::read_to_string(path) {
            Ok(document) if document.contains(MARK) => filled(&document, &tables)?,
            _ => tables.iter().map(|(name, table)| format!("## {name}\n\n{table}\n")).collect(),
        };
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }

    fn plots(&self) -> Vec<(&'static str, String)> {
        let mut plots = Vec::new();
        if let Some(report) = self.of_operations() {
            plots.push(("operations.svg", operations(report)));
        }
        if !self.estates.is_empty() {
            plots.push(("latency.svg", latency(&self.estates)));
        }
        if self.estates.len() > 1 {
            plots.push(("growth.svg", growth(&self.estates)));
        }
        plots
    }

    fn tables(&self) -> Vec<(&'static str, String)> {
        let mut tables = Vec::new();
        if let Some(report) = self.estates.first().or(self.postgres.first()) {
            tables.push(("machine", machine(report)));
        }
        if !self.estates.is_empty() {
            tables.push(("estates", estates(&self.estates)));
            tables.push(("loads", loads(&self.estates)));
        }
        if let Some(report) = self.of_operations()
            && !report.operations.is_empty()
        {
            tables.push(("operations", operation_table(report)));
        }
        if !self.postgres.is_empty() {
            tables.push(("postgres", self.postgres.iter().map(postgres).collect::<Vec<_>>().join("\n")));
            tables.push(("postgres-loads", self.postgres.iter().map(postgres_loads).collect()));
        }
        if let Some(report) = self.overloads.last() {
            tables.push(("overload", overload(report)));
            tables.push(("floods", floods(report)));
        }
        if !self.prunings.is_empty() {
            tables.push(("pruning", pruning(&self.prunings)));
            tables.push(("pruning-loads", pruning_loads(&self.prunings)));
        }
        tables
    }
}

/// What begins a place for a table, before its name.
const MARK: &str = "<!-- figures: ";
/// What ends it.
const END: &str = "<!-- end of figures -->";

/// Puts tables between their marks; what there is no table for stays.
fn filled(document: &str, tables: &[(&'static str, String)]) -> Result<String> {
    let mut text = document.to_owned();
    for (name, table) in tables {
        let mark = format!("{MARK}{name} -->\n");
        let Some(begin) = text.find(&mark).map(|place| place + mark.len()) else { continue };
        let Some(length) = text[begin..].find(END) else { bail!("the figures of {name} have no end: {END}") };
        text.replace_range(begin..begin + length, table);
    }
    Ok(text)
}

/// The measurement with the most connections.
fn most(report: &Report) -> Option<&AtConnections> {
    let Beside::Baseline(measured) = &report.verification.at_connections else { return None };
    measured.iter().max_by_key(|at| at.connections)
}

fn all_connections(report: &Report) -> &[AtConnections] {
    match &report.verification.at_connections {
        Beside::Baseline(measured) => measured,
        Beside::Pgbench(_) => &[],
    }
}

/// Returns verifications and every other operation, each at its numbers of connections.
fn all_operations(report: &Report) -> impl Iterator<Item = (&str, &[AtConnections])> {
    let others = report.operations.iter();
    std::iter::once(("verify", all_connections(report)))
        .chain(others.map(|operation| (operation.name.as_str(), operation.at_connections.as_slice())))
}

fn operations(report: &Report) -> String {
    let panels: Vec<Bars> = all_operations(report)
        .map(|(name, measured)| Bars { title: name.to_owned(), bars: measured.iter().map(bar).collect() })
        .collect();
    let people = grouped(report.settings.users as f64);
    let note = format!(
        "operations a second (and their ratio to a handler that does nothing) by connections; each panel has a scale of its own; {people} people"
    );
    plot::panels("What the server does in a second", &note, &panels)
}

fn bar(at: &AtConnections) -> (String, f64, String) {
    let rate = at.per_second.median;
    (at.connections.to_string(), rate, format!("{} ({:.2})", short(rate), at.ratio.median))
}

/// The loads a report knows latencies at: parts of what was reached by timetable, and what was reached, each connection after
/// its answer.
fn at_loads(report: &Report) -> Vec<(String, &Percentiles)> {
    let in_part = |at: &AtLoad| format!("{:.0} %", at.share * 100.0);
    let verification = &report.verification;
    let mut loads = vec![(in_part(&verification.at_half_load), &verification.at_half_load.latency_ms)];
    loads.extend(verification.at_nine_tenths.as_ref().map(|at| (in_part(at), &at.latency_ms)));
    loads.extend(most(report).map(|at| ("closed loop".to_owned(), &at.latency_ms)));
    loads
}

/// One of the percentiles.
type OfLatency = fn(&Percentiles) -> f64;

fn latency(reports: &[Report]) -> String {
    let figures: [(&str, OfLatency); 2] = [("p50", |latency| latency.p50), ("p99", |latency| latency.p99)];
    let mut lines = Vec::new();
    for report in reports {
        let people = short(report.settings.users as f64);
        for (name, figure) in figures {
            let values = at_loads(report).iter().map(|(_, latency)| figure(latency)).collect();
            lines.push(Line { name: format!("{name}, {people} people"), values });
        }
    }
    let places: Vec<String> =
        reports.first().map(at_loads).unwrap_or_default().into_iter().map(|(name, _)| name).collect();
    let unit = "milliseconds from when a verification was due; by the part of the capacity that is sent";
    plot::lines("How long a verification takes", unit, &places, &lines)
}

fn growth(reports: &[Report]) -> String {
    let places: Vec<String> =
        reports.iter().map(|report| format!("{} people", short(report.settings.users as f64))).collect();
    let of_all = |figure: fn(&AtConnections) -> f64| {
        reports.iter().map(|report| most(report).map_or(f64::NAN, figure)).collect()
    };
    let of_some = |figure: fn(&AtConnections) -> f64| {
        let set = |report: &Report| {
            report.verification.working_set.as_ref().map_or(f64::NAN, |set| figure(&set.at_connections))
        };
        reports.iter().map(set).collect()
    };
    let cpu = |at: &AtConnections| at.server_cpu_micros.median;
    let list = |report: &Report| report.lists.deep.as_ref().map_or(f64::NAN, |deep| deep.p50 * 1000.0);
    let lines = [
        Line { name: "CPU, everybody equally".into(), values: of_all(cpu) },
        Line { name: "CPU, a tenth of them".into(), values: of_some(cpu) },
        Line { name: "p50, everybody".into(), values: of_all(|at| at.latency_ms.p50 * 1000.0) },
        Line { name: "a deep page, p50".into(), values: reports.iter().map(list).collect() },
    ];
    plot::lines(
        "What more people cost",
        "microseconds a verification, or a page of 50 people",
        &places,
        &lines,
    )
}

fn machine(report: &Report) -> String {
    let machine = &report.machine;
    let memory = grouped(machine.memory_mib as f64);
    let mut table = String::from("| machine | |\n|---|---|\n");
    for (name, value) in [
        ("processor", format!("{}, {} cores, shared by server and load", machine.processor, machine.cores)),
        ("memory", format!("{memory} MiB")),
        ("system", format!("Linux {}", machine.kernel)),
        ("disk", format!("{}, {:.2} ms to make 4 KiB durable", machine.filesystem, machine.sync_ms)),
        (
            "load",
            format!(
                "{} rounds of {} s, medians, lowest and highest in brackets; {} thread(s)",
                report.settings.rounds, report.settings.slice_seconds, report.settings.client_threads
            ),
        ),
    ] {
        row(&mut table, [name.to_owned(), value]);
    }
    table
}

fn row(table: &mut String, cells: impl IntoIterator<Item = String>) {
    for cell in cells {
        write!(table, "| {cell} ").expect("text takes everything");
    }
    table.push_str("|\n");
}

/// A figure of each estate, in a row.
type Figure = (&'static str, &'static str, fn(&Report) -> String);

/// The rows of the table of estates: what, the goal, and how it reads.
const ESTATE_ROWS: [Figure; 16] = [
    ("durable, audited verifications/s", "", |report| {
        of_most(report, |at| with_range_grouped(&at.per_second))
    }),
    ("a handler that does nothing, requests/s", "", |report| {
        of_most(report, |at| with_range_grouped(&at.baseline_per_second))
    }),
    ("ratio of the two", "≥ 0.4", |report| of_most(report, |at| with_range(&at.ratio, 2))),
    ("ratio by processor time", "", |report| of_most(report, |at| with_range(&at.cpu_ratio, 2))),
    ("p50 / p99 at that load, ms", "", |report| {
        of_most(report, |at| format!("{:.1} / {:.1}", at.latency_ms.p50, at.latency_ms.p99))
    }),
    ("p50 / p99 at half of it, from when it was due, ms", "p99 ≤ 10", |report| {
        let latency = &report.verification.at_half_load.latency_ms;
        format!("{:.1} / {:.1}", latency.p50, latency.p99)
    }),
    ("server CPU a verification / a do-nothing request, µs", "", |report| {
        of_most(report, |at| {
            format!("{:.1} / {:.1}", at.server_cpu_micros.median, at.baseline_server_cpu_micros.median)
        })
    }),
    ("of a tenth of the people: verifications/s", "", |report| {
        of_some(report, |at| with_range_grouped(&at.per_second))
    }),
    ("of a tenth of the people: server CPU each, µs", "", |report| {
        of_some(report, |at| with_range(&at.server_cpu_micros, 1))
    }),
    ("a page of 50 people, first / deep, p50, ms", "≤ 5", |report| {
        let deep = report.lists.deep.as_ref().map_or("–".to_owned(), |deep| format!("{:.2}", deep.p50));
        format!("{:.2} / {deep}", report.lists.first.p50)
    }),
    ("start to first answer, empty / warm / cold, ms", "≤ 100 / ≤ 300", |report| {
        let start = &report.start;
        let cold = start.cold_ms.as_ref().map_or("–".to_owned(), |cold| format!("{:.0}", cold.median));
        format!("{:.0} / {:.0} / {cold}", start.empty_ms.median, start.loaded_ms.median)
    }),
    ("resident memory, idle, empty / with all, MiB", "≤ 30", |report| {
        format!("{:.1} / {:.1}", report.memory.idle_empty, report.memory.idle_loaded)
    }),
    ("resident memory, at most, by connections, MiB", "≤ 120 at 64", |report| {
        let peaks = all_connections(report).iter();
        let peaks = peaks.map(|at| format!("{}: {:.0}", at.connections, at.peak_memory));
        peaks.collect::<Vec<_>>().join(", ")
    }),
    ("people made through the API, each with a factor, /s", "", |report| {
        grouped(report.loading.people_per_second)
    }),
    ("people made without HTTP, /s", "", |report| {
        report.loading.inside.as_ref().map_or("–".to_owned(), |made| grouped(made.people_per_second))
    }),
    ("bytes on disk a person", "", |report| grouped(report.loading.bytes_per_person as f64)),
];

fn of_most(report: &Report, show: impl FnOnce(&AtConnections) -> String) -> String {
    most(report).map_or("–".to_owned(), show)
}

fn of_some(report: &Report, show: impl FnOnce(&AtConnections) -> String) -> String {
    report.verification.working_set.as_ref().map_or("–".to_owned(), |set| show(&set.at_connections))
}

fn with_range_grouped(spread: &crate::sample::Spread) -> String {
    format!("{} ({})", grouped(spread.median), range(spread, 0))
}

fn estates(reports: &[Report]) -> String {
    let connections = reports.first().and_then(most).map_or(0, |at| at.connections);
    let mut table = String::new();
    let people = reports.iter().map(|report| format!("{} people", grouped(report.settings.users as f64)));
    row(&mut table, [format!("{connections} connections"), "goal".to_owned()].into_iter().chain(people));
    row(&mut table, vec!["---".to_owned(); 2 + reports.len()]);
    for (what, goal, figure) in ESTATE_ROWS {
        let figures = reports.iter().map(figure);
        row(&mut table, [what.to_owned(), goal.to_owned()].into_iter().chain(figures));
    }
    table
}

/// The columns of a load by timetable, behind what tells them apart.
const AT_LOAD: [&str; 7] =
    ["load", "verifications/s due", "done", "never begun", "p50 ms", "p99 ms", "p99.9 ms"];

fn loads_head(what: &str) -> String {
    let mut table = String::new();
    let columns = || std::iter::once(what).chain(AT_LOAD);
    row(&mut table, columns().map(str::to_owned));
    row(&mut table, columns().map(|_| "---".to_owned()));
    table
}

fn loads_row(table: &mut String, what: String, at: &AtLoad) {
    let latency = &at.latency_ms;
    row(
        table,
        [
            what,
            format!("{:.0} %", at.share * 100.0),
            grouped(at.due_per_second),
            grouped(at.per_second.median),
            at.never_begun.to_string(),
            format!("{:.1}", latency.p50),
            format!("{:.1}", latency.p99),
            format!("{:.1}", latency.p999),
        ],
    );
}

fn loads(reports: &[Report]) -> String {
    let mut table = loads_head("people");
    for report in reports {
        let verification = &report.verification;
        for at in std::iter::once(&verification.at_half_load).chain(&verification.at_nine_tenths) {
            loads_row(&mut table, grouped(report.settings.users as f64), at);
        }
    }
    table
}

fn operation_table(report: &Report) -> String {
    let mut table = String::new();
    let columns = [
        "operation",
        "connections",
        "/s",
        "ratio",
        "by CPU",
        "p50 ms",
        "p99 ms",
        "server CPU µs",
        "peak MiB",
    ];
    row(&mut table, columns.map(str::to_owned));
    row(&mut table, columns.map(|_| "---".to_owned()));
    for (name, measured) in all_operations(report) {
        for at in measured {
            row(
                &mut table,
                [
                    name.to_owned(),
                    at.connections.to_string(),
                    with_range_grouped(&at.per_second),
                    with_range(&at.ratio, 2),
                    format!("{:.2}", at.cpu_ratio.median),
                    format!("{:.2}", at.latency_ms.p50),
                    format!("{:.2}", at.latency_ms.p99),
                    format!("{:.1}", at.server_cpu_micros.median),
                    format!("{:.0}", at.peak_memory),
                ],
            );
        }
    }
    table.push('\n');
    for operation in &report.operations {
        writeln!(table, "- `{}`: {}.", operation.name, operation.what).expect("text takes everything");
    }
    table
}

fn postgres(report: &Report) -> String {
    let mut table = String::new();
    let columns = [
        "connections",
        "nodes",
        "verifications/s",
        "to `pgbench`, a transaction each",
        "to one statement each",
        "by CPU",
        "p99 ms",
        "changes a commit",
        "nodes, µs each",
        "PostgreSQL, µs each",
    ];
    row(&mut table, columns.map(str::to_owned));
    row(&mut table, columns.map(|_| "---".to_owned()));
    let Beside::Pgbench(measured) = &report.verification.at_connections else { return table };
    for at in measured {
        for (nodes, by) in [("one", &at.one_node), ("two", &at.two_nodes)] {
            row(
                &mut table,
                [
                    at.connections.to_string(),
                    nodes.to_owned(),
                    with_range_grouped(&by.per_second),
                    with_range(&by.ratio, 2),
                    with_range(&by.statement_ratio, 2),
                    format!("{:.2}", by.cpu_ratio.median),
                    format!("{:.1}", by.latency_ms.p99),
                    format!("{:.1}", by.changes_per_commit.median),
                    format!("{:.1}", by.server_cpu_micros.median),
                    format!("{:.1}", by.postgres_cpu_micros.median),
                ],
            );
        }
    }
    table
}

fn postgres_loads(report: &Report) -> String {
    let mut table = loads_head("meanwhile");
    let Verification { at_half_load, at_nine_tenths, beside_chores, .. } = &report.verification;
    for at in std::iter::once(at_half_load).chain(at_nine_tenths) {
        loads_row(&mut table, "–".to_owned(), at);
    }
    for BesideChore { chore, times, at } in beside_chores {
        loads_row(&mut table, format!("`{chore}`, {times} times"), at);
    }
    table
}

fn pruning(reports: &[PruningReport]) -> String {
    let mut table = String::new();
    let columns =
        ["people", "events", "events a step", "steps", "p50 ms", "p99 ms", "longest ms", "events/s"];
    row(&mut table, columns.map(str::to_owned));
    row(&mut table, columns.map(|_| "---".to_owned()));
    for report in reports {
        let Percentiles { samples, p50, p99, max, .. } = &report.step_ms;
        row(
            &mut table,
            [
                grouped(report.users as f64),
                grouped(report.events as f64),
                report.step_events.to_string(),
                samples.to_string(),
                format!("{p50:.1}"),
                format!("{p99:.1}"),
                format!("{max:.1}"),
                grouped(report.pruned_per_second),
            ],
        );
    }
    table
}

fn pruning_loads(reports: &[PruningReport]) -> String {
    let mut table = loads_head("people");
    for report in reports {
        let people = grouped(report.users as f64);
        loads_row(&mut table, people.clone(), &report.alone);
        loads_row(&mut table, format!("{people}, while events are pruned"), &report.beside);
    }
    table
}

fn overload(report: &OverloadReport) -> String {
    let OverloadReport { peak, beyond, .. } = report;
    let mut table = String::from("| | at the peak | beyond it |\n|---|---|---|\n");
    let refused = beyond.side.refusals();
    for (what, at_peak, beyond) in [
        ("connections", peak.connections.to_string(), beyond.connections.to_string()),
        ("verifications/s due", "–".to_owned(), with_range_grouped(&beyond.due_per_second)),
        ("accepted/s", with_range_grouped(&peak.per_second), with_range_grouped(&beyond.goodput)),
        ("of the peak (goal ≥ 0.9)", "1".to_owned(), with_range(&beyond.ratio, 2)),
        (
            "p50 / p99 of the accepted, ms",
            format!("{:.1} / {:.1}", peak.latency_ms.p50, peak.latency_ms.p99),
            format!("{:.1} / {:.1}", beyond.side.latency_ms.p50, beyond.side.latency_ms.p99),
        ),
        ("refused", "none".to_owned(), refused),
        ("connections closed on us", "0".to_owned(), beyond.side.broken.to_string()),
        ("due and never begun", "–".to_owned(), beyond.side.never_begun.to_string()),
        (
            "resident memory, at most, MiB",
            format!("{:.0}", peak.peak_memory),
            format!("{:.0}", beyond.peak_memory),
        ),
    ] {
        row(&mut table, [what.to_owned(), at_peak, beyond]);
    }
    table
}

fn floods(report: &OverloadReport) -> String {
    let mut table = String::new();
    let columns = [
        "flood",
        "others due /s",
        "done alone",
        "done beside it",
        "ratio",
        "p99 alone, ms",
        "p99 beside it, ms",
        "the flood is answered /s",
        "and refused",
    ];
    row(&mut table, columns.map(str::to_owned));
    row(&mut table, columns.map(|_| "---".to_owned()));
    for flood in &report.floods {
        row(
            &mut table,
            [
                flood.what.clone(),
                grouped(flood.due_per_second),
                grouped(flood.alone.per_second.median),
                grouped(flood.beside.per_second.median),
                with_range(&flood.ratio, 2),
                format!("{:.1}", flood.alone.latency_ms.p99),
                format!("{:.1}", flood.beside.latency_ms.p99),
                grouped(flood.flood.per_second.median),
                flood.flood.refusals(),
            ],
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_come_between_their_marks_and_nothing_else_changes() {
        let document =
            format!("before\n{MARK}loads -->\nold\n{END}\nbetween\n{MARK}floods -->\nstays\n{END}\nafter\n");

        let text = filled(&document, &[("loads", "| new |\n".into()), ("machine", "nowhere".into())])
            .expect("marks");

        assert_eq!(text, document.replace("old\n", "| new |\n"));
        assert!(filled(&format!("{MARK}loads -->\nold"), &[("loads", String::new())]).is_err());
    }
}
