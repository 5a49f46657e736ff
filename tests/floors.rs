//! The house stands on floors: imports point down only (see `src/docs/architecture.md`).

use std::fs;
use std::path::{Path, PathBuf};

/// Modules of the core, lowest floor first. A module may import its own floor's data and all floors below.
const FLOORS: &[&[&str]] = &[
    &["time", "rng", "id", "hlc", "reading", "pattern", "lookup"],
    &["voters", "state", "ledger", "fusion"],
    &["message", "hard_state", "notice", "work", "event", "effect", "params", "cx", "view", "writes"],
    &["consensus", "archive", "session", "gossip", "liveness"],
    &["hierarchy"],
    &["node"],
];

/// Machines that may look at each other all the same, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    // The archive implements the group's view of holdings; it calls nothing of the group.
    ("archive", "consensus"),
    // Both speak of the peer on a link, which sessions identify.
    ("gossip", "session"),
    ("liveness", "session"),
];

fn sources(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = if root.is_dir() { vec![root.to_owned()] } else { Vec::new() };
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Code without its tests: what stands below `#[cfg(test)]` at the foot of a file may import anything.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("source is text");
    match text.split_once("#[cfg(test)]\nmod tests {") {
        Some((code, _)) => code.to_owned(),
        None => text,
    }
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

/// Modules named after `prefix` in the text.
fn named<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(prefix).map(move |(at, _)| {
        let rest = &text[at + prefix.len()..];
        &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())]
    })
}

#[test]
fn imports_of_the_core_point_down_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core");
    let mut wrong = Vec::new();
    let mut checked = 0;
    for path in sources(&root) {
        let inside = path.strip_prefix(&root).expect("it is inside");
        let own = inside.iter().next().and_then(|first| first.to_str()).expect("a name").trim_end_matches(".rs");
        if own == "mod" || inside.ends_with("tests.rs") {
            continue;
        }
        let Some(own_floor) = floor(own) else {
            wrong.push(format!("{}: module {own} stands on no floor", inside.display()));
            continue;
        };
        for other in named(&code(&path), "crate::core::") {
            let Some(other_floor) = floor(other) else { continue };
            checked += 1;
            let machines = own_floor >= 3 && other_floor == own_floor && other != own;
            if (other_floor > own_floor || machines) && !EXCEPTIONS.contains(&(own, other)) {
                wrong.push(format!("{}: {own} imports {other}", inside.display()));
            }
        }
    }
    assert!(checked > 50, "only {checked} imports were found: the test looks in the wrong place");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_core_and_the_simulator_never_import_the_shell() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for folder in ["core", "sim"] {
        for path in sources(&src.join(folder)) {
            let text = code(&path);
            // What is hashed has no order: it stands in one file, from which nobody can take it in any.
            let hashed = path.ends_with("core/lookup.rs");
            let order = [
                ".iter",
                "into_iter",
                "IntoIterator",
                ".keys",
                ".values",
                ".drain",
                ".retain",
                "in &self",
                "in self",
                "Deref",
                "RandomState",
            ];
            let banned: &[&str] = if hashed { &order } else { &["HashMap", "HashSet", "RandomState"] };
            for word in ["crate::shell", "crate::cli", "tokio::", "std::net", "std::fs"].iter().chain(banned) {
                assert!(!text.contains(word), "{} names {word}", path.display());
            }
        }
    }
    for path in sources(&src.join("shell")) {
        assert!(!code(&path).contains("crate::sim"), "{} imports the simulator", path.display());
    }
}
