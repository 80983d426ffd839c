//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;
use ipnet::IpNet;
use tulle_api::Duration;

use crate::{release::AllowedHost, telemetry::Prometheus};

/// Kubernetes YAML in; configuration and certificates out.
#[derive(Debug, Clone, Parser)]
#[command(name = "tulle-control-plane", version)]
pub struct Config {
    /// Read the objects of the cluster that this runs in (elsewhere: of KUBECONFIG), prove identities by its TokenReview,
    /// and write statuses into it.
    #[arg(long)]
    pub kubernetes: bool,
    /// Namespace of the control plane itself.
    #[arg(long, value_name = "NAME", env = "TULLE_NAMESPACE", default_value = "tulle-system", value_parser = domain)]
    pub namespace: String,
    /// Name of this replica, different from every other one's.
    #[arg(
        long,
        value_name = "NAME",
        env = "TULLE_POD_NAME",
        default_value = "tulle-control-plane"
    )]
    pub pod_name: String,
    /// File with what is set for all sidecars (injection.yaml); without it no webhook is served.
    #[arg(long, value_name = "FILE", requires = "kubernetes")]
    pub injection: Option<PathBuf>,
    /// Address of the webhook's port.
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:15017")]
    pub webhook: SocketAddr,
    /// Address of the port for people: HTTPS, with the dashboard and what `tulle stat` asks, by the cluster's own credentials.
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:15016")]
    pub console: SocketAddr,
    /// A Prometheus that scrapes the mesh, http://HOST:PORT or https://…: asked about what is longer ago than the control plane
    /// remembers, and what queries of releases ask.
    #[arg(long, value_name = "URL")]
    pub prometheus: Option<Prometheus>,
    /// Directory that says how it is asked, in files as Prometheus' own configuration has them: `ca_file`; `credentials_file`, or
    /// `username_file` and `password_file`. They are read at each question.
    #[arg(long, value_name = "DIR", requires = "prometheus")]
    pub prometheus_credentials: Option<PathBuf>,
    /// Hosts that releases may ask: a name, `*.` and a suffix, or an address; with a port unless that is the scheme's own,
    /// `gate.example.com,*.shop.svc.cluster.local:8080`. Repeatable. By default no webhook of a Release is called.
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub release_hosts: Vec<AllowedHost>,
    /// File with the authorities that sign these hosts' certificates, in PEM; by default those that this system trusts. It is
    /// read at each question.
    #[arg(long, value_name = "FILE", requires = "release_hosts")]
    pub release_ca: Option<PathBuf>,
    /// Directory of Kubernetes YAML to watch. Repeatable: an object in a later one replaces the
    /// same object in an earlier one.
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "kubernetes",
        conflicts_with = "kubernetes"
    )]
    pub directory: Vec<PathBuf>,
    /// Directory for what the control plane writes: statuses and the ConfigMaps `tulle-roots`.
    #[arg(long, value_name = "DIR", conflicts_with = "kubernetes")]
    pub output: Option<PathBuf>,
    /// Directory with root.pem and root.key; both are made if neither is there.
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "kubernetes",
        conflicts_with = "kubernetes"
    )]
    pub ca_directory: Option<PathBuf>,
    /// Trust domain of every identity.
    #[arg(long, value_name = "NAME", default_value = "cluster.local", value_parser = domain)]
    pub trust_domain: String,
    /// Suffix of the host names of Services.
    #[arg(long, value_name = "NAME", default_value = "cluster.local", value_parser = domain)]
    pub cluster_domain: String,
    /// Address range of pods or Services. Repeatable.
    #[arg(long, value_name = "CIDR")]
    pub mesh_range: Vec<IpNet>,
    /// JWKS file with the public keys that ServiceAccount tokens are signed with; read anew when it
    /// changes.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "kubernetes",
        conflicts_with = "kubernetes"
    )]
    pub token_keys: Option<PathBuf>,
    /// Issuer that tokens must have; any by default.
    #[arg(long, value_name = "ISSUER", conflicts_with = "kubernetes")]
    pub token_issuer: Option<String>,
    /// Audience that tokens must have.
    #[arg(long, value_name = "AUDIENCE", default_value = "tulle")]
    pub token_audience: String,
    /// How long a workload's certificate is valid.
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub certificate_lifetime: Duration,
    /// How long a new root is trusted beside the old one before certificates are signed by it: longer than a kubelet takes
    /// to bring a changed ConfigMap to its pods.
    #[arg(long, value_name = "DURATION", default_value = "10m", conflicts_with = "ca_directory")]
    pub root_overlap: Duration,
    /// Address of the gRPC port: certificates and configuration.
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:15010")]
    pub listen: SocketAddr,
    /// Address of the status port: `/ready` and `/metrics`.
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:15014")]
    pub status: SocketAddr,
    /// Unix socket for dumps, `/debug/…`; none by default.
    #[arg(long, value_name = "PATH")]
    pub admin_socket: Option<PathBuf>,
    /// How long a change waits for others to be published together with it.
    #[arg(long, value_name = "DURATION", default_value = "0ms")]
    pub debounce: Duration,
    /// What to log: a level, or a filter such as `info,tulle_xds=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub log: String,
}

/// SPIFFE-ID, 2.1: lower case letters, digits, `.`, `-` and `_`.
fn domain(text: &str) -> Result<String, String> {
    let allowed =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    let good = (1..=255).contains(&text.len()) && text.bytes().all(allowed);
    let wrong =
        || "use lower case letters, digits, '.', '-' and '_', as in cluster.local".to_owned();
    good.then(|| text.to_owned()).ok_or_else(wrong)
}
