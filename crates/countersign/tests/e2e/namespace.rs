//! File systems of a test's own: too small, or read-only. Nothing of them is left when the test ends, however it ends.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A mount namespace, which lives as long as this value.
pub(crate) struct Namespace {
    holder: Child,
}

impl Namespace {
    /// Makes one in which the shell commands of `setup` were run as root.
    ///
    /// `None`, with a line that says so, where this machine lets nobody but root mount and we are not root.
    pub(crate) fn new(setup: &str) -> Option<Self> {
        let user: &[&str] = if is_root() { &[] } else { &["--user", "--map-root-user"] };
        let mut holder = Command::new("unshare")
            .args(user)
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            // `cat` ends when the pipe to us is closed, also if we are killed.
            .arg(format!("set -e; {setup}; echo ready; exec cat"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| crate::tools::unusable("unshare", &error));
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("standard output");
        BufReader::new(stdout).read_line(&mut line).expect("text");
        if line == "ready\n" {
            return Some(Self { holder });
        }
        let mut errors = String::new();
        holder.stderr.take().expect("standard error").read_to_string(&mut errors).expect("text");
        holder.wait().expect("wait");
        skip(&format!("no mounts of our own here: {}", errors.trim()));
        None
    }

    /// Returns the command that runs another one inside.
    pub(crate) fn entrance(&self) -> Vec<OsString> {
        let user: &[&str] = if is_root() { &[] } else { &["--user", "--preserve-credentials"] };
        let target = format!("--target={}", self.holder.id());
        let words = ["nsenter", &target].into_iter().chain(user.iter().copied()).chain(["--mount", "--"]);
        words.map(OsString::from).collect()
    }

    /// Returns how a path inside is reached from outside.
    pub(crate) fn path(&self, inside: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(inside.strip_prefix("/").expect("an absolute path"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The kernel takes the mounts away with the last process.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

#[expect(clippy::print_stderr, reason = "whoever reads the test's output should know what it did not do")]
fn skip(why: &str) {
    eprintln!("skipped: {why}");
}
