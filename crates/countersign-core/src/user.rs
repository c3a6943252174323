//! The person: one document with one version, holding all that decides about their second factors.

use crate::{
    attributes::Attributes,
    challenge::Challenge,
    destination::Destination,
    enrolment_link::OpenEnrolment,
    event::{Action, Call, ChainHead, Journal, Note, Record, Subject},
    factor::{Active, Factor, Held, Kind, Proof, emergency::EmergencyCode, recovery::RecoveryCodes},
    id::{DeliveryId, FactorId, OrganisationId, UserId},
    keyring::{KeyError, Keyring},
    locale::Locale,
    lock::{Locks, Method},
    message::{Message, Notice, Parcel, Sender, Withdrawal},
    password::{Invitation, Password},
    policy::{Policy, Requirement},
    profile::{Description, DisplayName, Email, Phone, Username},
    refusal::{Invalid, Refusal},
    resend::SendLog,
    role::{Rank, Role, Roles},
    session::{OpenLogin, Session},
    time::Timestamp,
    verify::RememberedRequest,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use thiserror::Error;

/// The number of the document's present form.
pub const SCHEMA: u32 = 4;

/// The first number an organisation gives to a person.
pub const FIRST_NUMBER: u64 = 1000;

/// A person. Every collection in it is bounded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    schema: u32,
    /// The person's id.
    pub id: UserId,
    /// The organisation they belong to.
    pub organisation: OrganisationId,
    /// Their number in it, from [`FIRST_NUMBER`].
    pub number: u64,
    /// The name they sign in with.
    pub username: Username,
    /// The name people read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<DisplayName>,
    /// The name they were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_name: Option<DisplayName>,
    /// The name of their family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family_name: Option<DisplayName>,
    /// A line about them, for those who look after them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Description>,
    /// What others keep about them.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes,
    /// Their address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
    /// Their number to call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Phone>,
    /// The language they are written to and spoken with; the organisation's if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<Locale>,
    /// What they are in the organisation.
    pub roles: Roles,
    /// Whether they may do anything at all.
    pub status: Status,
    /// Whether their sign-in asks for a second step (where policy leaves it to them).
    pub mfa_enabled: bool,
    /// Their factors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub factors: Vec<Factor>,
    /// The codes that were sent and are waited for, one a factor at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub challenges: Vec<Challenge>,
    /// The link or code by which they set up an authenticator app without being signed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolment: Option<OpenEnrolment>,
    /// When codes were sent, by method.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) sent: BTreeMap<Method, SendLog>,
    /// Their failure budgets.
    #[serde(default)]
    pub locks: Locks,
    /// Their recovery codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoveryCodes>,
    /// Their emergency code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emergency: Option<EmergencyCode>,
    /// Their password, where Countersign itself signs them in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// An open invitation to set a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invitation: Option<Invitation>,
    /// Sign-ins whose second step is open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logins: Vec<OpenLogin>,
    /// Signed-in sessions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<Session>,
    /// The last attempts that had a request id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<RememberedRequest>,
    /// The last link of their audit chain.
    pub audit_head: ChainHead,
    /// When the person was created.
    pub created_at: Timestamp,
    /// When the document last changed.
    pub updated_at: Timestamp,
    #[serde(skip)]
    journal: Journal,
}

/// Whether a person may do anything at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// In use.
    Active,
    /// Switched off: proves nothing, signs in nowhere, keeps everything.
    Disabled,
}

impl Status {
    /// Returns the name used outside.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
        }
    }

    /// Reads a name.
    pub fn parse(field: &str, text: &str) -> Result<Self, Invalid> {
        match text {
            "active" => Ok(Self::Active),
            "disabled" => Ok(Self::Disabled),
            _ => Err(Invalid::new(field, "expected active or disabled")),
        }
    }
}

/// What describes a new person.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The name they sign in with.
    pub username: Username,
    /// The name people read.
    pub display_name: Option<DisplayName>,
    /// The name they were given.
    pub given_name: Option<DisplayName>,
    /// The name of their family.
    pub family_name: Option<DisplayName>,
    /// A line about them.
    pub description: Option<Description>,
    /// What others keep about them.
    pub attributes: Attributes,
    /// Their address.
    pub email: Option<Email>,
    /// Their number to call.
    pub phone: Option<Phone>,
    /// The language they are written to and spoken with.
    pub locale: Option<Locale>,
    /// What they are in the organisation.
    pub roles: Roles,
}

