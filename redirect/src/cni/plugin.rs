//! The plugin itself: one call of the runtime's.

use std::{fs::File, path::Path};

use super::{
    call::{Call, Code, Failure, versions},
    enter,
};

/// What the specification hands over in the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub command: String,
    /// `CNI_NETNS`, which DEL may lack.
    pub netns: String,
}

/// Does what the runtime asks; the answer is for standard output. `tools` is the folder of
/// [`super::TOOLS`], which this process may enter for good.
///
/// # Errors
/// [`Failure`], for standard output too: the pod does not start, and the runtime tries again.
pub fn run(asked: &Environment, input: &[u8], tools: &Path) -> Result<String, Failure> {
    match asked.command.as_str() {
        "VERSION" => Ok(versions(input).to_string()),
        "ADD" => add(asked, Call::read(input)?, tools),
        "CHECK" => check(asked, &Call::read(input)?),
        // The rules end with the pod's network namespace. A pod must always be able to go, and a
        // node is never unready because of us.
        "DEL" | "GC" | "STATUS" => Ok(String::new()),
        other => {
            let details = format!("{other:?} is no command of CNI's");
            Err(Failure::new("1.0.0", Code::Environment, "CNI_COMMAND", details))
        }
    }
}

fn add(asked: &Environment, call: Call, tools: &Path) -> Result<String, Failure> {
    let Call { version, previous, redirect } = call;
    let Some(previous) = previous else {
        let details = "there is no prevResult: it makes no network, and comes after what does";
        return Err(Failure::new(&version, Code::Config, "it must be chained", details));
    };
    if let Some(options) = redirect {
        let namespace = open(asked, &version)?;
        enter::redirect(&namespace, tools, &options).map_err(|error| {
            let what = "cannot redirect the pod's traffic to its sidecar";
            Failure::new(&version, Code::Redirect, what, error)
        })?;
    }
    Ok(previous.to_string())
}

fn check(asked: &Environment, call: &Call) -> Result<String, Failure> {
    if call.redirect.is_some() {
        let there = enter::is_redirected(&open(asked, &call.version)?);
        let what = "the pod's traffic is not redirected to its sidecar";
        let failed = |details| Failure::new(&call.version, Code::Redirect, what, details);
        if !there.map_err(|error| failed(error.to_string()))? {
            return Err(failed("the rules are gone: start the pod anew".to_owned()));
        }
    }
    Ok(String::new())
}

fn open(asked: &Environment, version: &str) -> Result<File, Failure> {
    File::open(&asked.netns).map_err(|error| {
        let details = format!("{:?}: {error}", asked.netns);
        Failure::new(version, Code::Environment, "CNI_NETNS", details)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(command: &str) -> Environment {
        Environment { command: command.to_owned(), netns: "/nowhere".to_owned() }
    }

    const PLAIN: &[u8] = br#"{"cniVersion": "1.0.0", "prevResult": {"ips": [], "mtu": 9}}"#;
    const MESHED: &[u8] = br#"{"cniVersion": "1.0.0", "prevResult": {},
        "runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"tulle.dev/redirect": ""}}}"#;

    #[test]
    fn other_pods_are_not_touched() {
        let tools = Path::new("/nowhere");
        let said = run(&asked("ADD"), PLAIN, tools).unwrap();
        assert_eq!(said, r#"{"ips":[],"mtu":9}"#);
        assert_eq!(run(&asked("CHECK"), PLAIN, tools), Ok(String::new()));
    }

    #[test]
    fn a_pod_of_the_mesh_is_redirected_or_does_not_start() {
        for command in ["ADD", "CHECK"] {
            let failure = run(&asked(command), MESHED, Path::new("/nowhere")).unwrap_err();
            assert!(failure.to_string().contains("\"/nowhere\": No such file"), "{failure}");
        }
    }

    #[test]
    fn nobody_is_kept_from_going() {
        for command in ["DEL", "GC", "STATUS"] {
            for input in [b"".as_slice(), b"{", PLAIN, MESHED] {
                assert_eq!(run(&asked(command), input, Path::new("/")), Ok(String::new()));
            }
        }
    }

    #[test]
    fn mistakes_are_named() {
        let alone = br#"{"cniVersion": "0.4.0"}"#;
        for (command, said) in [("ADD", "comes after what does"), ("", "is no command of CNI's")] {
            let failure = run(&asked(command), alone, Path::new("/")).unwrap_err().to_string();
            assert!(failure.contains(said), "{failure}");
        }
    }
}
