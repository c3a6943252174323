//! `countersign user recovery-codes`: codes people keep for the day their phone is gone.

use super::{
    api::Api,
    failure::Failure,
    prompt,
    screen::{Field, Screen, Tone, plain},
};
use serde_json::{Value, json};

const FIELDS: &[Field] = &[("Left", "/remaining"), ("Of", "/total"), ("Created", "/createdAt")];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Username, number or id
    user: String,
    /// Only tell how many are left
    #[arg(long)]
    status: bool,
    /// Do not ask, even if codes are left
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(api: &Api, screen: Screen, args: &Args, json: bool) -> Result<(), Failure> {
    let path = ["v1", "users", &args.user, "recovery-codes"];
    if args.status {
        return screen.one(FIELDS, &api.get(&path).await?, json);
    }
    if !args.yes {
        let left = api.get(&path).await?["remaining"].as_u64().unwrap_or(0);
        if left > 0 {
            prompt::confirm(&format!("{left} codes are left and would stop working"), "replace")?;
        }
    }
    let answer = api.post(&path, json!({})).await?;
    if json {
        return screen.json(&answer);
    }
    let codes: String = answer["codes"].as_array().into_iter().flatten().map(line).collect();
    screen.print(&codes)?;
    screen.print(
        &screen.paint(Tone::Quiet, "Each works once. They show only now: print them, keep them apart."),
    )
}

fn line(code: &Value) -> String {
    format!("  {}\n", plain(code.as_str().unwrap_or_default()))
}
