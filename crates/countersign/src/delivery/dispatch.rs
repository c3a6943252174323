//! One attempt to send one message: it is opened, written, and offered to the providers of its channel in order.

use super::{
    Failure, Outgoing, Receipt,
    provider::{Provider, Tools},
    retry, routing, scrub,
    smpp::Report,
    words::Templates,
};
use crate::{
    clock::Clock,
    config::delivery::Delivery,
    error::Result,
    keys::Keys,
    store::{Claimed, Settlement},
};
use countersign_core::{Channel, Destination, Letter};
use futures_util::FutureExt;
use std::{panic::AssertUnwindSafe, time::Duration};
use tokio::{sync::mpsc, time::timeout};

/// The longest a provider may take for one message.
const PATIENCE: Duration = Duration::from_secs(30);
/// Reports on messages that may wait to be noted; a centre is asked to repeat what does not fit.
const REPORTS: usize = 256;

/// The words and the providers.
#[derive(Debug)]
pub struct Dispatch {
    templates: Templates,
    providers: [Vec<Provider>; Channel::ALL.len()],
    clock: Clock,
}

impl Dispatch {
    /// Reads the templates and makes the providers ready; returns what they will say later of messages, too. Fails where
    /// the configuration cannot work.
    pub fn new(config: &Delivery, clock: &Clock) -> Result<(Self, mpsc::Receiver<Report>)> {
        let (reports, reported) = mpsc::channel(REPORTS);
        Ok((Self::reporting_to(reports, config, clock)?, reported))
    }

    /// Makes one like [`Dispatch::new`] that reports to somebody else.
    pub fn reporting_to(reports: mpsc::Sender<Report>, config: &Delivery, clock: &Clock) -> Result<Self> {
        let templates = Templates::load(config.templates.as_deref(), config.sms_origin.as_deref())?;
        let mut tools = Tools::new(config, clock, reports);
        let mut providers: [Vec<Provider>; Channel::ALL.len()] = Default::default();
        for channel in Channel::ALL {
            for given in config.providers(channel) {
                providers[channel as usize].push(Provider::new(channel, given, &mut tools)?);
            }
        }
        Ok(Self { templates, providers, clock: clock.clone() })
    }

    /// Returns all providers, channel by channel.
    pub fn providers(&self) -> impl Iterator<Item = &Provider> {
        self.providers.iter().flatten()
    }

    /// Takes leave of all providers.
    pub async fn stop(&self) {
        for provider in self.providers() {
            provider.stop().await;
        }
    }

    /// Returns the longest an attempt on a channel may take: all its providers, one after the other.
    pub fn patience(&self, channel: Channel) -> Duration {
        let providers = u32::try_from(self.providers[channel as usize].len()).unwrap_or(u32::MAX);
        PATIENCE.saturating_mul(providers.max(1))
    }

    /// Tries to send a message; returns what is to be noted of it.
    pub async fn send(&self, message: &Claimed, keys: &Keys) -> Settlement {
        let (organisation, user, id) = (message.organisation, message.user, message.id);
        let letter = match Letter::open(organisation, user, id, &message.body, keys) {
            Ok(letter) => letter,
            Err(error) => return Settlement::Failed { reason: format!("open letter: {error}") },
        };
        // What one message brings down must not hold up the others.
        match AssertUnwindSafe(self.attempt(message, &letter)).catch_unwind().await {
            Ok(settlement) => scrubbed(settlement, &letter),
            Err(_) => Settlement::Failed {
                reason: "sending it failed in a way that should be impossible; the log says more".into(),
            },
        }
    }

    async fn attempt(&self, message: &Claimed, letter: &Letter) -> Settlement {
        let written = match self.templates.write(letter, self.clock.now()) {
            Ok(written) => written,
            Err(error) => return Settlement::Failed { reason: format!("write letter: {error}") },
        };
        let outgoing =
            Outgoing { id: message.id, to: letter.to.clone(), expires_at: letter.expires_at, written };
        let mut reason = None;
        for provider in self.serving(&letter.to) {
            // Asked each time: the provider before may have taken long.
            if self.clock.now() >= letter.expires_at {
                return Settlement::Expired { reason };
            }
            match self.offer(provider, &outgoing).await {
                Ok(Receipt { provider, reference }) => return Settlement::Sent { provider, reference },
                Err(Failure::Permanent(reason)) => return Settlement::Failed { reason },
                Err(Failure::Temporary(why)) => reason = Some(why),
            }
        }
        match reason {
            Some(reason) => self.later(message, letter, reason),
            None => self.nobody(message, letter),
        }
    }

