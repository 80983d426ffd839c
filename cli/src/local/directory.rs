//! The user's directory: read, watched, read again.
//!
//! The control plane reads the same files by itself; nothing is passed on to it. A document that
//! cannot be read hides no other one, and takes nothing away that was there before: an editor may be
//! in the middle of writing it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{RecursiveMode, Watcher as _};
use serde::Deserialize as _;
use serde_json::Value;
use tokio::sync::mpsc;

use super::objects::{Document, Note};

/// Larger files are refused.
const MAX_FILE: u64 = 10 << 20;
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
            let mut files = Vec::new();
            if let Err(error) = files_below(directory, &mut files) {
                content.problems.push(problem(directory, 0, format!("cannot be read: {error}")));
            }
            files.sort();
            for file in files {
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

fn files_below(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(".");
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            files_below(&path, files)?;
        } else if matches!(path.extension().and_then(|e| e.to_str()), Some("yaml" | "yml" | "json"))
        {
            files.push(path);
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> (Vec<Document>, Vec<Note>) {
    let text = match fs::metadata(path).and_then(|metadata| {
        if metadata.len() > MAX_FILE {
            return Err(io::Error::other(format!("larger than {MAX_FILE} bytes")));
        }
        fs::read_to_string(path)
    }) {
        Ok(text) => text,
        Err(error) => return (Vec::new(), vec![problem(path, 0, error.to_string())]),
    };
    parse(path, &text)
}

/// Splits a file into documents and reads each by itself.
pub(super) fn parse(path: &Path, text: &str) -> (Vec<Document>, Vec<Note>) {
    let (mut documents, mut problems) = (Vec::new(), Vec::new());
    for (line, part) in split(text) {
        let read = serde_yaml_ng::Value::deserialize(serde_yaml_ng::Deserializer::from_str(&part))
            .and_then(serde_yaml_ng::from_value::<Value>);
        match read {
            Ok(Value::Null) => {}
            Ok(value) if value.get("kind").and_then(Value::as_str) == Some("List") => {
                let items = value.get("items").and_then(Value::as_array).cloned();
                let items = items.unwrap_or_default().into_iter();
                documents.extend(items.map(|value| Document { value, file: path.into(), line }));
            }
            Ok(value) => documents.push(Document { value, file: path.into(), line }),
            Err(error) => {
                let at = error.location().map_or(0, |location| location.line().saturating_sub(1));
                let message = error.to_string();
                // The line within the document would be taken for the one in the file.
                let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
                problems.push(problem(path, line + at, message));
            }
        }
    }
    (documents, problems)
}

/// Documents with the line each begins on.
fn split(text: &str) -> Vec<(usize, String)> {
    let mut parts = vec![(1, String::new())];
    for (index, line) in text.lines().enumerate() {
        if line == "---" || line.starts_with("--- ") {
            parts.push((index + 2, String::new()));
        } else if let Some((_, part)) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    parts
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
        let (documents, problems) = parse(Path::new("x.yaml"), "a: 1\n---\nb: 2\nc: [\n");
        assert_eq!(documents[0].line, 1);
        assert!(problems[0].place.starts_with("x.yaml:"), "{problems:?}");
    }
}
