//! `countersign audit …`: what happened, and the proof that nothing was cut or edited.

use super::{
    api::{Api, Page, Server},
    failure::{Exit, Failure},
    installation::Installation,
    screen::{Field, Screen, Tone, plain, text},
};
use clap::Subcommand;
use serde_json::{Value, json};

const COLUMNS: &[Field] = &[
    ("time", "/at"),
    ("what", "/action"),
    ("whose", "/subject/id"),
    ("by", "/by"),
    ("why", "/why"),
    ("from", "/ip"),
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

/// What a check of the audit trail found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct AuditSummary {
    /// How many chains were followed: one a person, one an organisation.
    pub chains: u64,
    /// How many events stand in them.
    pub events: u64,
    /// Where a chain is broken.
    pub faults: Vec<AuditFault>,
}

/// A place where a chain is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AuditFault {
    /// Whose chain: `user 0190…`.
    pub subject: String,
    /// The first event that does not fit.
    pub seq: u64,
    /// What is wrong: missing, edited, more than the document knows.
    pub what: String,
}

impl AuditSummary {
    /// Says in a line what was proved.
    pub(super) fn line(&self) -> String {
        format!("{} events in {} chains, none cut or edited", self.events, self.chains)
    }

    /// Fails if there is a fault.
    pub(super) fn into_result(self) -> Result<Self, Failure> {
        match self.faults.len() {
            0 => Ok(self),
            faults => Err(Failure::new(format!("the audit trail is broken: {faults} faults"))
                .exit(Exit::Integrity)
                .hint("keep a copy of the data directory as it is, and compare it with a backup")),
        }
    }
}

/// Lists through the API, or checks the trail with `verify`.
pub(super) async fn run(
    args: Args,
    verify: impl AsyncFnOnce(&Installation) -> Result<AuditSummary, Failure>,
) -> Result<(), Failure> {
    let screen = Screen::new();
    match args.command {
        Command::List(list) => print_list(screen, *list).await,
        Command::Verify { installation, json } => print_summary(screen, verify(&installation).await?, json),
    }
}

async fn print_list(screen: Screen, list: List) -> Result<(), Failure> {
    let List { user, action, from, until, page, server } = list;
    let filter: Vec<_> = [("user", user), ("action", action), ("from", from), ("until", until)]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let work = async |api: &Api| api.list(&["v1", "audit"], &filter, &page).await;
    let mut events = Api::session(&server, work).await?;
    if !server.json {
        events["items"].as_array_mut().into_iter().flatten().for_each(summarise);
    }
    screen.list(COLUMNS, &events, server.json)
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

fn print_summary(screen: Screen, summary: AuditSummary, json: bool) -> Result<(), Failure> {
    if json {
        screen.json(&to_json(&summary))?;
        return if summary.faults.is_empty() { Ok(()) } else { Err(Failure::silent(Exit::Integrity)) };
    }
    for fault in &summary.faults {
        let place = format!("{} event {}: {}", fault.subject, fault.seq, fault.what);
        screen.print(&format!("{} {}", screen.paint(Tone::Bad, "✗"), plain(&place)))?;
    }
    screen.print(&screen.done(&summary.into_result()?.line()))
}

fn to_json(summary: &AuditSummary) -> Value {
    let fault = |fault: &AuditFault| json!({"subject": fault.subject, "seq": fault.seq, "what": fault.what});
    json!({
        "intact": summary.faults.is_empty(),
        "chains": summary.chains,
        "events": summary.events,
        "faults": summary.faults.iter().map(fault).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_trail_exits_with_6() {
        let fault = AuditFault { subject: "user 1".into(), seq: 3, what: "edited".into() };
        let summary = AuditSummary { chains: 1, events: 4, faults: vec![fault] };

        let broken = summary.into_result().expect_err("broken");

        assert_eq!(broken.exit, Exit::Integrity);
        assert!(AuditSummary::default().into_result().is_ok());
    }

    #[test]
    fn an_event_says_who_and_why() {
        let event = json!({"actor": {"type": "client", "id": "c1"}, "kind": "totp", "reason": "wrong_code"});

        assert_eq!(by(&event), "client c1");
        assert_eq!(why(&event), "wrong_code");
        assert_eq!(by(&json!({"actor": {"type": "system"}})), "system");
    }
}
