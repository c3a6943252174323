//! `countersign org …`: organisations and their policies.

use super::{
    api::{Api, Page, Server},
    failure::Failure,
    screen::{Field, NOTHING, Screen, shown},
};
use clap::{ArgGroup, Subcommand};
use serde_json::{Map, Value, json};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

const COLUMNS: &[Field] = &[("slug", "/slug"), ("name", "/name"), ("id", "/id"), ("created", "/createdAt")];
const FIELDS: &[Field] = &[
    ("Slug", "/slug"),
    ("Name", "/name"),
    ("Id", "/id"),
    ("Language", "/locale"),
    ("Created", "/createdAt"),
    ("Changed", "/updatedAt"),
];
const PATH: [&str; 2] = ["v1", "organisations"];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List organisations
    #[command(after_help = "Example: countersign org list")]
    List(Page),
    /// Create an organisation
    #[command(after_help = "Example: countersign org create acme --name 'Acme Ltd'")]
    Create {
        /// Short name for addresses and commands
        slug: String,
        /// Name to show
        #[arg(long)]
        name: String,
    },
    /// Show an organisation
    #[command(after_help = "Example: countersign org show acme")]
    Show {
        /// Slug or id; your own if left out
        org: Option<String>,
    },
    /// Change an organisation's name, or the language of messages to its people
    #[command(
        after_help = "Example: countersign org update acme --name 'Acme plc' --locale de",
        group = ArgGroup::new("change").required(true).multiple(true)
    )]
    Update {
        /// Slug or id
        org: String,
        /// Another name
        #[arg(long, group = "change")]
        name: Option<String>,
        /// Another language, such as de or pt-BR
        #[arg(long, value_name = "LANGUAGE", group = "change")]
        locale: Option<String>,
    },
    /// Show or change what an organisation allows and asks for
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Show the policy
    #[command(after_help = "Example: countersign org policy show acme")]
    Show {
        /// Slug or id; your own if left out
        org: Option<String>,
    },
    /// Change some values of the policy
    #[command(
        after_help = "Examples:\n  countersign org policy set requirement=enforced locks.threshold=10\n  \
                            countersign org policy set kinds=totp,recovery --of acme\n  \
                            countersign org policy set --file policy.json"
    )]
    Set {
        /// A value by its dotted name, as `policy show` prints it
        #[arg(value_name = "KEY=VALUE", value_parser = parse_setting, required_unless_present = "file")]
        settings: Vec<Setting>,
        /// JSON file with the values to change, or - for standard input
        #[arg(long, value_name = "FILE", conflicts_with = "settings")]
        file: Option<PathBuf>,
        /// Slug or id; your own if left out
        #[arg(long, value_name = "ORG")]
        of: Option<String>,
    },
}

/// One `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq)]
struct Setting {
    path: Vec<String>,
    value: Value,
}

/// Reads `totp.period=30`. A value is JSON if it reads as such, else text; `kinds` is a list with commas.
fn parse_setting(text: &str) -> Result<Setting, String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, for instance totp.digits=8")?;
    let path: Vec<String> = key.trim().split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        return Err("a key is made of names with dots between, for instance totp.digits".into());
    }
    let is_list = LISTS.contains(&key.trim()) && !value.starts_with('[');
    let value = if is_list {
        let items = value.split(',').map(str::trim);
        items.filter(|item| !item.is_empty() && *item != NOTHING).collect()
    } else {
        serde_json::from_str(value).unwrap_or_else(|_| value.into())
    };
    Ok(Setting { path, value })
}

/// The settings that are lists.
const LISTS: [&str; 3] = ["kinds", "destinations.countries", "destinations.domains"];

