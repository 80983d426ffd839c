use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Some facts; nothing else is known.
#[derive(Default)]
struct Known {
    facts: BTreeMap<Variable, Value<'static>>,
    headers: BTreeMap<(Side, String), String>,
}

impl Facts for Known {
    fn get(&self, variable: Variable) -> Option<Value<'_>> {
        self.facts.get(&variable).cloned()
    }

    fn header(&self, side: Side, name: &str) -> Option<Cow<'_, str>> {
        self.headers.get(&(side, name.to_owned())).map(|value| Cow::Borrowed(value.as_str()))
    }
}

fn text(text: &str) -> Value<'static> {
    Value::Text(Cow::Owned(text.to_owned()))
}

fn call() -> Known {
    Known {
        facts: [
            (Variable::Method, text("POST")),
            (Variable::Path, text("/Shop/cart")),
            (Variable::Code, Value::Int(503)),
            (Variable::Duration, Value::Span(1_500_000_000)),
            (Variable::Reason, text("timeout")),
            (Variable::Failed, Value::Bool(true)),
            (Variable::SourceWorkload, text("cart")),
        ]
        .into(),
        headers: [((Side::Request, "x-tenant".to_owned()), "blue".to_owned())].into(),
    }
}

#[test]
fn what_expressions_come_to() {
    let facts = call();
    for (expression, expected) in [
        // Comparisons, and what is not known.
        ("response.code >= 500 && request.method == 'POST'", "true"),
        ("response.code == 200 || reason in ['timeout', 'reset']", "true"),
        ("!(reason != 'timeout')", "true"),
        ("attempts", "0"),
        ("grpc.status", ""),
        ("has(response.code) && !has(grpc.status)", "true"),
        ("failed && !mirror && !sampled", "true"),
        // Durations.
        ("duration > duration('1s') && duration <= duration('1500ms')", "true"),
        ("duration - duration('500ms')", "1s"),
        ("-duration", "-1.5s"),
        // Texts.
        ("request.path.startsWith('/Shop') && request.path.endsWith('cart')", "true"),
        ("request.path.lowerAscii().contains('shop')", "true"),
        ("request.path.matches('^/[A-Z][a-z]+/')", "true"),
        ("size(request.method) + request.method.size()", "8"),
        ("source.workload + '→' + string(response.code / 100) + 'xx'", "cart→5xx"),
        ("int('12') * 3 - 1 % 2", "35"),
        ("response.code >= 500 ? 'bad' : 'good'", "bad"),
        // Header fields.
        ("request.headers['X-Tenant']", "blue"),
        ("request.headers['x-other']", ""),
        ("'x-tenant' in request.headers && !('x-other' in request.headers)", "true"),
        ("has(request.headers.x) || has(response.headers.y)", "false"),
        // What decides, decides, in whatever order.
        ("1 / attempts == 1 || failed", "true"),
        ("failed || 1 / attempts == 1", "true"),
        ("1 / attempts == 1 && mirror", "false"),
    ] {
        let read =
            Expression::parse(expression).unwrap_or_else(|bad| panic!("{expression}: {bad}"));
        let value = read.evaluate(&facts).map(Value::text);
        assert_eq!(value.as_deref(), Ok(expected), "{expression}");
    }
    let code = Expression::parse("response.code").unwrap();
    assert_eq!(code.evaluate(&facts), Ok(Value::Int(503)));
    assert_eq!(Expression::parse("grpc.status").unwrap().label(&facts), Ok(None));
}

#[test]
fn what_only_values_can_show() {
    let facts = call();
    for (expression, expected) in [
        ("1 / attempts", Failed::Division),
        ("1 % attempts", Failed::Division),
        ("9223372036854775807 + 1", Failed::Overflow),
        ("-9223372036854775807 - 2", Failed::Overflow),
        ("int(request.method)", Failed::NoNumber),
        ("1 / attempts == 1 || mirror", Failed::Division),
    ] {
        let read = Expression::parse(expression).unwrap();
        assert_eq!(read.evaluate(&facts), Err(expected), "{expression}");
    }
    let long = Known { facts: [(Variable::Path, text(&"ä".repeat(3000)))].into(), ..call() };
    let twice = Expression::parse("request.path + request.path").unwrap();
    assert_eq!(twice.evaluate(&long), Err(Failed::TooLong));
    let once = Expression::parse("request.path").unwrap();
    assert_eq!(once.label(&long).unwrap().unwrap().len(), MAX_RESULT);
}

