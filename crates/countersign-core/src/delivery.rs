//! What operators do about messages: try a channel, and have a dead letter sent again.

use crate::{
    destination::Destination,
    event::{Action, Call, Note},
    id::DeliveryId,
    locale::Locale,
    message::{Message, Words},
    organisation::Organisation,
    refusal::Refusal,
    resend::ResendRule,
    user::User,
};
use std::time::Duration;

/// How long a test message may take: somebody waits for its outcome.
pub const TEST_LIFE: Duration = Duration::from_secs(20);
/// How often a destination gets test messages.
const TESTS: ResendRule = ResendRule { pause_seconds: 5, per_hour: 20 };

impl User {
    /// Notes that a dead letter to the person is sent again.
    pub fn retry_delivery(&mut self, id: DeliveryId, call: &Call) -> Result<(), Refusal> {
        self.check_managed_by(call)?;
        self.record(call, Note::new(Action::DeliveryRetried).detail("delivery", id.to_string()));
        Ok(())
    }
}

impl Organisation {
    /// Notes that a dead letter that is nobody's is sent again.
    pub fn retry_delivery(&mut self, id: DeliveryId, call: &Call) {
        self.record(call, Note::new(Action::DeliveryRetried).detail("delivery", id.to_string()));
    }

    /// Posts a message that shows whether a channel works.
    pub fn test_delivery(&mut self, id: DeliveryId, to: Destination, locale: Option<Locale>, call: &Call) {
        let note = Note::new(Action::DeliveryTested)
            .detail("delivery", id.to_string())
            .detail("channel", to.channel().name())
            .detail("destination", to.masked());
        self.record(call, note);
        self.post(Message {
            id,
            organisation: self.id,
            user: None,
            challenge: None,
            limit: Some(TESTS),
            to,
            or_else: Vec::new(),
            locale,
            name: self.name.to_string(),
            at: call.now,
            expires_at: call.now.after(TEST_LIFE),
            words: Words::Test,
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        destination::{Channel, Destination},
        event::{Action, Call},
        id::{DeliveryId, OrganisationId},
        organisation::Organisation,
        profile::{DisplayName, Username},
        refusal::Refusal,
        role::{Role, Roles},
        testing::{Person, START},
    };
    use uuid::Uuid;

    const DELIVERY: DeliveryId = DeliveryId::from_uuid(Uuid::from_u128(7));

    #[test]
    fn the_help_desk_has_messages_to_members_sent_again_and_to_nobody_above() {
        let mut person = Person::new();
        let call = person.staff(Role::Helpdesk);

        assert_eq!(person.user.retry_delivery(DELIVERY, &call), Ok(()));
        let records = person.user.take_records();
        assert_eq!(records.last().map(|record| record.action), Some(Action::DeliveryRetried));

        person.user.roles = Roles::new([Role::Admin]);
        let refused = person.user.retry_delivery(DELIVERY, &call);
        assert_eq!(refused, Err(Refusal::AboveYourRank(Role::Admin)));
    }

    #[test]
    fn a_test_is_recorded_without_the_destination() {
        let call = Call::system(START);
        let id = OrganisationId::from_uuid(Uuid::from_u128(1));
        let (slug, name) = (Username::parse("slug", "acme"), DisplayName::parse("name", "Acme"));
        let mut organisation = Organisation::new(id, slug.expect("slug"), name.expect("name"), &call);
        let to = Destination::parse(Channel::Sms, "to", "+4915112345678").expect("a number");
        organisation.take_records();

        organisation.test_delivery(DELIVERY, to, None, &call);

        let records = organisation.take_records();
        let body = String::from_utf8_lossy(&records[0].body).into_owned();
        assert!(body.contains(r#""action":"delivery.tested""#) && !body.contains("4915112345678"), "{body}");
    }
}