impl NewUser {
    /// Describes a member of whom only the name to sign in with is known.
    pub fn named(username: Username) -> Self {
        Self {
            username,
            display_name: None,
            given_name: None,
            family_name: None,
            description: None,
            attributes: Attributes::default(),
            email: None,
            phone: None,
            locale: None,
            roles: Roles::new([Role::Member]),
        }
    }
}

/// A change of a person's profile. A member that is `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct UserPatch {
    /// Another username.
    pub username: Option<Username>,
    /// Another display name, or none.
    pub display_name: Option<Option<DisplayName>>,
    /// Another given name, or none.
    pub given_name: Option<Option<DisplayName>>,
    /// Another family name, or none.
    pub family_name: Option<Option<DisplayName>>,
    /// Another description, or none.
    pub description: Option<Option<Description>>,
    /// Other attributes, which replace all there are.
    pub attributes: Option<Attributes>,
    /// Another address, or none.
    pub email: Option<Option<Email>>,
    /// Another number, or none.
    pub phone: Option<Option<Phone>>,
    /// Another language, or none.
    pub locale: Option<Option<Locale>>,
    /// Other roles.
    pub roles: Option<Roles>,
    /// Another status.
    pub status: Option<Status>,
    /// Whether sign-in asks for a second step.
    pub mfa_enabled: Option<bool>,
}

impl User {
    /// Makes a person. Called by [`crate::Organisation::admit`], which gives the number.
    pub(crate) fn new(
        id: UserId,
        organisation: OrganisationId,
        number: u64,
        new: NewUser,
        call: &Call,
    ) -> Self {
        let mut user = Self {
            schema: SCHEMA,
            id,
            organisation,
            number,
            username: new.username,
            display_name: new.display_name,
            given_name: new.given_name,
            family_name: new.family_name,
            description: new.description,
            attributes: new.attributes,
            email: new.email,
            phone: new.phone,
            locale: new.locale,
            roles: new.roles,
            status: Status::Active,
            mfa_enabled: false,
            factors: Vec::new(),
            challenges: Vec::new(),
            enrolment: None,
            sent: BTreeMap::new(),
            locks: Locks::default(),
            recovery: None,
            emergency: None,
            password: None,
            invitation: None,
            logins: Vec::new(),
            sessions: Vec::new(),
            requests: Vec::new(),
            audit_head: ChainHead::default(),
            created_at: call.now,
            updated_at: call.now,
            journal: Journal::default(),
        };
        let note = Note::new(Action::UserCreated).detail("number", number);
        user.record(call, note.detail("username", user.username.as_str()));
        user
    }

    /// Changes the person's profile.
    pub fn update(&mut self, patch: UserPatch, call: &Call) -> Result<(), Refusal> {
        self.check_managed_by(call)?;
        let before = self.clone();
        if let Some(roles) = patch.roles {
            self.change_roles(roles, call)?;
        }
        if let Some(username) = patch.username {
            self.username = username;
        }
        if let Some(display_name) = patch.display_name {
            self.display_name = display_name;
        }
        if let Some(given_name) = patch.given_name {
            self.given_name = given_name;
        }
        if let Some(family_name) = patch.family_name {
            self.family_name = family_name;
        }
        if let Some(description) = patch.description {
            self.description = description;
        }
        if let Some(attributes) = patch.attributes {
            self.attributes = attributes;
        }
        if let Some(email) = patch.email {
            self.email = email;
        }
        if let Some(phone) = patch.phone {
            self.phone = phone;
        }
        if let Some(locale) = patch.locale {
            self.locale = locale;
        }
        if let Some(mfa_enabled) = patch.mfa_enabled {
            self.mfa_enabled = mfa_enabled;
        }
        if let Some(status) = patch.status {
            self.change_status(status, call)?;
        }
        let changed = self.differences(&before);
        if !changed.is_empty() {
            self.record(call, Note::new(Action::UserUpdated).detail("changed", changed));
            self.tell_of_new_address(&before, call);
            if self.email != before.email {
                self.drop_mailed_link(call);
            }
        }
        Ok(())
    }

    fn change_roles(&mut self, roles: Roles, call: &Call) -> Result<(), Refusal> {
        for role in roles.iter().filter(|role| self.roles.iter().all(|held| held != *role)) {
            call.rank.check_grant(role)?;
        }
        if self.roles.highest() == Role::Owner && roles.highest() != Role::Owner && self.is_actor(call) {
            return Err(Refusal::LastOwner);
        }
        self.roles = roles;
        Ok(())
    }

