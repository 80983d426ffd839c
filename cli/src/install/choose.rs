//! From `-f` and `--set` to [`Values`], as Helm reads them, with every mistake named by its field.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{objects::merge, values::Values};

/// What a user chose.
#[derive(Debug, clap::Args)]
pub(crate) struct Choice {
    /// YAML file with values, `-` for stdin. Repeatable: a later one wins.
    #[arg(short = 'f', long = "values", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// One value, as controlPlane.replicas=3; wins over files. Repeatable.
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
}

/// Why there are no values.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadValues {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is no YAML, or no mapping.
    #[error("{}: {reason}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A `--set` that says nothing.
    #[error("--set {0:?}: write it as PATH=VALUE, for example controlPlane.replicas=3")]
    Set(String),
    /// A value that does not exist, or cannot be so.
    #[error("{0}; docs/install.md lists all values")]
    Value(String),
}

/// What was chosen.
#[derive(Debug)]
pub(super) struct Chosen {
    /// The defaults, and over them what was said.
    pub(super) values: Values,
    /// What was said alone.
    pub(super) said: Value,
}

impl Choice {
    /// Reads files and `--set`.
    pub(super) fn read(&self) -> Result<Chosen, BadValues> {
        let mut value = serde_json::to_value(Values::default()).expect("values are plain data");
        let mut said = json!({});
        let files = self.files.iter().map(|path| read(path));
        for over in files.chain(self.set.iter().map(|text| set(text))) {
            let over = over?;
            merge(&mut value, &over);
            merge(&mut said, &over);
        }
        Ok(Chosen { values: understand(value)?, said })
    }
}

fn read(path: &Path) -> Result<Value, BadValues> {
    let text = if path == Path::new("-") {
        io::read_to_string(io::stdin())
    } else {
        fs::read_to_string(path)
    };
    let text = text.map_err(|source| BadValues::Read { path: path.to_owned(), source })?;
    let bad = |reason| BadValues::Yaml { path: path.to_owned(), reason };
    let value: Value = serde_yaml_ng::from_str(&text).map_err(|error| bad(error.to_string()))?;
    match value {
        Value::Null => Ok(json!({})),
        Value::Object(_) => Ok(value),
        _ => Err(bad("it must be a mapping of values".to_owned())),
    }
}

/// `a.b=1` to `{a: {b: 1}}`; the value is YAML, so that lists and `"1"` can be written. `\.` is a point
/// in a name, as in `controlPlane.nodeSelector.kubernetes\.io/os=linux`.
fn set(text: &str) -> Result<Value, BadValues> {
    let bad = || BadValues::Set(text.to_owned());
    let (path, value) = text.split_once('=').ok_or_else(bad)?;
    let path = path.replace("\\.", "\0");
    if path.split('.').any(str::is_empty) {
        return Err(bad());
    }
    let value: Value = serde_yaml_ng::from_str(value).map_err(|_error| bad())?;
    // Nothing written is an empty text, not the wish to take a value away: that is `null`.
    let value = if value.is_null() && !text.ends_with("null") { json!("") } else { value };
    Ok(path.split('.').rev().fold(value, |value, name| json!({name.replace('\0', "."): value})))
}

/// What no type says is checked as well.
fn understand(mut value: Value) -> Result<Values, BadValues> {
    // Helm's own, for charts within charts.
    if let Some(fields) = value.as_object_mut() {
        fields.remove("global");
    }
    let values: Values = serde_path_to_error::deserialize(value)
        .map_err(|error| BadValues::Value(error.to_string()))?;
    values.check().map_err(BadValues::Value)?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(yaml: &str, sets: &[&str]) -> Result<Values, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("values.yaml");
        fs::write(&path, yaml).expect("written");
        let set = sets.iter().map(|&set| set.to_owned()).collect();
        let chosen = Choice { files: vec![path], set }.read();
        chosen.map(|chosen| chosen.values).map_err(|error| error.to_string())
    }

    #[test]
    fn later_ones_win_and_objects_are_merged() {
        let values = choose(
            "controlPlane: {replicas: 3, resources: {limits: {memory: null, cpu: '2'}}}",
            &["controlPlane.replicas=4", "meshRanges=[10.0.0.0/8]", "image.tag="],
        )
        .expect("good");
        let mut expected = Values::default();
        expected.control_plane.replicas = 4;
        let limits = &mut expected.control_plane.resources.limits;
        limits.clear();
        limits.insert(
            "cpu".to_owned(),
            k8s_openapi::apimachinery::pkg::api::resource::Quantity("2".to_owned()),
        );
        expected.mesh_ranges.push("10.0.0.0/8".to_owned());
        assert_eq!(values, expected);
        assert_eq!(choose("", &[]), Ok(Values::default()));
        assert_eq!(choose("global: {a: b}", &[]), Ok(Values::default()));
    }

    #[test]
    fn a_point_in_a_name() {
        let values = choose("", &[r"controlPlane.nodeSelector.kubernetes\.io/os=linux"]);
        let selector = values.expect("good").control_plane.node_selector;
        assert_eq!(selector.get("kubernetes.io/os").map(String::as_str), Some("linux"));
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, set, reason) in [
            (
                "controlPlane: {replica: 3}",
                "image.tag=x",
                "controlPlane.replica: unknown field `replica`",
            ),
            ("controlPlane: {replicas: '3'}", "image.tag=x", "controlPlane.replicas: invalid type"),
            ("", "controlPlane.replicas=0", "controlPlane.replicas: it must be 1 or more"),
            ("", "trustDomain=Example.org", "trustDomain: \"Example.org\""),
            ("", "meshRanges=[10.0.0.1/8]", "meshRanges: \"10.0.0.1/8\": write 10.0.0.0/8"),
            ("", "meshRanges=[ten]", "meshRanges: \"ten\" is no address range"),
            ("", "image.digests.proxy=abc", "image.digests.proxy: \"abc\" is no digest"),
            ("", "injection.webhook.timeoutSeconds=9", "webhook.timeoutSeconds: it must be from"),
            ("", "controlPlane.prometheus=p:9090", "controlPlane.prometheus: \"p:9090\""),
            ("", "controlPlane.releaseHosts=[http://a]", "controlPlane.releaseHosts: \"http://a\""),
            ("", "controlPlane.releaseAuthorities=a", "controlPlane.releaseAuthorities: they"),
            ("", "controlPlane.certificateLifetime=1d", "controlPlane.certificateLifetime: \"1d\""),
            ("injection: null", "image.tag=x", "missing field `injection`"),
            ("[1]", "image.tag=x", "it must be a mapping of values"),
            ("", "controlPlane.replicas", "--set \"controlPlane.replicas\": write it as"),
            ("", "controlPlane..replicas=1", "--set \"controlPlane..replicas=1\": write it as"),
        ] {
            let error = choose(yaml, &[set]).expect_err(reason);
            assert!(error.contains(reason), "{error}");
        }
    }
}
