use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Cidr, PolicyStatus, ProxySettings,
    validate::{Problem, Problems, Validate},
};

/// Settings of the mesh itself.
#[derive(
    CustomResource, JsonSchema, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize,
)]
#[kube(
    group = "tulle.dev",
    version = "v1alpha1",
    kind = "MeshConfig",
    plural = "meshconfigs",
    shortname = "mc",
    category = "tulle",
    status = "PolicyStatus",
    derive = "PartialEq",
    doc = "MeshConfig holds the settings of the mesh itself. There is one, named `default`; without it every setting has its default.",
    validation = kube::core::Rule::new("self.metadata.name == 'default'")
        .message("metadata.name: there is one MeshConfig; name it `default`"),
    printcolumn(name = "External", type_ = "string", json_path = ".spec.externalTraffic")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MeshConfigSpec {
    /// What a sidecar does with traffic to addresses outside of the mesh's ranges. `Pass` (the
    /// default) lets it go where it was going; `Refuse` refuses it with reason `external_refused`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ExternalTraffic")] // else the field's own text is lost
    pub external_traffic: Option<ExternalTraffic>,
    /// Ranges of the addresses of pods and Services, besides those that the control plane was
    /// started with. An address inside that the mesh does not know is refused, never passed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub mesh_ranges: Vec<Cidr>,
    /// What a sidecar does with questions for names of the cluster, in pods whose DNS is redirected to
    /// it (annotation `tulle.dev/dns`). `Answer` (the default) answers them from what the mesh knows;
    /// `PassOn` leaves all of them to the pod's own resolver.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Dns")] // else the field's own text is lost
    pub dns: Option<Dns>,
    /// Settings of every sidecar's own data path; annotations of a pod come before them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ProxySettings")] // else the field's own text is lost
    pub proxy: Option<ProxySettings>,
}

/// What a sidecar does with questions for names of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Dns {
    /// It answers them from what the mesh knows.
    #[default]
    Answer,
    /// It leaves them to the pod's own resolver.
    PassOn,
}

/// What a sidecar does with traffic that leaves the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ExternalTraffic {
    /// It goes where it was going.
    #[default]
    Pass,
    /// It is refused.
    Refuse,
}

impl Validate for MeshConfig {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        let name = self.metadata.name.as_deref().unwrap_or_default();
        problems.check(name != "default", "metadata.name", || {
            format!("{name:?} is not used: there is one MeshConfig; name it `default`")
        });
        problems.into_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_named_default_counts() {
        assert_eq!(MeshConfig::new("default", MeshConfigSpec::default()).problems(), []);
        let other = MeshConfig::new("other", MeshConfigSpec::default()).problems();
        assert_eq!(other[0].field, "metadata.name");
    }

    #[test]
    fn unknown_settings_are_refused() {
        let error = serde_yaml_ng::from_str::<MeshConfigSpec>("externalTrafic: Refuse")
            .expect_err("a misspelt field")
            .to_string();
        assert!(error.contains("unknown field `externalTrafic`"), "{error}");
    }
}
