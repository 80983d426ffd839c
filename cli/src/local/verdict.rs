//! What the control plane says of the user's YAML: it knows what only it acts on, and where that is in
//! force.

use std::{
    fs,
    path::{Path, PathBuf},
};

use notify::{RecursiveMode, Watcher as _};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::{mpsc, watch};

use super::{objects::Note, overview::ObjectLine, system::MOUNTED};

/// What the control plane has written last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    problems: Vec<Problem>,
    objects: Vec<ObjectLine>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Problem {
    file: String,
    #[serde(default)]
    line: usize,
    #[serde(default)]
    object: String,
    #[serde(default)]
    field: Option<String>,
    reason: String,
}

/// Follows what the control plane writes below `output`: each verdict is seen as soon as its file is in
/// place.
///
/// # Errors
/// The folder cannot be made, or the kernel refuses to watch (fs.inotify limits).
pub(super) fn watch(output: &Path) -> Result<watch::Receiver<Verdict>, notify::Error> {
    // There before the control plane is: so no file is ever put where nobody looks.
    let folder = output.join("status");
    fs::create_dir_all(&folder)?;
    let (changed, mut changes) = mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // A full queue says already what there is to say. Reading changes nothing.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            changed.try_send(()).ok();
        }
    })?;
    watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    let (sender, verdicts) = watch::channel(read(&folder, Verdict::default()));
    tokio::spawn(async move {
        while changes.recv().await.is_some() && !sender.is_closed() {
            let last = sender.borrow().clone();
            let now = read(&folder, last);
            sender.send_if_modified(|last| {
                let changed = *last != now;
                *last = now;
                changed
            });
        }
        // The watcher ends with the last reader.
        drop(watcher);
    });
    Ok(verdicts)
}

/// The folder's files; of one that is not there or cannot be read, what was known.
fn read(folder: &Path, last: Verdict) -> Verdict {
    #[derive(Deserialize)]
    struct Problems {
        problems: Vec<Problem>,
    }
    #[derive(Deserialize)]
    struct Objects {
        objects: Vec<ObjectLine>,
    }
    let problems = file::<Problems>(&folder.join("problems.json")).map(|file| file.problems);
    let objects = file::<Objects>(&folder.join("objects.json")).map(|file| file.objects);
    Verdict {
        problems: problems.unwrap_or(last.problems),
        objects: objects.unwrap_or(last.objects),
    }
}

fn file<T: DeserializeOwned>(path: &PathBuf) -> Option<T> {
    let text = fs::read(path).ok()?;
    let unreadable = |error: &serde_json::Error| {
        tracing::warn!(path = %path.display(), %error, "the control plane's verdict cannot be read");
    };
    serde_json::from_slice(&text).inspect_err(unreadable).ok()
}

impl Verdict {
    /// The problems, about files of `directory`. None where `known` says something about the same line
    /// already.
    pub(super) fn problems(&self, directory: &str, known: &[&Note]) -> Vec<Note> {
        let directory = directory.trim_end_matches('/');
        let notes = self.problems.iter().filter_map(|problem| {
            let file = problem.file.strip_prefix(MOUNTED)?;
            let place = format!("{directory}{file}:{}", problem.line);
            let field = problem.field.clone().filter(|field| !field.is_empty());
            // A reason may name another file.
            let message = problem.reason.replace(MOUNTED, directory);
            Some(Note { object: problem.object.clone(), place, field, message })
        });
        notes.filter(|note| known.iter().all(|other| other.place != note.place)).collect()
    }

    /// The objects that have a status; files as the user calls them.
    pub(super) fn objects(&self, directory: &str) -> Vec<ObjectLine> {
        let directory = directory.trim_end_matches('/');
        let known = |object: &ObjectLine| ObjectLine {
            message: object.message.replace(MOUNTED, directory),
            ..object.clone()
        };
        self.objects.iter().map(known).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_problem_is_told_once_and_under_the_name_the_user_knows() {
        let output = tempfile::tempdir().unwrap();
        let said = r#"{"problems": [
            {"file": "/tulle/user/a.yaml", "line": 4, "document": 1, "object": "MeshTLS shop/x",
             "field": "spec.mode", "reason": "unlike /tulle/user/b.yaml:1", "effect": "rejected"},
            {"file": "/tulle/user/a.yaml", "line": 9, "reason": "unknown field"},
            {"file": "/tulle/state/b.yaml", "line": 1, "reason": "ours, not the user's"}]}"#;
        fs::write(output.path().join("problems.json"), said).unwrap();
        let known = Note {
            object: String::new(),
            place: "/home/me/shop/a.yaml:9".into(),
            field: None,
            message: String::new(),
        };
        let verdict = read(output.path(), Verdict::default());
        let found = verdict.problems("/home/me/shop/", &[&known]);
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            ["/home/me/shop/a.yaml:4: MeshTLS shop/x: spec.mode: unlike /home/me/shop/b.yaml:1"]
        );
    }

    #[tokio::test]
    async fn what_is_put_in_place_is_seen_and_what_cannot_be_read_takes_nothing_away() {
        let output = tempfile::tempdir().unwrap();
        let mut verdicts = watch(output.path()).unwrap();
        let put = |text: &str| {
            let temporary = output.path().join("status/.new");
            fs::write(&temporary, text).unwrap();
            fs::rename(&temporary, output.path().join("status/problems.json")).unwrap();
        };
        let count = |n: usize| move |verdict: &Verdict| verdict.problems.len() == n;
        let problem = r#"{"file": "/tulle/user/a.yaml", "reason": "no"}"#;
        for problems in [vec![problem], vec![problem, problem], vec![]] {
            put(&format!("{{\"problems\": [{}]}}", problems.join(",")));
            let seen = verdicts.wait_for(count(problems.len()));
            tokio::time::timeout(Duration::from_secs(10), seen).await.unwrap().unwrap();
        }
        let known = Verdict { problems: Vec::new(), objects: vec![ObjectLine::default()] };
        put("{");
        assert_eq!(read(&output.path().join("status"), known.clone()), known);
    }
}
