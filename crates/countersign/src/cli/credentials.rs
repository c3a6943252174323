//! Who the command line is to the server: a service client, a person, or a token from an earlier sign-in.
//!
//! They come from the environment or from files it names, never from arguments, which every user of the machine can read.

use super::{failure::Failure, prompt};
use countersign_core::Secret;
use std::path::Path;

/// What the command line proves its identity with.
#[derive(Debug)]
pub(super) enum Credentials {
    /// An access token, as `countersign login` prints it.
    Token(Secret<String>),
    /// A service client.
    Client {
        /// Its id.
        id: String,
        /// Its secret.
        secret: Secret<String>,
    },
    /// A person, who may be asked for a second factor.
    Person {
        /// The organisation they belong to; the first one if left out. An owner may act in another.
        organisation: Option<String>,
        /// The username.
        username: String,
        /// The password.
        password: Secret<String>,
        /// The second factor's code, for machines; people are asked.
        code: Option<Secret<String>>,
    },
}

impl Credentials {
    /// Reads them from the environment.
    pub(super) fn from_environment() -> Result<Self, Failure> {
        Self::from_lookup(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// Reads a person's credentials from the environment.
    pub(super) fn person_from_environment() -> Result<Self, Failure> {
        Self::from_lookup(|name| {
            let is_meant = !name.starts_with("COUNTERSIGN_CLIENT_") && !name.starts_with("COUNTERSIGN_TOKEN");
            std::env::var(name).ok().filter(|value| is_meant && !value.is_empty())
        })
    }

    /// Reads them from wherever `lookup` looks: a token first, then a client, then a person.
    fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        if let Some(token) = secret(&lookup, "COUNTERSIGN_TOKEN")? {
            return Ok(Self::Token(token));
        }
        if let Some(id) = lookup("COUNTERSIGN_CLIENT_ID") {
            let secret = required(&lookup, "COUNTERSIGN_CLIENT_SECRET")?;
            return Ok(Self::Client { id, secret });
        }
        if let Some(username) = lookup("COUNTERSIGN_USERNAME") {
            let password = required(&lookup, "COUNTERSIGN_PASSWORD")?;
            let code = secret(&lookup, "COUNTERSIGN_CODE")?;
            let organisation = lookup("COUNTERSIGN_USER_ORGANISATION");
            return Ok(Self::Person { organisation, username, password, code });
        }
        Err(Failure::usage("no credentials for the server").hint(
            "set COUNTERSIGN_CLIENT_ID and COUNTERSIGN_CLIENT_SECRET_FILE, \
             or COUNTERSIGN_USERNAME and COUNTERSIGN_PASSWORD_FILE",
        ))
    }
}

/// Returns the secret `name` holds or `name_FILE` points to.
fn secret(lookup: &impl Fn(&str) -> Option<String>, name: &str) -> Result<Option<Secret<String>>, Failure> {
    let file = format!("{name}_FILE");
    match (lookup(name), lookup(&file)) {
        (Some(_), Some(_)) => {
            Err(Failure::usage(format!("both {name} and {file} are set")).hint("unset one of them"))
        }
        (Some(value), None) => Ok(Some(Secret::new(value))),
        (None, Some(path)) => prompt::secret_file(Path::new(&path)).map(Some),
        (None, None) => Ok(None),
    }
}

fn required(lookup: &impl Fn(&str) -> Option<String>, name: &str) -> Result<Secret<String>, Failure> {
    secret(lookup, name)?.ok_or_else(|| {
        Failure::usage(format!("{name} is not set"))
            .hint(format!("set {name}, or {name}_FILE to name a file"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn from(variables: &[(&str, &str)]) -> Result<Credentials, Failure> {
        Credentials::from_lookup(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_secret_comes_from_a_variable_or_from_the_file_it_names() {
        let file = tempfile::NamedTempFile::new().expect("file");
        fs::write(file.path(), "from the file\n").expect("write");
        let path = file.path().to_str().expect("path");

        let direct = from(&[("COUNTERSIGN_CLIENT_ID", "c"), ("COUNTERSIGN_CLIENT_SECRET", "direct")]);
        let filed = from(&[("COUNTERSIGN_CLIENT_ID", "c"), ("COUNTERSIGN_CLIENT_SECRET_FILE", path)]);

        assert!(matches!(direct, Ok(Credentials::Client { secret, .. }) if secret.expose() == "direct"));
        assert!(
            matches!(filed, Ok(Credentials::Client { secret, .. }) if secret.expose() == "from the file")
        );
    }

    #[test]
    fn a_person_may_bring_the_code_of_their_second_factor() {
        let person = from(&[
            ("COUNTERSIGN_USERNAME", "ada"),
            ("COUNTERSIGN_PASSWORD", "correct horse"),
            ("COUNTERSIGN_CODE", "123456"),
        ]);

        assert!(
            matches!(person, Ok(Credentials::Person { code: Some(code), .. }) if code.expose() == "123456")
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let nothing = from(&[]).expect_err("nothing is set");
        let half = from(&[("COUNTERSIGN_USERNAME", "ada")]).expect_err("no password");
        let twice = from(&[("COUNTERSIGN_TOKEN", "a"), ("COUNTERSIGN_TOKEN_FILE", "b")]).expect_err("both");

        assert!(nothing.hint.is_some_and(|hint| hint.contains("COUNTERSIGN_CLIENT_ID")));
        assert_eq!(half.message, "COUNTERSIGN_PASSWORD is not set");
        assert_eq!(twice.message, "both COUNTERSIGN_TOKEN and COUNTERSIGN_TOKEN_FILE are set");
    }
}
