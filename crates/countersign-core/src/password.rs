//! The password: the *first* factor, where Countersign itself signs people in. It has a failure budget of its own.
//!
//! The slow hash runs outside, before the change; the rule gets its outcome together with the hash it was computed
//! against, and checks that this hash is still the one in the document.

use crate::{
    event::{Action, Call, Note},
    id::{InvitationId, SessionId},
    lock::Lock,
    policy::Policy,
    profile::matching_key,
    refusal::{Invalid, Refusal},
    secret::Secret,
    time::Timestamp,
    user::{Status, User},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use unicode_normalization::UnicodeNormalization;

/// The fewest characters of a password (NIST SP 800-63B-4 §3.1.1.2 asks for 8 beside a second factor; we for 12).
pub const SHORTEST: usize = 12;
/// The most characters of a password.
pub const LONGEST: usize = 128;

/// A person's password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Password {
    /// The argon2id hash as a PHC string.
    pub hash: String,
    /// When it was set.
    pub set_at: Timestamp,
    /// Its failure budget.
    #[serde(default)]
    pub lock: Lock,
}

/// An open invitation to set a password. The token is a keyed hash of the id, so nothing secret is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// The invitation's id.
    pub id: InvitationId,
    /// When it lapses.
    pub expires_at: Timestamp,
}

/// The outcome of a slow hash, and the hash it was computed against.
#[derive(Debug, Clone)]
pub struct PasswordCheck {
    /// The stored hash at that time; `None` where the person had no password and a decoy was used.
    pub against: Option<String>,
    /// Whether the password matched.
    pub matched: bool,
}

/// A password somebody chose, fit to be hashed. NFKC-normalised (NIST SP 800-63B-4 §3.1.1.2), never trimmed or cut.
#[derive(Debug, Clone)]
pub struct NewPassword(Secret<String>);

impl NewPassword {
    /// Takes a password of 12 to 128 characters that is neither common nor made of the person's own names.
    ///
    /// There are no composition rules: they make passwords worse (NIST SP 800-63B-4 §3.1.1.2).
    pub fn parse(field: &str, text: &str, own_names: &[&str]) -> Result<Self, Invalid> {
        let password = normalised(text);
        let length = password.expose().chars().count();
        if !(SHORTEST..=LONGEST).contains(&length) {
            return Err(Invalid::new(field, format!("expected {SHORTEST} to {LONGEST} characters")));
        }
        if is_guessable(password.expose(), own_names) {
            return Err(Invalid::new(
                field,
                "this password is easily guessed; use several words or a generated one",
            ));
        }
        Ok(Self(password))
    }

