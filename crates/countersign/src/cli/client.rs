//! `countersign client …`: service clients, the programs that ask.

use super::{
    api::{Api, Page, Server},
    failure::Failure,
    names, prompt,
    screen::{Field, Screen, Tone, plain},
};
use clap::{ArgGroup, Subcommand};
use countersign_core::Scope;
use serde_json::{Map, Value, json};

const COLUMNS: &[Field] = &[
    ("id", "/id"),
    ("name", "/name"),
    ("status", "/status"),
    ("secrets", "/secrets"),
    ("scopes", "/scopes"),
];
const FIELDS: &[Field] = &[
    ("Id", "/id"),
    ("Name", "/name"),
    ("Scopes", "/scopes"),
    ("Status", "/status"),
    ("Secrets", "/secrets"),
    ("Created", "/createdAt"),
    ("Secret", "/secret"),
    ("Old secret until", "/expiresPrevious"),
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
    /// List clients
    #[command(after_help = "Example: countersign client list")]
    List(Page),
    /// Create a client; its secret shows once
    #[command(after_help = "Example: countersign client create --name 'VPN gateway' --scope verify")]
    Create {
        /// What it is for
        #[arg(long)]
        name: String,
        /// What it may do; may be repeated
        #[arg(long = "scope", value_name = "SCOPE", required = true, value_parser = names(Scope::ALL.map(Scope::name)))]
        scopes: Vec<String>,
    },
    /// Show a client
    #[command(after_help = "Example: countersign client show 01990163-8694-739b-aea5-966c26f8ad91")]
    Show {
        /// The client's id
        client: String,
    },
    /// Change a client; the scopes given replace those it has
    #[command(
        after_help = "Example: countersign client update 01990163-8694-739b-aea5-966c26f8ad91 --status disabled"
    )]
    Update(Update),
    /// Give a client another secret; it shows once
    #[command(
        after_help = "Example: countersign client rotate-secret 01990163-8694-739b-aea5-966c26f8ad91 --overlap 3600"
    )]
    RotateSecret {
        /// The client's id
        client: String,
        /// Seconds for which the old secret still works
        #[arg(long, value_name = "SECONDS")]
        overlap: Option<u64>,
    },
    /// Delete a client
    #[command(after_help = "Example: countersign client delete 01990163-8694-739b-aea5-966c26f8ad91")]
    Delete {
        /// The client's id
        client: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true).args(["name", "scopes", "status"]))]
struct Update {
    /// The client's id
    client: String,
    /// What it is for
    #[arg(long)]
    name: Option<String>,
    /// What it may do; may be repeated
    #[arg(long = "scope", value_name = "SCOPE", value_parser = names(Scope::ALL.map(Scope::name)))]
    scopes: Vec<String>,
    /// Whether it may do anything at all
    #[arg(long, value_parser = ["active", "disabled"])]
    status: Option<String>,
}

impl Update {
    fn members(&self) -> Map<String, Value> {
        let scopes = (!self.scopes.is_empty()).then(|| json!(self.scopes));
        let members = [
            ("name", self.name.clone().map(Value::from)),
            ("scopes", scopes),
            ("status", self.status.clone().map(Value::from)),
        ];
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let json = args.server.json;
    let screen = Screen::new();
    let work = async |api: &Api| match args.command {
        Command::List(page) => screen.list(COLUMNS, &api.list(&["v1", "clients"], &[], &page).await?, json),
        Command::Create { name, scopes } => {
            let client = api.post(&["v1", "clients"], json!({"name": name, "scopes": scopes})).await?;
            print_with_secret(screen, &client, json)
        }
        Command::Show { client } => screen.one(FIELDS, &api.get(&["v1", "clients", &client]).await?, json),
        Command::Update(update) => {
            let client = api.patch(&["v1", "clients", &update.client], update.members().into()).await?;
            screen.one(FIELDS, &client, json)
        }
        Command::RotateSecret { client, overlap } => {
            let body = overlap.map_or_else(|| json!({}), |seconds| json!({"overlapSeconds": seconds}));
            print_with_secret(screen, &api.post(&["v1", "clients", &client, "secret"], body).await?, json)
        }
        Command::Delete { client, yes } => {
            if !yes {
                let what =
                    format!("This deletes the client {}; programs that use it stop working", plain(&client));
                prompt::confirm(&what, "delete")?;
            }
            api.delete(&["v1", "clients", &client]).await?;
            screen.confirm("the client is deleted", json)
        }
    };
    Api::session(&args.server, work).await
}

fn print_with_secret(screen: Screen, client: &Value, json: bool) -> Result<(), Failure> {
    screen.one(FIELDS, client, json)?;
    if json {
        return Ok(());
    }
    screen
        .print(&screen.paint(Tone::Quiet, "The secret shows only now; store it where the program reads it."))
}
