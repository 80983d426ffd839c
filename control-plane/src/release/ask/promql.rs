//! What an expression says of the release that it is asked for.

/// The expression with `$namespace`, `$target` and `$revision` replaced, which stand in strings; any other `$` stays.
pub(super) fn filled(promql: &str, (namespace, target, revision): (&str, &str, &str)) -> String {
    let mut text = String::with_capacity(promql.len());
    let mut parts = promql.split('$');
    text += parts.next().unwrap_or_default();
    for part in parts {
        let end = part.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let (name, rest) = part.split_at(end.unwrap_or(part.len()));
        match name {
            "namespace" => text += &escaped(namespace),
            "target" => text += &escaped(target),
            "revision" => text += &escaped(revision),
            _ => text.extend(["$", name]),
        }
        text += rest;
    }
    text
}

/// As it stands in a string between `"` or `'`: <https://prometheus.io/docs/prometheus/latest/querying/basics/#string-literals>.
fn escaped(value: &str) -> String {
    value
        .chars()
        .map(|c| match c {
            '\\' | '"' | '\'' => format!("\\{c}"),
            '\n' => "\\n".to_owned(),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_something_is_replaced_and_all_else_stays() {
        for (promql, expected) in [
            (
                r#"sum(rate(orders{namespace="$namespace", pod=~"$target-$revision-.*"}[1m]))"#,
                r#"sum(rate(orders{namespace="shop", pod=~"web-84f6-.*"}[1m]))"#,
            ),
            (
                r#"up{a=~"x$", b="$targets", c="$", d="$5"}"#,
                r#"up{a=~"x$", b="$targets", c="$", d="$5"}"#,
            ),
            ("$target", "web"),
            ("é$revision", "é84f6"),
            ("$$namespace", "$shop"),
            ("", ""),
        ] {
            assert_eq!(filled(promql, ("shop", "web", "84f6")), expected, "{promql}");
        }
    }

    #[test]
    fn nothing_leaves_the_string_that_it_stands_in() {
        let filled = |value| filled(r#"x{a="$target"}"#, ("", value, ""));
        assert_eq!(filled(r#""} or vector(1) or x{a=""#), r#"x{a="\"} or vector(1) or x{a=\""}"#);
        assert_eq!(filled("\\\"'\n"), r#"x{a="\\\"\'\n"}"#);
        // What came in is not looked through again.
        assert_eq!(filled("$revision"), r#"x{a="$revision"}"#);
    }
}
