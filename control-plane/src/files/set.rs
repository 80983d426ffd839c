//! What all files together say: which object is in force, who else claims its name. Pure.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::Arc,
};

use super::parse::{Located, Parsed};
use crate::{
    problem::{Effect, FieldLines, Place, Problem},
    world::{
        Event,
        objects::{Object, ObjectRef},
    },
};

/// Which file: the index of its directory on the command line, and its path.
#[derive(Debug, Clone)]
pub(super) struct FileId {
    pub(super) directory: usize,
    pub(super) path: Arc<Path>,
}

impl FileId {
    /// Byte by byte: paths compare component by component, which was half of the work on 5,000 files at rest.
    fn key(&self) -> (usize, &[u8]) {
        (self.directory, self.path.as_os_str().as_encoded_bytes())
    }
}

impl Ord for FileId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for FileId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for FileId {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for FileId {}

/// Who says what about an object, the one that counts first.
type Claims = BTreeMap<Claim, Object>;

/// All files.
///
/// Of several objects of the same kind and name, the one in the latest directory is in force, and
/// within a directory the first one in the order of paths and documents.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: BTreeMap<FileId, File>,
    claims: HashMap<ObjectRef, Claims>,
    /// Objects that more than one claims to be.
    contested: BTreeSet<ObjectRef>,
    in_force: HashMap<ObjectRef, Object>,
    places: Vec<(ObjectRef, Option<Place>)>,
    /// Whether any file was taken in since that was asked last.
    touched: bool,
}

#[derive(Debug, Default)]
struct File {
    problems: Vec<Problem>,
    claims: BTreeMap<ObjectRef, Vec<Claim>>,
}

/// A file's claim to say what an object is; the least one wins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    /// The later the directory, the less.
    directory: std::cmp::Reverse<usize>,
    /// Not what the file says now, but what it said when it could last be read. Whoever says
    /// something now comes first: the object may have moved to another file.
    remembered: bool,
    path: Arc<Path>,
    document: usize,
    /// Position in the file, because a `List` is several objects in one document.
    position: usize,
    line: usize,
    fields: Arc<FieldLines>,
}

impl Claim {
    fn place(&self) -> Place {
        Place {
            file: Arc::clone(&self.path),
            document: self.document,
            line: self.line,
            fields: Arc::clone(&self.fields),
        }
    }
}

impl Files {
    /// Takes in what a file says now, and returns what that changes.
    pub(super) fn load(&mut self, id: &FileId, parsed: Parsed) -> Vec<Event> {
        let before = self.take(id);
        let mut touched: BTreeSet<ObjectRef> = before.keys().cloned().collect();
        let mut file = File { problems: parsed.problems, claims: BTreeMap::new() };
        for (position, located) in parsed.objects.into_iter().enumerate() {
            let reference = located.object.reference();
            let claim = claim(id, position, &located);
            touched.insert(reference.clone());
            self.claim(&mut file, reference, claim, located.object);
        }
        for (reference, claims) in before {
            let kept = parsed.unreadable || parsed.rejected.contains(&reference);
            if !kept || file.claims.contains_key(&reference) {
                continue;
            }
            // Of duplicates in the file, the one that counted.
            if let Some((claim, object)) = claims.into_iter().next() {
                let remembered = Claim { remembered: true, ..claim };
                self.claim(&mut file, reference, remembered, object);
            }
        }
        self.files.insert(id.clone(), file);
        self.settle(touched)
    }

    /// A file has gone, perhaps only to come back: editors move files away before they write them
    /// anew. Its objects give way to any other that claims to be them.
    pub(super) fn fade(&mut self, id: &FileId) -> Vec<Event> {
        self.load(id, Parsed { unreadable: true, ..Parsed::default() })
    }

    /// A file has gone for good.
    pub(super) fn remove(&mut self, id: &FileId) -> Vec<Event> {
        let touched = self.take(id).into_keys().collect();
        self.settle(touched)
    }

    /// The files that are known.
    pub(super) fn ids(&self) -> impl Iterator<Item = &FileId> {
        self.files.keys()
    }

    /// Whether any file came, changed or went since it was asked last.
    pub(super) fn take_touched(&mut self) -> bool {
        std::mem::take(&mut self.touched)
    }

    /// Where objects that refer to others stand now, `None` if they have gone: what has changed
    /// since it was asked last.
    pub(super) fn take_places(&mut self) -> Vec<(ObjectRef, Option<Place>)> {
        std::mem::take(&mut self.places)
    }

    /// Everything that is wrong, by file and line.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<_> =
            self.files.values().flat_map(|file| &file.problems).cloned().collect();
        for reference in &self.contested {
            let claims = self.claims.get(reference);
            problems.extend(claims.into_iter().flat_map(|claims| duplicates(reference, claims)));
        }
        problems.sort();
        problems
    }

    fn claim(&mut self, file: &mut File, reference: ObjectRef, claim: Claim, object: Object) {
        file.claims.entry(reference.clone()).or_default().push(claim.clone());
        self.claims.entry(reference).or_default().insert(claim, object);
    }

    /// Takes a file out, with the objects that it claimed.
    fn take(&mut self, id: &FileId) -> BTreeMap<ObjectRef, Claims> {
        let mut taken = BTreeMap::new();
        let claimed = self.files.remove(id).map(|file| file.claims).unwrap_or_default();
        for (reference, claims) in claimed {
            let Some(all) = self.claims.get_mut(&reference) else {
                continue;
            };
            let objects: Claims = claims
                .into_iter()
                .filter_map(|claim| all.remove(&claim).map(|object| (claim, object)))
                .collect();
            if all.is_empty() {
                self.claims.remove(&reference);
            }
            taken.insert(reference, objects);
        }
        taken
    }

    /// The events by which the touched objects come into or go out of force.
    fn settle(&mut self, touched: BTreeSet<ObjectRef>) -> Vec<Event> {
        self.touched = true;
        let mut events = Vec::new();
        for reference in touched {
            if self.claims.get(&reference).is_some_and(|claims| claims.len() > 1) {
                self.contested.insert(reference.clone());
            } else {
                self.contested.remove(&reference);
            }
            let winner = self.claims.get(&reference).and_then(|claims| claims.iter().next());
            if reference.kind.refers() {
                let place = winner.map(|(claim, _)| claim.place());
                self.places.push((reference.clone(), place));
            }
            match winner.map(|(_, object)| object) {
                Some(winner) if self.in_force.get(&reference) == Some(winner) => {}
                Some(winner) => {
                    events.push(Event::Apply(winner.clone()));
                    self.in_force.insert(reference, winner.clone());
                }
                None => {
                    if self.in_force.remove(&reference).is_some() {
                        events.push(Event::Delete(reference));
                    }
                }
            }
        }
        events
    }
}

