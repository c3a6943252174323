//! `countersign audit …`: what happened, and the proof that nothing was cut or edited.

use super::{
    api::{Api, Page, Server},
    failure::{Exit, Failure},
    installation::Installation,
    screen::{Field, Screen, Tone, plain, text},
};
use crate::service::audit::Report;
use clap::Subcommand;
use serde_json::{Value, json};

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
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
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
    let chains = report.people + report.organisations;
    Ok(format!("{} events in {chains} chains, none cut or edited", report.rows))
}

/// Lists through the API, or checks the trail with `verify`.
pub(super) async fn run(
    args: Args,
    verify: impl AsyncFnOnce(&Installation) -> Result<Report, Failure>,
) -> Result<(), Failure> {
    let screen = Screen::new();
    match args.command {
        Command::List(list) => print_list(screen, *list).await,
        Command::Verify { installation, json } => print_report(screen, &verify(&installation).await?, json),
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