    fn change_status(&mut self, status: Status, call: &Call) -> Result<(), Refusal> {
        // Whoever could disable themselves could leave an installation without an owner.
        if status == Status::Disabled && self.is_actor(call) {
            return Err(Invalid::new("status", "nobody can disable themselves").into());
        }
        // Saying the same again changes nothing, so there would be no event to commit a change with.
        if status == Status::Disabled && self.status != status {
            // An open login could enrol a factor and become a session without any code being judged.
            self.logins.clear();
            self.end_challenges(call);
            self.end_sessions(None, call);
            // Nor may the retry of an earlier attempt be told that it was accepted.
            self.requests.clear();
        }
        self.status = status;
        Ok(())
    }

    /// Names what an update changed; the values stay out of the audit trail, they may be addresses.
    fn differences(&self, before: &Self) -> Vec<&'static str> {
        [
            ("username", self.username != before.username),
            ("displayName", self.display_name != before.display_name),
            ("givenName", self.given_name != before.given_name),
            ("familyName", self.family_name != before.family_name),
            ("description", self.description != before.description),
            ("attributes", self.attributes != before.attributes),
            ("email", self.email != before.email),
            ("phone", self.phone != before.phone),
            ("locale", self.locale != before.locale),
            ("roles", self.roles != before.roles),
            ("status", self.status != before.status),
            ("mfaEnabled", self.mfa_enabled != before.mfa_enabled),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect()
    }

    /// Clears the flag *and* the count of methods; returns those that had any.
    pub fn unlock(&mut self, methods: &[Method], call: &Call) -> Result<Vec<Method>, Refusal> {
        self.check_managed_by_another(call)?;
        let unlocked: Vec<Method> =
            methods.iter().copied().filter(|method| self.locks.clear(*method)).collect();
        for method in &unlocked {
            self.record(call, Note::new(Action::MethodUnlocked).method(*method));
        }
        Ok(unlocked)
    }

    /// Tells whether a method or the password is locked.
    pub fn is_anything_locked(&self, now: Timestamp) -> bool {
        let is_locked = |method| self.locks.is_locked(method, now).is_some();
        Method::ALL.into_iter().any(is_locked) || self.is_password_locked(now)
    }

    /// Unlocks whatever has failed, methods and password. Where nothing is locked nothing is asked, and the counts stand: to
    /// write back what was read buys nobody a try.
    pub fn unlock_everything(&mut self, call: &Call) -> Result<(), Refusal> {
        if !self.is_anything_locked(call.now) {
            return Ok(());
        }
        let has_failed = |method: &Method| self.locks.of(*method).failures > 0;
        let methods: Vec<Method> = Method::ALL.into_iter().filter(has_failed).collect();
        if !methods.is_empty() {
            self.unlock(&methods, call)?;
        }
        if self.password.as_ref().is_some_and(|password| password.lock.failures > 0) {
            self.unlock_password(call)?;
        }
        Ok(())
    }

    /// Deletes all factors, codes, locks and sessions, so the person can enrol anew.
    pub fn reset(&mut self, policy: &Policy, call: &Call) -> Result<(), Refusal> {
        self.check_removal_by(policy, call)?;
        let note = Note::new(Action::FactorReset)
            .detail("factors", self.factors.len())
            .detail("recoveryCodes", self.recovery.as_ref().map_or(0, RecoveryCodes::remaining));
        let destinations = self.destinations();
        self.factors.clear();
        self.end_challenges(call);
        self.recovery = None;
        self.emergency = None;
        self.locks = Locks::default();
        self.logins.clear();
        self.requests.clear();
        self.end_sessions(None, call);
        self.record(call, note);
        self.notify(Notice::FactorsReset, None, &destinations, call);
        Ok(())
    }

    /// Switches the second factor off: deletes factors and codes, waiting ones too, and closes open logins.
    ///
    /// Failure counts stay, so that switching off and on again buys nobody a try. One that is off stays off.
    pub fn switch_off_mfa(&mut self, policy: &Policy, call: &Call) -> Result<(), Refusal> {
        self.check_removal_by(policy, call)?;
        if policy.requirement == Requirement::Enforced {
            return Err(Refusal::MfaEnforced);
        }
        let is_off = !self.mfa_enabled && self.factors.is_empty() && self.logins.is_empty();
        if is_off && self.recovery.is_none() && self.emergency.is_none() {
            return Ok(());
        }
        let note = Note::new(Action::MfaSwitchedOff)
            .detail("factors", self.factors.len())
            .detail("recoveryCodes", self.recovery.as_ref().map_or(0, RecoveryCodes::remaining));
        let destinations = self.destinations();
        let had_factors = self.has_active_factor();
        self.end_challenges(call);
        self.factors.clear();
        self.recovery = None;
        self.emergency = None;
        self.logins.clear();
        self.requests.clear();
        self.mfa_enabled = false;
        self.record(call, note);
        if had_factors {
            self.notify(Notice::FactorsReset, None, &destinations, call);
        }
        Ok(())
    }

