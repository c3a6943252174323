//! What the numbers were measured on.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

/// The machine and the disk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    pub(crate) filesystem: String,
    /// The median time to make 4 KiB durable.
    pub(crate) sync_ms: f64,
}

impl Machine {
    /// Describes the machine, and the disk below `directory`.
    pub(crate) fn describe(directory: &Path) -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kibibytes =
            value_of(&meminfo, "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            processor: value_of(&cpuinfo, "model name").unwrap_or("unknown").to_owned(),
            memory_mib: kibibytes.unwrap_or_default() / 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim_end()
                .to_owned(),
            filesystem: filesystem_of(&mounts, &directory.canonicalize()?).unwrap_or("unknown").to_owned(),
            sync_ms: sync_time(directory)?.as_secs_f64() * 1000.0,
        })
    }

    /// Tells whether the directory is in memory, where being durable costs nothing.
    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self.filesystem.as_str(), "tmpfs" | "ramfs")
    }
}

/// Returns the value of a `name : value` line.
fn value_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim()))
}

/// Returns the type of the file system with the longest mount point above `path` (proc(5), mountinfo).
fn filesystem_of<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    mounts
        .lines()
        .filter_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            Some((Path::new(mount.split(' ').nth(4)?), filesystem.split(' ').next()?))
        })
        .filter(|(point, _)| path.starts_with(point))
        .max_by_key(|(point, _)| point.components().count())
        .map(|(_, filesystem)| filesystem)
}

/// Returns the median time to append 4 KiB and make them durable.
fn sync_time(directory: &Path) -> Result<Duration> {
    let mut file = tempfile::tempfile_in(directory)?;
    let mut times = Vec::new();
    for _ in 0..51 {
        let start = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_point_counts() {
        let mounts =
            "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:5 / /tmp rw,nosuid shared:1 - tmpfs tmpfs rw\n";

        assert_eq!(filesystem_of(mounts, Path::new("/tmp/bench")), Some("tmpfs"));
        assert_eq!(filesystem_of(mounts, Path::new("/tmpfile")), Some("ext4"));
    }

    #[test]
    fn values_are_found_by_name() {
        assert_eq!(value_of("processor\t: 0\nmodel name\t: A B\n", "model name"), Some("A B"));
    }
}
