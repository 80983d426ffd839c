//! What is wrong with what somebody wrote: named with file, line, field and reason.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;

use crate::world::objects::ObjectRef;

/// Something wrong with a document. Orders by file and line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The file; empty for an object of the API server.
    pub file: PathBuf,
    /// Line in the file, from 1; `None` if it concerns the whole file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Document in the file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<usize>,
    /// The object, `Service shop/reviews`; empty if the document does not say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// The field, `spec.ports[0].port`; empty if it concerns the whole object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What is wrong, and what would be right.
    pub reason: String,
    /// What it means for the mesh.
    pub effect: Effect,
    /// The object of the world that it is about, if it is one.
    #[serde(skip)]
    pub about: Option<ObjectRef>,
}

/// What is wrong with an object that only the rest of the world can tell: it refers to what is not
/// there, or another one is in its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The field.
    pub field: String,
    /// As in [`Problem`].
    pub reason: String,
}

impl Complaint {
    /// As a problem of `object`, which stands there.
    pub fn at(self, object: &ObjectRef, place: Option<&Place>) -> Problem {
        Problem {
            file: place.map(|place| place.file.to_path_buf()).unwrap_or_default(),
            line: place.map(|place| place.line_of(&self.field)),
            document: place.map(|place| place.document),
            object: object.to_string(),
            field: self.field,
            reason: self.reason,
            effect: Effect::Applied,
            about: Some(object.clone()),
        }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

/// Where an object stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// As in [`Problem`].
    pub document: usize,
    /// As in [`Problem`].
    pub line: usize,
    /// The lines of its fields, of objects that refer to others.
    pub fields: Arc<FieldLines>,
}

/// On which line which field of an object stands.
pub type FieldLines = BTreeMap<String, usize>;

impl Place {
    /// The line of a field; of one that is not there, the line of what it would be in.
    pub fn line_of(&self, field: &str) -> usize {
        let ends = field.match_indices(['.', '[']).map(|(at, _)| at).chain([field.len()]);
        let mut outer =
            ends.collect::<Vec<_>>().into_iter().rev().filter_map(|end| field.get(..end));
        outer.find_map(|field| self.fields.get(field).copied()).unwrap_or(self.line)
    }
}

/// What a problem means for the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// The object does not apply. If it did before, what it said then is still in force.
    Rejected,
    /// The object applies, without the part that is named.
    Applied,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        let place = format!("{}{line}", self.file.display());
        let parts = [&place, &self.object, &self.field, &self.reason].into_iter();
        let parts: Vec<_> = parts.filter(|part| !part.is_empty()).map(String::as_str).collect();
        f.write_str(&parts.join(": "))
    }
}
