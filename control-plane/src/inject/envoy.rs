//! Stock Envoy as the sidecar: two containers made of our own sidecar's one.
//!
//! ```text
//! tulle-agent   enrols, serves certificate and roots on a Unix socket, writes Envoy's bootstrap,
//!               asks the application for the kubelet, drains Envoy before anybody is to end
//! tulle-proxy   Envoy, started when these are there
//! ```
//!
//! Both run as the sidecar's uid, so that the redirection leaves them alone.

use k8s_openapi::{api::core::v1::Container, apimachinery::pkg::util::intstr::IntOrString};
use serde_json::json;

use super::{AGENT, sidecar};

/// Envoy's `/ready` and `/metrics`, on the pod's addresses. The agent has the sidecar's port.
const STATUS_PORT: i32 = 15020;

/// The agent, in the environment of `sidecar`.
pub(super) fn agent(sidecar: Container) -> Container {
    let run = sidecar::RUN.1;
    let options = ["agent", "--sds", &format!("{run}/sds.sock"), "--envoy-bootstrap", &bootstrap()];
    Container {
        name: AGENT.to_owned(),
        args: Some(options.map(ToOwned::to_owned).into()),
        // Its preStop hook drains Envoy, in whose image there is nothing that could ask for it.
        ..sidecar
    }
}

/// Envoy, where `sidecar` would be.
pub(super) fn proxy(sidecar: Container, image: &str) -> Container {
    let arguments = [
        "-c",
        &bootstrap(),
        "--config-yaml",
        &status().to_string(),
        // Its shared memory has one name on the whole machine.
        "--disable-hot-restart",
        "--concurrency",
        "2",
        "--log-level",
        "warning",
        // Its access log would be ten seconds late.
        "--file-flush-interval-msec",
        "500",
    ];
    let ready = |probe| {
        let mut probe: k8s_openapi::api::core::v1::Probe = probe;
        if let Some(http) = &mut probe.http_get {
            http.port = IntOrString::Int(STATUS_PORT);
        }
        probe
    };
    Container {
        image: Some(image.to_owned()),
        command: Some(vec!["envoy".to_owned()]),
        args: Some(arguments.map(ToOwned::to_owned).into()),
        env: None,
        ports: None,
        startup_probe: sidecar.startup_probe.map(ready),
        readiness_probe: sidecar.readiness_probe.map(ready),
        lifecycle: None,
        volume_mounts: sidecar.volume_mounts.map(|mounts| {
            mounts.into_iter().filter(|mount| mount.name == sidecar::RUN.0).collect()
        }),
        ..sidecar
    }
}

/// Where the agent leaves it.
fn bootstrap() -> String {
    format!("{}/envoy.json", sidecar::RUN.1)
}

/// What Envoy has beside its bootstrap: two of its admin pages, read-only, for kubelet and
/// Prometheus (all others stay on the Unix socket), and its bounds.
fn status() -> serde_json::Value {
    let route = |path: &str, page: &str| {
        json!({
            "match": {"path": path},
            "route": {"cluster": "envoy-admin", "prefix_rewrite": page},
        })
    };
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "status",
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            },
        }],
        "route_config": {"virtual_hosts": [{
            "name": "status",
            "domains": ["*"],
            "routes": [route("/ready", "/ready"), route("/started", "/ready"), route("/metrics", "/stats/prometheus")],
        }]},
    });
    let admin = json!({"pipe": {"path": format!("{}/envoy-admin.sock", sidecar::RUN.1)}});
    // Envoy refuses regular expressions that are not tiny, and with one the whole route. What the
    // control plane lets through is bounded.
    let runtime = json!({"layers": [{
        "name": "tulle",
        "static_layer": {"re2.max_program_size.error_level": u32::MAX},
    }]});
    json!({"layered_runtime": runtime, "static_resources": {
        "listeners": [{
            "name": "status",
            "address": {"socket_address": {
                "address": "::", "port_value": STATUS_PORT, "ipv4_compat": true,
            }},
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": manager,
            }]}],
        }],
        "clusters": [{
            "name": "envoy-admin",
            "type": "STATIC",
            "load_assignment": {
                "cluster_name": "envoy-admin",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": admin}}]}],
            },
        }],
    }})
}