    /// Returns where the person's codes are sent, factor by factor.
    pub(crate) fn destinations(&self) -> Vec<Destination> {
        let sent = |factor: &Factor| match factor.proof() {
            Proof::Sent(destination) if !matches!(factor, Factor::Pending(_)) => Some(destination.clone()),
            _ => None,
        };
        self.factors.iter().filter_map(sent).collect()
    }

    /// Returns where the profile says that codes of a kind can be sent.
    pub fn profile_destination(&self, kind: Kind) -> Option<Destination> {
        match kind {
            Kind::Email => self.email.clone().map(Destination::Email),
            Kind::Sms => self.phone.clone().map(Destination::Sms),
            Kind::Voice => self.phone.clone().map(Destination::Voice),
            Kind::Totp | Kind::Hotp | Kind::Recovery | Kind::Emergency => None,
        }
    }

    /// Returns the name the person is greeted by.
    pub fn greeting(&self) -> &str {
        self.display_name.as_ref().map_or(self.username.as_str(), DisplayName::as_str)
    }

    /// Returns a factor.
    pub fn factor(&self, id: FactorId) -> Result<&Factor, Refusal> {
        self.factors.iter().find(|factor| factor.id() == id).ok_or(Refusal::NoSuchFactor)
    }

    /// Returns a factor that is in use.
    pub fn active_factor(&self, id: FactorId) -> Option<&Held<Active>> {
        self.active_factors().find(|held| held.id == id)
    }

    /// Returns the factors in use.
    pub fn active_factors(&self) -> impl Iterator<Item = &Held<Active>> {
        self.factors.iter().filter_map(|factor| match factor {
            Factor::Active(held) => Some(held),
            Factor::Pending(_) | Factor::Disabled(_) => None,
        })
    }

    /// Tells whether a factor is in use. Recovery and emergency codes stand in for factors and do not count.
    pub fn has_active_factor(&self) -> bool {
        self.active_factors().next().is_some()
    }

    /// Tells whether the caller may act on this person: by the ladder, or on themselves in a strong enough session.
    ///
    /// A session without a second factor may enrol the first one, but not touch what is there (NIST SP 800-63B-4 §4.1.2:
    /// authenticate at the level of the new factor before binding it).
    pub fn check_managed_by(&self, call: &Call) -> Result<(), Refusal> {
        let themselves = matches!(call.rank, Rank::Themselves { .. });
        if themselves && self.status == Status::Disabled {
            return Err(Refusal::UserDisabled);
        }
        // Nor does a stolen password come before the person who was sent a link to set up their first one.
        let is_guarded = self.has_active_factor() || self.open_enrolment_link(call.now);
        // A staff role is no way around this: who acts on themselves by it proves no more.
        if (themselves || self.is_actor(call)) && is_guarded && !call.rank.has_second_factor() {
            return Err(Refusal::SecondFactorNeeded);
        }
        call.rank.check_act_on(self.roles.highest())
    }

    /// Like [`User::check_managed_by`], for what nobody does for themselves, not even by a right over others.
    pub(crate) fn check_managed_by_another(&self, call: &Call) -> Result<(), Refusal> {
        if matches!(call.rank, Rank::Themselves { .. }) || self.is_actor(call) {
            return Err(Refusal::NotBySelf);
        }
        self.check_managed_by(call)
    }

    /// Tells whether the caller may take factors away: like [`User::check_managed_by`], but policy may let people do so
    /// themselves without possession.
    pub fn check_removal_by(&self, policy: &Policy, call: &Call) -> Result<(), Refusal> {
        match call.rank {
            Rank::Themselves { .. } if self.status == Status::Disabled => Err(Refusal::UserDisabled),
            Rank::Themselves { .. } if !policy.self_reset_requires_possession => Ok(()),
            _ => self.check_managed_by(call),
        }
    }

    /// Tells whether the caller is this person.
    pub fn is_actor(&self, call: &Call) -> bool {
        call.actor == crate::event::Actor::User(self.id)
    }

    /// Appends an event to the person's chain.
    pub(crate) fn record(&mut self, call: &Call, note: Note) {
        self.updated_at = call.now;
        let subject = Subject::User(self.id);
        self.journal.record(&mut self.audit_head, subject, self.organisation, call, note);
    }

