//! An organisation: its policy, its clients and the chain of what concerns it as a whole.

use crate::{
    client::{Client, StoredSecret},
    event::{Action, Call, ChainHead, Journal, Note, Record, Subject},
    id::{ClientId, OrganisationId, UserId},
    policy::Policy,
    profile::{DisplayName, Username},
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
        Ok(())
    }

    /// Renames the organisation.
    pub fn rename(&mut self, name: DisplayName, call: &Call) {
        self.name = name;
        self.record(call, Note::new(Action::OrganisationUpdated).detail("name", self.name.as_str()));
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
    pub fn add_client(
        &mut self,
        id: ClientId,
        name: DisplayName,
        scopes: BTreeSet<Scope>,
        secret: StoredSecret,
        call: &Call,
    ) -> Result<(), Refusal> {
        call.rank.check_grant(Role::Admin)?;
        if self.clients.len() >= CLIENT_LIMIT {
            return Err(Refusal::TooMany("clients", CLIENT_LIMIT));
        }
        let note = Note::new(Action::ClientCreated)
            .detail("client", id.to_string())
            .detail("name", name.as_str())
            .detail("scopes", Scope::list(&scopes));
        self.clients.push(Client {
            id,
            name,
            scopes,
            status: Status::Active,
            secrets: vec![secret],
            created_at: call.now,
            tokens_valid_from: call.now,
        });
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
                client.tokens_valid_from = call.now;
            }
            client.scopes = scopes;
        }
        if let Some(status) = patch.status {
            if status == Status::Disabled {
                client.tokens_valid_from = call.now;
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

    fn record(&mut self, call: &Call, note: Note) {
        self.updated_at = call.now;
        self.journal.record(&mut self.audit_head, Subject::Organisation(self.id), self.id, call, note);
    }

    /// Hands over the events of this change for the commit.
    pub fn take_records(&mut self) -> Vec<Record> {
        self.journal.take()
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
