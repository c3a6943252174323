//! `countersign user …`: people.

use super::{
    api::{Api, Page, Server},
    emergency,
    failure::Failure,
    names, prompt, recovery,
    screen::{Field, Screen, plain, text},
    unlock,
};
use clap::{ArgGroup, Subcommand};
use countersign_core::{Method, Role};
use serde_json::{Map, Value, json};

/// The columns of a list of people.
const COLUMNS: &[Field] = &[
    ("number", "/number"),
    ("username", "/username"),
    ("name", "/displayName"),
    ("status", "/status"),
    ("2nd step", "/mfaEnabled"),
    ("factors", "/factors"),
    ("locked", "/lockedMethods"),
];
/// The fields of one person.
const FIELDS: &[Field] = &[
    ("Username", "/username"),
    ("Name", "/displayName"),
    ("Given name", "/givenName"),
    ("Family name", "/familyName"),
    ("Description", "/description"),
    ("Number", "/number"),
    ("Id", "/id"),
    ("E-mail", "/email"),
    ("Phone", "/phone"),
    ("Language", "/locale"),
    ("Roles", "/roles"),
    ("Status", "/status"),
    ("Second step", "/mfaEnabled"),
    ("Password set", "/hasPassword"),
    ("Active factors", "/factors"),
    ("Locked", "/lockedMethods"),
    ("Created", "/createdAt"),
    ("Changed", "/updatedAt"),
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
    /// List people
    #[command(after_help = "Example: countersign user list --locked TOKEN")]
    List(List),
    /// Show a person, their factors and their locks
    #[command(after_help = "Example: countersign user show ada")]
    Show {
        /// Username, number or id
        user: String,
    },
    /// Create a person
    #[command(
        after_help = "Example: countersign user create ada --name 'Ada Lovelace' --email ada@example.org"
    )]
    Create {
        /// Username
        username: String,
        #[command(flatten)]
        profile: Profile,
    },
    /// Change a person; an empty value clears
    #[command(after_help = "Example: countersign user update ada --email new@example.org --status active")]
    Update(Update),
    /// Delete a person with all their factors
    #[command(after_help = "Example: countersign user delete ada")]
    Delete {
        /// Username, number or id
        user: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Make an invitation with which a person sets their password
    #[command(after_help = "Example: countersign user invite ada")]
    Invite {
        /// Username, number or id
        user: String,
    },
    /// Show a person's locks
    #[command(after_help = "Example: countersign user locks ada")]
    Locks {
        /// Username, number or id
        user: String,
    },
    /// Replace a person's recovery codes; the new ones show once
    #[command(after_help = "Example: countersign user recovery-codes ada --status")]
    RecoveryCodes(recovery::Args),
    /// Issue an emergency code for somebody without their phone; it shows once
    #[command(after_help = "Example: countersign user emergency-code ada --hours 4")]
    EmergencyCode(emergency::Args),
}

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("filter").multiple(false))]
struct List {
    /// Only usernames that begin so
    #[arg(long, group = "filter", value_name = "TEXT")]
    prefix: Option<String>,
    /// Only people with this status
    #[arg(long, group = "filter", value_parser = ["active", "disabled"])]
    status: Option<String>,
    /// Only people whose highest role is this one
    #[arg(long, group = "filter", value_parser = names(Role::ALL.map(Role::name)))]
    role: Option<String>,
    /// Only people with a lock on this method
    #[arg(long, group = "filter", value_name = "METHOD", value_parser = names(Method::ALL.map(Method::name)), ignore_case = true)]
    locked: Option<String>,
    /// Only people whose second step is on, or off
    #[arg(long, group = "filter", value_parser = ["on", "off"])]
    second_step: Option<String>,
    #[command(flatten)]
    page: Page,
}

impl List {
    fn filter(&self) -> Vec<(&'static str, String)> {
        let is_on = |switch: &String| (switch == "on").to_string();
        let filters = [
            ("username", self.prefix.clone()),
            ("status", self.status.clone()),
            ("role", self.role.clone()),
            ("locked", self.locked.as_deref().map(str::to_uppercase)),
            ("mfaEnabled", self.second_step.as_ref().map(is_on)),
        ];
        filters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

#[derive(Debug, clap::Args)]
struct Profile {
    /// Name to show
    #[arg(long)]
    name: Option<String>,
    /// Given name
    #[arg(long, value_name = "NAME")]
    given_name: Option<String>,
    /// Family name
    #[arg(long, value_name = "NAME")]
    family_name: Option<String>,
    /// A line about the person
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// E-mail address
    #[arg(long)]
    email: Option<String>,
    /// Phone number, as +44…
    #[arg(long)]
    phone: Option<String>,
    /// Language of messages, such as de or pt-BR
    #[arg(long, value_name = "LANGUAGE")]
    locale: Option<String>,
    /// Role; may be repeated
    #[arg(long = "role", value_name = "ROLE", value_parser = names(Role::ALL.map(Role::name)))]
    roles: Vec<String>,
}

impl Profile {
    /// Returns what was given as members of a request; an empty value becomes null.
    fn members(&self) -> Map<String, Value> {
        let given = [
            ("displayName", &self.name),
            ("givenName", &self.given_name),
            ("familyName", &self.family_name),
            ("description", &self.description),
            ("email", &self.email),
            ("phone", &self.phone),
            ("locale", &self.locale),
        ];
        let mut members: Map<String, Value> = given
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), or_null(value.as_deref()?))))
            .collect();
        if !self.roles.is_empty() {
            members.insert("roles".into(), json!(self.roles));
        }
        members
    }
}