    /// Shows the password, to be hashed.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// Returns a typed password in the form that is hashed.
pub fn normalised(text: &str) -> Secret<String> {
    Secret::new(text.nfkc().collect())
}

/// What most guessed passwords are made of once digits and signs are stripped. Our own list of common knowledge.
const COMMON_STEMS: &[&str] = &include!("testdata/common_stems.rs");

/// Recognises what guessing programs try first: common words with decoration, own names, runs and repetitions.
fn is_guessable(password: &str, own_names: &[&str]) -> bool {
    let folded = matching_key(password);
    let letters = |text: &str| text.chars().map(unleet).filter(char::is_ascii_alphabetic).collect::<String>();
    // Digits inside a word stand for letters; those at its ends are as often just digits, so both readings count.
    let readings = [letters(&folded), letters(folded.trim_matches(|c: char| !c.is_alphabetic()))];
    let own = own_names.iter().map(|name| matching_key(name)).filter(|name| name.chars().count() >= 3);

    is_repetition(&folded)
        || is_run(&folded)
        || COMMON_STEMS.iter().any(|stem| readings.iter().any(|letters| is_mostly(letters, stem)))
        || own
            .into_iter()
            .any(|name| folded.contains(&name) && folded.chars().count() < name.chars().count() + 8)
}

fn unleet(c: char) -> char {
    match c {
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => other,
    }
}

/// Tells whether the letters are one stem, possibly repeated, give or take three letters.
fn is_mostly(letters: &str, stem: &str) -> bool {
    let rest = letters.replace(stem, "");
    rest.len() < letters.len() && rest.len() <= 3
}

/// Tells whether a unit of at most four characters makes up the whole.
fn is_repetition(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    (1..=4).any(|unit| chars.iter().enumerate().all(|(index, c)| *c == chars[index % unit]))
}

/// Tells whether most characters follow their neighbour in the alphabet, among digits or on the keyboard.
fn is_run(text: &str) -> bool {
    const ROWS: [&str; 4] = ["qwertyuiop", "asdfghjkl", "zxcvbnm", "1234567890"];
    let chars: Vec<char> = text.chars().collect();
    let follows = |pair: &&[char]| {
        let (a, b) = (pair[0], pair[1]);
        u32::from(a).abs_diff(u32::from(b)) == 1
            || ROWS
                .iter()
                .any(|row| matches!((row.find(a), row.find(b)), (Some(x), Some(y)) if x.abs_diff(y) == 1))
    };
    let steps = chars.windows(2).filter(follows).count();
    steps * 4 >= chars.len().saturating_sub(1) * 3
}

impl User {
    /// Takes the outcome of a password check into account; tells whether it may pass.
    pub(crate) fn accept_password(
        &mut self,
        check: &PasswordCheck,
        policy: &Policy,
        call: &Call,
    ) -> Result<bool, Refusal> {
        if self.password.as_ref().map(|password| &password.hash) != check.against.as_ref() {
            return Err(Refusal::Stale);
        }
        let Some(password) = &mut self.password else {
            self.record(call, Note::new(Action::LoginRejected).reason("no_password"));
            return Ok(false);
        };
        if password.lock.is_locked(call.now).is_some() {
            self.record(call, Note::new(Action::LoginRejected).reason("locked"));
            return Ok(false);
        }
        if check.matched {
            password.lock = Lock::default();
            return Ok(true);
        }
        let locked = password.lock.fail(&policy.password_locks, call.now).is_some();
        self.record(call, Note::new(Action::LoginRejected).reason("wrong_password"));
        if locked {
            self.record(call, Note::new(Action::PasswordLocked));
        }
        Ok(false)
    }

    /// Tells whether the password is locked.
    pub fn is_password_locked(&self, now: Timestamp) -> bool {
        self.password.as_ref().is_some_and(|password| password.lock.is_locked(now).is_some())
    }

    /// Clears lock and count of the password; tells whether there was any.
    pub fn unlock_password(&mut self, call: &Call) -> Result<bool, Refusal> {
        self.check_managed_by_another(call)?;
        let Some(password) = &mut self.password else { return Ok(false) };
        let was_locked = std::mem::take(&mut password.lock) != Lock::default();
        if was_locked {
            self.record(call, Note::new(Action::PasswordUnlocked));
        }
        Ok(was_locked)
    }

    /// Changes the person's own password after the old one was checked; ends their other sessions.
    ///
    /// Tells whether the old password was right; if not, the failure is counted like one at sign-in.
    pub fn change_password(
        &mut self,
        check: &PasswordCheck,
        hash: String,
        session: Option<SessionId>,
        policy: &Policy,
        call: &Call,
    ) -> Result<bool, Refusal> {
        self.check_managed_by(call)?;
        if !self.accept_password(check, policy, call)? {
            return Ok(false);
        }
        self.set_password(hash, session, call);
        Ok(true)
    }

    /// Confirms by the person's password that they are who they say; a miss is counted like one at sign-in.
    pub fn confirm_password(
        &mut self,
        check: &PasswordCheck,
        policy: &Policy,
        call: &Call,
    ) -> Result<bool, Refusal> {
        self.check_managed_by(call)?;
        self.accept_password(check, policy, call)
    }

    /// Gives the person a password somebody else chose; ends their sessions.
    pub fn replace_password(&mut self, hash: String, call: &Call) -> Result<(), Refusal> {
        self.check_managed_by_another(call)?;
        self.set_password(hash, None, call);
        Ok(())
    }

