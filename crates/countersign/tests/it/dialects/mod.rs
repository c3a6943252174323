//! The wires of other systems, held against their contracts: one file a dialect.

mod mounting;
mod odd_input;
mod permissions;
mod race;
mod reltio;
mod rsa;
mod safeshare;
mod story;
mod unknown;
mod veeam;
