//! The audit trail as it stands when everything is over: what the nodes themselves say has happened.

use crate::caller::Caller;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::Path};

/// An event, as far as the checker looks at it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Event {
    /// Its place in the chain of its subject.
    pub(crate) seq: u64,
    /// What happened.
    pub(crate) action: String,
    /// Whose chain it stands in.
    pub(crate) subject: Subject,
    /// The request that caused it, which is the name of a call.
    #[serde(default)]
    pub(crate) request_id: String,
    /// Why something was refused.
    #[serde(default)]
    pub(crate) reason: String,
}

/// Whom an event is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Subject {
    /// Their id.
    pub(crate) id: String,
}

/// All events.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    /// By the call that caused them.
    by_call: BTreeMap<String, Vec<Event>>,
    /// By whose chain they stand in, in the order of the chain.
    chains: BTreeMap<Subject, Vec<Event>>,
}

impl Trail {
    /// Reads it through a node.
    pub(crate) async fn read(caller: &Caller, keep: &Path) -> Self {
        let lines = caller.get_lines("/v1/audit").await;
        std::fs::write(keep, &lines).expect("keep the trail");
        let read = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        Self::of(lines.lines().map(read))
    }

    /// Puts events in order.
    pub(crate) fn of(events: impl IntoIterator<Item = Event>) -> Self {
        let mut trail = Self::default();
        for event in events {
            trail.by_call.entry(event.request_id.clone()).or_default().push(event.clone());
            trail.chains.entry(event.subject.clone()).or_default().push(event);
        }
        trail.chains.values_mut().for_each(|chain| chain.sort_by_key(|event| event.seq));
        trail
    }

    /// Returns what a call caused.
    pub(crate) fn of_call(&self, name: &str) -> &[Event] {
        self.by_call.get(name).map_or(&[], Vec::as_slice)
    }

    /// Returns everybody's chain.
    pub(crate) fn chains(&self) -> impl Iterator<Item = &[Event]> {
        self.chains.values().map(Vec::as_slice)
    }

    /// Returns how many events there are.
    pub(crate) fn len(&self) -> usize {
        self.chains.values().map(Vec::len).sum()
    }
}
