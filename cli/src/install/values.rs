//! What an installation can choose: the values of `tulle install` and of the Helm chart, one type.
//!
//! `deploy/chart/values.yaml` and `values.schema.json` and the table in `docs/install.md` are made from
//! it (by the test in `generated.rs`): a doc comment here is what a user reads there.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tulle_control_plane::inject::{DataPlane, Injection, LogLevel, PullPolicy, Resources, Webhook};

/// Values of the installation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Values {
    /// Where the images are.
    pub(super) image: Image,
    /// What all identities of the mesh begin with: `spiffe://TRUST-DOMAIN/ns/…`. Certificates of another
    /// one are strangers': it is chosen once.
    pub(super) trust_domain: String,
    /// Suffix of the host names of Services, as the cluster's DNS has it.
    pub(super) cluster_domain: String,
    /// Address ranges of pods and Services, as `10.96.0.0/12`. An address inside that nobody has is
    /// refused by sidecars, and one outside passes through untouched. Without any, sidecars ask about
    /// addresses of private networks, and those that nobody has pass, too.
    pub(super) mesh_ranges: Vec<String>,
    /// The control plane's pods.
    pub(super) control_plane: ControlPlane,
    /// What sidecars get whose pods say nothing else by annotation.
    pub(super) injection: Sidecars,
    /// A NetworkPolicy for the control plane.
    pub(super) network_policy: NetworkPolicy,
    /// PodMonitors, by which the Prometheus of the Prometheus operator finds sidecars and control plane.
    pub(super) pod_monitor: PodMonitor,
    /// tulle-cni, which redirects the traffic of pods in place of an init container of theirs: for
    /// namespaces whose pods may not have `NET_ADMIN` (Pod Security `baseline` and `restricted`).
    pub(super) cni: Cni,
}

/// tulle-cni on every node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Cni {
    /// Whether it is there: a DaemonSet in `kube-system`. Pods that are there keep what they have until
    /// they start anew.
    pub(super) enabled: bool,
    /// Where the nodes' runtime finds CNI plugins.
    pub(super) bin_dir: String,
    /// Where it finds the configuration of the network.
    pub(super) conf_dir: String,
    /// What to log: a level, or a filter.
    pub(super) log: String,
    /// What it asks for on each node, and may use at most.
    pub(super) resources: Resources,
}

/// Where the images are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Image {
    /// Registry, and path in it, of tulle-control-plane, tulle-proxy, tulle-redirect and tulle-cni.
    pub(super) registry: String,
    /// Tag of all four; where it is empty, the version of this installation.
    pub(super) tag: String,
    /// Digests, as `sha256:…`: each takes the place of the tag.
    pub(super) digests: Digests,
    /// Image of stock Envoy, for pods whose data plane it is; nobody else fetches it.
    pub(super) envoy: String,
    /// When nodes fetch them.
    pub(super) pull_policy: PullPolicy,
    /// Names of Secrets for the registry, in the control plane's namespace, and in `kube-system` for
    /// tulle-cni. A pod with a sidecar fetches that one's images with its own pull secrets, or its
    /// ServiceAccount's.
    pub(super) pull_secrets: Vec<String>,
}

/// Digests of the images.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Digests {
    /// Of tulle-control-plane.
    pub(super) control_plane: String,
    /// Of tulle-proxy.
    pub(super) proxy: String,
    /// Of tulle-redirect.
    pub(super) redirect: String,
    /// Of tulle-cni.
    pub(super) cni: String,
}

/// The control plane's pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ControlPlane {
    /// How many there are. With two or more, new pods come into the mesh also while one restarts.
    #[schemars(range(min = 1))]
    pub(super) replicas: u32,
    /// How long a workload's certificate is valid; it is renewed at half of that.
    pub(super) certificate_lifetime: String,
    /// What to log: a level, or a filter such as `info,tulle_xds=debug`.
    pub(super) log: String,
    /// A Prometheus that scrapes the mesh, as `http://prometheus.monitoring:9090` or `https://…`: asked about
    /// what is longer ago than the control plane remembers, and what queries of releases ask. Empty for none.
    pub(super) prometheus: String,
    /// A Secret of the control plane's namespace that says how it is asked: `ca_file`, and `credentials_file`
    /// or `username_file` and `password_file`, as in Prometheus' own configuration. Empty for none.
    pub(super) prometheus_secret: String,
    /// Hosts whose webhooks releases may call: a name, `*.` and a suffix, or an address; with a port unless that is
    /// 80 or 443, as in `gate.example.com` or `*.shop.svc.cluster.local:8080`. Empty for none.
    pub(super) release_hosts: Vec<String>,
    /// A ConfigMap of the control plane's namespace in which `ca.crt` holds the authorities that sign certificates of
    /// `releaseHosts`. Empty for those that every system trusts.
    pub(super) release_authorities: String,
    /// What each pod asks for, and may use at most.
    pub(super) resources: Resources,
    /// Its PriorityClass, as `system-cluster-critical`; empty for none (some clusters admit that one only
    /// where a ResourceQuota names it).
    pub(super) priority_class_name: String,
    /// Labels of the nodes that it may run on.
    pub(super) node_selector: BTreeMap<String, String>,
    /// Taints of nodes that it tolerates, as in a pod.
    pub(super) tolerations: Vec<BTreeMap<String, Value>>,
    /// Labels to add to its pods.
    pub(super) pod_labels: BTreeMap<String, String>,
    /// Annotations to add to its pods.
    pub(super) pod_annotations: BTreeMap<String, String>,
    /// Arguments to add to its command line.
    pub(super) extra_args: Vec<String>,
}