    /// Sets the password of somebody new: at the installation's beginning, or where clients bring it along.
    pub fn set_initial_password(&mut self, hash: String, call: &Call) -> Result<(), Refusal> {
        call.rank.check_act_on(self.roles.highest())?;
        self.set_password(hash, None, call);
        Ok(())
    }

    /// Invites the person to set a password; an earlier invitation lapses.
    pub fn invite(&mut self, id: InvitationId, policy: &Policy, call: &Call) -> Result<Invitation, Refusal> {
        self.check_managed_by_another(call)?;
        if self.status == Status::Disabled {
            return Err(Refusal::UserDisabled);
        }
        let life = Duration::from_secs(policy.sessions.invitation_seconds);
        let invitation = Invitation { id, expires_at: call.now.after(life) };
        self.invitation = Some(invitation.clone());
        let note = Note::new(Action::InvitationIssued).detail("expiresAt", invitation.expires_at.to_string());
        self.record(call, note);
        Ok(invitation)
    }

    /// Sets the password of the person who holds the invitation, once.
    pub fn accept_invitation(&mut self, id: InvitationId, hash: String, call: &Call) -> Result<(), Refusal> {
        let is_open = |invitation: &Invitation| invitation.id == id && call.now < invitation.expires_at;
        if !self.invitation.as_ref().is_some_and(is_open) || self.status == Status::Disabled {
            return Err(Refusal::TokenGone);
        }
        self.set_password(hash, None, call);
        Ok(())
    }

