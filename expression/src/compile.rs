//! Syntax → an expression of which names and types are right.

mod call;

use std::collections::BTreeSet;

use cel::{
    common::ast::{Expr, LiteralValue, SelectExpr},
    parser::PrattParser,
};
use regex::Regex;

use crate::{
    Bad, MAX_LENGTH, SECRET_HEADERS,
    operation::{Arithmetic, Relation, Test},
    variable::{Kind, Side, Variable},
};

/// Parts within each other: what bounds the stack.
const MAX_DEPTH: u16 = 32;

/// A part of an expression. Its type was checked.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Bool(bool),
    Int(i64),
    Text(String),
    /// In nanoseconds.
    Span(i64),
    Place(Place),
    Not(Box<Self>),
    Negate(Box<Self>),
    And(Box<[Self; 2]>),
    Or(Box<[Self; 2]>),
    Relation(Relation, Box<[Self; 2]>),
    Arithmetic(Arithmetic, Box<[Self; 2]>),
    In(Box<Self>, Vec<Self>),
    Has(Place),
    Choose(Box<[Self; 3]>),
    Test(Test, Box<[Self; 2]>),
    Matches(Box<Self>, Regex),
    Size(Box<Self>),
    Lower(Box<Self>),
    ToText(Box<Self>),
    ToInt(Box<Self>),
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Variable(Variable),
    /// The name is in lower case.
    Header(Side, String),
}

/// What an expression asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Used {
    pub(crate) variables: BTreeSet<Variable>,
    pub(crate) headers: BTreeSet<(Side, String)>,
}

/// A part and its type.
type Typed = (Node, Kind);

/// Reads an expression.
pub(crate) fn read(text: &str) -> Result<(Node, Kind, Used), Bad> {
    if text.len() > MAX_LENGTH {
        return Err(Bad::new(format!(
            "it has {} bytes; at most {MAX_LENGTH} are read",
            text.len()
        )));
    }
    if text.trim().is_empty() {
        return Err(Bad::new("it is empty"));
    }
    let parser = PrattParser::new().max_recursion_depth(MAX_DEPTH).error_recovery_limit(1);
    let tree = parser.parse(text).map_err(|errors| match errors.errors.first() {
        Some(error) => {
            Bad::new(format!("line {}, column {}: {}", error.pos.0, error.pos.1, error.msg))
        }
        None => Bad::new("it is no CEL"),
    })?;
    let mut reading = Reading::default();
    let (node, kind) = reading.node(&tree.expr, 0)?;
    Ok((node, kind, reading.used))
}

/// One expression on its way.
#[derive(Default)]
struct Reading {
    used: Used,
}

impl Reading {
    fn node(&mut self, expr: &Expr, depth: u16) -> Result<Typed, Bad> {
        let depth = depth + 1;
        if depth > MAX_DEPTH {
            return Err(Bad::new(format!("parts are more than {MAX_DEPTH} deep in each other")));
        }
        match expr {
            Expr::Literal(literal) => self::literal(literal),
            Expr::Ident(_) | Expr::Select(_) => self.place(expr),
            Expr::Call(call) => self.call(call, depth),
            Expr::List(_) => Err(Bad::new("a list can stand behind `in` only")),
            Expr::Comprehension(_) => Err(Bad::new(
                "all, exists, exists_one, filter and map are not supported: they are loops",
            )),
            Expr::Map(_) | Expr::Struct(_) => Err(Bad::new("maps and messages cannot be made")),
            Expr::Unspecified => Err(Bad::new("it is no CEL")),
        }
    }

    /// A variable, a header field, or whether one is known.
    fn place(&mut self, expr: &Expr) -> Result<Typed, Bad> {
        if let Expr::Select(SelectExpr { operand, field, test }) = expr
            && (*test || Side::named(&dotted(&operand.expr).unwrap_or_default()).is_some())
        {
            let place = self.selected(&operand.expr, field)?;
            return Ok(match test {
                true => (Node::Has(place), Kind::Bool),
                false => {
                    let kind = place.kind();
                    (Node::Place(place), kind)
                }
            });
        }
        let name = dotted(expr).ok_or_else(|| Bad::new("nothing but a name has fields"))?;
        let place = self.variable(&name)?;
        let kind = place.kind();
        Ok((Node::Place(place), kind))
    }

    fn selected(&mut self, operand: &Expr, field: &str) -> Result<Place, Bad> {
        let outer = dotted(operand).ok_or_else(|| Bad::new("nothing but a name has fields"))?;
        match Side::named(&outer) {
            Some(side) => self.header(side, field),
            None => self.variable(&format!("{outer}.{field}")),
        }
    }

    fn variable(&mut self, name: &str) -> Result<Place, Bad> {
        let Some(variable) = Variable::named(name) else {
            return Err(unknown(name));
        };
        self.used.variables.insert(variable);
        Ok(Place::Variable(variable))
    }

    fn header(&mut self, side: Side, name: &str) -> Result<Place, Bad> {
        let name = name.to_ascii_lowercase();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || name.len() > 128 || !name.bytes().all(plain) {
            return Err(Bad::new(format!("{name:?} is no name of a header field")));
        }
        if SECRET_HEADERS.contains(&&*name) {
            return Err(Bad::new(format!(
                "{name} is a secret, which nothing may be written of; use another header field"
            )));
        }
        self.used.headers.insert((side, name.clone()));
        Ok(Place::Header(side, name))
    }
}

impl Place {
    fn kind(&self) -> Kind {
        match self {
            Self::Variable(variable) => variable.kind(),
            Self::Header(..) => Kind::Text,
        }
    }
}

fn literal(literal: &LiteralValue) -> Result<Typed, Bad> {
    Ok(match literal {
        LiteralValue::Boolean(truth) => (Node::Bool(*truth.inner()), Kind::Bool),
        LiteralValue::Int(number) => (Node::Int(*number.inner()), Kind::Int),
        LiteralValue::String(text) => (Node::Text(text.inner().to_owned()), Kind::Text),
        LiteralValue::Double(_) | LiteralValue::UInt(_) => {
            return Err(Bad::new("numbers have neither a fraction nor a suffix here; write 5"));
        }
        LiteralValue::Bytes(_) => return Err(Bad::new("there are no bytes here; write a text")),
        LiteralValue::Null => {
            return Err(Bad::new("nothing is null here; has(…) tells whether something is known"));
        }
    })
}

/// `a.b.c`, if it is that.
fn dotted(expr: &Expr) -> Option<String> {
    let mut parts = Vec::new();
    let mut expr = expr;
    loop {
        match expr {
            Expr::Ident(name) => parts.push(name.as_str()),
            Expr::Select(select) if !select.test => {
                parts.push(select.field.as_str());
                expr = &select.operand.expr;
                continue;
            }
            _ => return None,
        }
        parts.reverse();
        return Some(parts.join("."));
    }
}

fn unknown(name: &str) -> Bad {
    if Side::named(name).is_some() {
        return Bad::new(format!("write {name}['NAME'] for one header field"));
    }
    let first = name.split('.').next().unwrap_or_default();
    let names = Variable::ALL.iter().map(|variable| variable.name());
    let near = names.filter(|known| known.split('.').next() == Some(first));
    let mut near: Vec<_> = near.collect();
    near.extend(Side::named(&format!("{first}.headers")).map(Side::map));
    let shown = shown(name);
    Bad::new(match near.as_slice() {
        [] => format!("{shown} is not known; docs/logs.md has what is"),
        near => format!("{shown} is not known; there is {}", near.join(", ")),
    })
}

/// What somebody wrote, bounded.
fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(64).collect::<String>())
}
