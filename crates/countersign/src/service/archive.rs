//! The archive of the audit trail: events that leave the database, one a line, in files by the day.
//!
//! A line is the event as exports show it with two members more, the row's number and the hash, so that a chain can be followed
//! from the archive into the database: what the hash covers can be had back from it. Lines stand in the order of rows, over all files: a file is named after the day of its
//! first event. What was cut short at the very end is cut off before anything is added.

use crate::{
    error::{Error, Result},
    store::AuditRow,
};
use countersign_core::{
    Timestamp,
    event::{Event, Hash},
};
use serde::Deserialize;
use std::{
    collections::VecDeque,
    fmt::Display,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    mem::replace,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Taken by whoever adds to the archive.
const LOCK: &str = "audit.lock";
const PREFIX: &str = "audit-";
const SUFFIX: &str = ".ndjson";
/// How a date is written in a file's name.
const DATE: usize = "2026-11-22".len();
/// How much is read at a time in search of the end of the last whole line.
const BLOCK: u64 = 64 * 1024;
/// The longest line we read: several times as long as any event.
const LINE: u64 = 4 * 1024 * 1024;

/// What stands after an event's own members.
#[derive(Deserialize)]
struct Tail {
    row: i64,
    hash: Hash,
}

/// Returns the line of a row: its event as exports show it, with the row's number and hash.
fn line(row: &AuditRow) -> Result<Vec<u8>> {
    let line = written(row).filter(|line| parse(line).as_ref() == Some(row));
    let mut line = line.ok_or_else(|| {
        Error::Store(format!("archive event: row {} would not be the same when it is read again", row.row))
    })?;
    line.push(b'\n');
    Ok(line)
}

fn written(row: &AuditRow) -> Option<Vec<u8>> {
    let (before, at, after) = time(row.body.strip_suffix(b"}")?, |byte| byte.is_ascii_digit())?;
    let at = Timestamp::from_millis(at.parse().ok()?);
    let tail = format!(",\"row\":{},\"hash\":\"{}\"}}", row.row, row.hash);
    Some([before, format!("\"{at}\"").as_bytes(), after, tail.as_bytes()].concat())
}

/// Reads a line. The stored bytes of its event, which the hash covers, have the time as a number.
fn parse(line: &[u8]) -> Option<AuditRow> {
    const MARK: &[u8] = b",\"row\":";
    let place = line.windows(MARK.len()).rposition(|window| window == MARK)?;
    let (event, tail) = line.split_at(place);
    let tail: Tail = serde_json::from_slice(&[b"{", &tail[1..]].concat()).ok()?;
    let (before, at, after) = time(event, |byte| *byte != b',')?;
    let at = Timestamp::parse(at.strip_prefix('"')?.strip_suffix('"')?)?;
    let body = [before, at.millis().to_string().as_bytes(), after, b"}"].concat();
    let event: Event = serde_json::from_slice(&body).ok()?;
    Some(AuditRow {
        row: tail.row,
        subject: event.subject.uuid(),
        organisation: event.organisation,
        seq: event.seq,
        hash: tail.hash,
        body,
    })
}

/// Splits an event around its time, the first of its members that is called so.
fn time(event: &[u8], is_of_it: impl Fn(&u8) -> bool) -> Option<(&[u8], &str, &[u8])> {
    const NAME: &[u8] = b"\"at\":";
    let start = event.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let (before, rest) = event.split_at(start);
    let (at, after) = rest.split_at(rest.iter().take_while(|byte| is_of_it(byte)).count());
    Some((before, std::str::from_utf8(at).ok()?, after))
}

/// An archive that is added to. Nobody else adds to it while this value lives.
pub struct Archive {
    directory: PathBuf,
    /// The operating system gives the lock back when the file is closed, also after a crash.
    _lock: File,
    /// The newest file, and its path.
    current: Option<(PathBuf, File)>,
    /// The newest row that is there.
    last: Option<i64>,
    /// What is there from a row on that is to be written again.
    again: Option<Lines>,
}

impl Archive {
    /// Opens the archive in a directory, which must be there: where nothing is mounted, nothing is to be written.
    pub fn open(directory: &Path) -> Result<Self> {
        let failed = |error: &dyn Display| failure("open audit archive", directory, error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(directory.join(LOCK)).map_err(|error| failed(&error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(failed(&"somebody else is adding to it")),
            Err(TryLockError::Error(error)) => return Err(failed(&error)),
        }
        let mut archive =
            Self { directory: directory.to_owned(), _lock: lock, current: None, last: None, again: None };
        archive.find_end()?;
        Ok(archive)
    }

    /// Finds the newest row, and cuts off what a crash left of a line after it.
    fn find_end(&mut self) -> Result<()> {
        for path in files(&self.directory)?.into_iter().rev() {
            let failed = |error: io::Error| failure("open audit archive", &path, &error);
            let mut file = OpenOptions::new().read(true).append(true).open(&path).map_err(failed)?;
            let line = cut(&mut file).map_err(failed)?;
            if self.current.is_none() {
                self.current = Some((path.clone(), file));
            }
            // A file that was made, and not written to.
            let Some(line) = line else { continue };
            let row = parse(&line).ok_or_else(|| {
                failure("open audit archive", &path, &"its last line is no event of an audit trail")
            })?;
            self.last = Some(row.row);
            return Ok(());
        }
        Ok(())
    }

    /// Adds rows that follow one another. When it returns they are on the disk; rows that were there already are not added
    /// again.
    pub fn append(&mut self, rows: &[AuditRow]) -> Result<()> {
        let (there, new) = rows.split_at(rows.partition_point(|row| Some(row.row) <= self.last));
        for row in there {
            self.check_same(row)?;
        }
        let mut new = new;
        while let Some(first) = new.first() {
            self.choose_file(&day(first)?)?;
            // What belongs into a later file is left for it.
            let name = self.current.as_ref().map_or_else(String::new, |(path, _)| date_of(path));
            let mut count = 1;
            while count < new.len() && day(&new[count])? <= name {
                count += 1;
            }
            let (now, later) = new.split_at(count);
            self.write(now)?;
            new = later;
        }
        Ok(())
    }

    fn write(&mut self, rows: &[AuditRow]) -> Result<()> {
        let lines = rows.iter().map(line).collect::<Result<Vec<_>>>()?.concat();
        let Some((path, file)) = &mut self.current else { unreachable!("a file was chosen") };
        file.write_all(&lines)
            .and_then(|()| file.sync_data())
            .map_err(|error| failure("write audit archive", path, &error))?;
        self.last = rows.last().map(|row| row.row);
        Ok(())
    }

    /// Goes on with a new file where a later day begins. Rows are in the order of their commits, so a few may be of the day
    /// before; they stay where the order is.
    fn choose_file(&mut self, day: &str) -> Result<()> {
        if self.current.as_ref().is_some_and(|(path, _)| day <= date_of(path).as_str()) {
            return Ok(());
        }
        let path = self.directory.join(format!("{PREFIX}{day}{SUFFIX}"));
        let failed = |error| failure("write audit archive", &path, &error);
        let mut options = OpenOptions::new();
        let file =
            options.append(true).read(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        // The name has to be on the disk as well as what it stands for.
        File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        self.current = Some((path, file));
        Ok(())
    }

    /// Checks that the archive has a row, and has it alike: after a crash or with a restored database rows come again.
    fn check_same(&mut self, row: &AuditRow) -> Result<()> {
        let mut lines = match self.again.take() {
            Some(lines) => lines,
            None => Lines::from(&self.directory, row.row)?,
        };
        loop {
            match lines.next()? {
                Some(there) if there.row < row.row => {}
                Some(there) if there == *row => break,
                _ => {
                    return Err(failure(
                        "write audit archive",
                        &self.directory,
                        &format!(
                            "it goes further than row {}, and does not have that one as the database has it; is it that of \
                             another database, or of one that was put back to an earlier state? Name an empty directory",
                            row.row
                        ),
                    ));
                }
            }
        }
        self.again = Some(lines);
        Ok(())
    }
}

/// Cuts off what stands after the last line's end; returns that line, without its end.
fn cut(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let length = file.seek(SeekFrom::End(0))?;
    let whole = line_end(file, length)?;
    if whole < length {
        file.set_len(whole)?;
        file.sync_all()?;
    }
    let Some(end) = whole.checked_sub(1) else { return Ok(None) };
    let start = line_end(file, end)?;
    file.seek(SeekFrom::Start(start))?;
    let mut line = Vec::new();
    file.take(end - start).read_to_end(&mut line)?;
    Ok(Some(line))
}

/// Returns where the last line ends that ends before a place; 0 if none does.
fn line_end(file: &mut File, before: u64) -> io::Result<u64> {
    let mut end = before;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        file.take(end - start).read_to_end(&mut block)?;
        if let Some(place) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + place as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Returns the day of a row's event, as files are named after it.
fn day(row: &AuditRow) -> Result<String> {
    let event: Event = serde_json::from_slice(&row.body)
        .map_err(|_| Error::Store(format!("archive event: row {} is not readable", row.row)))?;
    Ok(date(event.at))
}

fn date(at: Timestamp) -> String {
    at.to_string().chars().take(DATE).collect()
}

fn date_of(path: &Path) -> String {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.chars().skip(PREFIX.len()).take(DATE).collect()
}

/// Returns the files of an archive in their order.
fn files(directory: &Path) -> Result<VecDeque<PathBuf>> {
    let failed = |error| failure("read audit archive", directory, &error);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let is_ours = name.to_str().is_some_and(|name| {
            name.len() == PREFIX.len() + DATE + SUFFIX.len()
                && name.starts_with(PREFIX)
                && name.ends_with(SUFFIX)
        });
        if is_ours {
            files.push(directory.join(name));
        }
    }
    files.sort();
    Ok(files.into())
}

fn failure(doing: &str, path: &Path, why: &dyn Display) -> Error {
    Error::Store(format!("{doing} {}: {why}", path.display()))
}

/// The lines of one archive, oldest first.
struct Lines {
    files: VecDeque<PathBuf>,
    current: Option<(PathBuf, BufReader<File>, u64)>,
}

impl Lines {
    const fn of(files: VecDeque<PathBuf>) -> Self {
        Self { files, current: None }
    }

    /// Reads from the file on in which a row stands.
    fn from(directory: &Path, row: i64) -> Result<Self> {
        let mut files = files(directory)?;
        while files.len() > 1 {
            let next = Self::of([files[1].clone()].into()).next()?;
            if next.is_none_or(|first| first.row > row) {
                break;
            }
            files.pop_front();
        }
        Ok(Self::of(files))
    }

    /// Returns the next row; `None` after the last one. What a crash left of a line at the end of a file is none.
    fn next(&mut self) -> Result<Option<AuditRow>> {
        loop {
            let Some((path, file, number)) = &mut self.current else {
                let Some(path) = self.files.pop_front() else { return Ok(None) };
                let file = File::open(&path).map_err(|error| failure("read audit archive", &path, &error))?;
                self.current = Some((path, BufReader::with_capacity(1 << 18, file), 0));
                continue;
            };
            let mut line = Vec::new();
            let read = file.by_ref().take(LINE).read_until(b'\n', &mut line);
            read.map_err(|error| failure("read audit archive", path, &error))?;
            if line.pop() != Some(b'\n') {
                self.current = None;
                continue;
            }
            *number += 1;
            return parse(&line).map(Some).ok_or_else(|| {
                failure("read audit archive", path, &format!("line {number} is no event of an audit trail"))
            });
        }
    }
}

/// The rows of one or several archives in their order, each once: several nodes may have archives of their own.
pub struct Reader {
    archives: Vec<(Lines, Head)>,
    /// The rows that were handed out last, to know them again.
    recent: VecDeque<(i64, Hash)>,
}

/// What comes next in an archive.
enum Head {
    Unread,
    Row(AuditRow),
    End,
}

/// How far apart a row's lines may stand and still be recognised as the same row's: more than one step of pruning.
const RECENT: usize = 4096;

impl Reader {
    /// Opens archives.
    pub fn open(directories: &[PathBuf]) -> Result<Self> {
        let lines = directories.iter().map(|directory| Ok(Lines::of(files(directory)?)));
        let archives = lines.map(|lines: Result<_>| Ok((lines?, Head::Unread))).collect::<Result<_>>()?;
        Ok(Self { archives, recent: VecDeque::new() })
    }

    /// Returns up to `limit` rows more; none after the last one.
    pub fn page(&mut self, limit: usize) -> Result<Vec<AuditRow>> {
        let mut rows = Vec::new();
        while rows.len() < limit {
            let Some(row) = self.next()? else { break };
            if self.is_new(&row)? {
                self.recent.push_back((row.row, row.hash));
                if self.recent.len() > RECENT {
                    self.recent.pop_front();
                }
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// Takes the line with the smallest number from whichever archive has it.
    fn next(&mut self) -> Result<Option<AuditRow>> {
        let mut oldest: Option<(i64, &mut Head)> = None;
        for (lines, head) in &mut self.archives {
            if let Head::Unread = head {
                *head = lines.next()?.map_or(Head::End, Head::Row);
            }
            if let Head::Row(row) = head
                && oldest.as_ref().is_none_or(|(number, _)| row.row < *number)
            {
                oldest = Some((row.row, head));
            }
        }
        match oldest.map(|(_, head)| replace(head, Head::Unread)) {
            Some(Head::Row(row)) => Ok(Some(row)),
            _ => Ok(None),
        }
    }

    /// Tells whether a row was not there before. One that comes again has to be the same.
    fn is_new(&self, row: &AuditRow) -> Result<bool> {
        if self.recent.back().is_none_or(|(last, _)| *last < row.row) {
            return Ok(true);
        }
        match self.recent.contains(&(row.row, row.hash)) {
            true => Ok(false),
            false => Err(Error::Store(format!(
                "read audit archive: row {} comes again, and is not what it was or stands out of order",
                row.row
            ))),
        }
    }
}
