//! What commands show: tables for lists, aligned fields for one thing, JSON for machines.
//!
//! Colours only on a terminal, and not with `NO_COLOR`. Whatever came from outside is shown without its control
//! characters, so a display name cannot move the cursor or repaint the screen.

use super::failure::Failure;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};
use countersign_core::Timestamp;
use owo_colors::OwoColorize;
use serde_json::{Value, json};
use std::{
    io::{self, IsTerminal},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What stands where there is no value.
pub(super) const NOTHING: &str = "–";

/// How a word is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// Not as it should be.
    Bad,
    /// A title.
    Strong,
    /// Less important than the rest.
    Quiet,
}

/// A column or a field: its title, and where its value is (a JSON pointer).
pub(super) type Field = (&'static str, &'static str);

/// Standard output, and what it can show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    /// Whether colours are shown.
    pub colours: bool,
    /// The columns of the terminal; `None` when it is none.
    pub width: Option<u16>,
}

/// Tells whether a stream shows colours: a terminal that can, and nobody who asked for none (no-color.org).
pub(super) fn has_colours(stream: &impl IsTerminal) -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    stream.is_terminal() && !is_set("NO_COLOR") && !is_dumb
}

/// Returns the present time.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

impl Screen {
    /// Looks at standard output.
    pub(super) fn new() -> Self {
        Self { colours: has_colours(&io::stdout()), width: Table::new().width().filter(|&width| width > 0) }
    }

    /// Prints lines.
    pub(super) fn print(self, text: &str) -> Result<(), Failure> {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        Ok(write(&format!("{text}{end}"))?)
    }

    /// Prints a warning on standard error, so that it is in nobody's JSON.
    pub(super) fn warn(self, text: &str) {
        let label =
            if has_colours(&io::stderr()) { "warning:".yellow().to_string() } else { "warning:".into() };
        // Nobody is left to tell when standard error is closed.
        drop(io::Write::write_all(&mut io::stderr(), format!("{label} {text}\n").as_bytes()));
    }

    /// Prints JSON.
    pub(super) fn json(self, value: &Value) -> Result<(), Failure> {
        self.print(&format!("{value:#}"))
    }

    /// Prints one thing.
    pub(super) fn one(self, fields: &[Field], of: &Value, json: bool) -> Result<(), Failure> {
        if json { self.json(of) } else { self.print(&self.fields(fields, of)) }
    }

    /// Prints a list, and how to go on when there is more.
    pub(super) fn list(self, columns: &[Field], list: &Value, json: bool) -> Result<(), Failure> {
        if json {
            return self.json(list);
        }
        let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
        if items.is_empty() {
            return self.print("none");
        }
        self.print(&self.table(columns, items))?;
        match list["next"].as_str() {
            Some(next) => self.print(&self.paint(Tone::Quiet, &format!("more: --after {}", plain(next)))),
            None => Ok(()),
        }
    }

    /// Prints that something was done to which the server has no answer; `{}` for machines.
    pub(super) fn confirm(self, what: &str, json: bool) -> Result<(), Failure> {
        if json { self.json(&json!({})) } else { self.print(&self.done(what)) }
    }

    /// Paints a word.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        if !self.colours {
            return text.to_owned();
        }
        match tone {
            Tone::Good => text.green().to_string(),
            Tone::Warning => text.yellow().to_string(),
            Tone::Bad => text.red().to_string(),
            Tone::Strong => text.bold().to_string(),
            Tone::Quiet => text.dimmed().to_string(),
        }
    }

    /// Returns `✓ text`.
    pub(super) fn done(self, text: &str) -> String {
        format!("{} {text}", self.paint(Tone::Good, "✓"))
    }

    /// Lays out a list as a table.
    pub(super) fn table(self, columns: &[Field], items: &[Value]) -> String {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        if let Some(width) = self.width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        } else {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        if self.colours {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(columns.iter().map(|(title, _)| self.heading(title)));
        for item in items {
            table.add_row(columns.iter().map(|(_, pointer)| self.cell(&shown(item.pointer(pointer)))));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.trim_fmt()
    }

    fn heading(self, title: &str) -> Cell {
        let cell = Cell::new(title.to_uppercase());
        if self.colours { cell.add_attribute(Attribute::Bold) } else { cell }
    }

    fn cell(self, text: &str) -> Cell {
        let cell = Cell::new(text);
        match tone_of(text) {
            Some(tone) if self.colours => cell.fg(match tone {
                Tone::Good => Color::DarkGreen,
                Tone::Warning => Color::DarkYellow,
                _ => Color::DarkRed,
            }),
            _ => cell,
        }
    }

    /// Lays out one thing as aligned fields. Members that are missing are left out; those that are null are not.
    pub(super) fn fields(self, fields: &[Field], of: &Value) -> String {
        let lines: Vec<(&str, String)> = fields
            .iter()
            .filter_map(|(title, pointer)| Some((*title, shown(Some(of.pointer(pointer)?)))))
            .collect();
        self.pairs(&lines)
    }

    /// Lays out aligned titles and values.
    pub(super) fn pairs(self, pairs: &[(&str, String)]) -> String {
        let width = pairs.iter().map(|(title, _)| title.chars().count()).max().unwrap_or(0);
        pairs
            .iter()
            .map(|(title, value)| {
                let value = tone_of(value).map_or_else(|| value.clone(), |tone| self.paint(tone, value));
                format!("{}  {value}\n", self.paint(Tone::Quiet, &format!("{title:width$}")))
            })
            .collect()
    }
}

/// Writes to standard output. Unlike `print!` it returns an error when the reader has gone, as `… | head` does.
#[cfg(not(test))]
fn write(text: &str) -> io::Result<()> {
    use io::Write;
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes to where the test harness keeps what tests print.
#[cfg(test)]
#[expect(clippy::print_stdout, reason = "the harness captures this macro and nothing else")]
fn write(text: &str) -> io::Result<()> {
    print!("{text}");
    Ok(())
}

/// Returns the tone of the words that name a state.
fn tone_of(word: &str) -> Option<Tone> {
    match word {
        "active" => Some(Tone::Good),
        "pending" => Some(Tone::Warning),
        "disabled" | "locked" => Some(Tone::Bad),
        _ => None,
    }
}

/// Returns a JSON value as people read it.
pub(super) fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => NOTHING.to_owned(),
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        Some(Value::String(text)) => Timestamp::parse(text).map_or_else(|| plain(text), |_| moment(text)),
        Some(Value::Array(items)) if items.is_empty() => NOTHING.to_owned(),
        Some(Value::Array(items)) => {
            items.iter().map(|item| shown(Some(item))).collect::<Vec<_>>().join(", ")
        }
        Some(other) => plain(&other.to_string()),
    }
}

