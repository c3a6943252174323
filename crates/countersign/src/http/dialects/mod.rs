//! Dialects: the wire of other systems, translated to the same use cases as the native API. They decide nothing.
//!
//! A dialect is a module with two functions: `calls`, every call a vendor's client makes with what it is natively, and
//! `render`, a problem in the vendor's own shape. What all dialects share is here and in [`mounting`].

pub mod mounting;
pub mod reltio;
pub mod rsa;
pub mod safeshare;
pub mod veeam;

use super::{Web, problem::Problem};
use crate::error::Error;
use axum::{
    Router,
    handler::Handler,
    response::Response,
    routing::{MethodFilter, on},
};
use countersign_core::{Permission, Refusal, Timestamp};
use http::{HeaderValue, Method, header};
pub use mounting::Mounted;

pub use crate::config::dialects::Dialect;

/// Calls what a list refuses by the names that a dialect's callers know: pairs of ours and theirs.
fn renamed(error: Error, names: &[(&str, &str)]) -> Error {
    match error {
        Error::Refused(Refusal::Invalid(mut invalid)) => {
            if let Some((_, theirs)) = names.iter().find(|(ours, _)| *ours == invalid.field) {
                (*theirs).clone_into(&mut invalid.field);
            }
            invalid.into()
        }
        other => other,
    }
}

/// What a call asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: the call is where callers prove themselves, or tells nothing.
    Nothing,
    /// A permission.
    May(Permission),
    /// To be a signed-in person.
    Myself,
    /// To be the person it is about, or else a permission.
    MyselfOr(Permission),
}

/// A call of a vendor's client, and what it is natively.
#[derive(Debug, Clone)]
pub struct Row {
    /// The method.
    pub method: Method,
    /// The path below the dialect's own.
    pub path: &'static str,
    /// What it asks of its caller.
    pub needs: Needs,
    /// The native operations it amounts to.
    pub native: &'static str,
    /// The events it can leave in the audit trail.
    pub events: &'static str,
}

/// The calls of a dialect: what is routed and what is documented are one list.
#[derive(Default)]
pub struct Calls {
    router: Router<Web>,
    rows: Vec<Row>,
}

impl Calls {
    /// Adds a call and what answers it.
    pub fn on<H, T>(
        mut self,
        method: Method,
        path: &'static str,
        needs: Needs,
        native: &'static str,
        events: &'static str,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Web>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("a method that routes know");
        self.router = self.router.route(path, on(filter, handler));
        self.rows.push(Row { method, path, needs, native, events });
        self
    }
}

/// Returns the calls of a dialect.
fn calls(dialect: Dialect) -> Calls {
    match dialect {
        Dialect::SafeShare => safeshare::calls(),
        Dialect::Veeam => veeam::calls(),
        Dialect::Rsa => rsa::calls(),
        Dialect::Reltio => reltio::calls(),
    }
}

/// Returns what a dialect's calls are natively.
pub fn rows(dialect: Dialect) -> Vec<Row> {
    calls(dialect).rows
}

/// Returns the routes of all dialects that are switched on, each below its prefix.
pub(super) fn router(web: &Web) -> Router<Web> {
    let mounted = Dialect::ALL.into_iter().filter(|dialect| web.app.config.dialects.is_enabled(*dialect));
    mounted.fold(Router::new(), |router, dialect| router.nest(dialect.prefix(), calls(dialect).router))
}

/// Returns the path a dialect routes by, where its clients have more than one way to write it.
fn canonical(dialect: Dialect, path: &str) -> Option<String> {
    match dialect {
        Dialect::SafeShare | Dialect::Veeam => None,
        Dialect::Rsa => rsa::canonical(path),
        Dialect::Reltio => reltio::canonical(path),
    }
}

/// Writes a problem as the vendor does.
pub(super) fn render(problem: &Problem, mounted: &Mounted, now: Timestamp) -> Response {
    let mut answer = match mounted.dialect {
        Dialect::SafeShare => safeshare::render(problem, mounted),
        Dialect::Veeam => veeam::render(problem, mounted),
        Dialect::Rsa => rsa::render(problem, mounted, now),
        Dialect::Reltio => reltio::render(problem, mounted),
    };
    if let Some(seconds) = problem.seconds_to_wait() {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

/// Returns the table of the manual: which vendor call is which native operation, and what it leaves in the audit trail.
pub fn table(dialect: Dialect) -> String {
    let row = |row: Row| {
        let needs = match row.needs {
            Needs::Nothing => "nothing".to_owned(),
            Needs::May(permission) => format!("`{}`", permission.name()),
            Needs::Myself => "`self`".to_owned(),
            Needs::MyselfOr(permission) => format!("`self` or `{}`", permission.name()),
        };
        let events: Vec<String> =
            row.events.split_ascii_whitespace().map(|event| format!("`{event}`")).collect();
        format!("| `{} {}` | {needs} | {} | {} |\n", row.method, row.path, row.native, events.join(" "))
    };
    let head = "| call | asks for | natively | events |\n|---|---|---|---|\n".to_owned();
    rows(dialect).into_iter().map(row).fold(head, |table, line| table + &line)
}