    /// Hands a message to a provider. The reasons it gives say whose they are.
    async fn offer(&self, provider: &Provider, outgoing: &Outgoing) -> Result<Receipt, Failure> {
        let name = provider.name();
        match timeout(PATIENCE, provider.send(outgoing)).await {
            Ok(Ok(receipt)) => Ok(receipt),
            Ok(Err(Failure::Permanent(reason))) => Err(Failure::Permanent(format!("{name}: {reason}"))),
            Ok(Err(Failure::Temporary(reason))) => Err(Failure::Temporary(format!("{name}: {reason}"))),
            Err(_) => {
                Err(Failure::Temporary(format!("{name}: no answer within {} seconds", PATIENCE.as_secs())))
            }
        }
    }

    /// Returns the providers that take a destination, in the order they are asked.
    fn serving(&self, to: &Destination) -> Vec<&Provider> {
        let providers = &self.providers[to.channel() as usize];
        let country = match to {
            Destination::Email(_) => None,
            Destination::Sms(phone) | Destination::Voice(phone) => phone.country(),
        };
        routing::serving(providers, Provider::countries, country.as_deref())
    }

    /// Waits for another attempt, if there is time for one.
    fn later(&self, message: &Claimed, letter: &Letter, reason: String) -> Settlement {
        let at = self.clock.now().after(retry::pause(message.attempts, letter));
        if at < letter.expires_at {
            Settlement::Retry { at, reason }
        } else {
            Settlement::Expired { reason: Some(reason) }
        }
    }

    /// Says that no provider could be asked.
    fn nobody(&self, message: &Claimed, letter: &Letter) -> Settlement {
        let channel = letter.to.channel();
        if self.providers[channel as usize].is_empty() {
            // The configuration changed after it was posted, and may change back.
            return self.later(message, letter, format!("no provider is configured for {channel}"));
        }
        Settlement::Failed { reason: "no provider takes numbers of this country".into() }
    }
}

