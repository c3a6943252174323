//! The folder a run happens in, the programs that run there, and the promise that none of them outlives us.
//!
//! Every program works in a folder of its own below the room's, and so do the processes it starts. That is how we find
//! them all, also those of a PostgreSQL whose Patroni is dead; and how the warden finds what is to be ended.

use rustix::process::{Pid, Signal, getuid, kill_process};
use std::{
    fs,
    io::{ErrorKind, Read, Seek, SeekFrom},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Waits for the end of whoever started it, however they ended; then ends what runs in the room, and removes the room.
const WARDEN: &str = r#"
exec 2>/dev/null
cat >/dev/null
for signal in QUIT KILL KILL KILL; do
    processes=$(find /proc -maxdepth 2 -path '/proc/[0-9]*/cwd' -lname "$0/*" | cut -d/ -f3)
    [ -n "$processes" ] || break
    kill -"$signal" $processes
    kill -CONT $processes
    for process in $processes; do rm -f /dev/shm/faketime_shm_$process /dev/shm/sem.faketime_sem_$process; done
    sleep 0.3
done
rm -rf "$0"
"#;

/// The Debian packages of the programs we start.
const PACKAGES: [(&str, &str); 6] = [
    ("etcd", "etcd-server"),
    ("find", "findutils"),
    ("haproxy", "haproxy"),
    ("oathtool", "oathtool"),
    ("patroni", "patroni"),
    ("setpriv", "util-linux"),
];

/// The ports our programs listen on: below those the kernel gives to outgoing connections, so that a program that is
/// down for a moment finds its port free when it comes back.
const PORTS: std::ops::Range<u16> = 18_000..32_000;

/// Where a room is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// Where temporary files are.
    Disk,
    /// In memory, if there is room: its programs commit as they would elsewhere, but wait for no disk that others use, too.
    Memory,
}

/// Two rooms at a time would only measure how they share the machine.
static ALONE: Mutex<()> = Mutex::new(());

/// A temporary folder with programs in it.
pub(crate) struct Room {
    folder: PathBuf,
    logs: PathBuf,
    warden: Child,
    next_port: AtomicU16,
    /// Released last of all.
    _alone: MutexGuard<'static, ()>,
}

impl Room {
    /// Makes one. What its programs log is copied to a folder that stays.
    pub(crate) fn new(place: Place, logs: &Path) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let parent = match place {
            Place::Disk => std::env::temp_dir(),
            Place::Memory => memory().unwrap_or_else(std::env::temp_dir),
        };
        let folder = tempfile::Builder::new().prefix("countersign-cluster-").tempdir_in(parent);
        let folder = folder.expect("a folder").keep();
        let warden = Command::new("sh")
            .args(["-c", WARDEN])
            .arg(&folder)
            .stdin(Stdio::piped())
            // What ends us together with our group must not end the warden.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| unusable("sh", &error));
        let first = PORTS.start + (std::process::id() % u32::from(PORTS.end - PORTS.start)) as u16;
        let (logs, next_port) = (logs.to_owned(), AtomicU16::new(first));
        let room = Self { folder, logs, warden, next_port, _alone: alone };
        room.give_away(&room.folder);
        room
    }

    /// Makes a folder in the room that belongs to whoever the programs run as.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).expect("make a folder");
        self.give_away(&folder);
        folder
    }

    fn give_away(&self, folder: &Path) {
        if let Some(user) = unprivileged() {
            std::os::unix::fs::chown(folder, Some(user.0), Some(user.1)).expect("give a folder away");
        }
    }

    /// Returns an address nobody listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        loop {
            let port = self.next_port.fetch_add(1, Relaxed);
            if port >= PORTS.end {
                self.next_port.store(PORTS.start, Relaxed);
            } else if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                return listener.local_addr().expect("an address");
            }
        }
    }

    fn keep_logs(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let to = self.logs.join(entry.file_name()).with_extension("log");
            // Not everything here is a program's folder.
            let _ = fs::copy(entry.path().join(LOG), to);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.keep_logs();
        drop(self.warden.stdin.take());
        let _ = self.warden.wait();
    }
}

