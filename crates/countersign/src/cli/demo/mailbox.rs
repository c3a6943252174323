//! The demo's mailbox: the file that its server writes messages into instead of sending them.

use crate::cli::failure::Failure;
use countersign_core::{Secret, challenge::CODE_DIGITS};
use serde_json::Value;
use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

/// How long a message may take: it is sent behind the request that asked for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where messages arrive.
#[derive(Debug)]
pub(super) struct Mailbox(PathBuf);

impl Mailbox {
    pub(super) fn new(file: PathBuf) -> Self {
        Self(file)
    }

    /// Waits for a message with a code; returns its subject and the code.
    pub(super) async fn code(&self) -> Result<(String, Secret<String>), Failure> {
        let begun = Instant::now();
        loop {
            if let Some(found) = self.newest() {
                return Ok(found);
            }
            if begun.elapsed() > PATIENCE {
                return Err(Failure::new("no message with a code arrived"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn newest(&self) -> Option<(String, Secret<String>)> {
        // The file comes with the first message.
        let text = fs::read_to_string(&self.0).ok()?;
        text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
            let code = code_in(message["text"].as_str()?)?;
            Some((message["subject"].as_str().unwrap_or_default().to_owned(), code))
        })
    }
}

/// Returns the code a text carries: its first run of so many digits.
fn code_in(text: &str) -> Option<Secret<String>> {
    let mut runs = text.split(|c: char| !c.is_ascii_digit());
    runs.find(|run| run.len() == CODE_DIGITS).map(|run| run.to_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_found_among_other_numbers() {
        let found = |text| code_in(text).map(|code| code.expose().clone());

        assert_eq!(
            found("At 10:15 on 2026-11-22: 012345. It is good for 10 minutes."),
            Some("012345".into())
        );
        assert_eq!(found("Nothing to see, call +4930123456"), None);
    }
}
