//! `injection.yaml`, read. Another version may have written it: while an upgrade runs, pods of the old control plane start
//! with the new one's file. So fields that this version does not know are named and passed over, at every depth.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value as Schema;
use serde_yaml_ng::Value;

use super::settings::Injection;

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum BadInjection {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says what cannot be.
    #[error("{file}: {reason}")]
    Content {
        /// The file, or where else the text is from.
        file: String,
        /// Which field, and what is wrong with it.
        reason: String,
    },
}

/// Reads `injection.yaml`; with it come warnings, as of [`Injection::parse`].
///
/// # Errors
/// [`BadInjection`] names the file, the field and what is wrong.
pub fn read(path: &Path) -> Result<(Injection, Vec<String>), BadInjection> {
    let text = fs::read_to_string(path)
        .map_err(|source| BadInjection::Read { path: path.to_owned(), source })?;
    Injection::parse(&path.display().to_string(), &text)
}

impl Injection {
    /// Understands the text of an `injection.yaml`; `file` is for messages. With it come warnings: a line for each
    /// field that is not known.
    ///
    /// # Errors
    /// [`BadInjection::Content`].
    pub fn parse(file: &str, text: &str) -> Result<(Self, Vec<String>), BadInjection> {
        let bad = |reason| BadInjection::Content { file: file.to_owned(), reason };
        let mut value: Value =
            serde_yaml_ng::from_str(text).map_err(|error| bad(error.to_string()))?;
        let mut unknown = Vec::new();
        prune(&mut value, &schema(), "", &mut unknown);
        let injection: Self =
            serde_path_to_error::deserialize(value).map_err(|error| bad(error.to_string()))?;
        injection.check().map_err(bad)?;
        let warning = |field| {
            let version = env!("CARGO_PKG_VERSION");
            format!("{file}: {field}: tulle {version} knows no such field, and passes over it")
        };
        Ok((injection, unknown.into_iter().map(warning).collect()))
    }
}

fn schema() -> Schema {
    let inline = |settings: &mut schemars::generate::SchemaSettings| {
        settings.inline_subschemas = true;
    };
    let settings = schemars::generate::SchemaSettings::draft2020_12().with(inline);
    settings.into_generator().into_root_schema_for::<Injection>().to_value()
}

/// Takes out of `value` what `schema` has no property for, and says where that was.
fn prune(value: &mut Value, schema: &Schema, path: &str, unknown: &mut Vec<String>) {
    let (Some(fields), Some(properties)) =
        (value.as_mapping_mut(), schema["properties"].as_object())
    else {
        return;
    };
    fields.retain(|name, field| {
        let name = name.as_str().unwrap_or("a key that is no text");
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let Some(property) = properties.get(name) else {
            unknown.push(path);
            return false;
        };
        prune(field, property, &path, unknown);
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_named() {
        for (text, reason) in [
            ("webhook: {timeoutSeconds: 6}", "webhook.timeoutSeconds: it must be from 1 to 5"),
            ("webhook: {timeoutSeconds: 0}", "webhook.timeoutSeconds: it must be from 1 to 5"),
            ("webhook: {failurePolicy: fail}", "webhook.failurePolicy: unknown variant `fail`"),
            ("webhook: {excludedNamespaces: [A]}", "webhook.excludedNamespaces: \"A\" is no name"),
            ("logLevel: verbose", "logLevel: unknown variant `verbose`"),
            ("controlPlane: mesh", "controlPlane: \"mesh\" is not HOST:PORT"),
            ("controlPlane: 'mesh:70000'", "is not HOST:PORT"),
            ("proxyImage: ''", "proxyImage: \"\" is no image"),
            ("envoyImage: 'a b'", "envoyImage: \"a b\" is no image"),
            ("accessLogSample: 0", "accessLogSample: it must be 1 or more"),
            ("dns: 'on'", "dns: invalid type"),
            ("[dns]", "invalid type"),
            ("dns: {", "line 2"),
            ("dns: true\ndns: false", "duplicate"),
        ] {
            let error = Injection::parse("injection.yaml", text).expect_err(text).to_string();
            assert!(error.starts_with("injection.yaml: ") && error.contains(reason), "{error}");
        }
        let missing = read(Path::new("/nowhere/injection.yaml")).expect_err("nothing is there");
        assert!(missing.to_string().starts_with("/nowhere/injection.yaml: No such file"));
    }

    #[test]
    fn what_is_not_known_is_named_and_the_rest_holds() {
        let text = "{later: {a: 1}, dns: true, webhook: {mode: x, timeoutSeconds: 2},
            proxyResources: {claims: [], requests: {cpu: 1m, hugepages-2Mi: '1'}}}";
        let (injection, warnings) = Injection::parse("f.yaml", text).expect("good");
        assert!(injection.dns && injection.webhook.timeout_seconds == 2);
        let resources = super::super::Resources::new(&[("cpu", "1m"), ("hugepages-2Mi", "1")], &[]);
        assert_eq!(injection.proxy_resources, resources);
        let fields = ["later", "proxyResources.claims", "webhook.mode"];
        let says = |field: &str| {
            warnings.iter().any(|line| line.starts_with(&format!("f.yaml: {field}: tulle ")))
        };
        assert!(warnings.len() == 3 && fields.into_iter().all(says), "{warnings:?}");
    }
}
