//! House rules: which crate may use which, and which library lives in which room.
//!
//! The reasons are in the README, under "The house".

#![expect(clippy::panic, reason = "a test may panic")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// A crate's folder and the crates of ours that it may use.
const DIRECTIONS: [(&str, &[&str]); 10] = [
    ("proto", &[]),
    ("runtime", &[]),
    ("expression", &[]),
    ("api", &["expression"]),
    ("xds", &["proto"]),
    ("control-plane", &["xds", "api", "runtime", "proto"]),
    ("redirect", &["runtime"]),
    ("proxy", &["xds", "expression", "runtime", "proto", "redirect"]),
    ("cli", &["api", "xds", "runtime", "control-plane"]),
    (
        "tests",
        &[
            "proto",
            "runtime",
            "api",
            "xds",
            "control-plane",
            "redirect",
            "proxy",
            "cli",
            "expression",
        ],
    ),
];

/// A library, as its paths begin in code, and the rooms that may name it.
const ROOMS: [(&str, &[&str]); 8] = [
    ("kube", &["control-plane/src/k8s", "api/", "cli/src"]),
    (
        "rustls",
        &[
            "proxy/src/tls",
            "control-plane/src/ca",
            "control-plane/src/server",
            "control-plane/tests",
            "cli/src/cluster/tunnel",
        ],
    ),
    (
        "envoy_types",
        &["xds/src/model", "xds/src/client", "xds/src/server", "xds/src/sds", "xds/tests"],
    ),
    (
        "rcgen",
        &[
            "proxy/src/tls",
            "proxy/src/tests",
            "control-plane/src/ca",
            "control-plane/tests",
            "runtime/src/vouch",
        ],
    ),
    ("cel", &["expression/src"]),
    ("opentelemetry_proto", &["proxy/src/telemetry/otlp", "proxy/src/tests"]),
    ("notify", &["control-plane/src/files", "cli/src/local"]),
    ("jsonwebtoken", &["control-plane/src/ca", "control-plane/tests", "cli/src/local"]),
];

/// Crates of which the lock file may hold one version, or none at all.
const ONCE: [&str; 8] = ["tokio", "hyper", "http", "tonic", "prost", "rustls", "tower", "h2"];
const NEVER: [&str; 5] = ["openssl", "openssl-sys", "native-tls", "serde_yaml", "reqwest"];

/// A file of more lines than this, before its tests, wants to be two.
const LONGEST: usize = 450;

#[test]
fn crates_use_only_what_is_below_them() {
    for (krate, allowed) in DIRECTIONS {
        let manifest = read(&root().join(krate).join("Cargo.toml"));
        let normal = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        for line in normal.lines() {
            let Some(used) = line.strip_prefix("tulle-").and_then(|l| l.split('.').next()) else {
                continue;
            };
            assert!(allowed.contains(&used), "{krate}/Cargo.toml: {krate} may not use {used}");
        }
    }
}

#[test]
fn libraries_stay_in_their_rooms() {
    for (path, code) in sources() {
        for (library, rooms) in ROOMS {
            let named = code.lines().any(|line| {
                let code = line.split("//").next().unwrap_or_default();
                names(code, &format!("{library}::"))
            });
            let at_home = rooms.iter().any(|room| path.starts_with(room));
            assert!(at_home || !named, "{path} names {library}: its rooms are {rooms:?}");
        }
    }
}

#[test]
fn unsafe_code_is_in_one_file() {
    for (path, code) in sources() {
        let expects = code.contains(concat!("expect(unsafe", "_code"));
        assert!(!expects || path == "runtime/src/pages.rs", "{path} expects unsafe code");
    }
}

#[test]
fn rooms_are_not_named_after_crates_and_files_are_readable() {
    for (path, code) in sources() {
        let exempt = path.starts_with("proto/src/generated") || path.ends_with("/tests.rs");
        let lines =
            code.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().lines().count();
        assert!(exempt || lines <= LONGEST, "{path} has {lines} lines: make two rooms of it");
        assert!(!path.ends_with("/mod.rs"), "{path}: write foo.rs beside foo/");
    }
}

#[test]
fn the_dashboards_files_are_readable_and_ask_for_no_exception() {
    let mut found = 0;
    for (path, code) in files(&["dashboard/src", "dashboard/tests"], &["ts", "svelte"]) {
        let lines = code.lines().count();
        assert!(lines <= LONGEST, "{path} has {lines} lines: make two rooms of it");
        // The Content-Security-Policy allows no inline style, and Svelte writes what is said here into the page.
        for inline in ["{@html", " style=\""] {
            assert!(
                !code.contains(inline),
                "{path} says {inline:?}: use a class, or set it in code"
            );
        }
        found += 1;
    }
    assert!(found > 20, "the walk lost its way: {found} files");
}

#[test]
fn the_lock_file_holds_one_of_each() {
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let lock = read(&root().join("Cargo.lock"));
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            let line = package.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
            line.trim_matches([' ', '=', '"']).to_owned()
        };
        versions.entry(field("name")).or_default().push(field("version"));
    }
    for name in ONCE {
        let found = versions.get(name).map_or(0, Vec::len);
        assert_eq!(found, 1, "{name}: {:?}", versions.get(name));
    }
    for name in NEVER {
        assert!(!versions.contains_key(name), "{name} came in: `cargo tree -i {name}` says how");
    }
}

/// Whether `code` names `library` as a path of its own, not as the end of a longer word.
fn names(code: &str, library: &str) -> bool {
    code.match_indices(library).any(|(at, _)| {
        let before = code.get(..at).and_then(|c| c.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':'))
    })
}

fn root() -> PathBuf {
    PathBuf::from("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Rust file of ours: path from the root, and text.
fn sources() -> Vec<(String, String)> {
    let crates = DIRECTIONS.map(|(krate, _)| krate);
    let found = files(&crates, &["rs"]);
    assert!(found.len() > 20, "the walk lost its way: {} files", found.len());
    found
}

/// Every file below these folders that ends so: path from the root, and text.
fn files(below: &[&str], endings: &[&str]) -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = below.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of ours can be read") {
            let path = entry.expect("a folder of ours can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| endings.iter().any(|one| e == *one)) {
                let name = path.strip_prefix(&root).expect("found below it").display().to_string();
                found.push((name, read(&path)));
            }
        }
    }
    found
}
