//! Pods whose traffic is not redirected yet, found by the process in them that waits for it.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

use rustix::fs::{Mode, OFlags, open, openat};

use crate::rules::Options;

/// Arguments of a process are read no further.
const MOST: u64 = 64 << 10;
/// Pods that are repaired at once. Who cries wolf shall not keep the others waiting for long: those that are there have
/// even chances.
const AT_ONCE: usize = 20;

/// A pod to be repaired.
#[derive(Debug)]
pub struct Waiting {
    /// The process that waits.
    pub process: u32,
    /// Its network namespace.
    pub namespace: File,
    /// What is to be redirected of it.
    pub options: Vec<String>,
}

/// What the process with these arguments (separated by NUL) waits for: `None` if for nothing of ours.
pub fn options(arguments: &[u8]) -> Option<Vec<String>> {
    let text = str::from_utf8(arguments).ok()?;
    let mut words = text.trim_end_matches('\0').split('\0');
    let program = words.next()?.rsplit('/').next()?;
    if program != "tulle-proxy" || words.next()? != "redirect" {
        return None;
    }
    let words: Vec<_> = words.collect();
    let options: Vec<_> = words.iter().copied().filter(|word| *word != "--wait").collect();
    Options::from_words(&options).ok()?;
    (options.len() < words.len()).then(|| options.into_iter().map(str::to_owned).collect())
}

/// Those of this node, by its `/proc`; never one that shares the node's own network.
///
/// # Errors
/// If the folder cannot be read; processes that end meanwhile are none.
pub fn find(proc: &Path) -> io::Result<Vec<Waiting>> {
    let identity = |of: &fs::Metadata| (of.dev(), of.ino());
    // Of the agent, which is on the node's network, of the node's first process, and then of each that was found.
    let mut not = HashSet::from([identity(&fs::metadata(proc.join("self/ns/net"))?)]);
    not.extend(fs::metadata(proc.join("1/ns/net")).ok().as_ref().map(identity));
    let (mut found, mut met) = (Vec::new(), 0);
    for entry in fs::read_dir(proc)? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(Some(waiting)) = look(process, &proc.join(&name)) else { continue };
        let namespace = identity(&waiting.namespace.metadata()?);
        if !not.insert(namespace) {
            continue;
        }
        met += 1;
        if found.len() < AT_ONCE {
            found.push(waiting);
        } else if let Some(place) = found.get_mut(rand::random_range(0..met)) {
            *place = waiting;
        }
    }
    Ok(found)
}

/// Everything by one handle of the process, so that it is of one process.
fn look(process: u32, at: &Path) -> io::Result<Option<Waiting>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let folder = open(at, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let read = |name| -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let file = File::from(openat(&folder, name, flags, Mode::empty())?);
        file.take(MOST).read_to_end(&mut content)?;
        Ok(content)
    };
    if read("comm")? != b"tulle-proxy\n" {
        return Ok(None);
    }
    let Some(options) = options(&read("cmdline")?) else { return Ok(None) };
    let namespace = openat(&folder, "ns/net", flags, Mode::empty())?.into();
    Ok(Some(Waiting { process, namespace, options }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_waits_is_found() {
        for (arguments, expected) in [
            ("tulle-proxy\0redirect\0--wait\0", Some(&[] as &[&str])),
            ("/usr/bin/tulle-proxy\0redirect\0--wait\0--dns\x0015053\0", Some(&["--dns", "15053"])),
            (
                "tulle-proxy\0redirect\0--exclude-uids\x007\0--wait\0",
                Some(&["--exclude-uids", "7"]),
            ),
            ("tulle-proxy\0redirect\0", None),
            ("tulle-proxy\0run\0--wait\0", None),
            ("tulle-proxy\0redirect\0--wait\0--print\0", None),
            ("tulle-proxy\0redirect\0--wait\0--dns\0x\0", None),
            ("sh\0redirect\0--wait\0", None),
            ("tulle-proxy", None),
            ("", None),
        ] {
            let expected = expected.map(|words| words.iter().map(|w| (*w).to_owned()).collect());
            assert_eq!(options(arguments.as_bytes()), expected, "{arguments:?}");
        }
        assert_eq!(options(b"tulle-proxy\0redirect\0--wait\0\xff"), None);
    }
}
