//! Requests to the outside: bounded in time, never redirected, never into private networks unless allowed by name.
