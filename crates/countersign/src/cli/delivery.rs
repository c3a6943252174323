//! `countersign delivery …`: messages on their way, and whether the channels work.

use super::{
    api::{Api, Page, Server},
    failure::{Exit, Failure},
    names,
    screen::{Field, Screen, plain, text},
};
use clap::Subcommand;
use countersign_core::Channel;
use serde_json::{Value, json};

const COLUMNS: &[Field] = &[
    ("id", "/id"),
    ("posted", "/createdAt"),
    ("channel", "/channel"),
    ("what", "/subject"),
    ("to", "/destination"),
    ("state", "/state"),
    ("attempts", "/attempts"),
    ("by", "/provider"),
    ("why", "/reason"),
];
const FIELDS: &[Field] = &[
    ("Id", "/id"),
    ("Channel", "/channel"),
    ("What", "/subject"),
    ("To", "/destination"),
    ("State", "/state"),
    ("Attempts", "/attempts"),
    ("Interrupted", "/interrupted"),
    ("Provider", "/provider"),
    ("Its name for it", "/reference"),
    ("It said later", "/report"),
    ("Why", "/reason"),
    ("Posted", "/createdAt"),
    ("Expires", "/expiresAt"),
    ("Next attempt", "/dueAt"),
    ("Ended", "/settledAt"),
];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List messages, newest first
    #[command(after_help = "Example: countersign delivery list --state failed")]
    List(Box<List>),
    /// Show a message
    #[command(after_help = "Example: countersign delivery show 01990163-8694-739b-aea5-966c26f8ad91")]
    Show {
        /// The delivery's id
        delivery: String,
    },
    /// Send a message that failed again
    #[command(after_help = "Example: countersign delivery retry 01990163-8694-739b-aea5-966c26f8ad91")]
    Retry {
        /// The delivery's id
        delivery: String,
    },
    /// Send a message that shows whether a channel works
    #[command(after_help = "Example: countersign delivery test --channel mail --to ada@example.com\n\n\
                            Exit code 1 means that no provider took it.")]
    Test {
        /// How to send it
        #[arg(long, value_parser = names(Channel::ALL.map(Channel::name)))]
        channel: String,
        /// The address, or the number with its country
        #[arg(long)]
        to: String,
        /// The language, for instance de
        #[arg(long)]
        locale: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
#[group(skip)]
struct List {
    /// Only those in this state: queued, sent, failed, expired or superseded
    #[arg(long, group = "filter")]
    state: Option<String>,
    /// Only those to this person: username, number or id
    #[arg(long, group = "filter")]
    user: Option<String>,
    /// Only those by this channel: mail, sms or voice
    #[arg(long, group = "filter")]
    channel: Option<String>,
    /// Only those with the codes of this challenge
    #[arg(long, group = "filter")]
    challenge: Option<String>,
    #[command(flatten)]
    page: Page,
}

impl List {
    fn filter(&self) -> Vec<(&'static str, String)> {
        let members = [
            ("state", &self.state),
            ("user", &self.user),
            ("channel", &self.channel),
            ("challenge", &self.challenge),
        ];
        members.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
    }
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let json = args.server.json;
    let screen = Screen::new();
    let work = async |api: &Api| match args.command {
        Command::List(list) => {
            let found = api.list(&["v1", "deliveries"], &list.filter(), &list.page).await?;
            screen.list(COLUMNS, &found, json)
        }
        Command::Show { delivery } => {
            screen.one(FIELDS, &api.get(&["v1", "deliveries", &delivery]).await?, json)
        }
        Command::Retry { delivery } => {
            let retried = api.post(&["v1", "deliveries", &delivery, "retry"], json!({})).await?;
            screen.one(FIELDS, &retried, json)
        }
        Command::Test { channel, to, locale } => {
            let mut body = json!({"channel": channel, "to": to});
            if let Some(locale) = locale {
                body["locale"] = locale.into();
            }
            let delivery = api.post(&["v1", "deliveries", "test"], body).await?;
            screen.one(FIELDS, &delivery, json)?;
            taken(&delivery)
        }
    };
    Api::session(&args.server, work).await
}

/// Fails unless a provider took the message.
fn taken(delivery: &Value) -> Result<(), Failure> {
    match text(delivery, "/state") {
        "sent" => Ok(()),
        state => Err(Failure::new(format!("the test message is {}", plain(state)))
            .exit(Exit::Failed)
            .hint("the reason is what the provider said; the providers are in the section delivery of the configuration")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_fails_unless_the_message_was_taken() {
        assert!(taken(&json!({"state": "sent"})).is_ok());
        for state in ["queued", "failed", "expired"] {
            let failure = taken(&json!({"state": state})).expect_err(state);
            assert_eq!(failure.exit, Exit::Failed);
        }
    }
}