/// Makes one merge patch (RFC 7396) of all settings.
fn merge_patch(settings: Vec<Setting>) -> Value {
    let mut patch = Value::Object(Map::new());
    for Setting { path, value } in settings {
        let mut place = &mut patch;
        for name in path {
            if !place.is_object() {
                *place = json!({});
            }
            place = &mut place[name.as_str()];
        }
        *place = value;
    }
    patch
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let json = args.server.json;
    let default = args.server.organisation.clone();
    let screen = Screen::new();
    let work = async |api: &Api| match args.command {
        Command::List(page) => screen.list(COLUMNS, &api.list(&PATH, &[], &page).await?, json),
        Command::Create { slug, name } => {
            let body = json!({"slug": slug, "name": name});
            screen.one(FIELDS, &api.post(&PATH, body).await?, json)
        }
        Command::Show { org } => {
            let org = meant(org.or(default));
            screen.one(FIELDS, &api.get(&[PATH[0], PATH[1], &org]).await?, json)
        }
        Command::Update { org, name, locale } => {
            let members = [("name", name), ("locale", locale)];
            let patch: Map<String, Value> =
                members.into_iter().filter_map(|(name, value)| Some((name.into(), value?.into()))).collect();
            let changed = api.patch(&[PATH[0], PATH[1], &org], patch.into()).await?;
            screen.one(FIELDS, &changed, json)
        }
        Command::Policy { command: PolicyCommand::Show { org } } => {
            let org = meant(org.or(default));
            print_policy(screen, &api.get(&[PATH[0], PATH[1], &org, "policy"]).await?, json)
        }
        Command::Policy { command: PolicyCommand::Set { settings, file, of } } => {
            let patch = match file {
                Some(file) => read_patch(&file)?,
                None => merge_patch(settings),
            };
            let org = meant(of.or(default));
            print_policy(screen, &api.patch(&[PATH[0], PATH[1], &org, "policy"], patch).await?, json)
        }
    };
    Api::session(&args.server, work).await
}

/// Returns the organisation that is meant: the one named, else the caller's own.
fn meant(named: Option<String>) -> String {
    named.unwrap_or_else(|| "self".into())
}

fn read_patch(file: &Path) -> Result<Value, Failure> {
    let read =
        if file == Path::new("-") { io::read_to_string(io::stdin()) } else { fs::read_to_string(file) };
    let text = read.map_err(|error| Failure::usage(format!("read {}: {error}", file.display())))?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::usage(format!("{} is not JSON: {error}", file.display()))
            .hint("begin with the output of: countersign org policy show --json")
    })
}

fn print_policy(screen: Screen, policy: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return screen.json(policy);
    }
    let mut settings = Vec::new();
    flatten(policy, "", &mut settings);
    let lines: String = settings.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    screen.print(&lines)
}

/// Lists all values by their dotted names, in the form `policy set` reads.
fn flatten(value: &Value, at: &str, into: &mut Vec<(String, String)>) {
    let Value::Object(members) = value else {
        let written = match value {
            Value::Array(_) => shown(Some(value)).replace(", ", ","),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        into.push((at.to_owned(), written));
        return;
    };
    for (name, member) in members {
        let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        flatten(member, &at, into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::Policy;

    fn patch(settings: &[&str]) -> Value {
        merge_patch(settings.iter().map(|text| parse_setting(text).expect(text)).collect())
    }

    #[test]
    fn settings_become_one_merge_patch() {
        assert_eq!(
            patch(&["totp.period=60", "totp.digits=8", "locks.mode=until_unlocked", "kinds=totp,recovery"]),
            json!({
                "totp": {"period": 60, "digits": 8},
                "locks": {"mode": "until_unlocked"},
                "kinds": ["totp", "recovery"],
            })
        );
        assert_eq!(patch(&["kinds=totp"]), json!({"kinds": ["totp"]}));
        assert!(parse_setting("totp.digits").is_err());
        assert!(parse_setting("totp..digits=6").is_err());
    }

    #[test]
    fn what_is_shown_can_be_set_again() {
        let policy = serde_json::to_value(Policy::default()).expect("json");
        let mut settings = Vec::new();
        flatten(&policy, "", &mut settings);
        let lines: Vec<String> = settings.iter().map(|(key, value)| format!("{key}={value}")).collect();

        let again = patch(&lines.iter().map(String::as_str).collect::<Vec<_>>());

        assert_eq!(again, policy);
    }
}
