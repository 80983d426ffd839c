//! Expressions, which whoever may write a Telemetry in his namespace writes into the control plane's memory.

#![cfg(not(test))]
#![no_main]

use std::borrow::Cow;

use libfuzzer_sys::fuzz_target;
use tulle_expression::{Expression, Facts, Failed, Kind, Side, Value, Variable};

/// A request of which everything is known, by a text of the stranger's own choice.
struct Known<'a>(&'a str);

impl Facts for Known<'_> {
    fn get(&self, variable: Variable) -> Option<Value<'_>> {
        Some(match variable.kind() {
            Kind::Bool => Value::Bool(true),
            Kind::Int => Value::Int(i64::MAX),
            Kind::Text => Value::Text(Cow::Borrowed(self.0)),
            Kind::Span => Value::Span(i64::MIN),
        })
    }

    fn header(&self, _: Side, _: &str) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(self.0))
    }
}

fuzz_target!(|text: &str| {
    let Ok(read) = Expression::parse(text) else {
        return;
    };
    // What was read does not surprise anybody when it is evaluated.
    match read.evaluate(&Known(text)) {
        Ok(value) => {
            let kind = match value {
                Value::Bool(_) => Kind::Bool,
                Value::Int(_) => Kind::Int,
                Value::Text(_) => Kind::Text,
                Value::Span(_) => Kind::Span,
            };
            assert_eq!(kind, read.kind());
        }
        Err(failed) => assert_ne!(failed, Failed::Type),
    }
});
