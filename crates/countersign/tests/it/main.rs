//! What the server does, in process, on a real database file.

mod store;
