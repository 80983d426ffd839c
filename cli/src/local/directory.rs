//! The user's directory: read, watched, read again.
//!
//! The control plane reads the same files by itself; nothing is passed on to it. A document that
//! cannot be read hides no other one, and takes nothing away that was there before: an editor may be
//! in the middle of writing it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{RecursiveMode, Watcher as _};
use serde_json::Value;
use tokio::sync::mpsc;
use tulle_control_plane::files;

use super::objects::{Document, Note};

/// Changes that come together are read together.
const SETTLE: Duration = Duration::from_millis(50);

/// What the directories say at one time.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Content {
    pub(super) documents: Vec<Document>,
    pub(super) problems: Vec<Note>,
}

/// Reads `directories` now and after each change. The receiver gets the whole content, newest only.
///
/// # Errors
/// The kernel refuses to watch (fs.inotify limits).
pub(super) fn watch(directories: Vec<PathBuf>) -> Result<mpsc::Receiver<Content>, notify::Error> {
    let (changed, mut changes) = mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // A full queue says already what there is to say. Reading changes nothing.
        if event.is_ok_and(|event| !event.kind.is_access() || is_write_end(&event.kind)) {
            changed.try_send(()).ok();
        }
    })?;
    for directory in &directories {
        watcher.watch(directory, RecursiveMode::Recursive)?;
    }
    let (send, receive) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut reader = Reader::default();
        let mut last = None;
        loop {
            let content = reader.read(&directories);
            if last.as_ref() != Some(&content) {
                last = Some(content.clone());
                if send.send(content).await.is_err() {
                    break;
                }
            }
            if changes.recv().await.is_none() {
                break;
            }
            tokio::time::sleep(SETTLE).await;
            while changes.try_recv().is_ok() {}
        }
        // The watcher ends with the last reader.
        drop(watcher);
    });
    Ok(receive)
}

fn is_write_end(kind: &notify::EventKind) -> bool {
    use notify::event::{AccessKind, AccessMode, EventKind};
    matches!(kind, EventKind::Access(AccessKind::Close(AccessMode::Write)))
}

/// Remembers what each file said when it could be read.
#[derive(Debug, Default)]
struct Reader {
    good: BTreeMap<PathBuf, Vec<Document>>,
}

impl Reader {
    fn read(&mut self, directories: &[PathBuf]) -> Content {
        let mut content = Content::default();
        let mut good = BTreeMap::new();
        for directory in directories {
            if let Err(error) = fs::read_dir(directory) {
                content.problems.push(problem(directory, 0, format!("cannot be read: {error}")));
            }
            for file in files::below(directory) {
                let (mut documents, problems) = read_file(&file);
                if !problems.is_empty() {
                    let kept = self.good.remove(&file).unwrap_or_default();
                    let kept = kept
                        .into_iter()
                        .filter(|old| !documents.iter().any(|new| identity(new) == identity(old)));
                    documents.extend(kept.collect::<Vec<_>>());
                }
                content.problems.extend(problems);
                content.documents.extend(documents.iter().cloned());
                good.insert(file, documents);
            }
        }
        self.good = good;
        content
    }
}

fn identity(document: &Document) -> [Option<&str>; 3] {
    ["/kind", "/metadata/namespace", "/metadata/name"]
        .map(|pointer| document.value.pointer(pointer).and_then(Value::as_str))
}

fn read_file(path: &Path) -> (Vec<Document>, Vec<Note>) {
    match files::read(path) {
        Ok(text) => parse(path, &text),
        Err(error) => (Vec::new(), vec![problem(path, 0, format!("cannot be read: {error}"))]),
    }
}

/// The documents of a file, each by itself, and what is wrong with the others. The control plane's
/// reader: both see the same.
pub(super) fn parse(path: &Path, text: &[u8]) -> (Vec<Document>, Vec<Note>) {
    let (mut documents, mut problems) = (Vec::new(), Vec::new());
    let values = match files::values(text) {
        Ok(values) => values,
        Err(unreadable) => return (documents, vec![problem(path, 0, unreadable.reason)]),
    };
    for (line, value) in values {
        match value {
            Ok(Value::Null) => {}
            Ok(value) if value.get("kind").and_then(Value::as_str) == Some("List") => {
                let items = value.get("items").and_then(Value::as_array).cloned();
                let items = items.unwrap_or_default().into_iter();
                documents.extend(items.map(|value| Document { value, file: path.into(), line }));
            }
            Ok(value) => documents.push(Document { value, file: path.into(), line }),
            Err(unreadable) => {
                problems.push(problem(path, unreadable.line.unwrap_or(line), unreadable.reason));
            }
        }
    }
    (documents, problems)
}

fn problem(path: &Path, line: usize, message: String) -> Note {
    let place = match line {
        0 => path.display().to_string(),
        line => format!("{}:{line}", path.display()),
    };
    Note { object: String::new(), place, field: None, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_document_hides_no_other_and_takes_nothing_away() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        let object = |name: &str| format!("kind: Pod\nmetadata: {{name: {name}}}\n---\n");
        let mut reader = Reader::default();
        let directories = [dir.path().to_owned()];
        let mut names = |text: String| -> (Vec<String>, usize) {
            fs::write(&file, text).unwrap();
            let content = reader.read(&directories);
            let names = content.documents.iter().map(|d| d.value["metadata"]["name"].to_string());
            (names.collect(), content.problems.len())
        };
        assert_eq!(names(object("a") + &object("b")), (vec!["\"a\"".into(), "\"b\"".into()], 0));
        let broken = object("b") + "kind: [\n---\n" + &object("c");
        let after = names(broken);
        assert_eq!(after, (vec!["\"b\"".into(), "\"c\"".into(), "\"a\"".into()], 1));
        assert_eq!(names(object("c")), (vec!["\"c\"".into()], 0));
    }

    #[test]
    fn problems_name_the_line() {
        let (documents, problems) = parse(Path::new("x.yaml"), b"a: 1\n---\nb: 2\nc: [\n");
        assert_eq!(documents[0].line, 1);
        assert!(problems[0].place.starts_with("x.yaml:"), "{problems:?}");
    }
}
