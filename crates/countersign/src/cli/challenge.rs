//! `countersign challenge …`: codes that are sent.

use super::{
    api::{Api, Server},
    failure::Failure,
    names,
    screen::{Field, Screen, plain, text},
};
use clap::{ArgGroup, Subcommand};
use countersign_core::{Channel, Kind};
use serde_json::{Map, Value, json};

const FIELDS: &[Field] = &[
    ("Id", "/id"),
    ("Type", "/type"),
    ("Purpose", "/purpose"),
    ("To", "/destination"),
    ("State", "/state"),
    ("Sent", "/sentAt"),
    ("Expires", "/expiresAt"),
    ("Delivery", "/delivery"),
    ("Message", "/deliveryState"),
];

/// The kinds of factors whose codes are sent.
pub(super) const KINDS: [&str; Channel::ALL.len()] =
    [Kind::Email.name(), Kind::Sms.name(), Kind::Voice.name()];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send a code to somebody
    #[command(
        after_help = "Example: countersign challenge send ada --type sms",
        group = ArgGroup::new("recipient").required(true)
    )]
    Send {
        /// Username, number or id
        user: String,
        /// The first factor of this type
        #[arg(long = "type", value_name = "TYPE", value_parser = names(KINDS), group = "recipient")]
        kind: Option<String>,
        /// The factor with this id
        #[arg(long, value_name = "ID", group = "recipient")]
        factor: Option<String>,
    },
    /// Send another code; the one before is worth nothing any more
    #[command(after_help = "Example: countersign challenge resend ada 01a20219-5b3e-7c11-9c6e-3f7d5a9d1f10")]
    Resend(Which),
    /// Show a challenge
    #[command(after_help = "Example: countersign challenge show ada 01a20219-5b3e-7c11-9c6e-3f7d5a9d1f10")]
    Show(Which),
}

/// Which challenge of whom.
#[derive(Debug, clap::Args)]
struct Which {
    /// Username, number or id
    user: String,
    /// The challenge's id
    challenge: String,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let json = args.server.json;
    let screen = Screen::new();
    let work = async |api: &Api| match args.command {
        Command::Send { user, kind, factor } => {
            let members = [("type", kind), ("factor", factor)];
            let body: Map<String, Value> =
                members.into_iter().filter_map(|(name, value)| Some((name.into(), value?.into()))).collect();
            let sent = api.post(&["v1", "users", &user, "challenges"], body.into()).await?;
            if json {
                return screen.json(&sent);
            }
            screen.print(&screen.done(&on_its_way(&sent)))?;
            let id = text(&sent, "/id");
            screen.print(&format!("next: countersign verify {} --challenge {id}", plain(&user)))
        }
        Command::Resend(Which { user, challenge }) => {
            let path = ["v1", "users", &user, "challenges", &challenge, "resend"];
            let sent = api.post(&path, json!({})).await?;
            if json { screen.json(&sent) } else { screen.print(&screen.done(&on_its_way(&sent))) }
        }
        Command::Show(Which { user, challenge }) => {
            screen.one(FIELDS, &api.get(&["v1", "users", &user, "challenges", &challenge]).await?, json)
        }
    };
    Api::session(&args.server, work).await
}

/// Says that a code was sent, and where.
pub(super) fn on_its_way(challenge: &Value) -> String {
    format!("a code is on its way to {}", plain(text(challenge, "/destination")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_are_those_whose_codes_are_sent() {
        let sent: Vec<&str> =
            Kind::ALL.into_iter().filter(|kind| kind.channel().is_some()).map(Kind::name).collect();

        assert_eq!(sent, KINDS);
    }
}
