//! Where things stand in a document: a second reader, which keeps nothing of it, so that neither
//! depth nor length costs more than a step for each token.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, StrInput};

use super::Unreadable;
use crate::convert::{Field, Step};

/// The lines, from 1, on which `fields` stand in the document `text`; of a field that is not there,
/// the line of what it would be in. `None` is the whole document.
pub(in crate::files) fn lines_of(text: &str, fields: &[Field]) -> Vec<Option<usize>> {
    let mut wanted = Wanted::default();
    for (number, field) in fields.iter().enumerate() {
        wanted.add(number, field.steps());
    }
    let mut walk = Walk { parser: Parser::new_from_str(text), lines: vec![None; fields.len()] };
    // What breaks off has told what came before.
    let _all = walk.document(&wanted);
    walk.lines
}

/// Refuses a document that nests deeper than anything that is read.
pub(super) fn check_depth(text: &str) -> Result<(), Unreadable> {
    let mut depth = 0_usize;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Unreadable {
            line: Some(error.marker().line()),
            reason: error.info().to_owned(),
        })?;
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
            Event::SequenceEnd | Event::MappingEnd => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > super::MAX_DEPTH {
            let reason = format!("nests deeper than {} levels", super::MAX_DEPTH);
            return Err(Unreadable { line: Some(span.start.line()), reason });
        }
    }
    Ok(())
}

/// The fields that are looked for at a node or below it, by their numbers.
#[derive(Debug, Default)]
struct Wanted<'a> {
    fields: Vec<usize>,
    keys: BTreeMap<&'a str, Self>,
    items: BTreeMap<usize, Self>,
}

impl<'a> Wanted<'a> {
    fn add(&mut self, number: usize, steps: &'a [Step]) {
        self.fields.push(number);
        match steps {
            [Step::Key(key), rest @ ..] => self.keys.entry(key).or_default().add(number, rest),
            [Step::Index(index), rest @ ..] => {
                self.items.entry(*index).or_default().add(number, rest);
            }
            [] => {}
        }
    }
}

struct Walk<'a> {
    parser: Parser<'a, StrInput<'a>>,
    lines: Vec<Option<usize>>,
}

impl<'a> Walk<'a> {
    /// The next event and its line; `None` where the document ends or is none.
    fn next(&mut self) -> Option<(Event<'a>, usize)> {
        let (event, span) = self.parser.next_event()?.ok()?;
        Some((event, span.start.line()))
    }

    fn document(&mut self, wanted: &Wanted<'_>) -> Option<()> {
        loop {
            match self.next()?.0 {
                Event::StreamStart | Event::DocumentStart(_) => {}
                root => return self.below(&root, wanted),
            }
        }
    }

    /// Goes on to the end of the node that begins with `event`.
    fn node(&mut self, event: &Event<'a>, line: usize, wanted: Option<&Wanted<'_>>) -> Option<()> {
        let Some(wanted) = wanted else {
            return self.skip(event);
        };
        for field in &wanted.fields {
            if let Some(found) = self.lines.get_mut(*field) {
                *found = Some(line);
            }
        }
        self.below(event, wanted)
    }

    fn below(&mut self, event: &Event<'a>, wanted: &Wanted<'_>) -> Option<()> {
        match event {
            Event::SequenceStart(..) => {
                for index in 0.. {
                    let (item, line) = self.next()?;
                    if item == Event::SequenceEnd {
                        break;
                    }
                    self.node(&item, line, wanted.items.get(&index))?;
                }
            }
            Event::MappingStart(..) => loop {
                let (key, line) = self.next()?;
                let wanted = match &key {
                    Event::MappingEnd => break,
                    Event::Scalar(name, ..) => wanted.keys.get(&**name),
                    _ => None,
                };
                self.skip(&key)?;
                let (value, _) = self.next()?;
                self.node(&value, line, wanted)?;
            },
            _ => {}
        }
        Some(())
    }

    fn skip(&mut self, event: &Event<'a>) -> Option<()> {
        let change = |event: &Event<'_>| match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => 1,
            Event::SequenceEnd | Event::MappingEnd => -1,
            _ => 0,
        };
        let mut depth = change(event);
        while depth > 0 {
            depth += change(&self.next()?.0);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "kind: Service\nspec:\n  ports:\n    - name: a\n      port: 1\n    - port: 2\n      colour: red\n  a: {? [x, y] : z, b: *c}\n";

    #[test]
    fn finds_lines() {
        let found = |field: &str, line| {
            let found = lines_of(TEXT, &[Field::from("spec"), Field::from(field)]);
            assert_eq!(found, [Some(2), Some(line)], "{field}");
        };
        found("kind", 1);
        found("spec.ports[0].port", 5);
        found("spec.ports[1]", 6);
        found("spec.ports[1].colour", 7);
        // Not there: where it would be.
        found("spec.selector", 2);
        found("spec.ports[7].name", 3);
        found("spec.a.b.c", 8);
        assert_eq!(lines_of(TEXT, &[Field::default()]), [None]);
        assert_eq!(lines_of("a: [", &["a".into(), "b".into()]), [Some(1), None]);
    }
}
