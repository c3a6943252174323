//! `countersign factor …`: what people prove their identity with.

use super::{
    api::{Api, Server},
    challenge::{self, on_its_way},
    failure::{Exit, Failure},
    names, prompt,
    screen::{Field, Screen, Tone, plain, span, text, time_left},
    terminal_qr,
};
use clap::Subcommand;
use countersign_core::factor::otp::Algorithm;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use uuid::Uuid;

const COLUMNS: &[Field] = &[
    ("id", "/id"),
    ("type", "/type"),
    ("label", "/label"),
    ("state", "/state"),
    ("to", "/destination"),
    ("last used", "/lastUsedAt"),
];
const FIELDS: &[Field] = &[
    ("Id", "/id"),
    ("Type", "/type"),
    ("Label", "/label"),
    ("State", "/state"),
    ("To", "/destination"),
    ("Algorithm", "/algorithm"),
    ("Digits", "/digits"),
    ("Period", "/period"),
    ("Counter", "/counter"),
    ("Created", "/createdAt"),
    ("Activated", "/activatedAt"),
    ("Last used", "/lastUsedAt"),
    ("Expires", "/expiresAt"),
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
    /// List a person's factors
    #[command(after_help = "Example: countersign factor list ada")]
    List {
        /// Username, number or id
        user: String,
    },
    /// Show one factor
    #[command(after_help = "Example: countersign factor show ada 'Work phone'")]
    Show(Which),
    /// Enrol an app (shows a QR code to scan), an address or a number (sends a code), then ask for the first code
    #[command(after_help = "Examples:\n  countersign factor enrol ada --label 'Work phone'\n  \
                            countersign factor enrol ada --type sms --to +4915112345678\n  \
                            countersign factor enrol ada --link")]
    Enrol {
        /// Username, number or id
        user: String,
        /// Time-based (apps), counter-based (some tokens), or where codes are sent
        #[arg(long = "type", value_name = "TYPE", default_value = "totp", value_parser = ["totp", "hotp", "email", "sms", "voice"])]
        kind: String,
        /// The address or number codes are sent to; the profile's when left out
        #[arg(long, value_name = "DESTINATION")]
        to: Option<String>,
        /// What the person calls it
        #[arg(long)]
        label: Option<String>,
        /// Do not ask for the first code; the person enters it elsewhere
        #[arg(long)]
        no_activate: bool,
        #[command(flatten)]
        elsewhere: Elsewhere,
    },
    /// Activate a factor with its first code
    #[command(after_help = "Example: countersign factor activate ada 'Work phone'")]
    Activate {
        #[command(flatten)]
        which: Which,
        /// The code, or - for standard input; asked for when left out (arguments show in the list of processes)
        #[arg(long, allow_hyphen_values = true)]
        code: Option<String>,
    },
    /// Bring in a factor whose seed, address or number is known; ready for use at once
    #[command(
        after_help = "Examples:\n  countersign factor import ada --type hotp --counter 42 --secret-file seed.txt\n  \
                      countersign factor import ada --type sms --to +4915112345678"
    )]
    Import(Import),
    /// Give a factor another label
    #[command(after_help = "Example: countersign factor rename ada 'Work phone' 'Old phone'")]
    Rename {
        #[command(flatten)]
        which: Which,
        /// The new label
        label: String,
    },
    /// Disable a factor, for instance of a phone that may come back
    #[command(after_help = "Example: countersign factor disable ada 'Work phone'")]
    Disable(Which),
    /// Enable a disabled factor
    #[command(after_help = "Example: countersign factor enable ada 'Work phone'")]
    Enable(Which),
    /// Delete a factor
    #[command(after_help = "Example: countersign factor delete ada 'Work phone'")]
    Delete {
        #[command(flatten)]
        which: Which,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Find a counter-based token again with two codes in a row
    #[command(after_help = "Example: countersign factor resync ada 'Key ring token'")]
    Resync {
        #[command(flatten)]
        which: Which,
        /// One of two codes in a row; asked for when left out (arguments show in the list of processes)
        #[arg(long = "code", num_args = 2, value_names = ["FIRST", "SECOND"])]
        codes: Option<Vec<String>>,
    },
}