/// What sidecars get.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Sidecars {
    /// How much a sidecar logs.
    pub(super) log_level: LogLevel,
    /// Of the requests that ended well one in so many has a line in the access log; 0 leaves it to the
    /// sidecar.
    pub(super) access_log_sample: u32,
    /// Whether sidecars answer DNS, for names of the cluster.
    pub(super) dns: bool,
    /// Who carries a pod's traffic.
    pub(super) data_plane: DataPlane,
    /// What the sidecar asks for, and may use at most.
    pub(super) proxy_resources: Resources,
    /// The same for the init container that redirects traffic.
    pub(super) redirect_resources: Resources,
    /// How the API server calls the injector.
    pub(super) webhook: Webhook,
}

/// A NetworkPolicy for the control plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NetworkPolicy {
    /// Whether there is one. It lets everybody in to the ports that the control plane serves, and nobody
    /// to another: for clusters in which what no policy allows is denied.
    pub(super) enabled: bool,
}

/// PodMonitors for the Prometheus operator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PodMonitor {
    /// Whether PodMonitors are there. The cluster must have the operator's kinds.
    pub(super) enabled: bool,
    /// Labels to add to them: those by which your Prometheus selects PodMonitors.
    pub(super) labels: BTreeMap<String, String>,
}

impl Default for Values {
    fn default() -> Self {
        let injection = Injection::default();
        Self {
            image: Image {
                registry: "tulle".to_owned(),
                tag: String::new(),
                digests: Digests::default(),
                envoy: injection.envoy_image,
                pull_policy: PullPolicy::IfNotPresent,
                pull_secrets: Vec::new(),
            },
            trust_domain: "cluster.local".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            mesh_ranges: Vec::new(),
            control_plane: ControlPlane {
                replicas: 2,
                certificate_lifetime: "24h".to_owned(),
                log: "info".to_owned(),
                prometheus: String::new(),
                prometheus_secret: String::new(),
                release_hosts: Vec::new(),
                release_authorities: String::new(),
                // No CPU limit: throttled, it would answer late when the cluster is busy.
                resources: Resources::new(
                    &[("cpu", "100m"), ("memory", "128Mi")],
                    &[("memory", "1Gi")],
                ),
                priority_class_name: String::new(),
                node_selector: BTreeMap::new(),
                tolerations: Vec::new(),
                pod_labels: BTreeMap::new(),
                pod_annotations: BTreeMap::new(),
                extra_args: Vec::new(),
            },
            injection: Sidecars {
                log_level: injection.log_level,
                access_log_sample: 0,
                dns: injection.dns,
                data_plane: injection.data_plane,
                proxy_resources: injection.proxy_resources,
                redirect_resources: injection.redirect_resources,
                webhook: injection.webhook,
            },
            network_policy: NetworkPolicy { enabled: false },
            pod_monitor: PodMonitor { enabled: false, labels: BTreeMap::new() },
            cni: Cni {
                enabled: false,
                bin_dir: "/opt/cni/bin".to_owned(),
                conf_dir: "/etc/cni/net.d".to_owned(),
                log: "info".to_owned(),
                resources: Resources::new(
                    &[("cpu", "10m"), ("memory", "16Mi")],
                    &[("memory", "64Mi")],
                ),
            },
        }
    }
}

/// The version of this program, of its images and of its chart.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Values {
    /// `registry/tulle-NAME:tag`, or `@digest`.
    pub(super) fn image(&self, name: &str, digest: &str) -> String {
        let Image { registry, tag, .. } = &self.image;
        let registry = registry.trim_end_matches('/');
        match (digest, tag.as_str()) {
            ("", "") => format!("{registry}/tulle-{name}:{VERSION}"),
            ("", tag) => format!("{registry}/tulle-{name}:{tag}"),
            (digest, _) => format!("{registry}/tulle-{name}@{digest}"),
        }
    }

    /// What `injection.yaml` says with a control plane in `namespace`.
    pub(super) fn injection(&self, namespace: &str) -> Injection {
        let Sidecars { log_level, access_log_sample, dns, data_plane, .. } = self.injection;
        Injection {
            proxy_image: self.image("proxy", &self.image.digests.proxy),
            redirect_image: self.image("redirect", &self.image.digests.redirect),
            envoy_image: self.image.envoy.clone(),
            image_pull_policy: Some(self.image.pull_policy),
            control_plane: format!("tulle-control-plane.{namespace}.svc:15010"),
            log_level,
            access_log_sample: (access_log_sample > 0).then_some(access_log_sample),
            dns,
            data_plane,
            cni: self.cni.enabled,
            proxy_resources: self.injection.proxy_resources.clone(),
            redirect_resources: self.injection.redirect_resources.clone(),
            webhook: self.injection.webhook.clone(),
        }
    }
}
