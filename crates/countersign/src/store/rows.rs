//! What is copied: the rows of each table as any engine has them.
//!
//! Documents are bytes that are passed on as they are. What an engine derives from them (index columns, names, the index of
//! clients) is no part of a row, and derived again where it is written.

use crate::{
    error::Result,
    store::{Anchor, Checkpoint},
};
use countersign_core::{Organisation, User};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What is copied, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Table {
    Meta,
    Organisations,
    Events,
    /// Where the pruned parts of chains end.
    Anchors,
    People,
    /// Where the chains of removed people end. An engine that finds them by their key has no such table.
    Departed,
    Checkpoints,
    Revoked,
    Destinations,
    Deliveries,
}

impl Table {
    /// All, in the order they are copied in.
    pub(super) const ALL: [Self; 10] = [
        Self::Meta,
        Self::Organisations,
        Self::Events,
        Self::Anchors,
        Self::People,
        Self::Departed,
        Self::Checkpoints,
        Self::Revoked,
        Self::Destinations,
        Self::Deliveries,
    ];

    /// Returns the table's name in the database.
    pub(super) const fn sql(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Organisations => "organisations",
            Self::Events => "audit",
            Self::Anchors => "anchors",
            Self::People => "users",
            Self::Departed => "departed",
            Self::Checkpoints => "checkpoints",
            Self::Revoked => "revoked",
            Self::Destinations => "destinations",
            Self::Deliveries => "deliveries",
        }
    }

    /// Returns what its rows are called.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Meta => "keys",
            Self::Organisations => "organisations",
            Self::Events => "events",
            Self::Anchors => "pruned chains",
            Self::People => "people",
            Self::Departed => "removed people",
            Self::Checkpoints => "checkpoints",
            Self::Revoked => "revoked tokens",
            Self::Destinations => "destinations",
            Self::Deliveries => "messages",
        }
    }

    /// Tells whether its rows are an engine's own affair, and neither counted nor compared.
    pub(super) const fn is_derived(self) -> bool {
        matches!(self, Self::Departed)
    }

    /// Returns how many rows are read and written at a time: some megabytes at most of what is usual.
    pub(super) const fn page(self) -> i64 {
        match self {
            Self::Meta | Self::Organisations => 20,
            Self::People => 500,
            Self::Deliveries => 1_000,
            _ => 2_000,
        }
    }
}

/// The place of a row in the order its table is read in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    Number(i64),
    Text(String),
    Id(Uuid),
    /// An id within an organisation.
    Of(Uuid, Uuid),
}

/// A value of the installation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) value: Vec<u8>,
}

/// A document with what guards it: an organisation's or a person's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Document {
    /// The order in which they were created, in the source's numbers.
    pub(super) place: i64,
    pub(super) id: Uuid,
    pub(super) version: i64,
    /// What the row holds beside the document: how many people an organisation has, when a person was changed.
    pub(super) beside: i64,
    /// The newest of its audit rows.
    pub(super) audit_row: Option<i64>,
    pub(super) body: Vec<u8>,
}

impl Document {
    /// Reads an organisation's.
    pub(super) fn organisation(&self) -> Result<Organisation> {
        Ok(Organisation::from_json(&self.body)?)
    }

    /// Reads a person's.
    pub(super) fn person(&self) -> Result<User> {
        Ok(User::from_json(&self.body)?)
    }
}

/// Where the chain of a removed person ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Departed {
    pub(super) id: Uuid,
    pub(super) organisation: Uuid,
    pub(super) audit_row: Option<i64>,
}

/// An audit row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) row: i64,
    /// The row of the subject's event before this one.
    pub(super) previous: Option<i64>,
    pub(super) organisation: Uuid,
    pub(super) subject: Uuid,
    pub(super) seq: i64,
    pub(super) at: i64,
    pub(super) action: String,
    pub(super) hash: Vec<u8>,
    pub(super) body: Vec<u8>,
}

/// A revoked token.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Revoked {
    pub(super) token: Uuid,
    pub(super) expires_at: i64,
}

/// How often a destination was written to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) key: String,
    pub(super) last_at: i64,
    pub(super) sent: String,
}

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) organisation: Uuid,
    pub(super) id: Uuid,
    pub(super) user: Option<Uuid>,
    pub(super) challenge: Option<Uuid>,
    pub(super) channel: String,
    pub(super) subject: String,
    pub(super) masked: String,
    pub(super) state: String,
    pub(super) created_at: i64,
    pub(super) expires_at: i64,
    pub(super) due_at: i64,
    pub(super) attempts: i64,
    pub(super) interrupted: i64,
    /// Whether somebody was sending it. Nobody does any more: the source is not served.
    pub(super) is_claimed: bool,
    pub(super) settled_at: Option<i64>,
    pub(super) provider: Option<String>,
    pub(super) reference: Option<String>,
    pub(super) report: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) body: Option<String>,
}

/// Rows of one table.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rows {
    Meta(Vec<Entry>),
    Organisations(Vec<Document>),
    Events(Vec<Event>),
    Anchors(Vec<Anchor>),
    People(Vec<Document>),
    Departed(Vec<Departed>),
    Checkpoints(Vec<Checkpoint>),
    Revoked(Vec<Revoked>),
    Destinations(Vec<Destination>),
    Deliveries(Vec<Message>),
}

impl Rows {
    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Meta(rows) => rows.len(),
            Self::Organisations(rows) | Self::People(rows) => rows.len(),
            Self::Events(rows) => rows.len(),
            Self::Anchors(rows) => rows.len(),
            Self::Departed(rows) => rows.len(),
            Self::Checkpoints(rows) => rows.len(),
            Self::Revoked(rows) => rows.len(),
            Self::Destinations(rows) => rows.len(),
            Self::Deliveries(rows) => rows.len(),
        }
    }

    /// Returns the place of the last one; `None` if there are none.
    pub(super) fn end(&self) -> Option<Place> {
        Some(match self {
            Self::Meta(rows) => Place::Text(rows.last()?.name.clone()),
            Self::Organisations(rows) | Self::People(rows) => Place::Number(rows.last()?.place),
            Self::Events(rows) => Place::Number(rows.last()?.row),
            Self::Anchors(rows) => Place::Id(rows.last()?.subject),
            Self::Departed(rows) => Place::Id(rows.last()?.id),
            Self::Checkpoints(rows) => Place::Number(i64::try_from(rows.last()?.seq).unwrap_or(i64::MAX)),
            Self::Revoked(rows) => Place::Id(rows.last()?.token),
            Self::Destinations(rows) => Place::Text(rows.last()?.key.clone()),
            Self::Deliveries(rows) => {
                let last = rows.last()?;
                Place::Of(last.organisation, last.id)
            }
        })
    }

    /// Frees messages that somebody was sending when the source stopped, as the next start of a server would; returns how
    /// many.
    pub(super) fn release(&mut self) -> u64 {
        let Self::Deliveries(messages) = self else { return 0 };
        let mut released = 0;
        for message in messages.iter_mut().filter(|message| message.is_claimed) {
            message.is_claimed = false;
            message.due_at = message.created_at;
            message.interrupted += 1;
            released += 1;
        }
        released
    }

    /// Leaves out what each engine numbers for itself.
    pub(super) fn without_own_numbers(mut self) -> Self {
        match &mut self {
            Self::Organisations(rows) | Self::People(rows) => {
                rows.iter_mut().for_each(|document| document.place = 0);
            }
            Self::Events(rows) => rows.iter_mut().for_each(|event| event.previous = None),
            _ => {}
        }
        self
    }
}
