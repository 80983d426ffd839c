//! Is it a regular expression for RE2, too?
//!
//! Envoy and gRPC compile expressions with RE2, our proxy with the crate `regex`, whose syntax came from RE2
//! and has grown since. What RE2 refuses, those clients would reject with the whole route; what it reads
//! otherwise would send requests elsewhere. Such expressions are found by their syntax tree.
//!
//! RE2's syntax: <https://github.com/google/re2/wiki/Syntax>. The rows of the test were put to Envoy 1.40.

use regex_syntax::ast::{
    self, AssertionKind, Ast, ClassSetBinaryOp, ClassSetItem, ClassUnicode, ClassUnicodeKind, Flag,
    Flags, FlagsItemKind, GroupKind, HexLiteralKind, Literal, LiteralKind, Repetition,
    RepetitionKind, RepetitionRange, Span, parse::Parser,
};

/// RE2's bound on repetitions, also where they are nested.
const MOST_REPEATED: u32 = 1000;

/// RE2's classes: general categories, and the scripts that are likely in a header or path.
const CATEGORIES: [&str; 35] = [
    "C", "Cc", "Cf", "Co", "Cs", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N",
    "Nd", "Nl", "No", "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So",
    "Z", "Zl", "Zs",
];
const SCRIPTS: [&str; 20] = [
    "Arabic",
    "Armenian",
    "Bengali",
    "Cyrillic",
    "Devanagari",
    "Ethiopic",
    "Georgian",
    "Greek",
    "Gujarati",
    "Han",
    "Hangul",
    "Hebrew",
    "Hiragana",
    "Kannada",
    "Katakana",
    "Khmer",
    "Latin",
    "Tamil",
    "Telugu",
    "Thai",
];

/// Why RE2 refuses `source`, or reads it otherwise; `None` if it does neither. Whether `source` is a
/// regular expression at all, [`Regex::new`](super::Regex::new) says.
pub fn beyond_re2(source: &str) -> Option<String> {
    if source.is_empty() {
        return Some("it is empty".to_owned());
    }
    // What cannot be parsed is not for us to judge.
    let tree = Parser::new().parse(source).ok()?;
    ast::visit(&tree, Finder { source, repeated: vec![1] }).err()
}

struct Finder<'a> {
    source: &'a str,
    /// How often what is looked at is repeated, for each repetition around it.
    repeated: Vec<u32>,
}

impl ast::Visitor for Finder<'_> {
    type Output = ();
    type Err = String;

    fn finish(self) -> Result<(), String> {
        Ok(())
    }

    fn visit_pre(&mut self, tree: &Ast) -> Result<(), String> {
        match tree {
            Ast::Flags(set) => self.flags(&set.flags),
            Ast::Literal(literal) => self.literal(literal),
            Ast::Assertion(assertion) => match assertion.kind {
                AssertionKind::StartLine
                | AssertionKind::EndLine
                | AssertionKind::StartText
                | AssertionKind::EndText
                | AssertionKind::WordBoundary
                | AssertionKind::NotWordBoundary => Ok(()),
                _ => Err(format!("{} is no boundary there", self.text(assertion.span))),
            },
            Ast::ClassUnicode(class) => self.class(class),
            Ast::Repetition(repetition) => self.repetition(repetition),
            Ast::Group(group) => match &group.kind {
                GroupKind::CaptureIndex(_) => Ok(()),
                GroupKind::NonCapturing(flags) => self.flags(flags),
                GroupKind::CaptureName { starts_with_p, name } => {
                    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    match *starts_with_p && name.name.chars().all(word) {
                        true => Ok(()),
                        false => Err(format!("a name is written (?P<name>…), not {:?}", name.name)),
                    }
                }
            },
            _ => Ok(()),
        }
    }

    fn visit_post(&mut self, tree: &Ast) -> Result<(), String> {
        if matches!(tree, Ast::Repetition(_)) {
            self.repeated.pop();
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), String> {
        match item {
            ClassSetItem::Literal(literal) => self.literal(literal),
            ClassSetItem::Range(range) => {
                self.literal(&range.start)?;
                self.literal(&range.end)
            }
            ClassSetItem::Unicode(class) => self.class(class),
            ClassSetItem::Bracketed(inner) => {
                Err(format!("there is no class inside of a class, {}", self.text(inner.span)))
            }
            _ => Ok(()),
        }
    }

    fn visit_class_set_binary_op_pre(&mut self, op: &ClassSetBinaryOp) -> Result<(), String> {
        Err(format!("classes have no operators, [{}]", self.text(op.span)))
    }
}

