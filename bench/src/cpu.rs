//! Processor time as the kernel counts it, in steps of 10 ms.

use anyhow::{Context, Result};
use std::{fs, time::Duration};
use tokio::time::sleep;

/// Returns the time a process used so far.
pub(crate) fn of_process(process: &str) -> Result<Duration> {
    Ok(of_ticks(stat(process)?.own))
}

/// Returns the time we used so far.
pub(crate) fn own() -> Result<Duration> {
    of_process("self")
}

/// Returns the time that children of ours used which have ended.
pub(crate) fn of_ended_children() -> Result<Duration> {
    Ok(of_ticks(stat("self")?.ended_children))
}

/// Returns the time a process and its children used so far, also those that have ended.
pub(crate) fn of_family(parent: u32) -> Result<Duration> {
    let head = stat(&parent.to_string())?;
    let mut ticks = head.own + head.ended_children;
    for entry in fs::read_dir("/proc").context("read /proc")? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        else {
            continue;
        };
        // One that ends while we look is counted by its parent from then on.
        if let Ok(child) = stat(process)
            && child.parent == parent
        {
            ticks += child.own + child.ended_children;
        }
    }
    Ok(of_ticks(ticks))
}

/// Returns the time all cores spent on anything since the machine started.
pub(crate) fn busy() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    busy_of(&stat).context("read /proc/stat")
}

/// Waits until those whose time is told rest, at most a few seconds: what they put off is done then, and on their account.
pub(crate) async fn settled(used: impl Fn() -> Result<Duration>) -> Result<()> {
    let mut calm = 0;
    let mut before = used()?;
    for _ in 0..100 {
        sleep(Duration::from_millis(50)).await;
        let now = used()?;
        calm = if now == before { calm + 1 } else { 0 };
        before = now;
        if calm == 3 {
            break;
        }
    }
    Ok(())
}

/// What `/proc/PID/stat` says of a process, times in ticks.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    own: u64,
    /// Of children that ended and were waited for.
    ended_children: u64,
}

fn stat(process: &str) -> Result<Stat> {
    let path = format!("/proc/{process}/stat");
    let line = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    stat_of(&line).with_context(|| format!("read {path}"))
}

/// Reads a `/proc/PID/stat` line; times are user and system time.
fn stat_of(line: &str) -> Option<Stat> {
    // The name, in brackets, may have blanks; the state follows it.
    let (_, fields) = line.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |place: usize| fields.get(place)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own: ticks(11)? + ticks(12)?,
        ended_children: ticks(13)? + ticks(14)?,
    })
}

/// Adds up user, nice, system, irq, softirq and steal: all but idle, iowait and what is counted twice (proc(5)).
fn busy_of(stat: &str) -> Option<Duration> {
    let fields: Vec<u64> =
        stat.lines().next()?.split_whitespace().skip(1).map_while(|text| text.parse().ok()).collect();
    let busy = fields.get(..3)?.iter().chain(fields.get(5..8)?);
    Some(of_ticks(busy.sum()))
}

/// Returns a time the kernel counts in ticks.
fn of_ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_time_is_user_and_system_time() {
        let stat = "42 (a (b) c) S 7 42 42 0 -1 4194560 1 0 0 0 150 50 20 10 20 0 4 0 100 1000 10";

        assert_eq!(stat_of(stat), Some(Stat { parent: 7, own: 200, ended_children: 30 }));
        assert_eq!(of_ticks(200), Duration::from_secs(2));
    }

    #[test]
    fn waiting_is_not_being_busy() {
        let stat = "cpu  100 20 30 9000 900 10 20 20 5 5\ncpu0 1 1 1 1\n";

        assert_eq!(busy_of(stat), Some(Duration::from_secs(2)));
    }
}
