//! What commands ask: codes, seeds and confirmations, from the terminal or from standard input.
//!
//! Questions go to standard error, so that standard output stays what the command prints.

use super::failure::Failure;
use countersign_core::Secret;
use std::{
    fs,
    io::{self, BufRead, IsTerminal, Write},
    path::Path,
};

/// The most bytes read as one line or one secret file: no code, seed or password is longer.
const LIMIT: u64 = 4096;

/// Tells whether a person sits at the keyboard.
pub(super) fn is_interactive() -> bool {
    io::stdin().is_terminal()
}

/// Asks for a line. Without a terminal nothing is asked: the line is the next one of standard input.
pub(super) fn line(question: &str) -> Result<Secret<String>, Failure> {
    if is_interactive() {
        let mut err = io::stderr();
        err.write_all(question.as_bytes()).and_then(|()| err.flush()).map_err(unreadable)?;
    }
    read_line(&mut io::stdin().lock())
}

/// Returns a code: the one given, or (for `-` or none) the one read from the terminal or standard input.
pub(super) fn code(given: Option<String>, question: &str) -> Result<Secret<String>, Failure> {
    let code = match given {
        Some(code) if code != "-" => Secret::new(code),
        _ => line(&format!("{question}: "))?,
    };
    if code.expose().is_empty() {
        return Err(Failure::usage("no code was given")
            .hint("type the code when asked, or send it on standard input: echo 123456 | countersign …"));
    }
    Ok(code)
}

/// Reads a secret from a file, or from standard input for `-`.
pub(super) fn secret_file(path: &Path) -> Result<Secret<String>, Failure> {
    if path == Path::new("-") {
        return line("Seed in Base32 (it shows as you type): ");
    }
    let read = fs::File::open(path).and_then(|file| io::read_to_string(io::Read::take(file, LIMIT)));
    let text = Secret::new(read.map_err(|error| {
        Failure::usage(format!("read {}: {error}", path.display()))
            .hint("name a file that holds nothing but the secret")
    })?);
    Ok(Secret::new(text.expose().trim().to_owned()))
}

/// Makes sure that a person means it: they type `word`. Without a terminal nobody can, so `--yes` is needed.
pub(super) fn confirm(what: &str, word: &str) -> Result<(), Failure> {
    if !is_interactive() {
        return Err(
            Failure::usage(format!("this needs a confirmation: {what}")).hint("add --yes if you mean it")
        );
    }
    let typed = line(&format!("{what}. Type {word} to go on: "))?;
    if typed.expose() == word {
        return Ok(());
    }
    Err(Failure::new("not confirmed; nothing was changed").hint(format!("type {word} exactly, or add --yes")))
}

fn read_line(input: &mut impl BufRead) -> Result<Secret<String>, Failure> {
    let mut text = zeroize::Zeroizing::new(String::new());
    io::Read::take(input, LIMIT).read_line(&mut text).map_err(unreadable)?;
    Ok(Secret::new(text.trim().to_owned()))
}

fn unreadable(error: io::Error) -> Failure {
    Failure::new(format!("read standard input: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_without_its_end_and_leaves_the_next_one() {
        let mut input = io::Cursor::new(b" 123456\r\n654321\n");

        assert_eq!(read_line(&mut input).expect("line").expose(), "123456");
        assert_eq!(read_line(&mut input).expect("line").expose(), "654321");
        assert_eq!(read_line(&mut input).expect("end").expose(), "");
    }

    #[test]
    fn a_code_given_is_taken_as_it_is() {
        assert_eq!(code(Some("123 456".into()), "Code").expect("code").expose(), "123 456");
    }

    #[test]
    fn a_secret_file_is_read_without_its_last_newline() {
        let file = tempfile::NamedTempFile::new().expect("file");
        fs::write(file.path(), "s3cret\n").expect("write");

        assert_eq!(secret_file(file.path()).expect("secret").expose(), "s3cret");
        assert!(secret_file(Path::new("/nowhere/at/all")).is_err());
    }
}
