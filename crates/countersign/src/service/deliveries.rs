//! Messages on their way, as operators see them: looking, trying a channel, sending dead letters again.

use crate::{
    app::{App, Asker},
    error::{Error, Result},
    store::{Delivery, DeliveryFilter, DeliveryState, Page},
};
use countersign_core::{DeliveryId, Destination, Locale, UserId};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a test waits for its outcome: a little more than its message may take.
const PATIENCE: Duration = Duration::from_secs(25);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);
/// How many old rows are forgotten in one commit, so that no verification waits for long.
const STEP: usize = 500;
/// A day.
const DAY: Duration = Duration::from_secs(86_400);

/// Returns a page of deliveries, newest first.
pub async fn list(
    app: &App,
    asker: &Asker,
    filter: &DeliveryFilter,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<Delivery>> {
    app.store.deliveries(asker.organisation.id, filter, after, limit).await
}

/// Returns a delivery.
pub async fn get(app: &App, asker: &Asker, id: DeliveryId) -> Result<Delivery> {
    app.store.delivery(asker.organisation.id, id).await?.ok_or(Error::NotFound("delivery"))
}

/// Has a dead letter sent again.
pub async fn retry(app: &App, asker: &Asker, id: DeliveryId) -> Result<Delivery> {
    let (organisation, call) = (asker.organisation.id, asker.call.clone());
    let now = call.now;
    match recipient(app, asker, id).await? {
        Some(user) => {
            let record = move |user: &mut countersign_core::User| user.retry_delivery(id, &call);
            app.store.requeue(organisation, user, id, now, record).await
        }
        None => {
            app.store
                .requeue_of_organisation(organisation, id, now, move |organisation| {
                    organisation.retry_delivery(id, &call);
                    Ok(())
                })
                .await
        }
    }
}

/// Returns the person a delivery goes to, if they are still there.
async fn recipient(app: &App, asker: &Asker, id: DeliveryId) -> Result<Option<UserId>> {
    let organisation = asker.organisation.id;
    match get(app, asker, id).await?.user {
        Some(user) => Ok(app.store.user(organisation, user).await?.map(|user| user.id)),
        None => Ok(None),
    }
}

/// Sends a message that shows whether a channel works, and waits for what becomes of it.
pub async fn test(app: &App, asker: &Asker, to: Destination, locale: Option<Locale>) -> Result<Delivery> {
    let id = DeliveryId::generate(asker.call.now, &mut rand::rng());
    app.change_organisation(asker, move |organisation, call| {
        organisation.test_delivery(id, to.clone(), locale.clone(), call);
        Ok(())
    })
    .await?;
    outcome(app, asker, id).await
}

/// Waits until a delivery is settled; returns it as it then is, or as it is when patience ends.
async fn outcome(app: &App, asker: &Asker, id: DeliveryId) -> Result<Delivery> {
    let end = Instant::now() + PATIENCE;
    loop {
        let delivery = get(app, asker, id).await?;
        if delivery.state != DeliveryState::Queued || Instant::now() >= end {
            return Ok(delivery);
        }
        sleep(LOOK).await;
    }
}

/// Forgets deliveries that were settled long ago, and destinations nothing was sent to lately.
pub async fn forget_old(app: &App) -> Result<()> {
    let now = app.clock.now();
    let kept = DAY.saturating_mul(app.config.delivery.keep_days);
    let before = countersign_core::Timestamp::from_millis(
        now.millis().saturating_sub(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX)),
    );
    while app.store.prune_deliveries(before, STEP).await? == STEP {}
    while app.store.forget_destinations(now, STEP).await? == STEP {}
    Ok(())
}
