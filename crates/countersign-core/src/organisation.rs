//! An organisation: its policy, its clients and the chain of what concerns it as a whole.

use crate::{
    client::{Client, NewClient, StoredSecret},
    destination::Destination,
    event::{Action, Call, ChainHead, Journal, Note, Record, Subject},
    id::{ClientId, OrganisationId, UserId},
    keyring::{KeyError, Keyring},
    locale::Locale,
    message::{Message, Parcel, Sender, Withdrawal},
    policy::Policy,
    profile::{DisplayName, Username},
    public_key::PublicKey,
    refusal::{Invalid, Refusal},
    role::{Role, Scope},
    time::Timestamp,
    user::{FIRST_NUMBER, NewUser, Status, Unreadable, User},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, time::Duration};

/// The number of the document's present form.
pub const SCHEMA: u32 = 1;
/// The most clients an organisation may have.
pub const CLIENT_LIMIT: usize = 256;

/// An organisation. Like a person it is one document with one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organisation {
    schema: u32,
    /// The organisation's id.
    pub id: OrganisationId,
    /// The short name it is called by in requests; the rules are a username's.
    pub slug: Username,
    /// The name people read; authenticator apps show it as the issuer.
    pub name: DisplayName,
    /// The language of messages to people who prefer none.
    #[serde(default)]
    pub locale: Locale,
    /// What it allows and asks for.
    pub policy: Policy,
    /// Its service clients.
    pub clients: Vec<Client>,
    /// The number the next person gets.
    pub next_number: u64,
    /// The last link of its audit chain.
    pub audit_head: ChainHead,
    /// When it was created.
    pub created_at: Timestamp,
    /// When the document last changed.
    pub updated_at: Timestamp,
    #[serde(skip)]
    journal: Journal,
}

/// A change of a client. A member that is `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct ClientPatch {
    /// Another name.
    pub name: Option<DisplayName>,
    /// Other scopes.
    pub scopes: Option<BTreeSet<Scope>>,
    /// Another status.
    pub status: Option<Status>,
}

impl Organisation {
    /// Makes an organisation with the default policy.
    pub fn new(id: OrganisationId, slug: Username, name: DisplayName, call: &Call) -> Self {
        let mut organisation = Self {
            schema: SCHEMA,
            id,
            slug,
            name,
            locale: Locale::default(),
            policy: Policy::default(),
            clients: Vec::new(),
            next_number: FIRST_NUMBER,
            audit_head: ChainHead::default(),
            created_at: call.now,
            updated_at: call.now,
            journal: Journal::default(),
        };
        let note = Note::new(Action::OrganisationCreated).detail("slug", organisation.slug.as_str());
        organisation.record(call, note);
        organisation
    }

    /// Admits a new person and gives them their number.
    pub fn admit(&mut self, id: UserId, new: NewUser, call: &Call) -> Result<User, Refusal> {
        for role in new.roles.iter() {
            call.rank.check_grant(role)?;
        }
        let number = self.next_number;
        self.next_number += 1;
        let note = Note::new(Action::UserCreated).detail("user", id.to_string());
        self.record(call, note.detail("number", number));
        Ok(User::new(id, self.id, number, new, call))
    }

    /// Notes that a person is deleted, with the head of their chain: that is what tells a deletion from a loss.
    pub fn dismiss(&mut self, user: &User, call: &Call) -> Result<(), Refusal> {
        call.rank.check_act_on(user.roles.highest())?;
        if user.is_actor(call) {
            return Err(Invalid::new("user", "nobody can delete themselves").into());
        }
        let note = Note::new(Action::UserDeleted)
            .detail("user", user.id.to_string())
            .detail("number", user.number)
            .detail("seq", user.audit_head.seq)
            .detail("hash", user.audit_head.hash.to_string());
        self.record(call, note);
        for challenge in &user.challenges {
            let (id, organisation) = (challenge.delivery, self.id);
            self.journal.withdraw(Withdrawal { id, organisation, at: call.now });
        }
        Ok(())
    }

    /// Like [`Organisation::dismiss`], for a person who was disabled before: two steps keep a slip from being final.
    pub fn dismiss_disabled(&mut self, user: &User, call: &Call) -> Result<(), Refusal> {
        call.rank.check_act_on(user.roles.highest())?;
        if user.status == Status::Active {
            return Err(Refusal::StillActive);
        }
        self.dismiss(user, call)
    }

