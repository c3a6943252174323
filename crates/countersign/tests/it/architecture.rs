//! Calls go one way, and the rules stay pure: read from the sources.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The crate's modules from the ground up. A module uses those of lower layers and of its own; where a layer has
/// several groups, they do not use each other.
const LAYERS: &[&[&[&str]]] = &[
    &[&["error", "clock", "config", "qr"]],
    &[&["store"]],
    // What is opened with the store, before anybody asks for anything.
    &[&["keys"], &["telemetry"]],
    // The application is what every use case works with, and carries the two pools that are use cases' own.
    &[&["app", "service"]],
    // What comes in and what goes out.
    &[&["http"], &["delivery"], &["radius"]],
    &[&["running"]],
    &[&["cli"]],
];

/// Returns the layer and the group in it.
fn place(module: &str) -> Option<(usize, usize)> {
    let in_layer = |layer: &[&[&str]]| layer.iter().position(|group| group.contains(&module));
    LAYERS.iter().enumerate().find_map(|(layer, groups)| Some((layer, in_layer(groups)?)))
}

/// Tells whether code of one module may use another.
fn may_use(user: &str, used: &str) -> bool {
    let (user, used) = (place(user).expect("placed"), place(used).expect("placed"));
    used.0 < user.0 || used == user
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            found.extend(sources(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
    found.sort();
    found
}

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the source without its comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source");
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// Returns what stands first in each path after a prefix: `a` and `b` of `crate::{a::x, b}`.
fn heads(rest: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let mut heads = vec![word(group)];
    let mut depth = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(word(&group[at + 1..])),
            _ => {}
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

/// Returns the modules of the crate that a source names.
fn used(code: &str, depth: usize) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let is_ours = !code[..at].ends_with(['$', '_']);
        used.extend(heads(&code[at + "crate::".len()..]).into_iter().filter(|_| is_ours));
    }
    // Enough steps up lead to the root as well.
    let steps = "super::".repeat(depth);
    for (at, _) in code.match_indices(&steps) {
        let named = heads(&code[at + steps.len()..]);
        used.extend(named.into_iter().filter(|name| place(name).is_some()));
    }
    used
}

/// Returns the module of the crate a source belongs to, and how many steps it is below the root.
fn module(path: &Path, root: &Path) -> (String, usize) {
    let inside = path.strip_prefix(root).expect("below the root").with_extension("");
    let parts: Vec<String> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let depth = parts.len() - usize::from(parts.last().is_some_and(|last| last == "mod"));
    (parts[0].clone(), depth)
}

#[test]
fn no_arrow_points_back() {
    let root = crates().join("countersign/src");
    let mut wrong = BTreeMap::new();
    let mut arrows = BTreeSet::new();

    for path in sources(&root) {
        let (user, depth) = module(&path, &root);
        if ["lib", "main"].contains(&user.as_str()) {
            continue;
        }
        assert!(place(&user).is_some(), "say in LAYERS where {user} belongs");
        for used in used(&code(&path), depth) {
            assert!(place(&used).is_some(), "{}: say in LAYERS where {used} belongs", path.display());
            arrows.insert((user.clone(), used.clone()));
            if !may_use(&user, &used) {
                let shown = path.strip_prefix(&root).expect("below the root").display().to_string();
                wrong.entry(shown).or_insert_with(Vec::new).push(used);
            }
        }
    }

    assert_eq!(wrong, BTreeMap::new());
    for known in [("http", "service"), ("service", "store"), ("service", "app"), ("cli", "running")] {
        assert!(arrows.contains(&(known.0.into(), known.1.into())), "the sources are read: {known:?}");
    }
}

#[test]
fn a_back_arrow_would_be_seen() {
    let seen = used("use crate::{\n    error::{Error, Result},\n    http::{self, limit},\n    store,\n};", 2);
    assert_eq!(seen, BTreeSet::from(["error".into(), "http".into(), "store".into()]));
    assert_eq!(used("fn f() { crate::http::x() }", 2), BTreeSet::from(["http".into()]));
    assert_eq!(used("use super::super::http::Web;", 2), BTreeSet::from(["http".into()]));
    assert_eq!(used("use super::tokens; use other_crate::http; $crate::x", 2), BTreeSet::new());
    assert!(!may_use("store", "service") && !may_use("service", "http") && !may_use("http", "cli"));
    assert!(!may_use("http", "delivery") && !may_use("keys", "app") && may_use("service", "app"));
}

#[test]
fn only_the_store_speaks_sql() {
    let root = crates().join("countersign/src");

    for path in sources(&root).iter().filter(|path| !path.starts_with(root.join("store"))) {
        let code = code(path);
        for word in ["rusqlite", "tokio_postgres", "\"SELECT ", "INSERT INTO", "DELETE FROM", "UPDATE users"]
        {
            assert!(!code.contains(word), "{} has {word}", path.display());
        }
    }
}

/// No asynchronous runtime, no web, no database, not even behind something else.
#[test]
fn the_rules_depend_on_nothing_that_touches_the_world() {
    const WORLD: &[&str] = &[
        "async-std",
        "axum",
        "diesel",
        "h2",
        "hyper",
        "mio",
        "native-tls",
        "openssl",
        "postgres",
        "reqwest",
        "rusqlite",
        "rustls",
        "smol",
        "socket2",
        "sqlx",
        "tokio",
        "tokio-postgres",
        "tower",
        "ureq",
    ];
    let lock: toml::Table =
        fs::read_to_string(crates().join("../Cargo.lock")).expect("Cargo.lock").parse().expect("TOML");
    let packages = lock["package"].as_array().expect("packages");
    let needs = |name: &str| -> BTreeSet<String> {
        packages
            .iter()
            .filter(|package| package["name"].as_str() == Some(name))
            .filter_map(|package| package.get("dependencies")?.as_array())
            .flatten()
            .filter_map(|dependency| dependency.as_str()?.split(' ').next().map(str::to_owned))
            .collect()
    };
    let (mut reached, mut next) = (BTreeSet::new(), BTreeSet::from(["countersign-core".to_owned()]));
    while let Some(name) = next.pop_first() {
        if reached.insert(name.clone()) {
            next.extend(needs(&name));
        }
    }

    assert!(reached.contains("hmac") && reached.len() > 20, "the lock file is read");
    let world: Vec<&&str> = WORLD.iter().filter(|name| reached.contains(**name)).collect();
    assert!(world.is_empty(), "countersign-core reaches {world:?}");
}

/// Time and randomness come in as arguments.
#[test]
fn the_rules_read_no_clock_no_file_and_draw_nothing_themselves() {
    let root = crates().join("countersign-core/src");
    for path in sources(&root) {
        let code = code(&path);
        let rules = code.split("#[cfg(test)]").next().unwrap_or_default();
        if ["testing.rs", "properties.rs"].iter().any(|name| path.ends_with(name)) {
            continue;
        }
        for word in [
            "SystemTime",
            "Instant",
            "std::fs",
            "std::net::Tcp",
            "std::env",
            "std::thread",
            "rand::rng",
            "async fn",
        ] {
            assert!(!rules.contains(word), "{} has {word}", path.display());
        }
    }
}
