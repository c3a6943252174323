//! `countersign verify`: checks a code somebody says or types.

use super::{
    api::{Api, Server},
    failure::{Exit, Failure},
    names, prompt,
    screen::{Screen, plain, span, text, time_left},
};
use countersign_core::Kind;
use serde_json::{Map, Value};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  countersign verify ada\n  echo 123456 | countersign verify ada\n\n\
                        Exit code 5 means that the code was not accepted.")]
pub(super) struct Args {
    /// Username, number or id
    user: String,
    /// The code, or - for standard input; asked for when left out (arguments show in the list of processes)
    #[arg(long, allow_hyphen_values = true)]
    code: Option<String>,
    /// What the code is of; any app or token when left out
    #[arg(long = "type", value_name = "TYPE", value_parser = names(Kind::ALL.map(Kind::name)))]
    kind: Option<String>,
    /// The challenge whose code it is, if it was sent
    #[arg(long, value_name = "ID", conflicts_with = "kind")]
    challenge: Option<String>,
    /// Your own name for this attempt: a retry with it gets the first answer again
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    #[command(flatten)]
    server: Server,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let code = prompt::code(args.code, "Code")?;
    let mut body = Map::from_iter([
        ("user".to_owned(), Value::from(args.user.as_str())),
        ("code".to_owned(), Value::from(code.expose().as_str())),
    ]);
    body.extend(args.kind.map(|kind| ("type".to_owned(), kind.into())));
    body.extend(args.challenge.map(|id| ("challenge".to_owned(), id.into())));
    body.extend(args.request_id.map(|id| ("requestId".to_owned(), id.into())));

    let work = async |api: &Api| api.post(&["v1", "verify"], body.into()).await;
    let verdict = Api::session(&args.server, work).await?;

    let is_accepted = verdict["result"] == "accepted";
    let screen = Screen::new();
    if args.server.json {
        screen.json(&verdict)?;
        return if is_accepted { Ok(()) } else { Err(Failure::silent(Exit::NotAccepted)) };
    }
    if is_accepted {
        return screen.print(&screen.done(&describe(&verdict)));
    }
    Err(refusal(&args.user, &verdict))
}

/// Says in words what the server found.
pub(super) fn describe(verdict: &Value) -> String {
    match text(verdict, "/result") {
        "accepted" => match text(verdict, "/type") {
            "" => "accepted".to_owned(),
            kind => format!("accepted ({})", plain(kind)),
        },
        "rejected" if verdict["reason"] == "user_disabled" => "rejected: the person is disabled".to_owned(),
        "rejected" => match verdict["attemptsLeft"].as_u64() {
            Some(left) => format!("rejected: wrong code, {left} more before it locks"),
            None => "rejected: wrong code".to_owned(),
        },
        "locked" => match time_left(verdict, "/lockedUntil") {
            Some(left) => format!("locked for {}", span(left)),
            None => "locked until somebody unlocks it".to_owned(),
        },
        "replayed" => "replayed: this code was used before".to_owned(),
        "expired" => "expired: the code was right but too late".to_owned(),
        "no_factor" => "no factor to check it against".to_owned(),
        other => plain(other),
    }
}

fn refusal(user: &str, verdict: &Value) -> Failure {
    let user = plain(user);
    let failure = Failure::new(describe(verdict)).exit(Exit::NotAccepted);
    match text(verdict, "/result") {
        "rejected" if verdict["reason"] == "user_disabled" => {
            failure.hint(format!("countersign user update {user} --status active"))
        }
        "rejected" => failure.hint("try the next code; on a phone, set the clock to automatic"),
        "locked" => {
            failure.hint(format!("make sure that it is {user} who asks, then: countersign unlock {user}"))
        }
        "replayed" => failure.hint("wait for the next code, and use that one"),
        "expired" => failure.hint(format!("countersign user emergency-code {user}")),
        "no_factor" => failure.hint(format!("countersign factor enrol {user}")),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_refusal_exits_with_5_and_says_what_to_do() {
        for verdict in [
            json!({"result": "rejected", "reason": "wrong_code", "attemptsLeft": 4}),
            json!({"result": "rejected", "reason": "user_disabled", "attemptsLeft": 0}),
            json!({"result": "locked", "method": "TOKEN", "lockedUntil": null}),
            json!({"result": "replayed"}),
            json!({"result": "expired"}),
            json!({"result": "no_factor"}),
        ] {
            let failure = refusal("ada", &verdict);
            assert_eq!(failure.exit, Exit::NotAccepted);
            assert!(failure.hint.is_some(), "{verdict}");
        }
    }

    #[test]
    fn a_lock_says_how_long_it_holds() {
        let verdict = json!({"result": "locked", "lockedUntil": "2999-01-01T00:00:00Z"});

        assert!(describe(&verdict).starts_with("locked for "));
        assert_eq!(describe(&json!({"result": "locked"})), "locked until somebody unlocks it");
    }
}
