//! What is chosen once: an upgrade changes it if it is told to, and not because it was not told.

use serde_json::Value;

use super::{Error, objects::NAME};

/// The value, the control plane's option that it becomes, and what hangs on it.
const ONCE: [(&str, &str, &str); 2] = [
    (
        "trustDomain",
        "--trust-domain=",
        "with another one every identity of the mesh changes, and calls fail between pods that have their new \
         certificate and pods that have not",
    ),
    (
        "clusterDomain",
        "--cluster-domain=",
        "with another one the sidecars take the full names of Services for strangers'",
    ),
];

/// Compares the Deployment that runs (`live`) with the one of `wanted`. `said` is what the user said of the
/// values.
///
/// # Errors
/// [`Error::Once`] names each that would change and is not said.
pub(super) fn refuse(live: &Value, wanted: &[Value], said: &Value) -> Result<(), Error> {
    let deployment = wanted
        .iter()
        .find(|object| object["kind"] == "Deployment" && object["metadata"]["name"] == NAME);
    let changes: Vec<String> = ONCE
        .into_iter()
        .filter(|(name, ..)| said.get(name).is_none())
        .filter_map(|(name, option, why)| {
            let (before, after) = (argument(live, option)?, argument(deployment?, option)?);
            let text = format!(
                "{name} is {before} in this installation, and would become {after}, because neither -f nor \
                 --set says it: {why}. To keep it, write `{name}: {before}` into your values, or --set \
                 {name}={before}; if it shall change, --set {name}={after}"
            );
            (before != after).then_some(text)
        })
        .collect();
    match changes.is_empty() {
        true => Ok(()),
        false => Err(Error::Once(changes.join("\nerror: "))),
    }
}

/// What the control plane of a Deployment is told by an option, `--trust-domain=`. The last one wins, as on the command
/// line.
pub(crate) fn argument<'a>(deployment: &'a Value, option: &str) -> Option<&'a str> {
    let arguments = deployment.pointer("/spec/template/spec/containers/0/args")?.as_array()?;
    arguments.iter().rev().find_map(|argument| argument.as_str()?.strip_prefix(option))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::install::{objects, values::Values};

    /// The control plane's Deployment, and all objects, with these domains.
    fn installed(trust: &str, cluster: &str) -> (Value, Vec<Value>) {
        let mut values = Values::default();
        (values.trust_domain, values.cluster_domain) = (trust.to_owned(), cluster.to_owned());
        let objects = objects::all(&values, "tulle-system");
        (objects.last().cloned().expect("the Deployment"), objects)
    }

    #[test]
    fn what_was_chosen_once_changes_only_if_it_is_said() {
        let own = ("example.org", "k8s.example.org");
        let default = ("cluster.local", "cluster.local");
        for (before, after, said, refused) in [
            (own, default, json!({}), &["trustDomain", "clusterDomain"][..]),
            (
                own,
                default,
                json!({"controlPlane": {"replicas": 3}}),
                &["trustDomain", "clusterDomain"],
            ),
            (own, ("cluster.local", own.1), json!({"clusterDomain": own.1}), &["trustDomain"]),
            (own, (own.0, "cluster.local"), json!({"trustDomain": own.0}), &["clusterDomain"]),
            // Said, even if it is the default.
            (own, default, json!({"trustDomain": default.0, "clusterDomain": default.1}), &[]),
            (default, own, json!({"trustDomain": own.0, "clusterDomain": own.1}), &[]),
            (own, own, json!({"trustDomain": own.0, "clusterDomain": own.1}), &[]),
            (default, default, json!({}), &[]),
        ] {
            let (live, _) = installed(before.0, before.1);
            let (_, wanted) = installed(after.0, after.1);
            let refusal = refuse(&live, &wanted, &said).err().map(|error| error.to_string());
            let text = refusal.unwrap_or_default();
            let named: Vec<_> =
                text.split("\nerror: ").filter_map(|line| line.split(' ').next()).collect();
            let named: Vec<_> = named.into_iter().filter(|name| !name.is_empty()).collect();
            assert_eq!(named, refused, "{before:?} {after:?} {said}");
        }
    }

    #[test]
    fn the_refusal_says_what_to_write() {
        let (mut live, _) = installed("example.org", "cluster.local");
        let (_, wanted) = installed("cluster.local", "cluster.local");
        let text = refuse(&live, &wanted, &json!({})).expect_err("changed").to_string();
        for part in [
            "trustDomain is example.org in this installation, and would become cluster.local",
            "write `trustDomain: example.org` into your values, or --set trustDomain=example.org;",
            "if it shall change, --set trustDomain=cluster.local",
        ] {
            assert!(text.contains(part), "{text}");
        }
        // What a hand has made of it: nothing to compare with.
        live["spec"]["template"]["spec"]["containers"] = json!([{"name": "other"}]);
        assert!(refuse(&live, &wanted, &json!({})).is_ok());
    }
}
