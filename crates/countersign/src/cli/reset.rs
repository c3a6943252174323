//! `countersign reset`: removes all of a person's factors, so that they begin again.

use super::{
    api::{Api, Server},
    failure::Failure,
    prompt,
    screen::{Screen, plain, text},
};
use serde_json::json;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: countersign reset ada\n\nMake sure that it is ada who asks: whoever enrols next is ada."
)]
pub(super) struct Args {
    /// Username, number or id
    user: String,
    /// Only the factors of this kind
    #[arg(long = "type", value_name = "KIND", value_parser = ["totp", "hotp", "email", "sms", "voice"])]
    kind: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    server: Server,
}

impl Args {
    fn what(&self, everything: &str) -> String {
        self.kind.as_deref().map_or_else(|| everything.to_owned(), |kind| format!("{kind} factors"))
    }
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let work = async |api: &Api| {
        let found = api.get(&["v1", "users", &args.user]).await?;
        let username = text(&found, "/username");
        if !args.yes {
            let what = format!("This deletes {} of {}", args.what("all factors and codes"), plain(username));
            prompt::confirm(&what, username)?;
        }
        let body = args.kind.as_deref().map_or(json!({}), |kind| json!({ "type": kind }));
        api.post(&["v1", "users", text(&found, "/id"), "reset"], body).await
    };
    let user = Api::session(&args.server, work).await?;

    let screen = Screen::new();
    if args.server.json {
        return screen.json(&user);
    }
    let username = plain(text(&user, "/username"));
    screen.print(&screen.done(&format!("{username} has no {} any more", args.what("factors"))))?;
    screen.print(&format!("  next: countersign factor enrol {username}"))
}
