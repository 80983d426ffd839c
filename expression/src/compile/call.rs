//! Operators and functions.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue};
use regex::RegexBuilder;

use super::{Node, Place, Reading, Typed, dotted, shown};
use crate::{
    Bad,
    operation::{Arithmetic, Relation, Test},
    span,
    variable::{Kind, Side},
};

/// Bytes of a compiled pattern.
const MAX_PATTERN: usize = 64 << 10;
/// What can be called.
const FUNCTIONS: &str =
    "contains, duration, endsWith, has, int, lowerAscii, matches, size, startsWith, string";

impl Reading {
    pub(super) fn call(&mut self, call: &CallExpr, depth: u16) -> Result<Typed, Bad> {
        let name = call.func_name.as_str();
        // `x.size()` is `size(x)`.
        let args: Vec<&IdedExpr> = call.target.as_deref().into_iter().chain(&call.args).collect();
        if let [of, list] = args[..]
            && name == "@in"
        {
            return self.within(&of.expr, &list.expr, depth);
        }
        if let [of, key] = args[..]
            && name == "_[_]"
        {
            let place = self.indexed(&of.expr, &key.expr)?;
            return Ok((Node::Place(place), Kind::Text));
        }
        if let [of, pattern] = args[..]
            && name == "matches"
        {
            return self.matches(&of.expr, &pattern.expr, depth);
        }
        if let [text] = args[..]
            && name == "duration"
        {
            return duration(&text.expr);
        }
        let nodes = args.iter().map(|arg| self.node(&arg.expr, depth));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        typed(name, nodes)
    }

    /// `x in [1, 2]`, or `'x' in request.headers`.
    fn within(&mut self, of: &Expr, list: &Expr, depth: u16) -> Result<Typed, Bad> {
        if let Some(side) = dotted(list).and_then(|name| Side::named(&name)) {
            let name = text(of).ok_or_else(|| {
                Bad::new(format!("write the name of a header field before `in {}`", side.map()))
            })?;
            return Ok((Node::Has(self.header(side, name)?), Kind::Bool));
        }
        let Expr::List(list) = list else {
            return Err(Bad::new("behind `in` there is a list, ['a', 'b'], or the header fields"));
        };
        let (of, kind) = self.node(of, depth)?;
        let each = list.elements.iter().map(|one| {
            let (node, of) = self.node(&one.expr, depth)?;
            same("in", kind, of).map(|()| node)
        });
        Ok((Node::In(Box::new(of), each.collect::<Result<_, _>>()?), Kind::Bool))
    }

    /// `request.headers['x']`.
    fn indexed(&mut self, of: &Expr, key: &Expr) -> Result<Place, Bad> {
        let side = dotted(of).and_then(|name| Side::named(&name)).ok_or_else(|| {
            Bad::new("nothing but request.headers and response.headers has entries")
        })?;
        let name = text(key).ok_or_else(|| {
            Bad::new(format!("the name in {}[…] must be written out", side.map()))
        })?;
        self.header(side, name)
    }

    fn matches(&mut self, of: &Expr, pattern: &Expr, depth: u16) -> Result<Typed, Bad> {
        let pattern = text(pattern)
            .ok_or_else(|| Bad::new("the pattern of matches() must be written out"))?;
        let (of, kind) = self.node(of, depth)?;
        same("matches", Kind::Text, kind)?;
        let mut built = RegexBuilder::new(pattern);
        let built = built.size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN).build();
        let built = built.map_err(|error| {
            // A syntax error is drawn on several lines, the last of which says it.
            let said = error.to_string();
            let said = said.lines().next_back().unwrap_or_default().trim_start_matches("error: ");
            Bad::new(format!("{} is no pattern that can be used: {said}", shown(pattern)))
        })?;
        Ok((Node::Matches(Box::new(of), built), Kind::Bool))
    }
}

