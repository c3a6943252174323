//! Has the linker pack what a program is relocated by, where the C library can unpack it.
//!
//! A server of this size has a hundred thousand addresses to set when it starts. In the usual form they are a list of 2.7 MB
//! that is read once and then lies in memory; packed (DT_RELR) they are a few dozen kilobytes.

use std::{env, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if is_for_this_machine() && glibc().is_some_and(|version| version >= (2, 36)) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Tells whether the program is to run where it is built, on a processor whose linkers know the form.
fn is_for_this_machine() -> bool {
    let of = |name: &str| env::var(name).unwrap_or_default();
    let is_linux = of("CARGO_CFG_TARGET_OS") == "linux" && of("CARGO_CFG_TARGET_ENV") == "gnu";
    is_linux && of("CARGO_CFG_TARGET_ARCH") == "x86_64" && of("HOST") == of("TARGET")
}

/// Returns the version of the C library; `None` if it is another one, or does not say.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
