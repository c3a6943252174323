//! The proof, before serving, that this engine on this disk keeps its promises.
//!
//! The scratch person goes through the functions every change goes through, inside a savepoint that is always taken back:
//! nothing of it is ever committed or visible, and no cleaning up can fail.

use super::{Sqlite, audit, organisations, users, writer::Batch};
use crate::{
    error::Result,
    store::scratch::{self, ORGANISATION, PERSON},
};
use countersign_core::{Handle, Timestamp, User};

impl Sqlite {
    /// See [`crate::store::Store::self_test`].
    pub async fn self_test(&self, now: Timestamp) -> Result<()> {
        self.writer
            .commit_job(move |batch| {
                scratch::check_clock(audit::newest_time(batch)?, now)?;
                batch.rehearse(|| rehearse(batch, now))
            })
            .await
    }
}

fn rehearse(batch: &Batch<'_>, now: Timestamp) -> Result<()> {
    organisations::insert(batch, scratch::organisation(now)?)?;
    users::create(batch, ORGANISATION, &mut |organisation| scratch::admit(organisation, now))?;
    let attempt = scratch::attempt(now)?;
    let mut verify = |user: &mut User| scratch::verify(user, &attempt, now);

    let first = users::change(batch, ORGANISATION, &Handle::Id(PERSON), &mut verify)?;
    let again = users::change(batch, ORGANISATION, &Handle::Id(PERSON), &mut verify)?;
    scratch::check_replay(&first, &again)?;
    // A row that moved on must refuse whoever decided on the version before.
    match users::rewrite_stale(batch, ORGANISATION, PERSON)? {
        false => Ok(()),
        true => Err(scratch::failed("a document was replaced by one decided on an older version")),
    }
}
