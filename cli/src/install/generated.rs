//! `values.yaml`, `values.schema.json` and the table in `docs/install.md`, made from the type
//! [`Values`] and its comments. `TULLE_REGENERATE=1 cargo test -p tulle-cli generated` writes them anew.

use std::{env, fs, path::Path};

use serde_json::{Map, Value, json};

use super::{
    OLDEST, too_old,
    values::{VERSION, Values},
};

const AGAIN: &str = "TULLE_REGENERATE=1 cargo test -p tulle-cli generated";

/// The schema without references and Rust's names: every value must be there, none else may be.
fn schema() -> Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().with(|s| {
        s.inline_subschemas = true;
    });
    let schema = settings.into_generator().into_root_schema_for::<Values>();
    let mut schema = schema.to_value();
    tidy(&mut schema);
    schema["properties"]["global"] =
        json!({"type": "object", "description": "Helm's own, for charts within charts."});
    schema
}

fn tidy(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    for name in ["title", "default", "format"] {
        fields.remove(name);
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(tidy);
        let names: Vec<Value> = properties.keys().map(|name| json!(name)).collect();
        fields.insert("required".to_owned(), json!(names));
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(name) {
            tidy(inner);
        }
    }
    for name in ["oneOf", "anyOf"] {
        if let Some(Value::Array(choices)) = fields.get_mut(name) {
            choices.iter_mut().for_each(tidy);
        }
    }
}

fn defaults() -> Value {
    serde_json::to_value(Values::default()).expect("plain data")
}

fn description(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

/// The objects whose fields are values of their own; not maps, whose names are the user's.
fn groups(schema: &Value) -> Option<&Map<String, Value>> {
    schema["properties"].as_object()
}

/// Each value with its comment, in the order of the alphabet.
fn yaml(schema: &Value, value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    for (name, schema) in groups(schema).into_iter().flatten().filter(|(name, _)| *name != "global")
    {
        if depth == 0 {
            out.push('\n');
        }
        for line in wrapped(description(schema), 98 - indent.len()) {
            out.push_str(&format!("{indent}# {line}\n"));
        }
        match groups(schema) {
            Some(_) => {
                out.push_str(&format!("{indent}{name}:\n"));
                yaml(schema, &value[name], depth + 1, out);
            }
            None => out.push_str(&format!("{indent}{name}: {}\n", value[name])),
        }
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one");
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

fn table(schema: &Value, value: &Value, path: &str, out: &mut String) {
    for (name, schema) in groups(schema).into_iter().flatten().filter(|(name, _)| *name != "global")
    {
        let path = format!("{path}{name}");
        let text = wrapped(description(schema), usize::MAX).concat().replace('|', "\\|");
        match groups(schema) {
            Some(_) => table(schema, &value[name], &format!("{path}."), out),
            None => out.push_str(&format!("| `{path}` | `{}` | {text} |\n", value[name])),
        }
    }
}

/// What `path` should hold and does not, written there when asked to.
fn fresh(path: &str, text: &str) {
    let path = Path::new("..").join(path);
    if env::var_os("TULLE_REGENERATE").is_some() {
        fs::write(&path, text).expect("written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, text, "{} is stale: {AGAIN}", path.display());
}

#[test]
fn schema_is_fresh() {
    let text = serde_json::to_string_pretty(&schema()).expect("JSON");
    fresh("deploy/chart/values.schema.json", &(text + "\n"));
}

#[test]
fn default_values_are_fresh() {
    let mut text =
        format!("# The values of the chart and of `tulle install`. Generated: {AGAIN}\n");
    yaml(&schema(), &defaults(), 0, &mut text);
    let read: Value = serde_yaml_ng::from_str(&text).expect("YAML");
    assert_eq!(read, defaults());
    fresh("deploy/chart/values.yaml", &text);
}

#[test]
fn the_table_in_the_docs_is_fresh() {
    let path = Path::new("../docs/install.md");
    let page = fs::read_to_string(path).expect("docs/install.md");
    let (before, rest) = page.split_once("<!-- values -->\n").expect("where the table begins");
    let (_, after) = rest.split_once("<!-- /values -->\n").expect("where the table ends");
    let mut rows = "| value | default | |\n|---|---|---|\n".to_owned();
    table(&schema(), &defaults(), "", &mut rows);
    fresh("docs/install.md", &format!("{before}<!-- values -->\n{rows}<!-- /values -->\n{after}"));
}

#[test]
fn every_value_is_explained() {
    fn walk(path: &str, schema: &Value, silent: &mut Vec<String>) {
        for (name, schema) in groups(schema).into_iter().flatten() {
            if description(schema).is_empty() {
                silent.push(format!("{path}{name}"));
            }
            walk(&format!("{path}{name}."), schema, silent);
        }
    }
    let mut silent = Vec::new();
    walk("", &schema(), &mut silent);
    assert_eq!(silent, [""; 0]);
}

#[test]
fn the_chart_has_our_version() {
    let chart = include_str!("../../../deploy/chart/Chart.yaml");
    let chart: Value = serde_yaml_ng::from_str(chart).expect("YAML");
    assert_eq!((&chart["version"], &chart["appVersion"]), (&json!(VERSION), &json!(VERSION)));
    // And takes the clusters that `tulle install` takes.
    assert_eq!(chart["kubeVersion"], format!(">=1.{OLDEST}.0-0"));
    let docs = include_str!("../../../docs/install.md");
    assert!(docs.contains(&format!("Kubernetes 1.{OLDEST} or newer")));
    for (version, old) in
        [("v1.30.9", true), ("v1.31.0", false), ("v1.36.3+k3s1", false), ("", false)]
    {
        assert_eq!(too_old(version), old, "{version}");
    }
}