    /// Changes the name or the language of messages; what is `None` stays as it is.
    pub fn update(&mut self, name: Option<DisplayName>, locale: Option<Locale>, call: &Call) {
        if name.is_none() && locale.is_none() {
            return;
        }
        let mut note = Note::new(Action::OrganisationUpdated);
        if let Some(name) = name {
            note = note.detail("name", name.as_str());
            self.name = name;
        }
        if let Some(locale) = locale {
            note = note.detail("locale", locale.as_str());
            self.locale = locale;
        }
        self.record(call, note);
    }

    /// Returns for whom messages to the organisation's people are written.
    pub fn sender(&self) -> Sender<'_> {
        Sender { product: self.name.as_str(), locale: &self.locale, sends_notices: self.policy.notices }
    }

    /// Replaces the policy.
    pub fn set_policy(&mut self, policy: Policy, call: &Call) -> Result<(), Refusal> {
        policy.validate()?;
        if self.policy == policy {
            return Ok(());
        }
        self.policy = policy;
        let shown =
            serde_json::to_value(&self.policy).expect("a policy has string keys only, so it is always JSON");
        self.record(call, Note::new(Action::PolicyChanged).detail("policy", shown));
        Ok(())
    }

    /// Returns a client.
    pub fn client(&self, id: ClientId) -> Option<&Client> {
        self.clients.iter().find(|client| client.id == id)
    }

    /// Adds a client. Nobody creates one that reaches higher than themselves.
    pub fn add_client(&mut self, id: ClientId, new: NewClient, call: &Call) -> Result<(), Refusal> {
        call.rank.check_grant(Role::Admin)?;
        if self.clients.len() >= CLIENT_LIMIT {
            return Err(Refusal::TooMany("clients", CLIENT_LIMIT));
        }
        let client = Client::new(id, new, call.now)?;
        let mut note = Note::new(Action::ClientCreated)
            .detail("client", id.to_string())
            .detail("name", client.name.as_str())
            .detail("scopes", Scope::list(&client.scopes));
        if !client.keys.is_empty() {
            let keys: Vec<String> = client.keys.iter().map(|stored| stored.key.thumbprint()).collect();
            note = note.detail("keys", keys);
        }
        self.clients.push(client);
        self.record(call, note);
        Ok(())
    }

    /// Changes a client. Taking a scope or disabling it also ends the tokens it holds.
    pub fn update_client(&mut self, id: ClientId, patch: ClientPatch, call: &Call) -> Result<(), Refusal> {
        call.rank.check_grant(Role::Admin)?;
        let client = self.client_mut(id)?;
        if let Some(name) = patch.name {
            client.name = name;
        }
        if let Some(scopes) = patch.scopes {
            if !client.scopes.is_subset(&scopes) {
                client.tokens_cut_at = Some(call.now);
            }
            client.scopes = scopes;
        }
        if let Some(status) = patch.status {
            if status == Status::Disabled {
                client.tokens_cut_at = Some(call.now);
            }
            client.status = status;
        }
        let note = Note::new(Action::ClientUpdated)
            .detail("client", id.to_string())
            .detail("scopes", Scope::list(&client.scopes))
            .detail("status", client.status.name());
        self.record(call, note);
        Ok(())
    }

    /// Gives a client another secret; the one before stays good for `overlap`.
    pub fn rotate_client_secret(
        &mut self,
        id: ClientId,
        secret: StoredSecret,
        overlap: Duration,
        call: &Call,
    ) -> Result<(), Refusal> {
        call.rank.check_grant(Role::Admin)?;
        self.client_mut(id)?.rotate_secret(secret, overlap);
        let note = Note::new(Action::ClientSecretRotated).detail("client", id.to_string());
        self.record(call, note.detail("overlapSeconds", overlap.as_secs()));
        Ok(())
    }

    /// Gives a client another public key. With an `overlap` those before stay good for so long; without one, until they
    /// are removed.
    pub fn add_client_key(
        &mut self,
        id: ClientId,
        key: PublicKey,
        overlap: Option<Duration>,
        call: &Call,
    ) -> Result<(), Refusal> {
        call.rank.check_grant(Role::Admin)?;
        let mut note = Note::new(Action::ClientKeyAdded)
            .detail("client", id.to_string())
            .detail("key", key.thumbprint());
        if let Some(overlap) = overlap {
            note = note.detail("overlapSeconds", overlap.as_secs());
        }
        self.client_mut(id)?.add_key(key, overlap, call.now)?;
        self.record(call, note);
        Ok(())
    }

    /// Takes a public key from a client. What was signed with it is refused from now on, and so are the tokens the client
    /// holds: whoever has the private key may have got them.
    pub fn remove_client_key(&mut self, id: ClientId, thumbprint: &str, call: &Call) -> Result<(), Refusal> {
        call.rank.check_grant(Role::Admin)?;
        let client = self.client_mut(id)?;
        client.remove_key(thumbprint)?;
        client.tokens_cut_at = Some(call.now);
        let note = Note::new(Action::ClientKeyRemoved).detail("client", id.to_string());
        self.record(call, note.detail("key", thumbprint));
        Ok(())
    }

    /// Deletes a client.
    pub fn delete_client(&mut self, id: ClientId, call: &Call) -> Result<(), Refusal> {
        call.rank.check_grant(Role::Admin)?;
        self.client_mut(id)?;
        self.clients.retain(|client| client.id != id);
        self.record(call, Note::new(Action::ClientDeleted).detail("client", id.to_string()));
        Ok(())
    }

    fn client_mut(&mut self, id: ClientId) -> Result<&mut Client, Refusal> {
        self.clients.iter_mut().find(|client| client.id == id).ok_or(Refusal::NoSuchClient)
    }

    pub(crate) fn record(&mut self, call: &Call, note: Note) {
        self.updated_at = call.now;
        self.journal.record(&mut self.audit_head, Subject::Organisation(self.id), self.id, call, note);
    }

    /// Hands over the events of this change for the commit.
    pub fn take_records(&mut self) -> Vec<Record> {
        self.journal.take()
    }

    /// Adds a message to be sent once the change is committed.
    pub(crate) fn post(&mut self, message: Message) {
        self.journal.post(message);
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

    /// Reads a stored document.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Unreadable> {
        let organisation: Self = serde_json::from_slice(bytes)?;
        if organisation.schema != SCHEMA {
            return Err(Unreadable(format!(
                "its schema is {}, this version knows {SCHEMA}",
                organisation.schema
            )));
        }
        Ok(organisation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Actor, Event},
        factor::Kind,
        keyring::{KeyId, TAG_BYTES, Tag},
        public_key::{Numbers, Octets},
        role::{Rank, Roles},
        testing::START,
    };
    use uuid::Uuid;

    const CLIENT: ClientId = ClientId::from_uuid(Uuid::from_u128(5));

    fn organisation() -> Organisation {
        let slug = Username::parse("slug", "acme").expect("slug");
        let name = DisplayName::parse("name", "Acme").expect("name");
        let id = OrganisationId::from_uuid(Uuid::from_u128(1));
        let mut organisation = Organisation::new(id, slug, name, &Call::system(START));
        organisation.take_records();
        organisation
    }

    fn by(rank: Rank) -> Call {
        let actor = Actor::User(UserId::from_uuid(Uuid::from_u128(7)));
        Call { actor, rank, ..Call::system(START.after(Duration::from_secs(60))) }
    }

    fn admin() -> Call {
        by(Rank::Person { role: Role::Admin, second_factor: true })
    }

    fn admit(
        organisation: &mut Organisation,
        number: u128,
        role: Role,
        call: &Call,
    ) -> Result<User, Refusal> {
        let username = Username::parse("username", &format!("user-{number}")).expect("username");
        let new = NewUser { roles: Roles::new([role]), ..NewUser::named(username) };
        organisation.admit(UserId::from_uuid(Uuid::from_u128(number)), new, call)
    }

    fn secret(byte: u8) -> StoredSecret {
        let tag = Tag { key: KeyId(1), bytes: [byte; TAG_BYTES] };
        StoredSecret { tag, created_at: START, expires_at: None }
    }

    fn key() -> PublicKey {
        let octets = || Octets::new([7; 32]);
        PublicKey { kid: None, numbers: Numbers::P256 { x: octets(), y: octets() } }
    }

    fn new_client(name: DisplayName, scopes: impl Into<BTreeSet<Scope>>) -> NewClient {
        NewClient { name, scopes: scopes.into(), secret: Some(secret(1)), keys: Vec::new() }
    }

    fn with_client(scopes: impl Into<BTreeSet<Scope>>) -> Organisation {
        let mut organisation = organisation();
        let name = DisplayName::parse("name", "gateway").expect("name");
        organisation.add_client(CLIENT, new_client(name, scopes), &Call::system(START)).expect("add client");
        organisation
    }

    fn events(organisation: &mut Organisation) -> Vec<Event> {
        let read = |record: Record| serde_json::from_slice(&record.body).expect("event");
        organisation.take_records().into_iter().map(read).collect()
    }

    #[test]
    fn people_are_numbered_from_1000() {
        let mut organisation = organisation();

        let numbers: Vec<u64> = (10..13)
            .map(|number| admit(&mut organisation, number, Role::Member, &admin()).expect("admit").number)
            .collect();

        assert_eq!(numbers, [1000, 1001, 1002]);
        let events = events(&mut organisation);
        assert_eq!(events.len(), 3);
        assert_eq!(events[0].details["number"], 1000);
    }

    #[test]
    fn nobody_admits_a_person_above_themselves() {
        let mut organisation = organisation();
        let above = |role| Err(Refusal::RoleAboveYours(role));

        for (rank, role) in [
            (Rank::Person { role: Role::Admin, second_factor: true }, Role::Owner),
            (Rank::Client { admin: false }, Role::Admin),
            (Rank::Themselves { second_factor: true }, Role::Member),
            (Rank::Nobody, Role::Member),
        ] {
            assert_eq!(admit(&mut organisation, 10, role, &by(rank)).map(drop), above(role));
        }
        assert_eq!(organisation.next_number, FIRST_NUMBER);
    }

    #[test]
    fn a_dismissal_carries_the_head_of_the_persons_chain() {
        let mut organisation = organisation();
        let user = admit(&mut organisation, 10, Role::Member, &admin()).expect("admit");
        organisation.take_records();

        organisation.dismiss(&user, &admin()).expect("dismiss");

        let event = events(&mut organisation).remove(0);
        assert_eq!(event.action, Action::UserDeleted);
        assert_eq!(event.details["user"], user.id.to_string());
        assert_eq!(event.details["seq"], user.audit_head.seq);
        assert_eq!(event.details["hash"], user.audit_head.hash.to_string());
    }

    #[test]
    fn who_is_still_active_is_not_deleted_by_the_careful_way() {
        let mut organisation = organisation();
        let mut user = admit(&mut organisation, 10, Role::Member, &admin()).expect("admit");

        assert_eq!(organisation.dismiss_disabled(&user, &admin()), Err(Refusal::StillActive));
        user.status = Status::Disabled;
        assert_eq!(organisation.dismiss_disabled(&user, &admin()), Ok(()));
    }

    #[test]
    fn nobody_deletes_themselves_or_somebody_above_them() {
        let mut organisation = organisation();
        let user = admit(&mut organisation, 10, Role::Admin, &admin()).expect("admit");
        let above = Err(Refusal::AboveYourRank(Role::Admin));
        let own = Actor::User(user.id);
        let rank = Rank::Themselves { second_factor: true };

        assert_eq!(
            organisation.dismiss(&user, &by(Rank::Person { role: Role::Helpdesk, second_factor: true })),
            above
        );
        for call in [Call { actor: own, ..admin() }, Call { actor: own, ..by(rank) }] {
            assert!(matches!(organisation.dismiss(&user, &call), Err(Refusal::Invalid(_))));
        }
    }

    #[test]
    fn only_administrators_touch_clients() {
        let mut organisation = with_client([Scope::Verify]);
        let name = DisplayName::parse("name", "another").expect("name");
        let id = ClientId::from_uuid(Uuid::from_u128(6));
        let refused = Err(Refusal::RoleAboveYours(Role::Admin));
        let before = organisation.clone();

        for rank in [
            Rank::Person { role: Role::Helpdesk, second_factor: true },
            Rank::Client { admin: false },
            Rank::Nobody,
        ] {
            let call = by(rank);
            let added = organisation.add_client(id, new_client(name.clone(), []), &call);
            assert_eq!(added, refused);
            assert_eq!(organisation.update_client(CLIENT, ClientPatch::default(), &call), refused);
            let rotated = organisation.rotate_client_secret(CLIENT, secret(2), Duration::ZERO, &call);
            assert_eq!(rotated, refused);
            assert_eq!(organisation.add_client_key(CLIENT, key(), None, &call), refused);
            assert_eq!(organisation.remove_client_key(CLIENT, &key().thumbprint(), &call), refused);
            assert_eq!(organisation.delete_client(CLIENT, &call), refused);
        }
        assert_eq!(organisation, before);
    }

    #[test]
    fn a_key_comes_and_goes_and_takes_the_tokens_along() {
        let mut organisation = with_client([Scope::Verify]);
        organisation.take_records();

        organisation.add_client_key(CLIENT, key(), None, &admin()).expect("add");
        assert!(organisation.client(CLIENT).expect("client").honours_token_of(START));
        organisation.remove_client_key(CLIENT, &key().thumbprint(), &admin()).expect("remove");

        assert!(!organisation.client(CLIENT).expect("client").honours_token_of(START));
        let events = events(&mut organisation);
        let actions: Vec<Action> = events.iter().map(|event| event.action).collect();
        assert_eq!(actions, [Action::ClientKeyAdded, Action::ClientKeyRemoved]);
        assert_eq!(events[1].details["key"], key().thumbprint());
    }

    #[test]
    fn taking_a_scope_or_disabling_ends_a_clients_tokens() {
        let call = admin();
        let honours = |patch: ClientPatch, issued_at: Timestamp| {
            let mut organisation = with_client([Scope::Verify, Scope::ReadUsers]);
            organisation.update_client(CLIENT, patch, &call).expect("update");
            organisation.client(CLIENT).expect("client").honours_token_of(issued_at)
        };
        let scopes = |scopes: &[Scope]| ClientPatch {
            scopes: Some(scopes.iter().copied().collect()),
            ..ClientPatch::default()
        };
        let status = |status| ClientPatch { status: Some(status), ..ClientPatch::default() };
        let later = call.now.after(Duration::from_secs(1));

        for cutting in [scopes(&[Scope::Verify]), scopes(&[Scope::Verify, Scope::Admin])] {
            assert!(!honours(cutting.clone(), call.now), "a token of the same second is refused");
            assert!(honours(cutting, later));
        }
        assert!(!honours(status(Status::Disabled), later), "a disabled client has no tokens");
        assert!(honours(scopes(&[Scope::Verify, Scope::ReadUsers, Scope::Admin]), call.now));
        assert!(honours(status(Status::Active), call.now));
    }

    #[test]
    fn a_deleted_client_is_gone_and_an_unknown_one_is_named_so() {
        let mut organisation = with_client([Scope::Verify]);

        assert_eq!(organisation.delete_client(CLIENT, &admin()), Ok(()));

        assert_eq!(organisation.client(CLIENT), None);
        assert_eq!(organisation.delete_client(CLIENT, &admin()), Err(Refusal::NoSuchClient));
    }

    #[test]
    fn clients_are_bounded() {
        let mut organisation = with_client([Scope::Verify]);
        let template = organisation.clients[0].clone();
        organisation.clients = vec![template.clone(); CLIENT_LIMIT];
        let id = ClientId::from_uuid(Uuid::from_u128(6));

        let added = organisation.add_client(id, new_client(template.name, []), &admin());

        assert_eq!(added, Err(Refusal::TooMany("clients", CLIENT_LIMIT)));
    }

    #[test]
    fn a_policy_out_of_range_changes_nothing() {
        let mut organisation = organisation();
        let before = organisation.clone();
        let mut policy = Policy::default();
        policy.totp.window = 3;

        let refused = organisation.set_policy(policy, &admin());

        assert!(matches!(refused, Err(Refusal::Invalid(invalid)) if invalid.field == "totp.window"));
        assert_eq!(organisation, before);
    }

    #[test]
    fn the_same_policy_again_is_no_event() {
        let mut organisation = organisation();
        let mut policy = Policy::default();
        policy.kinds.remove(&Kind::Hotp);

        organisation.set_policy(policy.clone(), &admin()).expect("set");
        organisation.set_policy(policy, &admin()).expect("set again");

        assert_eq!(events(&mut organisation).len(), 1);
    }

    #[test]
    fn the_document_reads_back_and_another_schema_is_refused() {
        let mut organisation = with_client([Scope::Verify, Scope::Admin]);
        organisation.take_records();
        let stored = organisation.to_json();
        let newer =
            String::from_utf8(stored.clone()).expect("json").replacen("\"schema\":1", "\"schema\":2", 1);

        assert_eq!(Organisation::from_json(&stored), Ok(organisation));
        let error = Organisation::from_json(newer.as_bytes()).expect_err("newer").to_string();
        assert_eq!(error, "read document: its schema is 2, this version knows 1");
        assert!(Organisation::from_json(b"{}").is_err());
    }

    #[test]
    fn events_form_one_chain() {
        let mut organisation = organisation();
        let start = organisation.audit_head;
        admit(&mut organisation, 10, Role::Member, &admin()).expect("admit");
        organisation.update(DisplayName::parse("name", "Acme Ltd").ok(), None, &admin());

        let records = organisation.take_records();

        let end = records.iter().fold(start, |head, record| head.next(&record.body));
        assert_eq!(records.iter().map(|record| record.head.seq).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(organisation.audit_head, end);
    }
}
