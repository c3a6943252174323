//! What a server must be and do before anybody relies on its commits.

use super::{
    cluster::{NO_TIMELINE, TIMELINE},
    database::Database,
    failure::Fault,
    shared::Statements,
    sql::args,
};
use crate::error::{Error, Result};
use std::sync::Arc;
use tokio_postgres::error::SqlState;
use tracing::warn;

/// The oldest server the suites were run on, and what a Debian of that time brings.
const OLDEST: i32 = 150_000;

/// Refuses a server that would break a promise, and says what to change there.
pub(super) async fn examine(database: &Arc<Database>) -> Result<()> {
    let settings = database
        .read(|lent| async move {
            let row = lent.row(SETTINGS, args![]).await?.ok_or(Fault::Overtaken)?;
            Ok(Settings {
                version: row.try_get(0)?,
                encoding: row.try_get(1)?,
                fsync: row.try_get(2)?,
                synchronous_commit: row.try_get(3)?,
                full_page_writes: row.try_get(4)?,
                statement_timeout: row.try_get(5)?,
            })
        })
        .await?;
    settings.check(database.is_synchronous)?;
    if database.is_sharded {
        // A coordinator's timeline says nothing of the others', and its clock need not be theirs.
        database.statements.get_or_init(|| Statements::of(NO_TIMELINE, true));
        return Ok(());
    }
    let timeline = database
        .read(|lent| async move {
            match lent.query_typed(&format!("SELECT {TIMELINE}"), args![]).await {
                Ok(_) => Ok(TIMELINE),
                Err(error) if has_no_timelines(&error) => Ok(NO_TIMELINE),
                Err(error) => Err(error.into()),
            }
        })
        .await?;
    database.statements.get_or_init(|| Statements::of(timeline, false));
    Ok(())
}

fn has_no_timelines(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(&SqlState::UNDEFINED_FUNCTION | &SqlState::FEATURE_NOT_SUPPORTED))
}

const SETTINGS: &str =
    "SELECT current_setting('server_version_num')::bigint, current_setting('server_encoding'),
    current_setting('fsync', true), current_setting('synchronous_commit', true),
    current_setting('full_page_writes', true), current_setting('statement_timeout', true)";

struct Settings {
    version: i64,
    encoding: String,
    fsync: Option<String>,
    synchronous_commit: Option<String>,
    full_page_writes: Option<String>,
    statement_timeout: Option<String>,
}

impl Settings {
    fn check(&self, is_synchronous: bool) -> Result<()> {
        let is_off = |setting: &Option<String>| setting.as_deref() == Some("off");
        let refused = |what: &str| Err(Error::Store(format!("open database: {what}")));
        if self.version < i64::from(OLDEST) {
            return refused(&format!(
                "PostgreSQL {} is too old; 15 or newer is needed",
                self.version / 10_000
            ));
        }
        if self.encoding != "UTF8" {
            return refused(&format!(
                "its encoding is {}; create one with UTF8: createdb -E UTF8 -T template0 NAME",
                self.encoding
            ));
        }
        if is_off(&self.fsync) || is_off(&self.full_page_writes) {
            return refused(
                "its commits do not survive a crash of the machine; set fsync and full_page_writes to on there",
            );
        }
        if is_off(&self.synchronous_commit) {
            return refused(
                "its commits are answered before they are on the disk; set synchronous_commit to on there, also for this \
                 role and database",
            );
        }
        let has_timeout = self.statement_timeout.as_deref().is_some_and(|limit| limit != "0");
        if has_timeout && is_synchronous {
            return refused(
                "statement_timeout is set, and ends the wait for a standby with the news of a success; set it to 0 for this \
                 role: ALTER ROLE … SET statement_timeout = 0",
            );
        }
        if has_timeout {
            warn!("statement_timeout is set for this role; with a synchronous standby it has to be 0");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let on = || Some("on".to_owned());
        Settings {
            version: 150_013,
            encoding: "UTF8".into(),
            fsync: on(),
            synchronous_commit: on(),
            full_page_writes: on(),
            statement_timeout: Some("0".into()),
        }
    }

    fn refusal(change: impl FnOnce(&mut Settings), is_synchronous: bool) -> Option<String> {
        let mut settings = settings();
        change(&mut settings);
        settings.check(is_synchronous).err().map(|error| error.to_string())
    }

    #[test]
    fn a_server_that_breaks_a_promise_is_refused_with_what_to_change() {
        let off = || Some("off".to_owned());
        type Change = Box<dyn FnOnce(&mut Settings)>;
        let changes: [(Change, &str); 5] = [
            (Box::new(|it| it.version = 140_011), "PostgreSQL 14 is too old"),
            (Box::new(|it| it.encoding = "SQL_ASCII".into()), "createdb -E UTF8"),
            (Box::new(move |it| it.fsync = off()), "set fsync"),
            (Box::new(move |it| it.full_page_writes = off()), "full_page_writes"),
            (Box::new(move |it| it.synchronous_commit = off()), "set synchronous_commit to on"),
        ];

        assert_eq!(refusal(|_| {}, true), None);
        for (change, said) in changes {
            let refusal = refusal(change, false).unwrap_or_default();
            assert!(refusal.contains(said), "{said}: {refusal}");
        }
    }

    // A statement that times out while its commit waits for the standby is answered as a success.
    #[test]
    fn a_statement_timeout_and_a_synchronous_standby_do_not_go_together() {
        let limit = |it: &mut Settings| it.statement_timeout = Some("5s".into());

        assert!(refusal(limit, true).is_some_and(|refusal| refusal.contains("statement_timeout")));
        assert_eq!(refusal(limit, false), None);
    }
}
