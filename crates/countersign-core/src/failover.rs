//! What a person's document cannot know after a fail-over of the database: whether a code was accepted in a commit that was
//! lost on the way.

use crate::{
    factor::{Factor, Proof},
    time::Timestamp,
    user::User,
};

impl User {
    /// Refuses the codes that may have been accepted before `at` by a commit that was lost: of time-based factors those of
    /// all steps up to then and `window` steps beyond, as far as a code could be ahead; of codes that were sent, those sent
    /// until then. Doing so twice does no harm.
    ///
    /// Codes without a time (HOTP, recovery and emergency codes) show nothing by which one could tell.
    pub fn refuse_codes_before(&mut self, at: Timestamp, window: u8) {
        for factor in &mut self.factors {
            let proof = match factor {
                Factor::Pending(held) => &mut held.proof,
                Factor::Active(held) => &mut held.proof,
                Factor::Disabled(held) => &mut held.proof,
            };
            if let Proof::Totp(totp) = proof {
                totp.burn(totp.step(at).saturating_add(window.into()));
            }
        }
        for challenge in self.challenges.iter_mut().filter(|challenge| challenge.sent_at <= at) {
            challenge.expires_at = challenge.expires_at.min(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        attempt::Target, challenge::Recipient, destination::Channel, testing::Person, verify::Verdict,
    };

    #[test]
    fn a_code_from_before_a_fail_over_is_refused_and_later_ones_are_not() {
        let mut person = Person::new();
        let (now, ahead, later) = (person.totp_code(0), person.totp_code(1), person.totp_code(2));

        person.user.refuse_codes_before(person.now, 1);
        person.user.refuse_codes_before(person.now, 1);

        assert_eq!(person.verify(&now, Target::AnyOtp), Verdict::Replayed);
        assert_eq!(person.verify(&ahead, Target::AnyOtp), Verdict::Replayed);
        person.wait(60);
        assert!(person.verify(&later, Target::AnyOtp).is_accepted());
    }

    #[test]
    fn a_code_sent_before_a_fail_over_is_refused_and_one_sent_later_is_not() {
        let mut person = Person::new();
        let factor = person.sent_factor(50, Channel::Sms, "+4915112345678");
        let (_, before) = person.challenge(Recipient::Factor(factor)).expect("challenge");

        person.user.refuse_codes_before(person.now, 1);
        person.wait(30);

        assert_eq!(person.verify(&before, Target::Factor(factor)), Verdict::Expired);
        let begun = person.now;
        person.wait(30);
        let (_, after) = person.challenge(Recipient::Factor(factor)).expect("challenge");
        person.user.refuse_codes_before(begun, 1);
        assert!(person.verify(&after, Target::Factor(factor)).is_accepted());
    }
}
