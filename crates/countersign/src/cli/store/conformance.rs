//! `countersign store conformance`: whether a database keeps what the store promises.

mod proving;

pub(in crate::cli) use proving::prove;

use crate::cli::{
    failure::{Exit, Failure},
    screen::{Screen, Tone, plain},
};
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};

#[derive(Debug, Default, clap::Args)]
#[command(
    after_help = "Example: countersign store conformance --url postgres://countersign@db.example/trial\n\n\
                  The database must be empty, or left by an earlier run: checks fill it, damage what is in it, and clear it.\n\
                  Exit code 6 means that a check failed."
)]
pub(in crate::cli) struct Args {
    /// Database: postgres://USER@HOST/DATABASE or sqlite:DIRECTORY; store.url of the configuration if left out
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Only this check, or the checks of this suite; can be repeated
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Configuration file (TOML)
    #[arg(long, env = "COUNTERSIGN_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// How a check went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Outcome {
    /// The suite it belongs to.
    pub suite: &'static str,
    /// What it says of the database.
    pub check: &'static str,
    /// How long it took.
    pub took: Duration,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// Takes each outcome as it comes.
pub(in crate::cli) type Tell<'a> = &'a mut dyn FnMut(Outcome) -> Result<(), Failure>;

/// Has `prove` run the checks, and prints how they went.
pub(super) async fn run(
    args: Args,
    prove: impl AsyncFnOnce(&Args, Tell<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let screen = Screen::new();
    let mut outcomes = Vec::new();
    prove(&args, &mut |outcome| {
        if !args.json {
            screen.print(&line(screen, &outcome))?;
        }
        outcomes.push(outcome);
        Ok(())
    })
    .await?;

    if args.json {
        screen.json(&to_json(&outcomes))?;
    }
    let checks = outcomes.len();
    match outcomes.iter().filter(|outcome| outcome.failure.is_some()).count() {
        0 if args.json => Ok(()),
        0 => screen.print(&format!("{checks} checks, none failed")),
        _ if args.json => Err(Failure::silent(Exit::Integrity)),
        failed => Err(Failure::new(format!("{failed} of {checks} checks failed"))
            .exit(Exit::Integrity)
            .hint("keep no second factors in this database before each line with ✗ is understood")),
    }
}

/// Lays out an outcome: a line, and what was said of a failure below it.
fn line(screen: Screen, outcome: &Outcome) -> String {
    let Outcome { suite, check, took, failure } = outcome;
    let (tone, mark) = if failure.is_none() { (Tone::Good, "✓") } else { (Tone::Bad, "✗") };
    let took = format!("{:.2} s", took.as_secs_f64());
    let mut text = format!("{} {took:>8}  {suite:10}  {check}\n", screen.paint(tone, mark));
    for said in failure.iter().flat_map(|failure| failure.lines()) {
        text.push_str(&format!("      {}\n", plain(said)));
    }
    text
}

fn to_json(outcomes: &[Outcome]) -> Value {
    let item = |outcome: &Outcome| {
        json!({
            "suite": outcome.suite,
            "check": outcome.check,
            "passed": outcome.failure.is_none(),
            "seconds": outcome.took.as_secs_f64(),
            "detail": outcome.failure,
        })
    };
    json!({"items": outcomes.iter().map(item).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(failure: Option<&str>) -> Outcome {
        let took = Duration::from_millis(1250);
        Outcome { suite: "race", check: "one_code", took, failure: failure.map(str::to_owned) }
    }

    async fn run_on(outcomes: Vec<Outcome>, json: bool) -> Result<(), Failure> {
        let prove = async |_: &Args, tell: Tell<'_>| outcomes.into_iter().try_for_each(tell);
        run(Args { json, ..Args::default() }, prove).await
    }

    #[tokio::test]
    async fn one_failed_check_is_a_failure() {
        let good = run_on(vec![outcome(None)], false).await;
        let bad = run_on(vec![outcome(None), outcome(Some("two successes"))], false).await;
        let bad_as_json = run_on(vec![outcome(Some("two successes"))], true).await;

        assert_eq!(good, Ok(()));
        let failure = bad.expect_err("a failure");
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Integrity, "1 of 2 checks failed"));
        assert_eq!(bad_as_json, Err(Failure::silent(Exit::Integrity)));
    }

    #[test]
    fn a_failure_is_told_below_the_check() {
        let screen = Screen { colours: false, width: None };

        assert_eq!(line(screen, &outcome(None)), "✓   1.25 s  race        one_code\n");
        assert_eq!(
            line(screen, &outcome(Some("two successes\nin one\u{1b} second"))),
            "✗   1.25 s  race        one_code\n      two successes\n      in one\u{FFFD} second\n"
        );
    }

    #[test]
    fn machines_read_the_same() {
        let json = to_json(&[outcome(Some("two successes"))]);

        assert_eq!(
            json,
            json!({"items": [{"suite": "race", "check": "one_code", "passed": false, "seconds": 1.25, "detail": "two successes"}]})
        );
    }
}
