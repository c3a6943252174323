//! The data directory: made private, checked, and locked for as long as the store is open.

use crate::error::{Error, Result};
use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// The file of the database.
pub(super) const DATABASE: &str = "countersign.db";
const LOCK: &str = "countersign.lock";
const PROBE: &str = "countersign.probe";

/// File systems on other machines. Their locks and their `fsync` do not keep what SQLite's commits rely on.
const NETWORK: [&str; 12] = [
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "davfs",
    "fuse.glusterfs",
    "fuse.sshfs",
    "glusterfs",
    "lustre",
    "nfs",
    "nfs4",
    "smb3",
];

/// A data directory nobody else uses while this value lives.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// The database's file. Closed last of all: with any of its descriptors a process loses its locks on a file (fcntl(2)),
    /// those of connections included.
    file: Arc<File>,
    /// The operating system gives the lock back when the file is closed, also after a crash.
    _lock: File,
}

impl Directory {
    /// Makes the directory if it is missing, checks that it can hold a database, and takes the lock on it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed =
            |reason: String| Error::Store(format!("open data directory {}: {reason}", path.display()));

        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| failed(advise(&error)))?;
        let path = path.canonicalize().map_err(|error| failed(advise(&error)))?;
        if let Some(kind) = network_file_system(&path) {
            return Err(failed(format!("it is on a network file system ({kind}); choose a local disk")));
        }
        let lock = private_file(&path.join(LOCK)).map_err(|error| failed(advise(&error)))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let advice = "another countersign server is using it; stop it or choose another --data";
                return Err(failed(advice.into()));
            }
            Err(TryLockError::Error(error)) => return Err(failed(advise(&error))),
        }
        // SQLite would make the database readable by everybody the umask lets in.
        let file = private_file(&path.join(DATABASE)).map_err(|error| failed(advise(&error)))?;
        Ok(Self { path, file: Arc::new(file), _lock: lock })
    }

    /// Returns where the database is.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// Returns the database's file, to make durable what connections wrote to it.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Measures how long a small write takes to become durable here.
    pub(super) fn measure_fsync(&self) -> Result<Duration> {
        let path = self.path.join(PROBE);
        let measured = measure_fsync(&path);
        let removed = fs::remove_file(&path);
        measured.and_then(|time| removed.map(|()| time)).map_err(|error| {
            Error::Store(format!("write to data directory {}: {}", self.path.display(), advise(&error)))
        })
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// The first write allocates; the second one overwrites, as commits to a recycled log do.
fn measure_fsync(path: &Path) -> io::Result<Duration> {
    let mut file = private_file(path)?;
    let mut write = || {
        let start = Instant::now();
        file.rewind()?;
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        Ok(start.elapsed())
    };
    write().and_then(|_| write())
}

fn advise(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            format!("{error}; let the server's user write to it or choose another --data")
        }
        io::ErrorKind::StorageFull => format!("{error}; free space there"),
        _ => error.to_string(),
    }
}

fn network_file_system(path: &Path) -> Option<String> {
    // Where there is no such table we cannot tell, and refusing would be wrong more often than right.
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let kind = mounted_as(&mounts, path)?;
    NETWORK.contains(&kind).then(|| kind.to_owned())
}

/// Returns the kind of file system a path is on: of the mount points above it, the deepest one mounted last.
fn mounted_as<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut columns = line.split(' ').skip(1);
            let point = columns.next()?.replace("\\040", " ");
            path.starts_with(&point).then_some((point.len(), columns.next()?))
        })
        .max_by_key(|(depth, _)| *depth)
        .map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_above_a_path_says_what_it_is_on() {
        let mounts = "/dev/sda / ext4 rw 0 0\nhost:/x /srv nfs4 rw 0 0\n//h/y /srv/my\\040disk cifs rw 0 0\n";

        assert_eq!(mounted_as(mounts, Path::new("/var/lib/countersign")), Some("ext4"));
        assert_eq!(mounted_as(mounts, Path::new("/srv/countersign")), Some("nfs4"));
        assert_eq!(mounted_as(mounts, Path::new("/srv/my disk/data")), Some("cifs"));
        assert_eq!(mounted_as(mounts, Path::new("/srvother")), Some("ext4"));
    }
}