#[test]
fn what_is_no_expression_is_said() {
    for (expression, reason) in [
        ("", "it is empty"),
        ("request.", "line 1, column"),
        ("response.code = 5", "line 1, column"),
        (
            "response.cod > 5",
            "\"response.cod\" is not known; there is response.code, response.headers",
        ),
        ("url == 'x'", "\"url\" is not known; docs/logs.md has what is"),
        ("request.headers", "write request.headers['NAME'] for one header field"),
        ("request.headers[reason]", "the name in request.headers[…] must be written out"),
        ("request.headers['a b']", "\"a b\" is no name of a header field"),
        ("request.headers['Authorization'] != ''", "authorization is a secret"),
        ("'cookie' in request.headers", "cookie is a secret"),
        ("has(response.headers.x) || 'set-cookie' in response.headers", "set-cookie is a secret"),
        ("response.code > '5'", "> wants a number, and gets a text"),
        ("response.code && true", "&& wants true or false, and gets a number"),
        ("duration > 5", "> wants a duration, and gets a number"),
        ("duration('5')", "\"5\" is no duration"),
        ("duration(reason)", "write duration('200ms')"),
        ("response.code > 5.5", "numbers have neither a fraction"),
        ("reason == null", "nothing is null here"),
        ("['a'].exists(x, x == reason)", "they are loops"),
        ("[1, 2].map(x, x * 2)", "they are loops"),
        ("{'a': 1}", "maps and messages cannot be made"),
        ("[1]", "a list can stand behind `in` only"),
        ("reason in reason", "behind `in` there is a list"),
        ("reason in [1]", "in wants a text, and gets a number"),
        ("reason.matches(route)", "the pattern of matches() must be written out"),
        ("reason.matches('(')", "is no pattern that can be used"),
        ("reason.matches('.{1000}{100}')", "is no pattern that can be used"),
        ("md5(reason)", "there is no function \"md5\""),
        ("reason - reason", "- does not work on a text"),
        ("-reason", "- cannot be a text"),
        ("reason.x", "\"reason.x\" is not known; there is reason"),
        ("1(2)", ""),
    ] {
        let bad = Expression::parse(expression).expect_err(expression).to_string();
        assert!(bad.contains(reason), "{expression}: {bad}");
        assert!(!bad.contains('\n'), "{expression}: {bad}");
    }
    assert!(Expression::parse(&"!".repeat(40)).is_err());
    assert!(Expression::parse(&format!("reason == '{}'", "x".repeat(MAX_LENGTH))).is_err());
    let bad = Expression::filter("response.code").expect_err("no filter").to_string();
    assert_eq!(bad, "it is a number, and must be true or false");
}

/// Half of the stack that a worker's threads have: reading never comes near its end.
#[test]
fn the_stack_suffices_for_the_deepest_that_fits() {
    let read = || {
        for piece in [
            "(",
            "!(",
            "[",
            "-(",
            "size(",
            "true?",
            "request.headers[",
            "{1:",
            "a.",
            "1+",
            "true&&",
        ] {
            let deep = piece.repeat(MAX_LENGTH / piece.len());
            drop(Expression::parse(&deep));
            let n = MAX_LENGTH / (piece.len() + 6);
            let closed = format!("{}true{}", piece.repeat(n), ")".repeat(n));
            drop(Expression::parse(&closed));
        }
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(read).unwrap().join().unwrap();
}

#[test]
fn what_it_asks_for_is_known() {
    let read =
        Expression::parse("sampled || request.headers['B'] == response.headers['a']").unwrap();
    assert!(read.uses(Variable::Sampled) && !read.uses(Variable::Failed));
    assert_eq!(read.headers(Side::Request).collect::<Vec<_>>(), ["b"]);
    assert_eq!(read.headers(Side::Response).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn names_are_told_apart() {
    let mut names: Vec<_> = Variable::ALL.iter().map(|variable| variable.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Variable::ALL.len());
}

/// Pieces of expressions, put together without sense.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ".",
        ",",
        ":",
        "?",
        "!",
        "-",
        "+",
        "*",
        "/",
        "%",
        "==",
        "<",
        ">=",
        "&&",
        "||",
        " in ",
        "has(",
        "size(",
        "duration('1s')",
        "duration",
        "request",
        "request.headers",
        "['a']",
        "response.code",
        "reason",
        "'text'",
        "\"x\\u00e4\"",
        "r'\\'",
        "5",
        "0x1F",
        "-1",
        "1.5",
        "5u",
        "b'x'",
        "true",
        "null",
        "matches('a+')",
        "startsWith(",
        "string(",
        "`a`",
        "\\",
        "'",
        "\"\"\"",
        "// c\n",
        "all(x, x)",
        "ä",
        "\u{0}",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever somebody writes, nothing panics, and what was read keeps the type that it was said to have.
    #[test]
    fn nothing_panics(written in prop_oneof![soup(), "\\PC{0,200}", "[ -~]{0,300}"]) {
        if let Ok(read) = Expression::parse(&written) {
            let facts = call();
            for facts in [&facts, &Known::default()] {
                match (read.evaluate(facts), read.kind()) {
                    (Ok(Value::Bool(_)), Kind::Bool)
                    | (Ok(Value::Int(_)), Kind::Int)
                    | (Ok(Value::Text(_)), Kind::Text)
                    | (Ok(Value::Span(_)), Kind::Span) => {}
                    (Err(failed), _) => prop_assert_ne!(failed, Failed::Type),
                    (value, kind) => prop_assert!(false, "{value:?} is no {kind:?}"),
                }
            }
        }
    }
}
