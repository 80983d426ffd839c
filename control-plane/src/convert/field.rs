//! Where in an object: `spec.ports[0].port`.

use std::fmt;

/// One step into an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Into the field of this name.
    Key(String),
    /// Into the item at this index.
    Index(usize),
}

/// The way to a field. Displays as `spec.ports[0].port`, and as nothing for the whole object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Field(Vec<Step>);

impl Field {
    /// The steps from the object's root.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The field of this name inside.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    /// The item at this index inside.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    /// The same place seen from further out.
    #[must_use]
    pub fn below(&self, outer: &[Step]) -> Self {
        Self(outer.iter().chain(&self.0).cloned().collect())
    }

    fn with(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }
}

impl From<Vec<Step>> for Field {
    fn from(steps: Vec<Step>) -> Self {
        Self(steps)
    }
}

impl From<&str> for Field {
    /// Reads `spec.ports[0].port`.
    fn from(path: &str) -> Self {
        let parts = path.split(['.', '[']).filter(|part| !part.is_empty());
        let step = |part: &str| match part.strip_suffix(']').map(str::parse) {
            Some(Ok(index)) => Step::Index(index),
            _ => Step::Key(part.to_owned()),
        };
        Self(parts.map(step).collect())
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                // A key with a dot in it (labels) would read as two steps.
                Step::Key(key) if key.contains(['.', '[', '/']) => write!(f, "[{key:?}]")?,
                Step::Key(key) if at == 0 => write!(f, "{}", key.escape_default())?,
                Step::Key(key) => write!(f, ".{}", key.escape_default())?,
            }
        }
        Ok(())
    }
}