fn or_null(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true)
    .args(["username", "status", "second_step", "name", "given_name", "family_name", "description",
        "email", "phone", "locale", "roles"]))]
struct Update {
    /// Username, number or id
    user: String,
    /// Another username
    #[arg(long)]
    username: Option<String>,
    /// Whether the person may do anything at all
    #[arg(long, value_parser = ["active", "disabled"])]
    status: Option<String>,
    /// Whether sign-in asks for a second factor
    #[arg(long, value_parser = ["on", "off"])]
    second_step: Option<String>,
    #[command(flatten)]
    profile: Profile,
}

impl Update {
    fn members(&self) -> Map<String, Value> {
        let mut members = self.profile.members();
        members.extend(self.username.iter().map(|name| ("username".into(), name.as_str().into())));
        members.extend(self.status.iter().map(|status| ("status".into(), status.as_str().into())));
        members.extend(self.second_step.iter().map(|switch| ("mfaEnabled".into(), (switch == "on").into())));
        members
    }
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let json = args.server.json;
    let screen = Screen::new();
    let work = async |api: &Api| match args.command {
        Command::List(list) => print_list(api, screen, &list, json).await,
        Command::Show { user } => show(api, screen, &user, json).await,
        Command::Create { username, profile } => {
            let mut body = profile.members();
            body.retain(|_, value| !value.is_null());
            body.insert("username".into(), username.into());
            let user = api.post(&["v1", "users"], body.into()).await?;
            print_user(screen, &user, json)
        }
        Command::Update(update) => {
            let user = api.patch(&["v1", "users", &update.user], update.members().into()).await?;
            print_user(screen, &user, json)
        }
        Command::Delete { user, yes } => delete(api, screen, &user, yes, json).await,
        Command::Invite { user } => invite(api, screen, &user, json).await,
        Command::Locks { user } => {
            let locks = api.get(&["v1", "users", &user, "locks"]).await?;
            unlock::print_locks(screen, &locks, json)
        }
        Command::RecoveryCodes(codes) => recovery::run(api, screen, &codes, json).await,
        Command::EmergencyCode(code) => emergency::run(api, screen, &code, json).await,
    };
    Api::session(&args.server, work).await
}

async fn print_list(api: &Api, screen: Screen, list: &List, json: bool) -> Result<(), Failure> {
    let answer = api.list(&["v1", "users"], &list.filter(), &list.page).await?;
    screen.list(COLUMNS, &answer, json)
}

async fn show(api: &Api, screen: Screen, user: &str, json: bool) -> Result<(), Failure> {
    let found = api.get(&["v1", "users", user]).await?;
    print_user(screen, &found, json)?;
    if json {
        return Ok(());
    }
    let factors = api.get(&["v1", "users", user, "factors"]).await?;
    if has_items(&factors) {
        screen.print("")?;
        super::factor::print_factors(screen, &factors, json)?;
    }
    let locks = api.get(&["v1", "users", user, "locks"]).await?;
    screen.print("")?;
    unlock::print_locks(screen, &locks, json)
}

async fn delete(api: &Api, screen: Screen, user: &str, yes: bool, json: bool) -> Result<(), Failure> {
    let found = api.get(&["v1", "users", user]).await?;
    let username = text(&found, "/username");
    if !yes {
        let what = format!("This deletes {} and all their factors, for good", plain(username));
        prompt::confirm(&what, username)?;
    }
    api.delete(&["v1", "users", text(&found, "/id")]).await?;
    screen.confirm(&format!("{} is deleted", plain(username)), json)
}

async fn invite(api: &Api, screen: Screen, user: &str, json: bool) -> Result<(), Failure> {
    let invitation = api.post(&["v1", "users", user, "invitation"], json!({})).await?;
    if json {
        return screen.json(&invitation);
    }
    screen.print(&screen.fields(&[("Invitation", "/token"), ("Expires", "/expiresAt")], &invitation))?;
    screen.print("It shows once. Whoever has it sets this person's password, so send it to nobody else.")
}

fn print_user(screen: Screen, user: &Value, json: bool) -> Result<(), Failure> {
    screen.one(FIELDS, user, json)
}

fn has_items(list: &Value) -> bool {
    list["items"].as_array().is_some_and(|items| !items.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(subcommand)]
        command: Command,
    }

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Only::try_parse_from(std::iter::once("user").chain(line.split(' '))).map(|only| only.command)
    }

    #[test]
    fn a_list_takes_one_filter_under_the_name_the_api_knows() {
        let Ok(Command::List(list)) = parse("list --locked token") else { panic!("list") };

        assert_eq!(list.filter(), [("locked", "TOKEN".to_owned())]);
        assert!(parse("list --locked TOKEN --status active").is_err());
    }

    #[test]
    fn an_update_sends_what_was_given_and_clears_what_is_empty() {
        let Ok(Command::Update(update)) = parse("update ada --email= --second-step off --role admin") else {
            panic!("update")
        };

        assert_eq!(
            Value::from(update.members()),
            json!({"email": null, "mfaEnabled": false, "roles": ["admin"]})
        );
        assert!(parse("update ada").is_err());
    }
}
