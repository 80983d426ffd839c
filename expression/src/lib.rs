//! Expressions over what is known of a request or connection, in a part of CEL
//! (<https://github.com/google/cel-spec>): what a log's filter and more fields of it are written in.
//!
//! ```text
//! text ──► [ syntax ], the crate `cel` ──► [ compile ]: names and types are right ──► [ evaluate ] over Facts
//! ```
//!
//! Invariants. Reading happens where a policy is checked and where a configuration comes, never per request.
//! An expression that was read has one type and names nothing that is not known, so that evaluating it can fail for few
//! reasons ([`Failed`]). Evaluating ends: there are no loops, each part is visited once, texts that it makes are
//! [bounded](MAX_RESULT). What is not known of a request is the empty text, 0 or false, and `has()` tells.

mod compile;
mod evaluate;
mod operation;
mod span;
pub mod taken;
mod variable;

use std::{borrow::Cow, fmt};

use self::compile::{Node, Used};
pub use self::{
    evaluate::{Facts, Failed, MAX_RESULT, Value},
    variable::{Kind, Side, Variable},
};

/// Bytes of an expression.
pub const MAX_LENGTH: usize = 1024;
/// Header fields that nobody writes into a log: they are secrets.
pub const SECRET_HEADERS: [&str; 5] =
    ["authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key"];

/// An expression that was read.
#[derive(Clone)]
pub struct Expression {
    text: String,
    node: Node,
    kind: Kind,
    used: Used,
}

/// Why a text is no expression: what is wrong, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Bad(String);

impl Bad {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl Expression {
    /// Reads one of any type.
    ///
    /// # Errors
    /// [`Bad`] if it is too long, no CEL, uses what is not here of CEL, or does not fit together.
    pub fn parse(text: &str) -> Result<Self, Bad> {
        let (node, kind, used) = compile::read(text)?;
        Ok(Self { text: text.to_owned(), node, kind, used })
    }

    /// Reads one that is true or false.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and if it is of another type.
    pub fn filter(text: &str) -> Result<Self, Bad> {
        let read = Self::parse(text)?;
        if read.kind == Kind::Bool {
            return Ok(read);
        }
        Err(Bad::new(format!("it is {}, and must be true or false", read.kind.told())))
    }

    /// What it comes to.
    ///
    /// # Errors
    /// [`Failed`]: what only the values can show.
    pub fn evaluate<'a>(&'a self, facts: &'a dyn Facts) -> Result<Value<'a>, Failed> {
        evaluate::value(&self.node, facts)
    }

    /// Whether it is true; for a [`filter`](Self::filter).
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn holds(&self, facts: &dyn Facts) -> Result<bool, Failed> {
        evaluate::truth(&self.node, facts)
    }

    /// Its value as a text of at most [`MAX_RESULT`] bytes; `None` if it is empty.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn label<'a>(&'a self, facts: &'a dyn Facts) -> Result<Option<Cow<'a, str>>, Failed> {
        let text = self.evaluate(facts)?.text();
        Ok((!text.is_empty()).then_some(text))
    }

    /// The type of what it comes to.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it asks for this.
    pub fn uses(&self, variable: Variable) -> bool {
        self.used.variables.contains(&variable)
    }

    /// Names of the header fields that it asks for, in lower case.
    pub fn headers(&self, side: Side) -> impl Iterator<Item = &str> {
        let all = self.used.headers.iter();
        all.filter(move |(of, _)| *of == side).map(|(_, name)| name.as_str())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

#[cfg(test)]
mod tests;
