//! Telling people what happened to their factors, where whoever did it cannot keep it from them.

use crate::{
    destination::Destination,
    event::Call,
    factor::Kind,
    id::DeliveryId,
    message::{Message, Notice, Words},
    user::User,
};
use std::time::Duration;

/// How long a notice is worth sending: a mail server that is down over a week-end is no reason to give up.
const NOTICE_LIFE: Duration = Duration::from_secs(72 * 3600);

impl User {
    /// Posts a notice about the event just recorded, to where nothing `changed` by it.
    ///
    /// A person who has no other place is told at the one that changed if it was theirs until now, never at a new one:
    /// whoever brought that in needs no notice.
    pub(crate) fn notify(
        &mut self,
        what: Notice,
        concerns: Option<&str>,
        changed: &[Destination],
        call: &Call,
    ) {
        let is_unchanged = |place: &Destination| changed.iter().all(|changed| changed.key() != place.key());
        let profile = self.email.iter().cloned().map(Destination::Email);
        let mut places: Vec<Destination> = profile.chain(self.destinations()).filter(is_unchanged).collect();
        // Mail first: it costs nothing and holds more.
        places.sort_by_key(|place| !matches!(place, Destination::Email(_)));
        if what != Notice::FactorAdded {
            places.extend_from_slice(changed);
        }
        self.post_notice(what, concerns, places, call);
    }

    /// Tells of another address in the profile at the one before, because notices go to the new one from now on; and of
    /// another number.
    pub(crate) fn tell_of_new_address(&mut self, before: &Self, call: &Call) {
        if self.email != before.email
            && let Some(address) = &before.email
        {
            let old = Destination::Email(address.clone());
            self.post_notice(Notice::AddressChanged, Some(Kind::Email.name()), vec![old], call);
        }
        if self.phone != before.phone
            && let Some(phone) = &before.phone
        {
            // Codes enrolled from the profile would go to the new one.
            self.notify(Notice::AddressChanged, Some("phone"), &[Destination::Sms(phone.clone())], call);
        }
    }

    fn post_notice(&mut self, what: Notice, concerns: Option<&str>, places: Vec<Destination>, call: &Call) {
        // Nobody is called at night for a notice.
        let mut places = places.into_iter().filter(|place| !matches!(place, Destination::Voice(_)));
        let Some(to) = places.next() else { return };

        let words = Words::Notice {
            what,
            concerns: concerns.map(str::to_owned),
            ip: call.ip.map(|address| address.to_string()),
        };
        let message = Message {
            id: DeliveryId::of_event(call.now, &self.audit_head.hash, self.messages_posted()),
            organisation: self.organisation,
            user: Some(self.id),
            challenge: None,
            limit: None,
            to,
            or_else: places.collect(),
            locale: self.locale.clone(),
            name: self.greeting().to_owned(),
            at: call.now,
            expires_at: call.now.after(NOTICE_LIFE),
            words,
        };
        self.post(message);
    }
}
