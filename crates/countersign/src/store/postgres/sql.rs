//! Statements with typed arguments.
//!
//! The types go along with the text, so that nothing is prepared on the server beforehand: a pooler in transaction mode may
//! give each statement to another connection.

use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

/// An argument and its type.
pub(super) type Argument<'a> = (&'a (dyn ToSql + Sync), Type);

/// What has one type in SQL.
pub(super) trait Typed: ToSql + Sync {
    /// Its type.
    const TYPE: Type;
}

/// What can stand in an array.
pub(super) trait Element: Typed {
    /// The type of an array of it.
    const ARRAY: Type;
}

macro_rules! typed {
    ($($rust:ty => $sql:ident, $array:ident;)+) => {$(
        impl Typed for $rust {
            const TYPE: Type = Type::$sql;
        }
        impl Element for $rust {
            const ARRAY: Type = Type::$array;
        }
    )+};
}

typed! {
    Uuid => UUID, UUID_ARRAY;
    i64 => INT8, INT8_ARRAY;
    i16 => INT2, INT2_ARRAY;
    bool => BOOL, BOOL_ARRAY;
    &str => TEXT, TEXT_ARRAY;
    String => TEXT, TEXT_ARRAY;
    &[u8] => BYTEA, BYTEA_ARRAY;
    Vec<u8> => BYTEA, BYTEA_ARRAY;
}

impl<T: Element> Typed for Option<T> {
    const TYPE: Type = T::TYPE;
}

impl<T: Element> Element for Option<T> {
    const ARRAY: Type = T::ARRAY;
}

impl<T: Element> Typed for Vec<T> {
    const TYPE: Type = T::ARRAY;
}

/// Tells whether PostgreSQL can hold a text. It has no NUL, so nothing there is named with one.
pub(super) fn can_be_text(text: &str) -> bool {
    !text.contains('\0')
}

/// Returns a text to compare with: one that nothing holds, if PostgreSQL cannot hold the one that is looked for.
pub(super) fn text_of_nobody_else(text: &str) -> String {
    if can_be_text(text) { text.to_owned() } else { '\u{10FFFF}'.into() }
}

/// Pairs an argument with its type.
pub(super) fn argument<T: Typed>(value: &T) -> Argument<'_> {
    (value, T::TYPE)
}

/// Lists the arguments of a statement.
macro_rules! args {
    ($($value:expr),* $(,)?) => { &[$(crate::store::postgres::sql::argument(&$value)),*] };
}
pub(super) use args;
