//! What is wrong with what somebody wrote: named with file, line, field and reason.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;

use crate::files::Text;

/// Something wrong with a document. Orders by file and line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The file.
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
    pub fn at(self, object: &str, place: Option<&Place>) -> Problem {
        Problem {
            file: place.map(|place| place.file.to_path_buf()).unwrap_or_default(),
            line: place.map(|place| place.text.line_of(&self.field).unwrap_or(place.line)),
            document: place.map(|place| place.document),
            object: object.to_owned(),
            field: self.field,
            reason: self.reason,
            effect: Effect::Applied,
        }
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
    /// What it says there.
    pub text: Arc<Text>,
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
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        for part in [&self.object, &self.field].into_iter().filter(|part| !part.is_empty()) {
            write!(f, ": {part}")?;
        }
        write!(f, ": {}", self.reason)
    }
}
