//! What the control plane says of the user's YAML: it knows what only it acts on, and where that is in
//! force.

use std::{fs, path::Path};

use serde::Deserialize;

use super::{objects::Note, overview::ObjectLine, system::MOUNTED};

#[derive(Deserialize)]
struct Verdict {
    problems: Vec<Problem>,
}

#[derive(Deserialize)]
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

/// The problems that the control plane has written below `output`, about files of `directory`. None
/// before it has written any, and none where `known` says something about the same line already.
pub(super) fn problems(output: &Path, directory: &str, known: &[&Note]) -> Vec<Note> {
    let Ok(text) = fs::read(output.join("status/problems.json")) else { return Vec::new() };
    let Ok(verdict) = serde_json::from_slice::<Verdict>(&text) else {
        tracing::warn!("the control plane's problems.json cannot be read");
        return Vec::new();
    };
    let notes = verdict.problems.into_iter().filter_map(|problem| {
        let file = problem.file.strip_prefix(MOUNTED)?;
        let place = format!("{}{file}:{}", directory.trim_end_matches('/'), problem.line);
        let (object, field) = (problem.object, problem.field.filter(|field| !field.is_empty()));
        // A reason may name another file.
        let message = problem.reason.replace(MOUNTED, directory.trim_end_matches('/'));
        Some(Note { object, place, field, message })
    });
    notes.filter(|note| known.iter().all(|other| other.place != note.place)).collect()
}

/// The objects of which the control plane has written a status below `output`; files as the user calls
/// them.
pub(super) fn objects(output: &Path, directory: &str) -> Vec<ObjectLine> {
    #[derive(Deserialize)]
    struct Statuses {
        objects: Vec<ObjectLine>,
    }
    let Ok(text) = fs::read(output.join("status/objects.json")) else { return Vec::new() };
    match serde_json::from_slice::<Statuses>(&text) {
        Ok(statuses) => {
            let directory = directory.trim_end_matches('/');
            let known = |object: ObjectLine| ObjectLine {
                message: object.message.replace(MOUNTED, directory),
                ..object
            };
            statuses.objects.into_iter().map(known).collect()
        }
        Err(error) => {
            tracing::warn!(%error, "the control plane's objects.json cannot be read");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_once_and_under_the_name_the_user_knows() {
        let output = tempfile::tempdir().unwrap();
        fs::create_dir(output.path().join("status")).unwrap();
        let said = r#"{"problems": [
            {"file": "/tulle/user/a.yaml", "line": 4, "document": 1, "object": "MeshTLS shop/x",
             "field": "spec.mode", "reason": "unlike /tulle/user/b.yaml:1", "effect": "rejected"},
            {"file": "/tulle/user/a.yaml", "line": 9, "reason": "unknown field"},
            {"file": "/tulle/state/b.yaml", "line": 1, "reason": "ours, not the user's"}]}"#;
        fs::write(output.path().join("status/problems.json"), said).unwrap();
        let known = Note {
            object: String::new(),
            place: "/home/me/shop/a.yaml:9".into(),
            field: None,
            message: String::new(),
        };
        let found = problems(output.path(), "/home/me/shop/", &[&known]);
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            ["/home/me/shop/a.yaml:4: MeshTLS shop/x: spec.mode: unlike /home/me/shop/b.yaml:1"]
        );
    }
}
