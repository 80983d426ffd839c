//! What a runtime asks of a CNI plugin, and what it answers (CNI's specification, 0.3 to 1.1).

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ANNOTATION;
use crate::rules::Options;

/// Versions of the specification that this plugin speaks: before 0.3 nothing is chained.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// A request's standard input.
#[derive(Debug, PartialEq)]
pub struct Call {
    /// The version of the specification.
    pub version: String,
    /// What the plugins before this one did; handed on as it is.
    pub previous: Option<Value>,
    /// What is to be redirected of the pod, if anything is.
    pub redirect: Option<Options>,
}

/// A failure, as a runtime understands it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{msg}: {details}")]
pub struct Failure {
    #[serde(rename = "cniVersion")]
    version: String,
    code: u32,
    msg: String,
    details: String,
}

/// Codes of the specification, and of our own from 100 on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Code {
    Version = 1,
    Environment = 4,
    Io = 5,
    Content = 6,
    Config = 7,
    Redirect = 100,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    cni_version: String,
    prev_result: Option<Value>,
    /// Of any form: what a runtime says of pods that are not ours is not to be in their way.
    #[serde(default)]
    runtime_config: Value,
}

/// The runtime's name for a pod's annotations.
const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

impl Call {
    /// Reads a request.
    ///
    /// # Errors
    /// [`Failure`] says what is wrong with it; that of a pod that is to be redirected names the
    /// annotation.
    pub fn read(input: &[u8]) -> Result<Self, Failure> {
        let input: Input = serde_json::from_slice(input).map_err(|error| {
            let details = error.to_string();
            Failure::new(
                "1.0.0",
                Code::Content,
                "the network configuration is not as it should be",
                details,
            )
        })?;
        let version = input.cni_version;
        if !VERSIONS.contains(&version.as_str()) {
            let details = format!("{version} is none of {}", VERSIONS.join(", "));
            return Err(Failure::new("1.0.0", Code::Version, "unknown cniVersion", details));
        }
        let runtime = input.runtime_config;
        let annotation = runtime[ANNOTATIONS][ANNOTATION].as_str();
        let redirect = annotation.map(Options::parse).transpose().map_err(|details| {
            let what = format!("annotation {ANNOTATION}, which injection writes, makes no sense");
            Failure::new(&version, Code::Redirect, &what, details)
        })?;
        // containerd writes these names as Go has them.
        let servers = ["servers", "Servers"].map(|name| runtime["dns"][name].as_array());
        let servers: Vec<_> =
            servers.into_iter().flatten().flatten().filter_map(Value::as_str).collect();
        let redirect = redirect.and_then(|options| with_resolvers(options, &servers));
        Ok(Self { version, previous: input.prev_result, redirect })
    }
}

/// The pod's own resolvers are needed to redirect its DNS. Where a runtime does not say them, the pod
/// does ([`crate::proof`]), and the agent is asked to do it all.
fn with_resolvers(mut options: Options, servers: &[&str]) -> Option<Options> {
    if options.lacks_resolvers() {
        options.resolvers = servers.iter().filter_map(|server| server.parse().ok()).collect();
    }
    (!options.lacks_resolvers()).then_some(options)
}

impl Failure {
    pub(crate) fn new(version: &str, code: Code, msg: &str, details: impl ToString) -> Self {
        Self {
            version: version.to_owned(),
            code: code as u32,
            msg: format!("tulle-cni: {msg}"),
            details: details.to_string(),
        }
    }

    /// The request could not be read.
    pub fn io(error: &io::Error) -> Self {
        Self::new("1.0.0", Code::Io, "cannot read what is asked", error)
    }

    /// As the specification has it.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("it is plain data")
    }
}

/// The answer to VERSION.
pub(crate) fn versions(input: &[u8]) -> Value {
    let asked = serde_json::from_slice::<Value>(input).ok();
    let asked = asked.as_ref().and_then(|value| value["cniVersion"].as_str());
    let version = asked.filter(|version| VERSIONS.contains(version)).unwrap_or("1.0.0");
    json!({"cniVersion": version, "supportedVersions": VERSIONS})
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn call(runtime: &Value) -> Result<Call, Failure> {
        let input = json!({
            "cniVersion": "1.0.0", "name": "net", "type": "tulle-cni",
            "prevResult": {"cniVersion": "1.0.0", "interfaces": []}, "runtimeConfig": runtime,
        });
        Call::read(input.to_string().as_bytes())
    }

    fn annotated(text: &str) -> Value {
        json!({"io.kubernetes.cri.pod-annotations": {"a": "b", "tulle.dev/redirect": text}})
    }

    #[test]
    fn the_annotation_decides() {
        for others in [
            json!(null),
            json!({}),
            json!(7),
            json!({"io.kubernetes.cri.pod-annotations": ["tulle.dev/redirect"], "dns": 7}),
            json!({"io.kubernetes.cri.pod-annotations": null, "dns": null, "portMappings": []}),
            json!({"io.kubernetes.cri.pod-annotations": {"a": "b"}, "dns": {"servers": null}}),
        ] {
            assert_eq!(call(&others).unwrap().redirect, None, "{others}");
        }
        let call = call(&annotated("--exclude-inbound-ports 22")).unwrap();
        assert_eq!(call.redirect, Options::parse("--exclude-inbound-ports 22").ok());
        assert_eq!(call.previous, Some(json!({"cniVersion": "1.0.0", "interfaces": []})));
    }

    #[test]
    fn resolvers_are_the_runtimes_to_say() {
        let mut runtime = annotated("--dns 15053");
        assert_eq!(call(&runtime).unwrap().redirect, None, "left to the agent");
        let expected: [IpAddr; 2] = ["10.96.0.10", "fd00::a"].map(|a| a.parse().unwrap());
        for name in ["servers", "Servers"] {
            runtime["dns"] =
                json!({name: ["10.96.0.10", "nonsense", 7, "fd00::a"], "searches": []});
            assert_eq!(call(&runtime).unwrap().redirect.unwrap().resolvers, expected);
        }
    }

    #[test]
    fn failures_say_what_is_wrong() {
        for (input, code, details) in [
            ("", 6, "EOF while parsing"),
            ("{}", 6, "missing field `cniVersion`"),
            (r#"{"cniVersion": "0.2.0"}"#, 1, "0.2.0 is none of 0.3.0"),
        ] {
            let failure = Call::read(input.as_bytes()).unwrap_err();
            assert_eq!(failure.code, code, "{failure}");
            assert!(failure.details.contains(details), "{failure}");
        }
        let failure = call(&annotated("--exclude-inbound-ports all")).unwrap_err();
        assert_eq!(
            (failure.code, failure.msg.as_str()),
            (
                100,
                "tulle-cni: annotation tulle.dev/redirect, which injection writes, makes no sense"
            )
        );
        assert!(failure.details.starts_with("invalid value 'all'"), "{failure}");
        let said = serde_json::to_value(failure).unwrap();
        assert_eq!((&said["cniVersion"], &said["code"]), (&json!("1.0.0"), &json!(100)));
    }

    #[test]
    fn versions_are_told_in_the_one_that_was_asked() {
        for (input, version) in [
            (r#"{"cniVersion": "1.1.0"}"#, "1.1.0"),
            (r#"{"cniVersion": "9.0.0"}"#, "1.0.0"),
            ("", "1.0.0"),
        ] {
            let said = versions(input.as_bytes());
            assert_eq!(said, json!({"cniVersion": version, "supportedVersions": VERSIONS}));
        }
    }
}
