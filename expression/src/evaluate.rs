//! The value of an expression for one request.

use std::{borrow::Cow, cmp::Ordering};

use crate::{
    compile::{Node, Place},
    operation::{Arithmetic, Relation, Test},
    span,
    variable::{Kind, Side, Variable},
};

/// Bytes of a text that an expression makes.
pub const MAX_RESULT: usize = 4096;

/// What is known of a request. A value must be of its variable's [`Kind`].
pub trait Facts {
    /// `None` if it is not known.
    fn get(&self, variable: Variable) -> Option<Value<'_>>;

    /// A header field, by its name in lower case.
    fn header(&self, side: Side, name: &str) -> Option<Cow<'_, str>>;
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// True or false.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A text.
    Text(Cow<'a, str>),
    /// A time, in nanoseconds.
    Span(i64),
}

/// What only the values can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// A number does not fit into 64 bits.
    #[error("a number is too large")]
    Overflow,
    /// Something is divided by 0.
    #[error("division by 0")]
    Division,
    /// `int()` of a text that is no number.
    #[error("a text is no number")]
    NoNumber,
    /// A text has more than [`MAX_RESULT`] bytes.
    #[error("a text is longer than 4096 bytes")]
    TooLong,
    /// A fact is of another type than its variable.
    #[error("a value is of another type than its name says")]
    Type,
}

type Result<T> = std::result::Result<T, Failed>;

impl Value<'_> {
    /// What is not known counts as this.
    fn nothing(kind: Kind) -> Self {
        match kind {
            Kind::Bool => Self::Bool(false),
            Kind::Int => Self::Int(0),
            Kind::Text => Self::Text(Cow::Borrowed("")),
            Kind::Span => Self::Span(0),
        }
    }
}

impl<'a> Value<'a> {
    /// The same, for longer; a text as [`text`](Self::text) cuts it.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::Bool(truth) => Value::Bool(truth),
            Self::Int(number) => Value::Int(number),
            Self::Span(nanos) => Value::Span(nanos),
            text @ Self::Text(_) => Value::Text(Cow::Owned(text.text().into_owned())),
        }
    }

    /// As a text: of at most [`MAX_RESULT`] bytes, cut between characters.
    pub fn text(self) -> Cow<'a, str> {
        match self {
            Self::Bool(truth) => Cow::Borrowed(if truth { "true" } else { "false" }),
            Self::Int(number) => Cow::Owned(number.to_string()),
            Self::Span(nanos) => Cow::Owned(span::show(nanos)),
            Self::Text(text) if text.len() <= MAX_RESULT => text,
            Self::Text(text) => {
                let cut = text.floor_char_boundary(MAX_RESULT);
                Cow::Owned(text.get(..cut).unwrap_or_default().to_owned())
            }
        }
    }
}

/// The value of a part.
pub(crate) fn value<'a>(node: &'a Node, facts: &'a dyn Facts) -> Result<Value<'a>> {
    Ok(match node {
        Node::Bool(truth) => Value::Bool(*truth),
        Node::Int(number) => Value::Int(*number),
        Node::Span(nanos) => Value::Span(*nanos),
        Node::Text(text) => Value::Text(Cow::Borrowed(text)),
        Node::Place(Place::Variable(variable)) => {
            facts.get(*variable).unwrap_or_else(|| Value::nothing(variable.kind()))
        }
        Node::Place(Place::Header(side, name)) => {
            Value::Text(facts.header(*side, name).unwrap_or_default())
        }
        Node::Negate(of) => match value(of, facts)? {
            Value::Int(number) => Value::Int(number.checked_neg().ok_or(Failed::Overflow)?),
            Value::Span(nanos) => Value::Span(nanos.checked_neg().ok_or(Failed::Overflow)?),
            Value::Bool(_) | Value::Text(_) => return Err(Failed::Type),
        },
        Node::Arithmetic(how, of) => {
            let [left, right] = &**of;
            arithmetic(*how, value(left, facts)?, value(right, facts)?)?
        }
        Node::Choose(of) => {
            let [condition, yes, no] = &**of;
            value(if truth(condition, facts)? { yes } else { no }, facts)?
        }
        Node::Size(of) => {
            let count = text(of, facts)?.chars().count();
            Value::Int(i64::try_from(count).map_err(|_too_large| Failed::Overflow)?)
        }
        Node::Lower(of) => Value::Text(match text(of, facts)? {
            lower if !lower.contains(|c: char| c.is_ascii_uppercase()) => lower,
            mixed => Cow::Owned(mixed.to_ascii_lowercase()),
        }),
        Node::ToText(of) => Value::Text(value(of, facts)?.text()),
        Node::ToInt(of) => match value(of, facts)? {
            Value::Text(text) => Value::Int(text.parse().map_err(|_no_number| Failed::NoNumber)?),
            Value::Int(number) => Value::Int(number),
            Value::Bool(_) | Value::Span(_) => return Err(Failed::Type),
        },
        Node::Not(_)
        | Node::And(_)
        | Node::Or(_)
        | Node::Relation(..)
        | Node::In(..)
        | Node::Has(_)
        | Node::Test(..)
        | Node::Matches(..) => Value::Bool(truth(node, facts)?),
    })
}