/// How a person sets up an app themselves, on a page of the server.
#[derive(Debug, clap::Args)]
struct Elsewhere {
    /// Mail the person a link to a page on which they set up an app
    #[arg(long, conflicts_with_all = ["kind", "to", "label", "no_activate", "code"])]
    link: bool,
    /// With --link: what they prove their identity with so far stops working at once
    #[arg(long, requires = "link")]
    replace: bool,
    /// Issue a code to tell them, which opens that page
    #[arg(long, conflicts_with_all = ["kind", "to", "label", "no_activate"])]
    code: bool,
    /// With --code: how long it works; an hour when left out
    #[arg(long, value_name = "MINUTES", requires = "code", value_parser = clap::value_parser!(u16).range(1..=1440))]
    minutes: Option<u16>,
}

/// Which factor of whom.
#[derive(Debug, Clone, clap::Args)]
struct Which {
    /// Username, number or id
    user: String,
    /// The factor's id or label
    factor: String,
}

#[derive(Debug, clap::Args)]
struct Import {
    /// Username, number or id
    user: String,
    /// Time-based, counter-based, or where codes are sent
    #[arg(long = "type", value_name = "TYPE", default_value = "totp", value_parser = ["totp", "hotp", "email", "sms", "voice"])]
    kind: String,
    /// The address or number codes are sent to; the profile's when left out
    #[arg(long, value_name = "DESTINATION", conflicts_with = "secret_file")]
    to: Option<String>,
    /// File with the seed in Base32, or - for standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    secret_file: PathBuf,
    /// What the person calls it
    #[arg(long)]
    label: Option<String>,
    /// Hash of the codes
    #[arg(long, value_parser = names([Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512].map(Algorithm::name)), ignore_case = true)]
    algorithm: Option<String>,
    /// Digits of a code
    #[arg(long, value_parser = clap::value_parser!(u8).range(6..=8))]
    digits: Option<u8>,
    /// Seconds each code lasts (totp)
    #[arg(long, value_name = "SECONDS", conflicts_with = "counter")]
    period: Option<u8>,
    /// Counter of the next code (hotp)
    #[arg(long)]
    counter: Option<u64>,
}