/// What a call of other values is.
fn typed(name: &str, args: Vec<Typed>) -> Result<Typed, Bad> {
    let mut args = args.into_iter();
    match (args.next(), args.next(), args.next(), args.next()) {
        (Some((of, kind)), None, ..) => one(name, Box::new(of), kind),
        (Some((left, of)), Some((right, other)), None, _) => {
            two(name, Box::new([left, right]), of, other)
        }
        (Some((condition, what)), Some((yes, of)), Some((no, other)), None) if name == "_?_:_" => {
            same("?", Kind::Bool, what)?;
            same(":", of, other)?;
            Ok((Node::Choose(Box::new([condition, yes, no])), of))
        }
        _ => Err(no_function(name)),
    }
}

fn one(name: &str, of: Box<Node>, kind: Kind) -> Result<Typed, Bad> {
    let expects = |wanted| same(name, wanted, kind);
    Ok(match (name, kind) {
        ("!_", _) => (expects(Kind::Bool).map(|()| Node::Not(of))?, Kind::Bool),
        ("-_", Kind::Int | Kind::Span) => (Node::Negate(of), kind),
        ("size", _) => (expects(Kind::Text).map(|()| Node::Size(of))?, Kind::Int),
        ("lowerAscii", _) => (expects(Kind::Text).map(|()| Node::Lower(of))?, Kind::Text),
        ("string", _) => (Node::ToText(of), Kind::Text),
        ("int", Kind::Text | Kind::Int) => (Node::ToInt(of), Kind::Int),
        ("-_" | "int", _) => {
            return Err(Bad::new(format!("{} cannot be {}", said(name), kind.told())));
        }
        _ => return Err(no_function(name)),
    })
}

fn two(name: &str, both: Box<[Node; 2]>, left: Kind, right: Kind) -> Result<Typed, Bad> {
    if let Some(relation) = Relation::named(name) {
        same(name, left, right)?;
        return Ok((Node::Relation(relation, both), Kind::Bool));
    }
    if let Some(test) = Test::named(name) {
        same(name, Kind::Text, left)?;
        same(name, Kind::Text, right)?;
        return Ok((Node::Test(test, both), Kind::Bool));
    }
    if let Some(arithmetic) = Arithmetic::named(name) {
        same(name, left, right)?;
        let fits = match arithmetic {
            Arithmetic::Add => left != Kind::Bool,
            Arithmetic::Subtract => matches!(left, Kind::Int | Kind::Span),
            Arithmetic::Multiply | Arithmetic::Divide | Arithmetic::Remainder => left == Kind::Int,
        };
        if !fits {
            let what = left.told();
            return Err(Bad::new(format!("{} does not work on {what}", said(name))));
        }
        return Ok((Node::Arithmetic(arithmetic, both), left));
    }
    let node = match name {
        "_&&_" => Node::And(both),
        "_||_" => Node::Or(both),
        _ => return Err(no_function(name)),
    };
    same(name, Kind::Bool, left)?;
    same(name, Kind::Bool, right)?;
    Ok((node, Kind::Bool))
}

fn duration(of: &Expr) -> Result<Typed, Bad> {
    let text = text(of).ok_or_else(|| Bad::new("write duration('200ms')"))?;
    let nanos = span::parse(text).ok_or_else(|| {
        Bad::new(format!("{} is no duration; write for example 200ms", shown(text)))
    })?;
    Ok((Node::Span(nanos), Kind::Span))
}

/// A text that is written out.
fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

fn same(name: &str, wanted: Kind, found: Kind) -> Result<(), Bad> {
    if wanted == found {
        return Ok(());
    }
    let (name, wanted, found) = (said(name), wanted.told(), found.told());
    Err(Bad::new(format!("{name} wants {wanted}, and gets {found}")))
}

/// An operator as people write it.
fn said(name: &str) -> &str {
    name.trim_matches('_')
}

fn no_function(name: &str) -> Bad {
    match name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        true => Bad::new(format!(
            "there is no function {} of these values; there is {FUNCTIONS}",
            shown(name)
        )),
        false => Bad::new(format!("{} is not supported", shown(said(name)))),
    }
}
