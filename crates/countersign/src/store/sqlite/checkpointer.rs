//! Copies the log into the database while the writer goes on.
//!
//! A passive checkpoint takes no lock that writing or reading needs, so it can run beside them, on a connection and a thread
//! of its own. It cannot end the log, because what is committed meanwhile lies beyond it. So when the log is long enough
//! the writer copies what little is left by itself, and its next change begins the log anew.
//!
//! SQLite makes the database durable only at the end of a log, with all the pages that were copied since it began. Somebody
//! would wait for those. So the thread does it after each copy, and the writer finds only its own pages not yet written.

use super::{connection, directory::Directory, failure::explain};
use crate::error::{Error, Result};
use crossbeam_channel::{Receiver, Sender};
use rusqlite::Connection;
use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tracing::warn;

/// Pages the log grows by before they are copied while there is little to do: few enough that the disk has them soon, because
/// commits wait for it meanwhile.
const STEP: u64 = 250;
/// The same while changes crowd: a page that is written several times between two copies is copied once.
const CROWDED_STEP: u64 = 4000;
/// Changes in a commit from which on they crowd.
const CROWD: usize = 16;
/// What the writer copies itself at most, to end a log that is long enough.
const REST: u64 = 400;
/// Pages after which a log is long enough.
const LONG: u64 = 16_000;
/// Pages after which the writer waits for the copy: it makes more than the disk takes.
const LONGEST: u64 = 2 * LONG;

/// How long the writer waits for the copy at most.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it looks meanwhile.
const LOOK: Duration = Duration::from_micros(500);

/// What is to be done about a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// Nothing yet.
    Wait,
    /// Copy it while the writer goes on.
    Copy,
    /// Have the writer copy the rest, and begin the log anew.
    End,
    /// Have the writer wait until it can do so.
    Catch,
}

/// How far the copying has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It goes on.
    Copying,
    /// What was in the log when it began is copied.
    Copied,
    /// The writer copied the rest. If the log goes on all the same, somebody reads in it.
    Ended,
}

/// Says what is to be done about a log of `pages`, of which `fresh` came after the last copying began, if it is copied every
/// `step`.
const fn task(pages: u64, fresh: u64, step: u64, phase: Phase) -> Task {
    match phase {
        Phase::Copied if pages >= LONG && fresh <= REST => Task::End,
        Phase::Copied | Phase::Ended if fresh >= step || (pages >= LONG && fresh >= REST) => Task::Copy,
        Phase::Copying if pages >= LONGEST => Task::Catch,
        Phase::Copying | Phase::Copied | Phase::Ended => Task::Wait,
    }
}

/// The thread that copies. Dropping it waits for its end, so that its connection is closed before the directory is given back.
pub(super) struct Checkpointer {
    bell: Option<Sender<()>>,
    is_idle: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    phase: Phase,
    /// The pages in the log when it was last begun to be copied.
    pages: u64,
}

impl Checkpointer {
    /// Starts the thread.
    pub(super) fn start(directory: &Directory) -> Result<Self> {
        let connection = connection::checkpointer(&directory.database())?;
        let file = directory.file();
        let (bell, rung) = crossbeam_channel::bounded(1);
        let is_idle = Arc::new(AtomicBool::new(true));
        let rests = Arc::clone(&is_idle);
        let thread = thread::Builder::new()
            .name("countersign-log".into())
            .spawn(move || run(&connection, &file, &rung, &rests))
            .map_err(|error| Error::Store(format!("start the thread that copies the log: {error}")))?;
        Ok(Self { bell: Some(bell), is_idle, thread: Some(thread), phase: Phase::Ended, pages: 0 })
    }