impl Finder<'_> {
    fn text(&self, span: Span) -> &str {
        self.source.get(span.start.offset..span.end.offset).unwrap_or_default()
    }

    fn flags(&self, flags: &Flags) -> Result<(), String> {
        let known = |kind: &FlagsItemKind| {
            !matches!(
                kind,
                FlagsItemKind::Flag(Flag::Unicode | Flag::CRLF | Flag::IgnoreWhitespace)
            )
        };
        match flags.items.iter().find(|item| !known(&item.kind)) {
            None => Ok(()),
            Some(item) => Err(format!("there is no flag {}", self.text(item.span))),
        }
    }

    fn literal(&self, literal: &Literal) -> Result<(), String> {
        let long = |kind: &HexLiteralKind| *kind != HexLiteralKind::X;
        match &literal.kind {
            LiteralKind::HexFixed(kind) | LiteralKind::HexBrace(kind) if long(kind) => {
                Err(format!("{} is written \\x{{…}}", self.text(literal.span)))
            }
            // Envoy compiles for bytes.
            LiteralKind::HexBrace(_) if u32::from(literal.c) > 0xff => {
                Err(format!("{} is beyond \\x{{FF}}: write the character", self.text(literal.span)))
            }
            _ => Ok(()),
        }
    }

    fn class(&self, class: &ClassUnicode) -> Result<(), String> {
        let known = match &class.kind {
            ClassUnicodeKind::OneLetter(letter) => {
                CATEGORIES.contains(&letter.to_string().as_str())
            }
            ClassUnicodeKind::Named(name) => {
                let name = name.as_str();
                CATEGORIES.contains(&name) || SCRIPTS.contains(&name) || name == "Any"
            }
            ClassUnicodeKind::NamedValue { .. } => false,
        };
        match known {
            true => Ok(()),
            false => Err(format!("it may not know the class {}", self.text(class.span))),
        }
    }

    fn repetition(&mut self, repetition: &Repetition) -> Result<(), String> {
        let op = self.text(repetition.op.span);
        if matches!(*repetition.ast, Ast::Repetition(_)) {
            return Err(format!("{op} follows another repetition: put that into (?:…)"));
        }
        let times = match &repetition.op.kind {
            RepetitionKind::Range(_) if op.contains(char::is_whitespace) => {
                return Err(format!("{op} has a space in it"));
            }
            RepetitionKind::Range(
                RepetitionRange::Exactly(most)
                | RepetitionRange::AtLeast(most)
                | RepetitionRange::Bounded(_, most),
            ) => *most,
            _ => 1,
        };
        let around = self.repeated.last().copied().unwrap_or(1);
        let together = around.saturating_mul(times.max(1));
        if together > MOST_REPEATED {
            return Err(format!("{op} repeats more than {MOST_REPEATED} times, all in all"));
        }
        self.repeated.push(together);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Regex;

    #[test]
    fn what_both_read_alike_passes() {
        for source in [
            "a+",
            "a??",
            "a{2}?",
            "x{0}",
            "a{1000}",
            "((a{10}){10}){10}",
            "(?:a*)*",
            "(a{1,500}){2}",
            "(?i)a|(?s-i:b)",
            "(?U)a+",
            "(?m)^a$",
            "(?P<n>a)",
            "[a-z][^0-9]",
            "[[:alpha:]][[:^word:]]",
            r"\x41\x{41}",
            r"\d\W\s",
            r"[\dz-]",
            r"\Aa\b\B\z",
            r"\a\f\v\-\#\&\~\/",
            r"\pL\PN[\p{Greek}]",
            r"\p{Lu}\P{Han}",
            "é",
            "[α-ω]",
            "()",
            "a|",
        ] {
            assert!(Regex::new(source).is_ok(), "{source}");
            assert_eq!(beyond_re2(source), None, "{source}");
        }
    }

    #[test]
    fn what_re2_refuses_or_reads_otherwise_is_named() {
        for (source, part) in [
            ("", "empty"),
            ("(?x)a b", "flag x"),
            ("a(?i)b(?R)", "flag R"),
            ("(?-u:a)", "flag u"),
            (r"\u0041", r"\u0041"),
            (r"[a\U00000041]", r"\U00000041"),
            (r"[\x00-\x{10FFFF}]", r"\x{10FFFF}"),
            ("a{1001}", "{1001}"),
            ("a{1001,}", "{1001,}"),
            ("((a{10}){10}){11}", "{10}"),
            ("(a{1,500}){3}", "{1,500}"),
            ("a**", "*"),
            ("a*+", "+"),
            ("a{2}{3}", "{3}"),
            ("a{ 2 }", "space"),
            ("[a[bc]]", "[bc]"),
            ("[[a-z]]", "[a-z]"),
            ("[a-z&&b]", "[a-z&&b]"),
            ("[a-z--b]", "[a-z--b]"),
            (r"\<a", r"\<"),
            (r"\b{start}a", r"\b{start}"),
            (r"a\b{end-half}", r"\b{end-half}"),
            (r"\p{Letter}", r"\p{Letter}"),
            (r"\p{greek}", r"\p{greek}"),
            (r"[\p{sc=Greek}]", r"\p{sc=Greek}"),
            ("(?<n>a)", "(?P<name>…)"),
            ("(?P<a.b>a)", "a.b"),
        ] {
            assert!(source.is_empty() || Regex::new(source).is_ok(), "{source} is nobody's");
            let found = beyond_re2(source);
            assert!(found.as_ref().is_some_and(|text| text.contains(part)), "{source}: {found:?}");
        }
    }
}
