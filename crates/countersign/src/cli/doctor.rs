//! `countersign doctor`: looks for what is wrong with an installation.

mod checks;

pub(super) use checks::examine;

use super::{
    failure::{Exit, Failure},
    installation::Installation,
    screen::{Screen, Tone, plain},
};
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: countersign doctor --data /var/lib/countersign\n\nStop the server first: the data is open to one program at a time.\nExit code 6 means that something is wrong."
)]
pub(super) struct Args {
    #[command(flatten)]
    pub installation: Installation,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// As it should be.
    Good,
    /// It works, but somebody should look.
    Warning,
    /// The server would refuse to serve, or should.
    Bad,
}

impl Health {
    const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// What was looked at: `key canary`, `clock`, `permissions` …
    pub check: String,
    /// How it is.
    pub health: Health,
    /// What was found, or what to do.
    pub detail: String,
}

/// Examines the installation with `examine`, and prints what was found.
pub(super) async fn run(
    args: Args,
    examine: impl AsyncFnOnce(&Installation) -> Result<Vec<Finding>, Failure>,
) -> Result<(), Failure> {
    let findings = examine(&args.installation).await?;
    let screen = Screen::new();
    if args.json {
        screen.json(&to_json(&findings))?
    } else {
        screen.print(&to_text(screen, &findings))?
    }

    match findings.iter().filter(|finding| finding.health == Health::Bad).count() {
        0 => Ok(()),
        _ if args.json => Err(Failure::silent(Exit::Integrity)),
        bad => Err(Failure::new(format!("{bad} of {} checks failed", findings.len()))
            .exit(Exit::Integrity)
            .hint("do not serve before each line with ✗ is understood")),
    }
}

fn to_json(findings: &[Finding]) -> Value {
    let item = |finding: &Finding| json!({"check": finding.check, "health": finding.health.name(), "detail": finding.detail});
    json!({"items": findings.iter().map(item).collect::<Vec<_>>()})
}

fn to_text(screen: Screen, findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or(0);
    let line = |finding: &Finding| {
        let (tone, mark) = match finding.health {
            Health::Good => (Tone::Good, "✓"),
            Health::Warning => (Tone::Warning, "!"),
            Health::Bad => (Tone::Bad, "✗"),
        };
        format!("{} {:width$}  {}\n", screen.paint(tone, mark), finding.check, plain(&finding.detail))
    };
    findings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(check: &str, health: Health) -> Finding {
        Finding { check: check.into(), health, detail: "…".into() }
    }

    fn args(json: bool) -> Args {
        Args { installation: Installation::default(), json }
    }

    #[tokio::test]
    async fn one_bad_finding_fails_and_warnings_do_not() {
        let warned =
            run(args(false), async |_: &Installation| Ok(vec![finding("clock", Health::Warning)])).await;
        let failed = run(args(true), async |_: &Installation| Ok(vec![finding("canary", Health::Bad)])).await;

        assert_eq!(warned, Ok(()));
        assert_eq!(failed, Err(Failure::silent(Exit::Integrity)));
    }

    #[test]
    fn findings_are_aligned_and_readable_without_colours() {
        let screen = Screen { colours: false, width: None };

        let text = to_text(screen, &[finding("clock", Health::Good), finding("key canary", Health::Bad)]);

        assert_eq!(text, "✓ clock       …\n✗ key canary  …\n");
    }
}