    /// Looks after a log of `pages`, after a commit of `changes`. Returns whether the caller is to copy the rest of it now.
    pub(super) fn tend(&mut self, pages: u64, changes: usize) -> bool {
        self.look();
        // Fewer than last time: the log was begun anew.
        let fresh = pages.checked_sub(self.pages).unwrap_or(pages);
        let step = if changes < CROWD { STEP } else { CROWDED_STEP };
        match task(pages, fresh, step, self.phase) {
            Task::Wait => false,
            Task::End => true,
            Task::Catch => {
                self.wait();
                true
            }
            Task::Copy => {
                (self.phase, self.pages) = (Phase::Copying, pages);
                self.is_idle.store(false, Relaxed);
                // It rests, so there is room; should it be gone, the log grows until the writer copies it.
                let _ = self.bell.as_ref().map(|bell| bell.try_send(()));
                false
            }
        }
    }

    /// Waits until nothing is being copied, but not for ever. SQLite has nobody wait for somebody else's checkpoint, whatever
    /// the patience of the connection.
    pub(super) fn wait(&mut self) {
        let begun = Instant::now();
        while !self.is_idle.load(Relaxed) && begun.elapsed() < PATIENCE {
            thread::sleep(LOOK);
        }
        self.look();
    }

    /// Notes if the copying has come to its end.
    fn look(&mut self) {
        if self.phase == Phase::Copying && self.is_idle.load(Relaxed) {
            self.phase = Phase::Copied;
        }
    }

    /// Notes that the caller copied a log of `pages`.
    pub(super) fn note_end(&mut self, pages: u64) {
        self.pages = pages;
        if self.phase != Phase::Copying {
            self.phase = Phase::Ended;
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.bell = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn run(connection: &Connection, file: &File, rung: &Receiver<()>, is_idle: &AtomicBool) {
    while rung.recv().is_ok() {
        // Busy is an answer, too: the writer is ending the log.
        let copied = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        if let Err(error) = copied {
            warn!("{}", explain("copy the log into the database", &error));
        }
        // Nothing rests on this: SQLite does the same, and checks it, before it writes over the log.
        if let Err(error) = file.sync_data() {
            warn!("make what was copied of the log durable: {error}");
        }
        is_idle.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_copied_in_steps_and_ended_when_it_is_long() {
        assert_eq!(task(STEP - 1, STEP - 1, STEP, Phase::Ended), Task::Wait);
        assert_eq!(task(STEP, STEP, STEP, Phase::Ended), Task::Copy);
        assert_eq!(task(2 * STEP, STEP, STEP, Phase::Copying), Task::Wait);
        assert_eq!(task(2 * STEP - 1, STEP - 1, STEP, Phase::Copied), Task::Wait);
        assert_eq!(task(2 * STEP, STEP, STEP, Phase::Copied), Task::Copy);
        assert_eq!(task(LONG, REST + 1, STEP, Phase::Copied), Task::Copy);
        assert_eq!(task(LONG + REST, REST, STEP, Phase::Copied), Task::End);
    }

    #[test]
    fn a_log_is_copied_less_often_while_changes_crowd_unless_it_is_about_to_end() {
        assert_eq!(task(CROWDED_STEP - 1, CROWDED_STEP - 1, CROWDED_STEP, Phase::Copied), Task::Wait);
        assert_eq!(task(CROWDED_STEP, CROWDED_STEP, CROWDED_STEP, Phase::Copied), Task::Copy);
        assert_eq!(task(LONG, REST + 1, CROWDED_STEP, Phase::Copied), Task::Copy);
    }

    #[test]
    fn a_log_that_cannot_begin_anew_is_not_ended_with_each_commit() {
        assert_eq!(task(LONG + 1, 1, STEP, Phase::Ended), Task::Wait);
        assert_eq!(task(LONG + REST, REST, STEP, Phase::Ended), Task::Copy);
    }

    #[test]
    fn the_writer_waits_where_it_makes_more_than_the_disk_takes() {
        assert_eq!(task(LONGEST - 1, LONGEST - 1, STEP, Phase::Copying), Task::Wait);
        assert_eq!(task(LONGEST, LONGEST, STEP, Phase::Copying), Task::Catch);
    }
}
