//! The proof, before serving, that this database keeps the engine's promises.
//!
//! A scratch organisation with a scratch person goes through the functions every change goes through, inside a transaction
//! that is always taken back: nothing of it is ever committed or visible, and no cleaning up can fail.

use super::{
    Postgres, audit,
    database::{Database, Lent},
    failure::Fault,
    organisations, shared, users,
};
use crate::{
    error::{Error, Result},
    store::scratch::{self, ORGANISATION, PERSON},
};
use countersign_core::{Handle, Timestamp, Verdict};
use std::sync::{Arc, Mutex};

impl Postgres {
    /// See [`crate::store::Store::self_test`].
    pub async fn self_test(&self, now: Timestamp) -> Result<()> {
        let database = Arc::clone(&self.database);
        self.database
            .read(move |lent| {
                let database = Arc::clone(&database);
                async move {
                    let newest = audit::newest_time(&lent).await?;
                    scratch::check_clock(newest, now)?;
                    lent.begin().await?;
                    let outcome = rehearse(&database, &lent, now).await;
                    lent.roll_back().await;
                    outcome
                }
            })
            .await
    }
}

async fn rehearse(database: &Database, lent: &Lent, now: Timestamp) -> Result<(), Fault> {
    organisations::insert(database, lent, scratch::organisation(now)?).await?;
    let admit = Mutex::new(|organisation: &mut _| scratch::admit(organisation, now));
    users::create(database, lent, ORGANISATION, &admit).await?;
    let attempt = scratch::attempt(now)?;
    let verify = Mutex::new(|user: &mut _| scratch::verify(user, &attempt, now));
    let whom = Handle::Id(PERSON);

    let first = users::change(database, lent, ORGANISATION, &whom, &verify).await?.outcome;
    let again = shared_change(database, lent, &verify).await?;
    scratch::check_replay(&first, &again)?;
    // A row that moved on must refuse whoever decided on the version before.
    match users::rewrite_stale(database, lent, PERSON).await? {
        false => Ok(()),
        true => Err(scratch::failed("a document was replaced by one decided on an older version").into()),
    }
}

/// Decides and writes as changes do that share a commit.
async fn shared_change<F>(database: &Database, lent: &Lent, verify: &Mutex<F>) -> Result<Verdict, Fault>
where
    F: FnMut(&mut countersign_core::User) -> Result<Verdict, countersign_core::Refusal>,
{
    let mut loaded = shared::load(database, lent, vec![PERSON.uuid()]).await?;
    let shared::Loaded { guard, columns, user } = loaded.remove(&PERSON).ok_or(Error::NotFound("user"))?;
    let mut user = user?;
    let verdict = users::run(verify, |verify| verify(&mut user))?;
    let mut group = shared::Group::new(guard, columns);
    if let Err(shared::NotShared::Failed(error)) = group.take(&mut user) {
        return Err(error.into());
    }
    let numbers = database.numbers(group.records.len(), group.after())?;
    group.rows = numbers.rows;
    group.finish(user);
    let changed = shared::write(database, lent, &[&group], numbers.until_millis).await?;
    match changed == [PERSON]
        && shared::write(database, lent, &[&group], numbers.until_millis).await?.is_empty()
    {
        true => Ok(verdict),
        false => Err(scratch::failed("a document was written twice, or not at all").into()),
    }
}