/// Returns where files are in memory, if there are a few gigabytes of it.
fn memory() -> Option<PathBuf> {
    const MEBIBYTES: u64 = 6 << 10;
    let output = Command::new("df").args(["--output=avail", "--block-size=1M", "/dev/shm"]).output().ok()?;
    let room: u64 = String::from_utf8(output.stdout).ok()?.lines().last()?.trim().parse().ok()?;
    (room >= MEBIBYTES).then(|| PathBuf::from("/dev/shm"))
}

const LOG: &str = "log";

/// A program that runs in the room.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program in its folder, where its output is added to the log.
    pub(crate) fn start(mut command: Command, folder: &Path) -> Self {
        let log = folder.join(LOG);
        let output = fs::OpenOptions::new().create(true).append(true).open(&log).expect("open a log");
        command.current_dir(folder).stdin(Stdio::null());
        command.stdout(output.try_clone().expect("a second handle")).stderr(output);
        let child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        Self { child, log }
    }

    /// Tells how it ended, if it did.
    pub(crate) fn end(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("look at a child")
    }

    /// Kills it, without a chance to put anything in order.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn terminate(mut self, patience: Duration) -> ExitStatus {
        signal(self.child.id(), Signal::TERM);
        let asked = Instant::now();
        loop {
            if let Some(status) = self.end() {
                return status;
            }
            assert!(asked.elapsed() < patience, "it does not end within {patience:?}; {}", self.log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns what it logged.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Returns the end of what it logged.
    pub(crate) fn log_tail(&self) -> String {
        log_tail(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What libfaketime leaves behind in whoever is killed.
        for name in ["faketime_shm", "sem.faketime_sem"] {
            let _ = fs::remove_file(format!("/dev/shm/{name}_{}", self.child.id()));
        }
    }
}

fn log_tail(log: &Path) -> String {
    const BYTES: u64 = 3000;
    let mut tail = Vec::new();
    if let Ok(mut file) = fs::File::open(log) {
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        let _ = file.seek(SeekFrom::Start(length.saturating_sub(BYTES)));
        let _ = file.read_to_end(&mut tail);
    }
    format!("the end of {}:\n{}", log.display(), String::from_utf8_lossy(&tail))
}

/// Prepares a program that refuses to run as root, or has no reason to.
pub(crate) fn as_nobody_special(program: impl AsRef<Path>) -> Command {
    let program = program.as_ref();
    match unprivileged() {
        None => Command::new(program),
        Some((user, group)) => {
            let mut command = Command::new("setpriv");
            command.args([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".into()]);
            command.arg(program);
            command
        }
    }
}

/// Returns the user and group that Debian's package made for PostgreSQL, if we are root.
fn unprivileged() -> Option<(u32, u32)> {
    if !getuid().is_root() {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").expect("read /etc/passwd");
    let line = accounts.lines().find(|line| line.starts_with("postgres:"));
    let mut fields = line.expect("a user postgres: apt-get install postgresql").split(':').skip(2);
    let mut number = || fields.next()?.parse().ok();
    Some((number()?, number()?))
}

/// Returns the processes that work in a folder or below it.
pub(crate) fn processes_in(folder: &Path) -> Vec<u32> {
    let works_there = |process: &u32| {
        fs::read_link(format!("/proc/{process}/cwd")).is_ok_and(|directory| directory.starts_with(folder))
    };
    fs::read_dir("/proc")
        .expect("read /proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(works_there)
        .collect()
}

/// Sends a signal to a process that may have ended.
pub(crate) fn signal(process: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Fails the test because a program cannot be started.
pub(crate) fn unusable(program: &str, error: &std::io::Error) -> ! {
    let package = PACKAGES.iter().find(|(name, _)| *name == program);
    match (error.kind(), package) {
        (ErrorKind::NotFound, Some((_, package))) => {
            panic!(
                "this test needs {program}: run scripts/test, which installs it, or apt-get install {package}"
            )
        }
        _ => panic!("start {program}: {error}"),
    }
}
