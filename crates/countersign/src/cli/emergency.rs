//! `countersign user emergency-code`: lets somebody in who stands there without their phone.

use super::{
    api::Api,
    failure::Failure,
    screen::{Field, Screen, Tone, plain, span, text, time_left},
};
use serde_json::json;
use std::time::Duration;

const FIELDS: &[Field] = &[("Issued", "/issuedAt"), ("Expires", "/expiresAt"), ("Used", "/usedAt")];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Username, number or id
    user: String,
    /// How long it can be used; the policy says the default
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u32).range(1..))]
    hours: Option<u32>,
    /// Only tell whether there is one
    #[arg(long, conflicts_with_all = ["hours", "revoke"])]
    status: bool,
    /// Withdraw the one there is
    #[arg(long, conflicts_with = "hours")]
    revoke: bool,
}

pub(super) async fn run(api: &Api, screen: Screen, args: &Args, json: bool) -> Result<(), Failure> {
    let path = ["v1", "users", &args.user, "emergency-code"];
    if args.status {
        return screen.one(FIELDS, &api.get(&path).await?, json);
    }
    if args.revoke {
        api.delete(&path).await?;
        return screen.confirm(&format!("the emergency code of {} is withdrawn", plain(&args.user)), json);
    }
    let body =
        args.hours.map_or_else(|| json!({}), |hours| json!({"expiresInSeconds": u64::from(hours) * 3600}));
    let answer = api.post(&path, body).await?;
    if json {
        return screen.json(&answer);
    }
    let left = span(time_left(&answer, "/expiresAt").unwrap_or(Duration::ZERO));
    let code = screen.paint(Tone::Strong, &plain(text(&answer, "/code")));
    screen.print(&format!("{code}\nIt works once, within {left}, and shows only now."))
}