/// Whether a part is true.
pub(crate) fn truth(node: &Node, facts: &dyn Facts) -> Result<bool> {
    Ok(match node {
        Node::Not(of) => !truth(of, facts)?,
        Node::And(of) => either(of, facts, false)?,
        Node::Or(of) => either(of, facts, true)?,
        Node::Relation(how, of) => {
            let [left, right] = &**of;
            relation(*how, compared(&value(left, facts)?, &value(right, facts)?)?)
        }
        Node::In(of, list) => {
            let of = value(of, facts)?;
            for one in list {
                if value(one, facts)? == of {
                    return Ok(true);
                }
            }
            false
        }
        Node::Has(Place::Variable(variable)) => facts.get(*variable).is_some(),
        Node::Has(Place::Header(side, name)) => facts.header(*side, name).is_some(),
        Node::Test(how, of) => {
            let [text, part] = &**of;
            let (text, part) = (self::text(text, facts)?, self::text(part, facts)?);
            match how {
                Test::StartsWith => text.starts_with(&*part),
                Test::EndsWith => text.ends_with(&*part),
                Test::Contains => text.contains(&*part),
            }
        }
        Node::Matches(of, pattern) => pattern.is_match(&text(of, facts)?),
        other => match value(other, facts)? {
            Value::Bool(truth) => truth,
            Value::Int(_) | Value::Text(_) | Value::Span(_) => return Err(Failed::Type),
        },
    })
}

/// Of two parts, `decisive` decides, whatever becomes of the other: CEL's `&&` and `||` do not mind order.
fn either([left, right]: &[Node; 2], facts: &dyn Facts, decisive: bool) -> Result<bool> {
    let left = truth(left, facts);
    if left == Ok(decisive) {
        return left;
    }
    let right = truth(right, facts);
    if right == Ok(decisive) { right } else { left.and(right) }
}

fn text<'a>(node: &'a Node, facts: &'a dyn Facts) -> Result<Cow<'a, str>> {
    match value(node, facts)? {
        Value::Text(text) => Ok(text),
        Value::Bool(_) | Value::Int(_) | Value::Span(_) => Err(Failed::Type),
    }
}

fn compared(left: &Value<'_>, right: &Value<'_>) -> Result<Ordering> {
    Ok(match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Int(left), Value::Int(right)) | (Value::Span(left), Value::Span(right)) => {
            left.cmp(right)
        }
        (Value::Text(left), Value::Text(right)) => left.cmp(right),
        _ => return Err(Failed::Type),
    })
}

fn relation(how: Relation, order: Ordering) -> bool {
    match how {
        Relation::Equal => order.is_eq(),
        Relation::NotEqual => order.is_ne(),
        Relation::Less => order.is_lt(),
        Relation::LessOrEqual => order.is_le(),
        Relation::Greater => order.is_gt(),
        Relation::GreaterOrEqual => order.is_ge(),
    }
}

fn arithmetic<'a>(how: Arithmetic, left: Value<'a>, right: Value<'a>) -> Result<Value<'a>> {
    Ok(match (left, right) {
        (Value::Int(left), Value::Int(right)) => Value::Int(number(how, left, right)?),
        (Value::Span(left), Value::Span(right)) => Value::Span(number(how, left, right)?),
        (Value::Text(left), Value::Text(right)) if how == Arithmetic::Add => {
            if left.len() + right.len() > MAX_RESULT {
                return Err(Failed::TooLong);
            }
            Value::Text(left + right)
        }
        _ => return Err(Failed::Type),
    })
}

fn number(how: Arithmetic, left: i64, right: i64) -> Result<i64> {
    let by_zero = matches!(how, Arithmetic::Divide | Arithmetic::Remainder) && right == 0;
    if by_zero {
        return Err(Failed::Division);
    }
    let result = match how {
        Arithmetic::Add => left.checked_add(right),
        Arithmetic::Subtract => left.checked_sub(right),
        Arithmetic::Multiply => left.checked_mul(right),
        Arithmetic::Divide => left.checked_div(right),
        Arithmetic::Remainder => left.checked_rem(right),
    };
    result.ok_or(Failed::Overflow)
}
