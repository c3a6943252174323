//! `countersign unlock`: lets somebody try again.

use super::{
    api::{Api, Server},
    failure::Failure,
    names,
    screen::{Field, Screen, plain},
};
use countersign_core::Method;
use serde_json::{Value, json};

const COLUMNS: &[Field] = &[
    ("method", "/method"),
    ("locked", "/locked"),
    ("failures", "/failures"),
    ("since", "/lockedAt"),
    ("until", "/lockedUntil"),
];

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: countersign unlock ada")]
pub(super) struct Args {
    /// Username, number or id
    user: String,
    /// Only this method; may be repeated
    #[arg(long = "method", value_name = "METHOD", value_parser = names(Method::ALL.map(Method::name)), ignore_case = true)]
    methods: Vec<String>,
    /// The password, too
    #[arg(long)]
    password: bool,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let methods: Vec<String> = args.methods.iter().map(|method| method.to_uppercase()).collect();
    let mut body = if methods.is_empty() { json!({}) } else { json!({"methods": methods}) };
    if args.password {
        body["password"] = true.into();
    }
    let work = async |api: &Api| api.post(&["v1", "users", &args.user, "unlock"], body).await;

    let locks = Api::session(&args.server, work).await?;
    let what = if methods.is_empty() { "everything".to_owned() } else { methods.join(", ") };
    let screen = Screen::new();
    if args.server.json {
        return screen.json(&locks);
    }
    screen.print(
        &screen.done(&format!("{} can try again: {what} unlocked, failures forgotten", plain(&args.user))),
    )?;
    if failed(&locks).is_empty() { Ok(()) } else { print_locks(screen, &locks, false) }
}

/// Returns the methods with failures; the others have nothing to tell.
fn failed(locks: &Value) -> Vec<Value> {
    let has_failed = |lock: &&Value| lock["locked"] == true || lock["failures"].as_u64() > Some(0);
    locks["items"].as_array().into_iter().flatten().filter(has_failed).cloned().collect()
}

/// Prints the locks of a person.
pub(super) fn print_locks(screen: Screen, locks: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return screen.json(locks);
    }
    match failed(locks) {
        failed if failed.is_empty() && locks["passwordLocked"] == true => {
            screen.print("the password is locked; no wrong codes are counted")
        }
        failed if failed.is_empty() => screen.print("nothing is locked, and no wrong codes are counted"),
        failed => screen.print(&screen.table(COLUMNS, &failed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_methods_with_failures_are_shown() {
        let locks = json!({"items": [
            {"method": "TOKEN", "locked": true, "failures": 5},
            {"method": "SMS", "locked": false, "failures": 0},
            {"method": "RECOVERY", "locked": false, "failures": 1},
        ]});

        let methods: Vec<Value> = failed(&locks).iter().map(|lock| lock["method"].clone()).collect();

        assert_eq!(methods, ["TOKEN", "RECOVERY"]);
    }
}