fn claim(id: &FileId, position: usize, located: &Located) -> Claim {
    Claim {
        directory: std::cmp::Reverse(id.directory),
        remembered: false,
        path: Arc::clone(&id.path),
        document: located.document,
        position,
        line: located.line,
        fields: Arc::clone(&located.fields),
    }
}

/// Within one directory a name is there once; a later directory may replace what an earlier one has.
fn duplicates(reference: &ObjectRef, claims: &Claims) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut first: Option<&Claim> = None;
    for claim in claims.keys().filter(|claim| !claim.remembered) {
        let Some(winner) = first.filter(|first| first.directory == claim.directory) else {
            first = Some(claim);
            continue;
        };
        problems.push(Problem {
            file: claim.path.to_path_buf(),
            line: Some(claim.line),
            document: Some(claim.document),
            object: reference.to_string(),
            field: "metadata.name".to_owned(),
            reason: format!(
                "is there already, at {}:{}, which is the one in force; remove one of them",
                winner.path.display(),
                winner.line
            ),
            effect: Effect::Rejected,
            // The object that is meant is the other one, and in force.
            about: None,
        });
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::parse::parse;

    fn id(directory: usize, path: &str) -> FileId {
        FileId { directory, path: Path::new(path).into() }
    }

    fn load(files: &mut Files, id: &FileId, text: &str) -> Vec<String> {
        let parsed = parse(&id.path, text.as_bytes());
        files.load(id, parsed).iter().map(describe).collect()
    }

    fn describe(event: &Event) -> String {
        match event {
            Event::Apply(object) => format!("+{}", object.name()),
            Event::Delete(reference) => format!("-{}", reference.name),
        }
    }

    fn namespace(name: &str, label: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{l: {label:?}}}}}\n"
        )
    }

    #[test]
    fn only_changes_are_events() {
        let mut files = Files::default();
        let a = id(0, "a.yaml");
        let both = namespace("x", "1") + &namespace("y", "1");
        assert_eq!(load(&mut files, &a, &both), ["+x", "+y"]);
        assert_eq!(load(&mut files, &a, &both), [""; 0]);
        assert_eq!(load(&mut files, &a, &(namespace("x", "2") + &namespace("y", "1"))), ["+x"]);
        assert_eq!(load(&mut files, &a, &namespace("x", "2")), ["-y"]);
        assert_eq!(files.remove(&a).iter().map(describe).collect::<Vec<_>>(), ["-x"]);
    }

    #[test]
    fn a_broken_file_keeps_what_it_said() {
        let mut files = Files::default();
        let a = id(0, "a.yaml");
        load(&mut files, &a, &(namespace("x", "1") + &namespace("y", "1")));
        let broken = namespace("x", "2") + "---\nkind: {";
        assert_eq!(load(&mut files, &a, &broken), ["+x"]);
        assert_eq!(files.problems().len(), 1);
        assert_eq!(load(&mut files, &a, &namespace("x", "2")), ["-y"]);
        assert_eq!(files.problems(), []);
    }

    #[test]
    fn the_first_in_a_directory_wins_and_the_other_is_named() {
        let mut files = Files::default();
        assert_eq!(load(&mut files, &id(0, "b.yaml"), &namespace("x", "b")), ["+x"]);
        assert_eq!(load(&mut files, &id(0, "a.yaml"), &namespace("x", "a")), ["+x"]);
        let problem = files.problems().remove(0);
        assert_eq!(problem.file, Path::new("b.yaml"));
        assert!(problem.reason.contains("at a.yaml:2"), "{}", problem.reason);
        files.remove(&id(0, "a.yaml"));
        assert_eq!(files.problems(), []);
    }

    #[test]
    fn a_later_directory_wins_without_a_word() {
        let mut files = Files::default();
        load(&mut files, &id(1, "z.yaml"), &namespace("x", "later"));
        assert_eq!(load(&mut files, &id(0, "a.yaml"), &namespace("x", "earlier")), [""; 0]);
        assert_eq!(files.problems(), []);
        files.remove(&id(1, "z.yaml"));
        assert_eq!(files.in_force.len(), 1);
    }

    #[test]
    fn a_renamed_file_changes_nothing() {
        let mut files = Files::default();
        load(&mut files, &id(0, "a.yaml"), &namespace("x", "1"));
        assert_eq!(files.fade(&id(0, "a.yaml")), []);
        assert_eq!(load(&mut files, &id(0, "b.yaml"), &namespace("x", "1")), [""; 0]);
        assert_eq!(files.problems(), []);
        assert_eq!(files.remove(&id(0, "a.yaml")), []);
    }
}
