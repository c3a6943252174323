//! An estate that is kept in a folder: ten million people take long to make, and many runs can work with the same ones.
//!
//! Beside the data directory lie who the people are and which of their codes were used, as of the end of the last run. A run
//! takes that away when it begins and puts it back when its last server has stopped: what is there is true, or is not there.

use crate::{estate::Estate, report::Made, sample::Spread, server::DATA};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, ErrorKind, Write},
    path::{Path, PathBuf},
};

/// How the people were made, of which each later run reports again.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Making {
    pub(crate) users: u64,
    pub(crate) start_empty: Spread,
    pub(crate) idle_empty: f64,
    /// The server's resident memory, at most, meanwhile.
    pub(crate) peak: f64,
    pub(crate) through_api: Made,
    pub(crate) inside: Option<Made>,
    /// What the data directory took then.
    pub(crate) data_bytes: u64,
}

/// The folder.
pub(crate) struct Kept {
    room: PathBuf,
}

impl Kept {
    /// Takes a folder, which is made if need be.
    pub(crate) fn in_folder(room: &Path) -> Result<Self> {
        fs::create_dir_all(room).with_context(|| format!("make {}", room.display()))?;
        Ok(Self { room: room.to_owned() })
    }

    /// Returns whether nobody was made here yet.
    pub(crate) fn is_new(&self) -> bool {
        !self.room.join(DATA).exists()
    }

    /// Takes the people who are here, of whom there must be as many as asked for.
    pub(crate) fn take(&self, users: u64) -> Result<(Making, Estate)> {
        let (making, people) = (self.making(), self.people());
        let making: Making = match File::open(&making) {
            Ok(file) => {
                serde_json::from_reader(BufReader::new(file)).context("read how the people were made")?
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!("a run that used the people in {} did not end: delete the folder", self.room.display())
            }
            Err(error) => return Err(error).context(format!("read {}", making.display())),
        };
        ensure!(making.users == users, "{} people are kept, not {users}: say --users", making.users);
        let estate =
            Estate::read(&mut BufReader::new(File::open(&people)?), users).context("read who they are")?;
        fs::remove_file(self.making())?;
        Ok((making, estate))
    }

    /// Notes who the people are now, and which of their codes were used.
    pub(crate) fn put(&self, making: &Making, estate: &Estate) -> Result<()> {
        let mut people = BufWriter::new(File::create(self.people())?);
        estate.write(&mut people)?;
        people.flush()?;
        fs::write(self.making(), serde_json::to_vec_pretty(making)?).context("note how the people were made")
    }

    fn making(&self) -> PathBuf {
        self.room.join("making.json")
    }

    fn people(&self) -> PathBuf {
        self.room.join("people")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn making(users: u64) -> Making {
        Making {
            users,
            start_empty: Spread::of(vec![1.0]),
            idle_empty: 1.0,
            peak: 1.0,
            through_api: Made { people: users, seconds: 1.0, people_per_second: 2.0 },
            inside: None,
            data_bytes: 1,
        }
    }

    #[test]
    fn people_are_kept_with_the_codes_they_used_and_taken_once() {
        let room = tempfile::tempdir().expect("a folder");
        let kept = Kept::in_folder(room.path()).expect("a folder");
        assert!(kept.is_new());
        fs::create_dir(room.path().join(DATA)).expect("a folder");
        let estate = Estate::new(0, (1..=3).map(Uuid::from_u128).collect());
        let used = [estate.next_code(1), estate.next_code(1)];
        estate.fail(2);
        kept.put(&making(3), &estate).expect("put");

        assert!(kept.take(4).err().expect("too many").to_string().contains("3 people are kept"));
        let (_, again) = kept.take(3).expect("take");

        assert!(!kept.is_new());
        assert_eq!(again.len(), 3);
        assert_eq!(again.id(2), &Uuid::from_u128(3));
        assert_eq!((again.counter(0), again.counter(1), again.failures(2)), (0, 2, 1));
        assert!(!used.contains(&again.next_code(1)));
        assert!(kept.take(3).err().expect("they are taken").to_string().contains("did not end"));
    }
}
