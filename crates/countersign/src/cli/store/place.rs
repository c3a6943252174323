//! Which database a command means.

use crate::{
    cli::failure::Failure,
    config::{Data, secret::Given},
};

/// What a database is named by.
pub(super) const FORMS: &str = "postgres://USER@HOST/DATABASE or sqlite:DIRECTORY";

/// Returns the settings of the database that a URL means, used as the settings say; `None` if it is no such URL.
pub(super) fn named(settings: Data, option: &str, url: &str) -> Result<Option<Data>, Failure> {
    if has_password(url) {
        return Err(Failure::usage("everybody on this machine can read a password on the command line")
            .hint(format!(
                "leave it out of {option} and set PGPASSWORD, or name it in store.password_file or \
                 COUNTERSIGN__STORE__PASSWORD_FILE"
            )));
    }
    Ok(match url.split_once(':') {
        Some(("sqlite", directory)) if !directory.is_empty() => Some(in_directory(settings, directory)),
        Some(("postgres" | "postgresql", _)) => {
            Some(with_password(Data { url: Some(Given::new(url)), url_file: None, ..settings }))
        }
        _ => None,
    })
}

/// Returns the settings of the embedded database in a directory.
pub(super) fn in_directory(settings: Data, directory: &str) -> Data {
    Data { directory: directory.into(), url: None, url_file: None, ..settings }
}

/// Takes the password that PostgreSQL's own programs take.
fn with_password(settings: Data) -> Data {
    match std::env::var("PGPASSWORD") {
        Ok(password) => Data { password: Some(Given::new(&password)), password_file: None, ..settings },
        Err(_) => settings,
    }
}

/// Tells whether a URL names a password, before the host or among the parameters.
fn has_password(url: &str) -> bool {
    let (before, parameters) = url.split_once('?').unwrap_or((url, ""));
    let authority = before.split_once("://").map_or("", |(_, rest)| rest);
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
        || parameters.split('&').any(|parameter| parameter.starts_with("password="))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::Exit;

    #[test]
    fn a_password_on_the_command_line_is_refused_and_not_repeated() {
        for url in [
            "postgres://ada:hunter2@db/mfa",
            "postgres://ada:hunter2@db1,db2:5433/mfa?sslmode=disable",
            "postgresql://ada:@db/mfa",
            "postgres://db/mfa?user=ada&password=hunter2",
        ] {
            let failure = named(Data::default(), "--url", url).expect_err(url);

            assert_eq!(failure.exit, Exit::Usage);
            let hint = failure.hint.clone().unwrap_or_default();
            assert!(hint.contains("PGPASSWORD") && hint.contains("--url"), "{failure:?}");
            assert!(!format!("{failure:?}").contains("hunter2"));
        }
        assert!(!has_password("postgres://ada@db:5432/mfa?options=-c%20x=y"));
        assert!(!has_password("sqlite:/var/lib/a:b@c"));
    }

    #[test]
    fn a_database_is_named() {
        let ours = Data { url_file: Some("url".into()), sharded: true, ..Data::default() };
        let found = |url: &str| named(ours.clone(), "--url", url).expect("no password");
        let folder = found("sqlite:/tmp/trial").expect("a folder");
        let server = found("postgres://ada@db/trial").expect("a server");

        assert!(!folder.is_remote() && folder.directory == std::path::Path::new("/tmp/trial"));
        assert_eq!(server.url, Some(Given::new("postgres://ada@db/trial")));
        assert!(server.url_file.is_none() && server.sharded, "how it is used is as configured");
        for other in ["sqlite:", "mysql://db/mfa", "trial"] {
            assert_eq!(found(other), None, "{other}");
        }
    }
}
