//! Gateway API's kinds: brought where a cluster has none, and else left alone. Others use them too.

use std::sync::OnceLock;

use kube::{Client, api::PostParams, core::DynamicObject};
use serde_json::Value;

use crate::cluster::{found, objects_like};

/// Definitions of the kinds that Tulle reads, of the standard channel.
const KINDS: [&str; 5] = [
    include_str!("../../../deploy/gateway-api/grpcroutes.yaml"),
    include_str!("../../../deploy/gateway-api/httproutes.yaml"),
    include_str!("../../../deploy/gateway-api/referencegrants.yaml"),
    include_str!("../../../deploy/gateway-api/tcproutes.yaml"),
    include_str!("../../../deploy/gateway-api/tlsroutes.yaml"),
];

/// The definitions of the kinds that Tulle reads.
pub(crate) fn kinds() -> Vec<Value> {
    let parse = || KINDS.map(|yaml| serde_yaml_ng::from_str(yaml).expect("a test reads each"));
    static PARSED: OnceLock<[Value; KINDS.len()]> = OnceLock::new();
    PARSED.get_or_init(parse).to_vec()
}

pub(super) fn version(definition: &Value) -> &str {
    let annotations = &definition["metadata"]["annotations"];
    annotations["gateway.networking.k8s.io/bundle-version"].as_str().unwrap_or("of no version")
}

/// The definitions that the cluster lacks, and a line for each that it has in another version.
pub(super) async fn missing(client: &Client) -> Result<(Vec<Value>, Vec<String>), kube::Error> {
    let (mut missing, mut notes) = (Vec::new(), Vec::new());
    for definition in kinds() {
        let name = definition["metadata"]["name"].as_str().unwrap_or_default();
        match found(objects_like(client, &definition).get(name).await)? {
            None => missing.push(definition),
            Some(live) => {
                let live = serde_json::to_value(live).unwrap_or_default();
                let (theirs, ours) = (version(&live), version(&definition));
                if theirs != ours {
                    notes.push(format!(
                        "{name} is there, {theirs} (Tulle brings {ours}): left alone"
                    ));
                }
            }
        }
    }
    Ok((missing, notes))
}

/// Creates a definition; one that somebody else has made meanwhile stays theirs.
pub(super) async fn create(client: &Client, definition: &Value) -> Result<(), kube::Error> {
    let object: DynamicObject =
        serde_json::from_value(definition.clone()).map_err(kube::Error::SerdeError)?;
    match objects_like(client, definition).create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        outcome => outcome.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_read_and_of_one_version_of_the_standard_channel() {
        for definition in kinds() {
            let name = definition["metadata"]["name"].as_str().expect("a name");
            assert!(name.ends_with(".gateway.networking.k8s.io"), "{name}");
            assert_eq!(version(&definition), "v1.6.3", "{name}");
            let channel =
                &definition["metadata"]["annotations"]["gateway.networking.k8s.io/channel"];
            assert_eq!(channel, "standard", "{name}");
        }
    }
}
