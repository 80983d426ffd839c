//! Which files count, and what they look like from outside.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Deep enough for any layout of a person, and an end for any accident.
const MAX_DEPTH: usize = 32;

/// What a file looks like from outside; differs whenever its content may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: (i64, i64),
    inode: u64,
    length: u64,
}

/// What a file looks like now; `None` if there is no regular file (a pipe would block its reader).
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some(Stamp {
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        inode: metadata.ino(),
        length: metadata.len(),
    })
}

/// Whether `path` is a YAML or JSON file for us: not hidden, nor in a hidden folder, nor the kind
/// of temporary file that editors write (`.x.swp`, `#x#`, `x~`, and by their endings `x.yaml.tmp`).
pub(super) fn is_candidate(path: &Path, root: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let inside = path.strip_prefix(root).unwrap_or(path);
    matches!(extension, Some("yaml" | "yml" | "json"))
        && !name.starts_with('#')
        && inside.components().all(|part| !part.as_os_str().as_encoded_bytes().starts_with(b"."))
}

/// Reports every file that counts, but for those in folders that stand `apart`. Links to files are followed, links to folders are not, so that
/// there are no circles.
pub(super) fn walk(
    root: &Path,
    apart: &impl Fn(&Path) -> bool,
    report: &mut impl FnMut(PathBuf, Stamp),
) {
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if !hidden && depth < MAX_DEPTH && !apart(&path) {
                    folders.push((path, depth + 1));
                }
            } else if is_candidate(&path, root)
                && let Some(stamp) = stamp(&path)
            {
                report(path, stamp);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_files_do_not_count() {
        let counts = |path: &str| is_candidate(Path::new(path), Path::new("/d/.state"));
        assert!(counts("/d/.state/a.yaml"));
        assert!(counts("/d/.state/x/a.json"));
        for path in ["a.yaml~", ".a.yaml.swp", ".a.yaml", "#a.yaml", "a.yaml.tmp", ".git/a.yaml"] {
            assert!(!counts(&format!("/d/.state/{path}")), "{path}");
        }
    }
}