impl Import {
    fn members(&self) -> Map<String, Value> {
        let members = [
            ("type", Some(self.kind.clone().into())),
            ("destination", self.to.clone().map(Value::from)),
            ("label", self.label.clone().map(Value::from)),
            ("algorithm", self.algorithm.as_ref().map(|name| name.to_uppercase().into())),
            ("digits", self.digits.map(Value::from)),
            ("period", self.period.map(Value::from)),
            ("counter", self.counter.map(Value::from)),
        ];
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let json = args.server.json;
    let screen = Screen::new();
    let work = async |api: &Api| match args.command {
        Command::List { user } => {
            print_factors(screen, &api.get(&["v1", "users", &user, "factors"]).await?, json)
        }
        Command::Show(which) => {
            screen.one(FIELDS, &api.get(&which.path(api, &[]).await?.as_strs()).await?, json)
        }
        Command::Enrol { user, elsewhere, .. } if elsewhere.link => {
            let path = ["v1", "users", &user, "enrolment-links"];
            let sent = api.post(&path, json!({"replace": elsewhere.replace})).await?;
            if json { screen.json(&sent) } else { screen.print(&screen.done(&link_text(&sent))) }
        }
        Command::Enrol { user, elsewhere, .. } if elsewhere.code => {
            let body = elsewhere
                .minutes
                .map_or_else(|| json!({}), |minutes| json!({"expiresInSeconds": u32::from(minutes) * 60}));
            let issued = api.post(&["v1", "users", &user, "enrolment-code"], body).await?;
            if json { screen.json(&issued) } else { screen.print(&code_text(screen, &issued)) }
        }
        Command::Enrol { user, kind, to, label, no_activate, .. } => {
            let mut body = json!({"type": kind});
            if let Some(to) = to {
                body["destination"] = to.into();
            }
            if let Some(label) = label {
                body["label"] = label.into();
            }
            enrol(api, screen, &user, body, no_activate, json).await
        }
        Command::Activate { which, code } => {
            let path = which.path(api, &["activate"]).await?;
            let code = prompt::code(code, "First code")?;
            let factor = api.post(&path.as_strs(), json!({"code": code.expose()})).await?;
            screen.one(FIELDS, &factor, json)
        }
        Command::Import(import) => {
            let mut body = import.members();
            if challenge::KINDS.contains(&import.kind.as_str()) {
                body.insert("confirmed".into(), true.into());
            } else {
                let seed = prompt::secret_file(&import.secret_file)?;
                body.insert("secret".into(), seed.expose().as_str().into());
            }
            let factor = api.post(&["v1", "users", &import.user, "factors"], body.into()).await?;
            screen.one(FIELDS, &factor, json)
        }
        Command::Rename { which, label } => change(api, screen, &which, json!({"label": label}), json).await,
        Command::Disable(which) => change(api, screen, &which, json!({"state": "disabled"}), json).await,
        Command::Enable(which) => change(api, screen, &which, json!({"state": "active"}), json).await,
        Command::Delete { which, yes } => {
            let path = which.path(api, &[]).await?;
            if !yes {
                prompt::confirm(
                    &format!("This deletes a factor of {}, for good", plain(&which.user)),
                    "delete",
                )?;
            }
            api.delete(&path.as_strs()).await?;
            screen.confirm("the factor is deleted", json)
        }
        Command::Resync { which, codes } => {
            let path = which.path(api, &["resync"]).await?;
            let [first, second] = match codes.as_deref() {
                Some([first, second]) => [first.clone().into(), second.clone().into()],
                _ => [prompt::code(None, "First code")?, prompt::code(None, "The code after it")?],
            };
            let factor =
                api.post(&path.as_strs(), json!({"codes": [first.expose(), second.expose()]})).await?;
            screen.one(FIELDS, &factor, json)
        }
    };
    Api::session(&args.server, work).await
}

/// Prints the factors of a person.
pub(super) fn print_factors(screen: Screen, factors: &Value, json: bool) -> Result<(), Failure> {
    screen.list(COLUMNS, factors, json)
}

async fn change(api: &Api, screen: Screen, which: &Which, body: Value, json: bool) -> Result<(), Failure> {
    let factor = api.patch(&which.path(api, &[]).await?.as_strs(), body).await?;
    screen.one(FIELDS, &factor, json)
}

/// Enrols; shows the secret, which the server never shows again; then asks for the first code if somebody is there.
async fn enrol(
    api: &Api,
    screen: Screen,
    user: &str,
    body: Value,
    no_activate: bool,
    json: bool,
) -> Result<(), Failure> {
    let enrolment = api.post(&["v1", "users", user, "factors"], body).await?;
    if json {
        return screen.json(&enrolment);
    }
    match &enrolment["challenge"] {
        Value::Null => screen.print(&enrolment_text(screen, &enrolment))?,
        sent => screen.print(&screen.done(&on_its_way(sent)))?,
    }
    let id = text(&enrolment, "/id");
    if no_activate || !prompt::is_interactive() {
        return screen.print(&format!("next: countersign factor activate {} {id}", plain(user)));
    }
    activate(api, screen, user, id).await
}

/// Lays out what a person needs to bring a factor into their app.
pub(super) fn enrolment_text(screen: Screen, enrolment: &Value) -> String {
    let uri = text(enrolment, "/otpauthUri");
    let left = time_left(enrolment, "/expiresAt").map_or_else(|| "a while".to_owned(), span);
    let pairs = [
        ("Secret", grouped(text(enrolment, "/secret"))),
        ("URI", plain(uri)),
        ("Waits", format!("{left} for its first code")),
    ];
    format!("{}\n{}", terminal_qr::render(screen, uri), screen.pairs(&pairs))
}

/// Returns a secret in groups of four, as it is read aloud and typed.
pub(super) fn grouped(secret: &str) -> String {
    let characters: Vec<char> = plain(secret).chars().collect();
    characters.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}

/// Says where a link went, and how long it is good.
fn link_text(sent: &Value) -> String {
    let left = time_left(sent, "/expiresAt").map_or_else(|| "a while".to_owned(), span);
    format!("a link is on its way to {}; it is good for {left}", plain(text(sent, "/destination")))
}

/// Lays out what to tell somebody on the phone.
fn code_text(screen: Screen, issued: &Value) -> String {
    let left = time_left(issued, "/expiresAt").map_or_else(|| "a while".to_owned(), span);
    let code: Vec<char> = plain(text(issued, "/code")).chars().collect();
    let groups: Vec<String> = code.chunks(3).map(|group| group.iter().collect()).collect();
    let pairs = [
        ("Page", plain(text(issued, "/page"))),
        ("Code", groups.join(" ")),
        ("Works", format!("once, within {left}, and shows only now")),
    ];
    screen.pairs(&pairs)
}

/// Asks for the first code until it is right, the person gives up, or the server says that it is enough.
async fn activate(api: &Api, screen: Screen, user: &str, id: &str) -> Result<(), Failure> {
    loop {
        let code = prompt::line("First code (Enter to leave it waiting): ")?;
        if code.expose().is_empty() {
            return screen.print(&format!("next: countersign factor activate {} {id}", plain(user)));
        }
        let path = ["v1", "users", user, "factors", id, "activate"];
        match api.post(&path, json!({"code": code.expose()})).await {
            Ok(_) => return screen.print(&screen.done("the factor is active")),
            Err(failure) if failure.exit == Exit::NotAccepted => {
                screen.print(&screen.paint(Tone::Warning, &failure.message))?;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// A path with segments of its own.
struct Path(Vec<String>);

impl Path {
    fn as_strs(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

impl Which {
    /// Returns the path of the factor, followed by `rest`. A label is looked up first.
    async fn path(&self, api: &Api, rest: &[&str]) -> Result<Path, Failure> {
        let id = if Uuid::try_parse(&self.factor).is_ok() {
            self.factor.clone()
        } else {
            let factors = api.get(&["v1", "users", &self.user, "factors"]).await?;
            self.find(&factors)?
        };
        let segments = ["v1", "users", &self.user, "factors", &id].into_iter().chain(rest.iter().copied());
        Ok(Path(segments.map(str::to_owned).collect()))
    }

    /// Returns the id of the one factor with this label.
    fn find(&self, factors: &Value) -> Result<String, Failure> {
        let wanted = self.factor.to_lowercase();
        let ids: Vec<&str> = factors["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|factor| text(factor, "/label").to_lowercase() == wanted)
            .map(|factor| text(factor, "/id"))
            .collect();
        let (user, label) = (plain(&self.user), plain(&self.factor));
        match ids[..] {
            [id] => Ok(id.to_owned()),
            [] => Err(Failure::new(format!("{user} has no factor \"{label}\""))
                .exit(Exit::NotFound)
                .hint(format!("countersign factor list {user}"))),
            _ => Err(Failure::usage(format!("{user} has several factors \"{label}\""))
                .hint(format!("name one by its id: countersign factor list {user}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn which(factor: &str) -> Which {
        Which { user: "ada".into(), factor: factor.into() }
    }

    #[test]
    fn a_label_names_a_factor_if_it_is_the_only_one() {
        let factors = json!({"items": [
            {"id": "f1", "label": "Phone"}, {"id": "f2", "label": "Token"}, {"id": "f3", "label": "token"},
        ]});

        assert_eq!(which("phone").find(&factors), Ok("f1".into()));
        assert_eq!(which("tablet").find(&factors).map_err(|failure| failure.exit), Err(Exit::NotFound));
        assert_eq!(which("token").find(&factors).map_err(|failure| failure.exit), Err(Exit::Usage));
    }

    #[test]
    fn a_secret_is_shown_in_groups() {
        assert_eq!(grouped("JBSWY3DPEHPK3PXP"), "JBSW Y3DP EHPK 3PXP");
    }

    #[test]
    fn what_is_shown_at_enrolment_has_the_secret_and_the_uri() {
        let screen = Screen { colours: false, width: None };
        let uri = "otpauth://totp/Acme:ada?secret=JBSWY3DPEHPK3PXP&issuer=Acme";
        let enrolment = json!({"secret": "JBSWY3DPEHPK3PXP", "otpauthUri": uri, "expiresAt": null});

        let text = enrolment_text(screen, &enrolment);

        assert!(text.contains("JBSW Y3DP EHPK 3PXP") && text.contains(uri));
    }
}