    fn set_password(&mut self, hash: String, keep: Option<SessionId>, call: &Call) {
        self.password = Some(Password { hash, set_at: call.now, lock: Lock::default() });
        self.invitation = None;
        self.logins.clear();
        self.end_sessions(keep, call);
        self.record(call, Note::new(Action::PasswordSet));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_counted_in_characters() {
        assert!(NewPassword::parse("password", "kurz", &[]).is_err());
        assert!(NewPassword::parse("password", "öäüß-quill-öäüß", &[]).is_ok());
        assert!(NewPassword::parse("password", &"quill-marten ".repeat(10), &[]).is_err());
    }

    #[test]
    fn what_guessing_programs_try_first_is_refused() {
        for guess in [
            "password1234",
            "P@ssw0rd2026!",
            "PasswordPassword",
            "qwertyuiop12",
            "123456789012",
            "abcdefghijkl",
            "aaaaaaaaaaaa",
            "abcabcabcabc",
            "welcome12345",
            "letmein!!!!!",
            "administrator1",
        ] {
            assert!(NewPassword::parse("password", guess, &[]).is_err(), "{guess}");
        }
        assert!(NewPassword::parse("password", "ada.lovelace1", &["ada.lovelace"]).is_err());
    }

    #[test]
    fn several_words_and_generated_ones_pass() {
        for good in ["correct horse battery staple", "Tr4vel-light-9", "zk3VwQ8mLp0x", "  spaces are fine  "]
        {
            assert!(NewPassword::parse("password", good, &["ada"]).is_ok(), "{good}");
        }
    }

    use crate::{
        id::{InvitationId, SessionId},
        session::SignIn,
        testing::{HASH, Person, checked, newcomer},
    };
    use uuid::Uuid;

    const INVITATION: InvitationId = InvitationId::from_uuid(Uuid::from_u128(1));

    fn invited() -> Person {
        let mut person = newcomer();
        let call = person.client();
        person.user.invite(INVITATION, &person.policy, &call).expect("invite");
        person
    }

    fn accept(person: &mut Person, id: InvitationId) -> Result<(), Refusal> {
        let call = person.nobody();
        person.user.accept_invitation(id, HASH.into(), &call)
    }

    #[test]
    fn an_invitation_sets_a_password_once() {
        let mut person = invited();

        assert_eq!(accept(&mut person, INVITATION), Ok(()));

        assert!(matches!(person.sign_in(1, true), SignIn::Session(_)));
        assert_eq!(accept(&mut person, INVITATION), Err(Refusal::TokenGone));
    }

    #[test]
    fn staff_unlock_a_password_and_nobody_their_own() {
        let mut person = newcomer();
        person.set_password();
        for _ in 0..person.policy.password_locks.threshold {
            person.sign_in(1, false);
        }
        assert!(matches!(person.sign_in(1, true), SignIn::Refused));
        person.happened();
        let (staff, own) = (person.staff(crate::role::Role::Helpdesk), person.themselves(true));

        assert_eq!(person.user.unlock_password(&own), Err(Refusal::NotBySelf));
        assert_eq!(person.user.unlock_password(&staff), Ok(true));

        assert_eq!(person.user.unlock_password(&staff), Ok(false));
        assert_eq!(person.happened(), ["password.unlocked"]);
        assert!(matches!(person.sign_in(1, true), SignIn::Session(_)));
    }

    #[test]
    fn an_invitation_expires_and_a_later_one_replaces_it() {
        let mut person = invited();
        let call = person.client();
        let later = InvitationId::from_uuid(Uuid::from_u128(2));
        person.user.invite(later, &person.policy, &call).expect("invite");
        assert_eq!(accept(&mut person, INVITATION), Err(Refusal::TokenGone));

        person.wait(person.policy.sessions.invitation_seconds);

        assert_eq!(accept(&mut person, later), Err(Refusal::TokenGone));
        assert!(person.user.password.is_none());
    }

    #[test]
    fn a_disabled_person_is_not_invited_and_does_not_accept() {
        let mut person = invited();
        let call = person.client();
        person.user.status = Status::Disabled;

        assert_eq!(accept(&mut person, INVITATION), Err(Refusal::TokenGone));
        let invited = person.user.invite(INVITATION, &person.policy, &call);
        assert_eq!(invited, Err(Refusal::UserDisabled));
    }

    #[test]
    fn setting_a_password_ends_sessions_and_open_logins() {
        let mut person = newcomer();
        person.set_password();
        person.open_session(1);
        person.user.mfa_enabled = true;
        person.open_login(2);
        let call = person.client();
        person.user.invite(INVITATION, &person.policy, &call).expect("invite");

        accept(&mut person, INVITATION).expect("accept");

        assert!(person.user.sessions.is_empty() && person.user.logins.is_empty());
    }

    #[test]
    fn changing_a_password_keeps_the_session_it_was_changed_in() {
        let mut person = newcomer();
        person.set_password();
        let (mine, _other) = (person.open_session(1), person.open_session(2));
        let call = person.themselves(false);

        let changed =
            person.user.change_password(&checked(true), "$new".into(), Some(mine.id), &person.policy, &call);

        assert_eq!(changed, Ok(true));
        assert_eq!(person.user.sessions, [mine]);
        assert_eq!(person.user.password.as_ref().map(|password| password.hash.as_str()), Some("$new"));
    }

    #[test]
    fn a_wrong_old_password_changes_nothing_and_counts_as_at_sign_in() {
        let mut person = newcomer();
        person.set_password();
        let call = person.themselves(false);
        let mut change = |matched| {
            person.user.change_password(&checked(matched), "$new".into(), None, &person.policy, &call)
        };

        for _ in 0..10 {
            assert_eq!(change(false), Ok(false));
        }

        assert_eq!(change(true), Ok(false));
        let stored = person.user.password.as_ref().expect("password");
        assert_eq!((stored.hash.as_str(), stored.lock.failures), (HASH, 10));
    }

    #[test]
    fn a_password_is_changed_only_with_the_second_factor_there_is() {
        let mut person = Person::new();
        person.set_password();
        let call = person.themselves(false);
        let session: Option<SessionId> = None;

        let changed =
            person.user.change_password(&checked(true), "$new".into(), session, &person.policy, &call);

        assert_eq!(changed, Err(Refusal::SecondFactorNeeded));
    }
}
