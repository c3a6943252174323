//! veeam

use super::{Calls, Mounted};
use crate::http::problem::Problem;
use axum::response::{IntoResponse, Response};

/// Returns every call and what it is natively.
pub fn calls() -> Calls {
    Calls::default()
}

/// Writes a problem as the vendor does.
pub fn render(problem: &Problem, _: &Mounted) -> Response {
    (problem.status(), problem.detail().to_owned()).into_response()
}
