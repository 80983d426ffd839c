//! What a mesh could leave on the machine, and does not.

use std::{collections::BTreeSet, fs};

use crate::mesh::{STATE, own_name};

/// Our programs, as the kernel abbreviates their names.
const PROGRAMS: [&str; 3] = ["tulle", "tulle-proxy", CONTROL_PLANE];
pub(crate) const CONTROL_PLANE: &str = "tulle-control-p";

/// What a mesh could leave on the machine.
#[derive(Debug)]
pub struct Traces(BTreeSet<String>);

impl Traces {
    /// What is there now.
    pub fn now() -> Self {
        let mut found = BTreeSet::new();
        for (what, argv) in [
            ("interface", &["ip", "-o", "link"][..]),
            ("network namespace", &["ip", "netns", "list"]),
            ("route", &["ip", "route", "show", "table", "all"]),
            ("rule", &["nft", "list", "ruleset"]),
        ] {
            let listed = std::process::Command::new(argv[0]).args(&argv[1..]).output();
            let text = listed.map(|o| o.stdout).unwrap_or_default();
            for line in String::from_utf8_lossy(&text).lines() {
                found.insert(format!("{what}: {}", line.trim()));
            }
        }
        for line in fs::read_to_string("/proc/self/mounts").unwrap_or_default().lines() {
            found.insert(format!("mount: {line}"));
        }
        // Other meshes come and go meanwhile as they like.
        for entry in fs::read_dir(STATE).into_iter().flatten().flatten() {
            if is_own(&entry.file_name().to_string_lossy()) {
                found.insert(format!("directory: {}", entry.path().display()));
            }
        }
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let pid = entry.file_name().to_string_lossy().into_owned();
            if PROGRAMS.contains(&name.trim()) && mesh_of(&pid).is_none_or(|mesh| is_own(&mesh)) {
                found.insert(format!("process: {pid} {}", name.trim()));
            }
        }
        Self(found)
    }

    /// What is there now and was not then.
    pub fn left(&self) -> Vec<String> {
        Self::now().0.difference(&self.0).cloned().collect()
    }
}

/// Whether a mesh of this name is one of this process's.
fn is_own(mesh: &str) -> bool {
    let rest = mesh.strip_prefix(&own_name());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The mesh that a process belongs to, as it or whoever started it was told by `--name`.
fn mesh_of(pid: &str) -> Option<String> {
    let mut pid = pid.to_owned();
    while pid != "0" {
        let told = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words: Vec<_> = told.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        if let Some(at) = words.iter().position(|word| word == "--name") {
            return words.get(at + 1).map(|name| name.clone().into_owned());
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        pid = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().to_owned();
    }
    None
}
