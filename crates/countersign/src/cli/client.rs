//! `countersign client …`: service clients, the programs that ask.

use super::{
    api::{Api, Page, Server},
    client_key::{KeyFile, RsaKey},
    failure::Failure,
    names, prompt,
    screen::{Field, Screen, Tone, plain, text},
};
use clap::{ArgGroup, Subcommand};
use countersign_core::{PublicKey, Scope};
use reqwest::Url;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

const CLIENTS: &[&str] = &["v1", "clients"];

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
    /// Create a client; its secret shows once, or its key is written to a file
    #[command(
        after_help = "Examples: countersign client create --name 'VPN gateway' --scope verify\n          \
                      countersign client create --name 'Help desk tool' --role helpdesk --rsa-key helpdesk.key"
    )]
    Create(Create),
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
#[command(group = ArgGroup::new("may").required(true).args(["scopes", "role"]))]
struct Create {
    /// What it is for
    #[arg(long)]
    name: String,
    /// What it may do; may be repeated
    #[arg(long = "scope", value_name = "SCOPE", value_parser = names(Scope::ALL.map(Scope::name)))]
    scopes: Vec<String>,
    /// What it may do, as a role of the RSA dialect
    #[arg(long)]
    role: Option<Role>,
    /// Make an RSA key here and write the key file of an RSA Cloud Administration client
    #[arg(long, value_name = "FILE")]
    rsa_key: Option<PathBuf>,
    /// Make an RSA key here and write it as a private JWK, for private_key_jwt
    #[arg(long, value_name = "FILE", conflicts_with = "rsa_key")]
    jwk: Option<PathBuf>,
    /// The address in the RSA key file, if it is not below the server's issuer
    #[arg(long = "api-url", value_name = "URL", requires = "rsa_key")]
    api_url: Option<Url>,
    /// The customer's name in the RSA key file
    #[arg(long, value_name = "NAME", default_value = "Countersign", requires = "rsa_key")]
    customer: String,
}

/// A role that RSA's administration keys have.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Role {
    /// Everything, also for administrators
    Super,
    /// What the help desk does for members
    Helpdesk,
}

impl Role {
    fn scopes(self) -> Vec<&'static str> {
        let desk =
            [Scope::ReadUsers, Scope::WriteUsers, Scope::WriteFactors, Scope::WriteLocks, Scope::ReadAudit];
        let admin = matches!(self, Self::Super).then_some(Scope::Admin);
        desk.into_iter().chain(admin).map(Scope::name).collect()
    }
}

impl Create {
    /// Says what the client is, with its public key if it is to sign for itself.
    fn body(&self, key: Option<&PublicKey>) -> Value {
        let scopes = self.role.map_or_else(|| json!(self.scopes), |role| json!(role.scopes()));
        let mut body = json!({ "name": self.name, "scopes": scopes });
        if let Some(key) = key {
            body["publicKeys"] = json!([key.to_jwk()]);
        }
        body
    }

    async fn run(&self, api: &Api, screen: Screen, json: bool) -> Result<(), Failure> {
        if let Some(path) = &self.rsa_key {
            return self.with_rsa_key(api, path, screen, json).await;
        }
        if let Some(path) = &self.jwk {
            return self.with_jwk(api, path, screen, json).await;
        }
        print_with_secret(screen, &api.post(CLIENTS, self.body(None)).await?, json)
    }

    async fn with_rsa_key(&self, api: &Api, path: &Path, screen: Screen, json: bool) -> Result<(), Failure> {
        let file = KeyFile::create(path)?;
        let key = RsaKey::generate(None)?;
        let metadata = api.get(&[".well-known", "oauth-authorization-server"]).await?;
        let issuer = text(&metadata, "/issuer");
        let address = match &self.api_url {
            Some(url) => url.to_string(),
            None => format!("{issuer}/rsa/AdminInterface/restapi/v1"),
        };
        if let Some(host) =
            self.api_url.as_ref().and_then(|url| another_host(url, [issuer, api.url().as_str()]))
        {
            screen.warn(&format!(
                "the key file names {host}: the server takes tokens for it only if the name is in dialects.rsa.hosts, \
                 server.hosts or tokens.issuer"
            ));
        }
        let client = api.post(CLIENTS, self.body(Some(&key.public))).await?;
        file.fill(&json!({
            "customerName": self.customer,
            "accessID": text(&client, "/id"),
            "accessKey": key.pem().expose(),
            "adminRestApiUrl": address,
            "description": self.name,
        }))?;
        print_with_file(screen, &client, path, json)
    }

    async fn with_jwk(&self, api: &Api, path: &Path, screen: Screen, json: bool) -> Result<(), Failure> {
        let file = KeyFile::create(path)?;
        // The vendor's own client asks for RSA, and for a name.
        let name = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
        let key = RsaKey::generate(Some(name.to_string()))?;
        let client = api.post(CLIENTS, self.body(Some(&key.public))).await?;
        file.fill(&key.jwk()?)?;
        print_with_file(screen, &client, path, json)
    }
}

/// Returns the host of an address, if it is that of none of a server's addresses.
fn another_host<'a>(url: &'a Url, of_server: [&str; 2]) -> Option<&'a str> {
    let host = url.host_str()?;
    let is_its = |address: &str| Url::parse(address).is_ok_and(|known| known.host_str() == Some(host));
    (!of_server.into_iter().any(is_its)).then_some(host)
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
        Command::Create(create) => create.run(api, screen, json).await,
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

fn print_with_file(screen: Screen, client: &Value, path: &Path, json: bool) -> Result<(), Failure> {
    screen.one(FIELDS, client, json)?;
    if json {
        return Ok(());
    }
    let words = format!("The private key is in {} and nowhere else.", path.display());
    screen.print(&screen.paint(Tone::Quiet, &words))
}

fn print_with_secret(screen: Screen, client: &Value, json: bool) -> Result<(), Failure> {
    screen.one(FIELDS, client, json)?;
    if json {
        return Ok(());
    }
    screen
        .print(&screen.paint(Tone::Quiet, "The secret shows only now; store it where the program reads it."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_is_none_of_the_servers_is_told() {
        let server = ["https://mfa.example.com", "http://127.0.0.1:8080/"];
        for (address, other) in [
            ("https://MFA.example.com:8443/rsa/AdminInterface/restapi/v1", None),
            ("http://127.0.0.1:9090/AdminInterface/restapi", None),
            ("https://acme.access.example/AdminInterface/restapi", Some("acme.access.example")),
        ] {
            let url = Url::parse(address).expect("an address");

            assert_eq!(another_host(&url, server), other, "{address}");
        }
    }
}