    /// Hands over the events of this change for the commit.
    pub fn take_records(&mut self) -> Vec<Record> {
        self.journal.take()
    }

    /// Adds a message to be sent once the change is committed.
    pub(crate) fn post(&mut self, message: Message) {
        self.journal.post(message);
    }

    /// Takes back the message of a challenge.
    pub(crate) fn withdraw(&mut self, id: DeliveryId, call: &Call) {
        self.journal.withdraw(Withdrawal { id, organisation: self.organisation, at: call.now });
    }

    /// Returns how many messages this change has posted.
    pub(crate) fn messages_posted(&self) -> u8 {
        self.journal.posted()
    }

    /// Seals the messages of this change that can be sent. Notices that cannot be are dropped; a code that cannot be is
    /// refused.
    pub fn seal_messages(
        &mut self,
        sender: Sender<'_>,
        keys: &impl Keyring,
        can_send: impl Fn(&Destination) -> bool,
    ) -> Result<(), Refusal> {
        self.journal.seal(sender, keys, can_send)
    }

    /// Hands over the sealed messages of this change for the commit.
    pub fn take_parcels(&mut self) -> Result<Vec<Parcel>, KeyError> {
        self.journal.take_parcels()
    }

    /// Hands over the messages that this change takes back, for the commit.
    pub fn take_withdrawals(&mut self) -> Vec<Withdrawal> {
        self.journal.take_withdrawals()
    }

    /// Tells whether nothing was recorded since the document was read, so there is nothing to commit.
    pub fn is_unchanged(&self) -> bool {
        self.journal.is_empty()
    }

    /// Writes the document as it is stored.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a document has string keys only, so it is always JSON")
    }

    /// Reads a stored document, also one of an older schema number.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Unreadable> {
        if let Ok(user) = serde_json::from_slice::<Self>(bytes)
            && user.schema == SCHEMA
        {
            return Ok(user);
        }
        Self::from_older_json(bytes)
    }

    fn from_older_json(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut document: Map<String, Value> = serde_json::from_slice(bytes).map_err(Unreadable::from)?;
        let schema = document.get("schema").and_then(Value::as_u64);
        let schema = schema.ok_or_else(|| Unreadable("it has no schema number".into()))?;
        if schema > u64::from(SCHEMA) {
            return Err(Unreadable(format!(
                "its schema {schema} is newer than {SCHEMA}, which this version knows"
            )));
        }
        for upgrade in UPGRADES.iter().skip(usize::try_from(schema.saturating_sub(1)).unwrap_or(0)) {
            upgrade(&mut document);
        }
        document.insert("schema".into(), SCHEMA.into());
        Ok(serde_json::from_value(Value::Object(document))?)
    }
}

/// Brings a document from the schema number of its place (from 1) to the next one.
const UPGRADES: [fn(&mut Map<String, Value>); SCHEMA as usize - 1] =
    [roles_become_a_list, nothing_was_sent_before, nothing_was_enrolled_by_ticket_before];

/// Schema 1 had one `role`, and asked for a second step of whoever had a factor.
fn roles_become_a_list(document: &mut Map<String, Value>) {
    if let Some(role) = document.remove("role") {
        document.insert("roles".into(), Value::Array(vec![role]));
    }
    let has_factors =
        document.get("factors").and_then(Value::as_array).is_some_and(|factors| !factors.is_empty());
    document.entry("mfa_enabled").or_insert(has_factors.into());
}

/// Schema 2 had no codes that are sent; what schema 3 adds begins empty. The number keeps an older server, which would
/// drop it, from touching the document.
fn nothing_was_sent_before(_: &mut Map<String, Value>) {}

/// Schema 3 had no enrolment by ticket or link and no short recovery codes; what schema 4 adds begins empty. An older
/// server would take a stretched set for an ordinary one, and a factor that replaces others for one beside them.
fn nothing_was_enrolled_by_ticket_before(_: &mut Map<String, Value>) {}