/// Makes what providers said fit to be kept.
fn scrubbed(settlement: Settlement, letter: &Letter) -> Settlement {
    let scrub = |reason: String| scrub::reason(&reason, letter);
    match settlement {
        Settlement::Sent { provider, reference } => Settlement::Sent {
            provider,
            reference: reference.map(|reference| scrub::reference(&reference, letter)),
        },
        Settlement::Retry { at, reason } => Settlement::Retry { at, reason: scrub(reason) },
        Settlement::Failed { reason } => Settlement::Failed { reason: scrub(reason) },
        Settlement::Expired { reason } => Settlement::Expired { reason: reason.map(scrub) },
        Settlement::Interrupted => Settlement::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keys::MasterKey,
        store::{Store, sqlite::Sqlite},
    };
    use countersign_core::{
        DeliveryId, Locale, OrganisationId, Secret, Timestamp,
        message::{CodePurpose, Message, Sender, Words},
    };
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use uuid::Uuid;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    static BEYOND: AtomicUsize = AtomicUsize::new(0);

    fn beyond(_: &Outgoing) -> Result<Receipt, Failure> {
        BEYOND.fetch_add(1, SeqCst);
        Ok(Receipt { provider: "beyond".into(), reference: None })
    }

    fn busy(_: &Outgoing) -> Result<Receipt, Failure> {
        Err(Failure::Temporary("421 busy with 123456 for ada@example.com".into()))
    }

    fn refuses(_: &Outgoing) -> Result<Receipt, Failure> {
        Err(Failure::Permanent("550 no such mailbox".into()))
    }

    struct Bench {
        dispatch: Dispatch,
        keys: Keys,
        message: Claimed,
        _directory: tempfile::TempDir,
    }

    async fn bench(providers: Vec<Provider>) -> Bench {
        let directory = tempfile::tempdir().expect("directory");
        let store = Store::Sqlite(Sqlite::open(directory.path()).expect("store"));
        let keys = Keys::create(&store, &MasterKey::generate(), NOW).await.expect("keys");
        let clock = Clock::standing_at(NOW);
        let mut dispatch = Dispatch::new(&Delivery::default(), &clock).expect("words").0;
        dispatch.providers[Channel::Mail as usize] = providers;
        Bench { dispatch, message: message(&keys), keys, _directory: directory }
    }

    fn message(keys: &Keys) -> Claimed {
        let id = DeliveryId::from_uuid(Uuid::from_u128(1));
        let organisation = OrganisationId::from_uuid(Uuid::from_u128(2));
        let message = Message {
            id,
            organisation,
            user: None,
            challenge: None,
            limit: None,
            to: Destination::parse(Channel::Mail, "to", "ada@example.com").expect("an address"),
            or_else: Vec::new(),
            locale: None,
            name: "Ada".into(),
            at: NOW,
            expires_at: NOW.after(Duration::from_secs(600)),
            words: Words::Code { code: Secret::new("123456".into()), purpose: CodePurpose::SignIn },
        };
        let sender = Sender { product: "Acme", locale: &Locale::default(), sends_notices: true };
        let parcel = message.seal(sender, keys).expect("sealed");
        Claimed {
            id,
            organisation,
            user: None,
            channel: Channel::Mail,
            attempts: 1,
            expires_at: parcel.expires_at,
            body: parcel.body,
            claim: Uuid::nil(),
        }
    }

    impl Bench {
        async fn send(&self) -> Settlement {
            self.dispatch.send(&self.message, &self.keys).await
        }
    }

    #[tokio::test]
    async fn the_next_provider_is_asked_when_one_cannot_and_not_when_it_will_not() {
        let taken = bench(vec![Provider::scripted("near", busy), Provider::scripted("beyond", beyond)]).await;
        let sent = Settlement::Sent { provider: "beyond".into(), reference: None };
        assert_eq!(taken.send().await, sent);
        assert_eq!(BEYOND.load(SeqCst), 1);

        let refused =
            bench(vec![Provider::scripted("near", refuses), Provider::scripted("beyond", beyond)]).await;
        let failed = Settlement::Failed { reason: "near: 550 no such mailbox".into() };
        assert_eq!(refused.send().await, failed);
        assert_eq!(BEYOND.load(SeqCst), 1, "nobody else is asked");
    }

    #[tokio::test]
    async fn when_nobody_can_it_is_tried_again_and_the_reason_tells_nothing_of_the_message() {
        let bench = bench(vec![Provider::scripted("near", busy)]).await;

        let Settlement::Retry { at, reason } = bench.send().await else { panic!("not tried again") };

        assert_eq!(reason, "near: 421 busy with … for …");
        assert!(at > NOW && at < NOW.after(Duration::from_millis(1251)));
    }

    #[tokio::test]
    async fn no_attempt_is_planned_beyond_the_messages_life() {
        let mut bench = bench(vec![Provider::scripted("near", busy)]).await;
        bench.dispatch.clock = Clock::standing_at(NOW.after(Duration::from_millis(599_900)));

        assert!(
            matches!(bench.send().await, Settlement::Expired { reason: Some(reason) } if reason.contains("421"))
        );
    }

    #[tokio::test]
    async fn a_letter_that_does_not_open_is_a_dead_letter() {
        let mut bench = bench(vec![Provider::scripted("beyond", |_| panic!("nothing to send"))]).await;
        bench.message.id = DeliveryId::from_uuid(Uuid::from_u128(9));

        assert!(
            matches!(bench.send().await, Settlement::Failed { reason } if reason.starts_with("open letter"))
        );
    }

    #[tokio::test]
    async fn a_provider_that_panics_fails_one_message() {
        let bench = bench(vec![Provider::scripted("near", |_| panic!("a fault of ours"))]).await;

        assert!(matches!(bench.send().await, Settlement::Failed { reason } if reason.contains("impossible")));
    }
}