/// Returns an RFC 3339 time to the second: `2026-11-22 10:00:00Z`.
fn moment(text: &str) -> String {
    let seconds = text.split_once('.').map_or(text.trim_end_matches('Z'), |(seconds, _)| seconds);
    format!("{}Z", seconds.replacen('T', " ", 1))
}

/// Returns text without what could move the cursor, repaint the screen or turn the reading direction.
pub(super) fn plain(text: &str) -> String {
    let harmless = |c: char| match c {
        '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => '\u{FFFD}',
        c if c.is_control() => '\u{FFFD}',
        c => c,
    };
    text.chars().map(harmless).collect()
}

/// Returns how long something takes, to the nearest unit people say aloud.
pub(super) fn span(duration: Duration) -> String {
    match duration.as_millis().div_ceil(1000) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{} h", seconds.div_ceil(3600)),
    }
}

/// Returns how long it is until an RFC 3339 time in a JSON member, if it has one and that is ahead.
pub(super) fn time_left(value: &Value, pointer: &str) -> Option<Duration> {
    let left = now().until(Timestamp::parse(value.pointer(pointer)?.as_str()?)?);
    (!left.is_zero()).then_some(left)
}

/// Returns a string member, empty when there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Screen = Screen { colours: false, width: None };
    const COLOURED: Screen = Screen { colours: true, width: Some(80) };

    #[test]
    fn a_list_becomes_a_table_without_borders() {
        let items = [
            json!({"number": 1000, "username": "ada", "status": "active", "locked": []}),
            json!({"number": 1001, "username": "grace", "status": "disabled", "locked": ["TOKEN", "SMS"]}),
        ];

        let table = PLAIN.table(
            &[("number", "/number"), ("username", "/username"), ("status", "/status"), ("locked", "/locked")],
            &items,
        );

        assert_eq!(
            table,
            "NUMBER  USERNAME  STATUS    LOCKED\n\
             1000    ada       active    –\n\
             1001    grace     disabled  TOKEN, SMS"
        );
    }

    #[test]
    fn colours_show_states_and_only_when_there_are_colours() {
        let item = [json!({"state": "locked"})];

        assert!(COLOURED.table(&[("state", "/state")], &item).contains("\u{1b}["));
        assert!(!PLAIN.table(&[("state", "/state")], &item).contains('\u{1b}'));
    }

    #[test]
    fn one_thing_becomes_aligned_fields() {
        let value = json!({"name": "Ada", "at": "2026-11-22T10:00:00.123Z", "email": null, "on": true});

        let fields = PLAIN.fields(
            &[
                ("Name", "/name"),
                ("Created", "/at"),
                ("E-mail", "/email"),
                ("Second step", "/on"),
                ("X", "/x"),
            ],
            &value,
        );

        assert_eq!(
            fields,
            "Name         Ada\nCreated      2026-11-22 10:00:00Z\nE-mail       –\nSecond step  yes\n"
        );
    }

    #[test]
    fn a_name_from_outside_cannot_repaint_the_screen() {
        let shown = shown(Some(&json!("Ada\u{1b}[2J\r\n\u{202e}evil")));

        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        assert!(!shown.contains('\u{202e}'));
    }

    #[test]
    fn a_span_is_said_in_the_unit_people_use() {
        assert_eq!(span(Duration::from_millis(29_100)), "30 s");
        assert_eq!(span(Duration::from_secs(600)), "10 min");
        assert_eq!(span(Duration::from_secs(86_400)), "24 h");
    }
}