/// A stored document that cannot be read. Nothing is decided on it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("read document: {0}")]
pub struct Unreadable(pub String);

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        // Only the place: serde_json's message may quote the document.
        Self(format!("not as expected at line {} column {}", error.line(), error.column()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        attempt::Target,
        event::Actor,
        id::InvitationId,
        testing::{OpenKeyring, Person, attempt, newcomer, person_with_role, with_request},
        verify::{Reason, Verdict},
    };
    use uuid::Uuid;

    fn invite(person: &mut Person, call: &Call) -> Result<Invitation, Refusal> {
        person.user.invite(InvitationId::from_uuid(Uuid::from_u128(1)), &person.policy, call)
    }

    fn issue(person: &mut Person, call: &Call) -> Result<(), Refusal> {
        let code = person.hash_emergency_code(&person.emergency, None).expect("hash");
        person.user.issue_emergency_code(code, &person.policy, call)
    }

    fn import(person: &mut Person, call: &Call) -> Result<(), Refusal> {
        let (id, label, proof) = person.new_totp(1);
        person.user.import(id, label, proof, &person.policy, call)
    }

    fn disabled() -> UserPatch {
        UserPatch { status: Some(Status::Disabled), ..UserPatch::default() }
    }

    #[test]
    fn nobody_unlocks_re_keys_or_invites_themselves() {
        let mut person = person_with_role(Role::Admin);
        person.lock(Target::AnyOtp);
        let their_own = [
            person.themselves(true),
            // The same person, by their right over others.
            Call { actor: Actor::User(person.user.id), ..person.staff(Role::Admin) },
        ];

        for call in their_own {
            assert_eq!(person.user.unlock(&Method::ALL, &call), Err(Refusal::NotBySelf));
            assert_eq!(issue(&mut person, &call), Err(Refusal::NotBySelf));
            assert_eq!(import(&mut person, &call), Err(Refusal::NotBySelf));
            assert_eq!(invite(&mut person, &call), Err(Refusal::NotBySelf));
        }
    }

    // An access token that outlived the disabling could enrol factors, or set the status back.
    #[test]
    fn a_disabled_person_changes_nothing_about_themselves() {
        let mut person = Person::new();
        person.policy.self_reset_requires_possession = false;
        let (staff, call) = (person.staff(Role::Admin), person.themselves(true));
        person.user.update(disabled(), &staff).expect("disable");

        let revive = UserPatch { status: Some(Status::Active), ..UserPatch::default() };

        assert_eq!(person.user.update(revive, &call), Err(Refusal::UserDisabled));
        assert_eq!(person.user.reset(&person.policy, &call), Err(Refusal::UserDisabled));
        let (id, label, proof) = person.new_totp(1);
        assert_eq!(person.user.enrol(id, label, proof, &person.policy, &call), Err(Refusal::UserDisabled));
    }

    #[test]
    fn the_help_desk_leaves_administrators_alone() {
        let mut person = person_with_role(Role::Admin);
        person.lock(Target::AnyOtp);
        let (call, policy) = (person.staff(Role::Helpdesk), person.policy.clone());
        let before = person.user.clone();
        let above = Err(Refusal::AboveYourRank(Role::Admin));

        assert_eq!(person.user.unlock(&[Method::Token], &call).map(drop), above);
        assert_eq!(person.user.reset(&policy, &call), above);
        assert_eq!(person.user.update(disabled(), &call), above);
        assert_eq!(person.user.update(UserPatch::default(), &call), above);
        assert_eq!(issue(&mut person, &call), above);
        assert_eq!(person.user.revoke_emergency_code(None, &call).map(drop), above);
        assert_eq!(invite(&mut person, &call).map(drop), above);
        let codes = person.user.recovery.clone().expect("codes");
        assert_eq!(person.user.replace_recovery_codes(codes, &policy, &call), above);
        assert_eq!(person.user, before);
    }

    #[test]
    fn administrators_act_on_administrators_and_only_owners_on_owners() {
        let mut person = person_with_role(Role::Admin);
        let admin = person.staff(Role::Admin);
        assert_eq!(person.user.unlock(&Method::ALL, &admin), Ok(Vec::new()));

        person.user.roles = Roles::new([Role::Owner]);
        let owner = person.staff(Role::Owner);

        let above = Err(Refusal::AboveYourRank(Role::Owner));
        assert_eq!(person.user.unlock(&Method::ALL, &admin), above);
        assert_eq!(person.user.reset(&person.policy, &admin).map(|()| Vec::new()), above);
        assert_eq!(person.user.reset(&person.policy, &owner), Ok(()));
    }

    #[test]
    fn nobody_gives_a_role_above_their_own() {
        let mut person = Person::new();
        let to = |role| UserPatch { roles: Some(Roles::new([role])), ..UserPatch::default() };
        let (admin, client, own) = (person.staff(Role::Admin), person.client(), person.themselves(true));

        let above = |role| Err(Refusal::RoleAboveYours(role));
        assert_eq!(person.user.update(to(Role::Owner), &admin), above(Role::Owner));
        assert_eq!(person.user.update(to(Role::Admin), &client), above(Role::Admin));
        assert_eq!(person.user.update(to(Role::Auditor), &own), above(Role::Auditor));
        assert_eq!(person.user.update(to(Role::Admin), &admin), Ok(()));
        assert_eq!(person.user.roles.highest(), Role::Admin);
    }

    #[test]
    fn an_owner_does_not_step_down_by_themselves() {
        let mut person = person_with_role(Role::Owner);
        let themselves = Call { actor: Actor::User(person.user.id), ..person.staff(Role::Owner) };
        let another = person.staff(Role::Owner);
        let demoted = UserPatch { roles: Some(Roles::new([Role::Admin])), ..UserPatch::default() };

        assert_eq!(person.user.update(demoted.clone(), &themselves), Err(Refusal::LastOwner));
        assert_eq!(person.user.update(demoted, &another), Ok(()));
    }

    #[test]
    fn a_staff_role_is_no_way_around_ones_own_second_factor() {
        let mut person = Person::new();
        let by_role = |second_factor| Call {
            actor: crate::event::Actor::User(person.user.id),
            rank: Rank::Person { role: Role::Admin, second_factor },
            ..Call::system(person.now)
        };
        let (weak, strong) = (by_role(false), by_role(true));

        assert_eq!(person.user.reset(&person.policy, &weak), Err(Refusal::SecondFactorNeeded));
        assert_eq!(
            person.user.delete_factor(person.totp, &person.policy, &weak),
            Err(Refusal::SecondFactorNeeded)
        );
        assert_eq!(person.user.delete_factor(person.totp, &person.policy, &strong), Ok(()));
    }

    #[test]
    fn nobody_disables_themselves() {
        let mut person = person_with_role(Role::Admin);
        let their_own = [
            person.themselves(true),
            Call { actor: Actor::User(person.user.id), ..person.staff(Role::Admin) },
        ];

        for call in their_own {
            let refused = person.user.update(disabled(), &call);
            assert!(matches!(refused, Err(Refusal::Invalid(invalid)) if invalid.field == "status"));
        }
    }

    #[test]
    fn a_disabled_person_keeps_everything_and_proves_nothing() {
        let mut person = Person::new();
        let staff = person.staff(Role::Admin);
        let before = person.user.clone();
        let code = person.totp_code(0);

        person.user.update(disabled(), &staff).expect("disable");
        let off = person.verify(&code, Target::AnyOtp);
        let back = UserPatch { status: Some(Status::Active), ..UserPatch::default() };
        person.user.update(back, &staff).expect("enable");

        assert_eq!(off, Verdict::Rejected { reason: Reason::UserDisabled, attempts_left: 0 });
        assert_eq!(person.user.factors, before.factors);
        assert_eq!(person.user.locks, before.locks);
        assert!(person.verify(&code, Target::AnyOtp).is_accepted());
    }

    // What a second disabling cleared had no event to be committed with: the stored document kept it.
    #[test]
    fn disabling_again_changes_nothing() {
        let mut person = Person::new();
        let staff = person.staff(Role::Admin);
        person.user.update(disabled(), &staff).expect("disable");
        let refused = with_request(attempt("123456", Target::AnyOtp), "r-1");
        person.user.verify(&refused, &person.policy, &OpenKeyring, &staff).expect("verify");
        person.user.take_records();
        let before = person.user.clone();

        person.user.update(disabled(), &staff).expect("disable again");

        assert_eq!(person.user, before);
    }

    #[test]
    fn an_update_names_what_changed_and_not_its_values() {
        let mut person = Person::new();
        let staff = person.staff(Role::Admin);
        let email = Email::parse("email", "ada@example.com").expect("email");
        let patch = UserPatch { email: Some(Some(email)), mfa_enabled: Some(false), ..UserPatch::default() };

        person.user.update(patch.clone(), &staff).expect("update");
        let records = person.user.take_records();
        person.user.update(patch, &staff).expect("the same again");

        let body = String::from_utf8(records[0].body.clone()).expect("json");
        assert!(body.contains(r#""changed":["email","mfaEnabled"]"#), "{body}");
        assert!(!body.contains("example"), "{body}");
        assert!(person.user.is_unchanged());
    }

    #[test]
    fn unlocking_everything_leaves_the_counts_of_what_is_not_locked() {
        // Whatever wrote a person back as it was read cleared them, and was refused to people who had mistyped a code.
        let mut person = Person::new();
        person.fail(Target::AnyOtp);
        let (own, staff) = (person.themselves(true), person.staff(Role::Helpdesk));

        assert_eq!(person.user.unlock_everything(&own), Ok(()));
        assert_eq!(person.user.unlock_everything(&staff), Ok(()));

        assert_eq!(person.user.locks.of(Method::Token).failures, 1);
        person.lock(Target::AnyOtp);
        assert_eq!(person.user.unlock_everything(&own), Err(Refusal::NotBySelf));
        assert_eq!(person.user.unlock_everything(&staff), Ok(()));
        assert_eq!(person.user.locks.failures(), 0);
    }

    #[test]
    fn unlocking_clears_the_flag_and_the_count() {
        let mut person = Person::new();
        person.lock(Target::AnyOtp);
        person.happened();
        let call = person.staff(Role::Helpdesk);

        let unlocked = person.user.unlock(&[Method::Recovery, Method::Token, Method::Token], &call);

        assert_eq!(unlocked, Ok(vec![Method::Token]));
        assert_eq!(person.happened(), ["method.unlocked"]);
        assert_eq!(
            person.fail(Target::AnyOtp),
            Verdict::Rejected { reason: Reason::WrongCode, attempts_left: 4 }
        );
    }

    #[test]
    fn a_reset_leaves_nothing_to_prove_with() {
        let mut person = Person::new();
        person.set_password();
        person.lock(Target::AnyOtp);
        person.open_login(1);
        person.open_session(2);
        person.happened();
        let call = person.staff(Role::Helpdesk);

        person.user.reset(&person.policy, &call).expect("reset");

        let user = &person.user;
        assert!(user.factors.is_empty() && user.recovery.is_none() && user.emergency.is_none());
        assert!(user.logins.is_empty() && user.sessions.is_empty());
        assert_eq!(user.locks, Locks::default());
        assert!(user.password.is_some());
        assert_eq!(person.happened(), ["session.revoked", "factor.reset"]);
    }

    #[test]
    fn people_with_a_second_factor_reset_themselves() {
        let mut person = Person::new();
        let call = person.themselves(true);

        assert_eq!(person.user.reset(&person.policy, &call), Ok(()));
    }

    #[test]
    fn a_document_of_schema_1_still_reads() {
        let stored = include_bytes!("testdata/user_schema_1.json");

        let user = User::from_json(stored).expect("schema 1");

        assert_eq!(user.roles, Roles::new([Role::Helpdesk]));
        assert!(user.mfa_enabled);
        assert_eq!(user.active_factors().next().map(|held| held.proof.kind()), Some(Kind::Totp));
        assert_eq!(user.locks.of(Method::Token).failures, 2);
        let written = user.to_json();
        assert!(String::from_utf8_lossy(&written).starts_with(r#"{"schema":4,"#));
        assert_eq!(User::from_json(&written).as_ref(), Ok(&user));
    }

    #[test]
    fn whoever_had_no_factor_in_schema_1_is_asked_for_none() {
        let mut stored: Map<String, Value> =
            serde_json::from_slice(include_bytes!("testdata/user_schema_1.json")).expect("json");
        stored.remove("factors");

        let user = User::from_json(&serde_json::to_vec(&stored).expect("json")).expect("schema 1");

        assert!(!user.mfa_enabled);
    }

    #[test]
    fn a_document_of_schema_3_reads_as_it_is() {
        let person = Person::new();
        let text = String::from_utf8(person.user.to_json()).expect("json");
        let older = text.replacen(r#""schema":4"#, r#""schema":3"#, 1);

        let read = User::from_json(older.as_bytes()).expect("schema 3");

        assert_eq!(read.to_json(), person.user.to_json());
    }

    #[test]
    fn a_newer_schema_is_refused_by_number() {
        let text = String::from_utf8(newcomer().user.to_json()).expect("json");
        let newer = text.replacen(r#""schema":4"#, r#""schema":5"#, 1);

        let error = User::from_json(newer.as_bytes()).expect_err("newer");

        assert_eq!(
            error.to_string(),
            "read document: its schema 5 is newer than 4, which this version knows"
        );
    }

    #[test]
    fn garbage_is_refused_without_quoting_it() {
        let text = String::from_utf8(Person::new().user.to_json()).expect("json");
        let damaged = [
            text[..text.len() / 2].to_owned(),
            text.replacen(r#""username":"ada""#, r#""username":{"ada":1}"#, 1),
            text.replacen(r#""secret":"1."#, r#""secret":"ada."#, 1),
            text.replacen("active", "ada", 1),
            r#"{"schema":4,"id":"ada"}"#.into(),
            r#""ada""#.into(),
            String::new(),
        ];

        for document in damaged {
            let error = User::from_json(document.as_bytes()).expect_err("damaged").to_string();
            assert!(!error.contains("ada"), "{error}");
        }
    }
}
