//! Secrets in the configuration: written out, or better in a file of their own.

use crate::error::{Error, Result};
use countersign_core::{Secret, refusal::Invalid};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{fs, path::Path};

/// A secret written into the configuration or the environment. Does not print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given(Secret<String>);

impl Given {
    /// Takes a secret that was given in another way.
    pub fn new(text: &str) -> Self {
        Self(Secret::new(text.to_owned()))
    }

    /// Tells whether it was written out that there is none.
    pub fn is_empty(&self) -> bool {
        self.0.expose().is_empty()
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // Serde's own words quote what they found: a password of digits, written without quotes.
        let text = String::deserialize(from).map_err(|_| D::Error::custom("expected a text in quotes"))?;
        Ok(Self(Secret::new(text)))
    }
}

/// Returns the secret `key`, from the configuration or from the file named by `key_file`; `None` if neither is there.
///
/// The file's last line break is not part of the secret: editors add one. A secret that is empty is a mistake: a file
/// that was not written yet, a variable that was not set.
pub fn read(key: &str, given: Option<&Given>, file: Option<&Path>) -> Result<Option<Secret<String>>> {
    match (given, file) {
        (Some(_), Some(_)) => Err(Invalid::new(key, format!("goes without {key}_file")).into()),
        (Some(given), None) if given.is_empty() => Err(Invalid::new(key, "cannot be empty").into()),
        (Some(given), None) => Ok(Some(given.0.clone())),
        (None, None) => Ok(None),
        (None, Some(path)) => {
            let failed = |why: String| Error::Store(format!("read {key}_file {}: {why}", path.display()));
            let text = Secret::new(fs::read_to_string(path).map_err(|error| failed(error.to_string()))?);
            if text.expose().trim().is_empty() {
                return Err(failed("it is empty".into()));
            }
            Ok(Some(text.expose().trim_end_matches(['\r', '\n']).to_owned().into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Given {
        Given(Secret::new(text.to_owned()))
    }

    #[test]
    fn a_secret_that_is_no_text_is_not_quoted() {
        let error = toml::Value::Integer(12_345_678).try_into::<Given>().expect_err("a number").to_string();

        assert!(error.contains("expected a text in quotes") && !error.contains("12345678"), "{error}");
    }

    #[test]
    fn a_secret_comes_from_one_place() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("password");
        fs::write(&path, "correct horse\n").expect("write");
        let shown =
            |found: Result<Option<Secret<String>>>| found.expect("read").map(|found| found.expose().clone());

        assert_eq!(shown(read("password", Some(&given("one")), None)), Some("one".into()));
        assert_eq!(shown(read("password", None, Some(&path))), Some("correct horse".into()));
        assert_eq!(shown(read("password", None, None)), None);
        assert!(read("password", Some(&given("one")), Some(&path)).is_err());
        let missing = read("password", None, Some(Path::new("/nowhere"))).expect_err("missing").to_string();
        assert!(missing.contains("password_file /nowhere"), "{missing}");
    }

    // Such a server started, and every message failed.
    #[test]
    fn an_empty_secret_is_a_mistake() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("token");
        for nothing in ["", "\n", " \r\n"] {
            fs::write(&path, nothing).expect("write");
            let error = read("token", None, Some(&path)).expect_err("empty").to_string();
            assert_eq!(error, format!("read token_file {}: it is empty", path.display()));
        }
        let error = read("token", Some(&given("")), None).expect_err("empty").to_string();
        assert_eq!(error, "token: cannot be empty");
    }
}
