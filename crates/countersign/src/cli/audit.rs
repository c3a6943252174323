//! `countersign audit …`: what happened, the proof that nothing was cut or edited, and the archive.

use super::{
    api::{Api, Page, Server},
    failure::{Exit, Failure},
    installation::Installation,
    screen::{Field, Screen, Tone, plain, text},
};
use crate::service::audit::Report;
use clap::Subcommand;
use countersign_core::Timestamp;
use serde_json::{Value, json};
use std::path::PathBuf;

const COLUMNS: &[Field] = &[
    ("time", "/at"),
    ("what", "/action"),
    ("why", "/why"),
    ("by", "/by"),
    ("from", "/ip"),
    ("whose", "/subject/id"),
];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List what happened, newest first
    #[command(after_help = "Example: countersign audit list --user ada --from 2026-11-22T00:00:00Z")]
    List(Box<List>),
    /// Prove that no event was cut or edited; reads the database itself
    #[command(after_help = "Example: countersign audit verify --data /var/lib/countersign\n\n\
                            Stop the server first: the data is open to one program at a time.\n\
                            Exit code 6 means that the trail is broken.")]
    Verify {
        #[command(flatten)]
        installation: Installation,
        /// Also read this archive of pruned events, and follow all chains from their first event; may be repeated
        #[arg(long, value_name = "DIR")]
        archive: Vec<PathBuf>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Archive events from before a date and prune them; works on the database itself
    #[command(after_help = "Example: countersign audit archive --before 2026-01-01 --to /srv/audit\n\n\
                            A server does so by itself where audit.keep_days is set. With its embedded database stop it\n\
                            first: the data is open to one program at a time.")]
    Archive(Box<Archive>),
}

#[derive(Debug, clap::Args)]
pub(super) struct Archive {
    #[command(flatten)]
    pub installation: Installation,
    /// Events from before this day, or this time (RFC 3339), go
    #[arg(long, value_name = "DATE")]
    before: String,
    /// Where the archive is; audit.archive_directory if not given
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Archive {
    /// Returns the time before which events go.
    pub(super) fn before(&self) -> Result<Timestamp, Failure> {
        let of_day = || Timestamp::parse(&format!("{}T00:00:00Z", self.before));
        Timestamp::parse(&self.before).or_else(of_day).ok_or_else(|| {
            Failure::usage(format!("--before {}: expected a date or a time", plain(&self.before)))
                .hint("for instance 2026-01-01, or 2026-01-01T00:00:00Z")
        })
    }
}

/// What became of archiving.
pub(super) struct Archived {
    /// Events that were archived and pruned.
    pub events: u64,
    /// Where they are.
    pub directory: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Only this person's: username, number or id
    #[arg(long)]
    user: Option<String>,
    /// Only this action, for instance method.locked
    #[arg(long)]
    action: Option<String>,
    /// Only at or after this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    page: Page,
    #[command(flatten)]
    server: Server,
}

/// Says in a line what was proved, or fails if anything was found.
pub(super) fn proof(report: &Report) -> Result<String, Failure> {
    if !report.holds() {
        return Err(Failure::new(format!("the audit trail is broken: {} findings", report.finding_count))
            .exit(Exit::Integrity)
            .hint("keep a copy of the data directory as it is, and compare it with a backup"));
    }
    let (events, chains) = (report.rows + report.archived, report.people + report.organisations);
    let pruned = match (report.archived, report.pruned) {
        (0, 0) => String::new(),
        (0, pruned) => format!("; {pruned} older ones were pruned"),
        (archived, _) => format!("; {archived} of them are in the archive"),
    };
    Ok(format!("{events} events in {chains} chains, none cut or edited{pruned}"))
}

/// Lists through the API, checks the trail with `verify`, or archives it with `archive`.
pub(super) async fn run(
    args: Args,
    verify: impl AsyncFnOnce(&Installation, &[PathBuf]) -> Result<Report, Failure>,
    archive: impl AsyncFnOnce(&Archive) -> Result<Archived, Failure>,
) -> Result<(), Failure> {
    let screen = Screen::new();
    match args.command {
        Command::List(list) => print_list(screen, *list).await,
        Command::Verify { installation, archive, json } => {
            print_report(screen, &verify(&installation, &archive).await?, json)
        }
        Command::Archive(args) => print_archived(screen, &archive(&args).await?, args.json),
    }
}

async fn print_list(screen: Screen, list: List) -> Result<(), Failure> {
    let List { user, action, from, until, page, server } = list;
    let is_of_one = user.is_some();
    let filter: Vec<_> = [("user", user), ("action", action), ("from", from), ("until", until)]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let work = async |api: &Api| api.list(&["v1", "audit"], &filter, &page).await;
    let mut events = Api::session(&server, work).await?;
    if !server.json {
        events["items"].as_array_mut().into_iter().flatten().for_each(summarise);
    }
    // Of one person's events everybody knows whose they are.
    let columns = if is_of_one { &COLUMNS[..COLUMNS.len() - 1] } else { COLUMNS };
    screen.list(columns, &events, server.json)
}

/// Adds the members the table shows: who did it, and why.
fn summarise(event: &mut Value) {
    event["by"] = by(event).into();
    event["why"] = why(event).into();
}

/// Returns who did it.
pub(super) fn by(event: &Value) -> String {
    let name = text(event, "/actor/type");
    match text(event, "/actor/id") {
        "" => plain(name),
        id => format!("{} {}", plain(name), plain(id)),
    }
}

/// Returns what there is to say of an event beside its name: the reason, else the kind, else the method.
pub(super) fn why(event: &Value) -> String {
    let said = ["/reason", "/kind", "/method"].into_iter().map(|member| text(event, member));
    said.into_iter().find(|text| !text.is_empty()).map(plain).unwrap_or_default()
}

fn print_report(screen: Screen, report: &Report, json: bool) -> Result<(), Failure> {
    if json {
        screen.json(&json!({"holds": report.holds(), "report": report}))?;
        return if report.holds() { Ok(()) } else { Err(Failure::silent(Exit::Integrity)) };
    }
    for finding in &report.findings {
        screen.print(&format!("{} {}", screen.paint(Tone::Bad, "✗"), plain(finding)))?;
    }
    screen.print(&screen.done(&proof(report)?))
}

fn print_archived(screen: Screen, archived: &Archived, json: bool) -> Result<(), Failure> {
    let (events, directory) = (archived.events, archived.directory.display().to_string());
    if json {
        return screen.json(&json!({"archived": events, "directory": directory}));
    }
    screen.print(&screen.done(&format!("{events} events archived in {}, and pruned", plain(&directory))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_trail_exits_with_6() {
        let broken =
            Report { findings: vec!["event 3 was edited".into()], finding_count: 1, ..Report::default() };

        let failure = proof(&broken).expect_err("broken");

        assert_eq!(failure.exit, Exit::Integrity);
        assert!(proof(&Report::default()).is_ok());
    }

    #[test]
    fn an_event_says_who_and_why() {
        let event = json!({"actor": {"type": "client", "id": "c1"}, "kind": "totp", "reason": "wrong_code"});

        assert_eq!(by(&event), "client c1");
        assert_eq!(why(&event), "wrong_code");
        assert_eq!(by(&json!({"actor": {"type": "system"}})), "system");
    }
}
