//! What Envoy and gRPC are started with.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tulle_xds::sds;

use super::files;
use crate::config::{Config, Pod};

/// The certificate provider that resources for gRPC name.
const PROVIDER: &str = "default";

/// How often gRPC looks at the files: they change hours before the old ones end.
const REFRESH: &str = "60s";

/// Envoy's: delta ADS over mTLS, all secrets by SDS from `sds`.
pub(super) fn envoy(config: &Config, sds: &Path) -> Value {
    let http2 = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {
                "connection_keepalive": {"interval": "30s", "timeout": "10s"},
            }},
        },
    });
    let endpoint = |cluster: &str, address: Value| {
        json!({
            "cluster_name": cluster,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        })
    };
    let (host, port) = (&config.control_plane.host, config.control_plane.port);
    let kind = if host.parse::<IpAddr>().is_ok() { "STATIC" } else { "STRICT_DNS" };
    let control_plane = json!({
        "name": "tulle-control-plane",
        "type": kind,
        "connect_timeout": "5s",
        "respect_dns_ttl": true,
        "typed_extension_protocol_options": http2,
        "load_assignment": endpoint(
            "tulle-control-plane",
            json!({"socket_address": {"address": host, "port_value": port}}),
        ),
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": config.control_plane.name,
                "common_tls_context": control_plane_tls(&config.control_plane.name),
            },
        },
    });
    let secrets = json!({
        "name": SDS_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": http2,
        "load_assignment": endpoint(SDS_CLUSTER, json!({"pipe": {"path": sds}})),
    });
    let ads = json!({"ads": {}, "resource_api_version": "V3"});
    // What reveals and changes is for whoever may read the secrets, too.
    let admin = envoy_admin(sds);
    json!({
        "node": node(&config.pod, config.zone.as_deref()),
        "admin": {"address": {"pipe": {"path": admin, "mode": 0o600}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {
                    "cluster_name": "tulle-control-plane",
                    // By default it waits for up to 30 s. Refused or not is one to Envoy: it comes back as soon as our
                    // own sidecars do after a refusal.
                    "retry_policy": {"retry_back_off": {"base_interval": "0.1s", "max_interval": "0.5s"}},
                }}],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
        "static_resources": {"clusters": [control_plane, secrets]},
    })
}

/// The socket of Envoy's admin pages: beside that of its secrets.
pub(super) fn envoy_admin(sds: &Path) -> PathBuf {
    sds.with_file_name("envoy-admin.sock")
}

/// The cluster over which Envoy reaches the agent: what the control plane sends names it as well.
const SDS_CLUSTER: &str = "tulle-sds";

fn control_plane_tls(name: &str) -> Value {
    let secret = |name: &str| {
        json!({
            "name": name,
            "sds_config": {
                "resource_api_version": "V3",
                "api_config_source": {
                    "api_type": "GRPC",
                    "transport_api_version": "V3",
                    "grpc_services": [{"envoy_grpc": {"cluster_name": SDS_CLUSTER}}],
                },
            },
        })
    };
    json!({
        "alpn_protocols": ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificate_sds_secret_configs": [secret(sds::CERTIFICATE)],
        "combined_validation_context": {
            "default_validation_context": {
                "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": name}}],
            },
            "validation_context_sds_secret_config": secret(sds::ROOTS),
        },
    })
}

/// gRPC's: ADS through the relay at port `ads`, certificates from the files in `files`.
///
/// No TLS protects the connection to the relay, which does not leave the pod; the relay's own is mTLS.
pub(super) fn grpc(config: &Config, ads: u16, files: &Path) -> Value {
    json!({
        "xds_servers": [{
            "server_uri": format!("127.0.0.1:{ads}"),
            "channel_creds": [{"type": "insecure"}],
            "server_features": ["xds_v3"],
        }],
        "node": node(&config.pod, config.zone.as_deref()),
        "certificate_providers": {
            PROVIDER: {
                "plugin_name": "file_watcher",
                "config": {
                    "certificate_file": files.join(files::CERTIFICATE),
                    "private_key_file": files.join(files::KEY),
                    "ca_certificate_file": files.join(files::ROOTS),
                    "refresh_interval": REFRESH,
                },
            },
        },
        "server_listener_resource_name_template": "grpc/server?xds.resource.listening_address=%s",
    })
}

/// Who this is. The control plane takes the id for nothing but a check against the certificate.
/// Without a locality, gRPC's Node implementation fails with an error that does not say so.
fn node(pod: &Pod, zone: Option<&str>) -> Value {
    json!({
        "id": pod.full_name(),
        "cluster": format!("{}/{}", pod.namespace, pod.service_account),
        "locality": {"region": "", "zone": zone.unwrap_or_default(), "sub_zone": ""},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(host: &str) -> Config {
        let host = format!("{host}:15010");
        let set = [
            ("TULLE_POD_NAME", "web-0"),
            ("TULLE_POD_NAMESPACE", "shop"),
            ("TULLE_POD_UID", "12ab"),
            ("TULLE_POD_IPS", "10.244.0.7"),
            ("TULLE_CONTROL_PLANE", &host),
        ];
        Config::for_tests(&set)
    }

    #[test]
    fn grpc_finds_relay_files_and_itself() {
        let json = grpc(&config("cp"), 15012, Path::new("/run/g/files"));
        assert_eq!(json["xds_servers"][0]["server_uri"], "127.0.0.1:15012");
        assert_eq!(json["node"]["id"], "shop/web-0");
        assert!(json["node"]["locality"].is_object());
        let watched = &json["certificate_providers"]["default"]["config"];
        assert_eq!(watched["private_key_file"], "/run/g/files/key.pem");
    }

    #[test]
    fn envoy_proves_who_it_is_and_whom_it_asks() {
        // By address it is known by the usual name.
        let usual = "tulle-control-plane.tulle-system.svc";
        for (host, kind, name) in [
            ("cp.svc", "STRICT_DNS", "cp.svc"),
            ("10.0.0.1", "STATIC", usual),
            ("[fd00::1]", "STATIC", usual),
        ] {
            let json = envoy(&config(host), Path::new("/run/tulle/sds.sock"));
            let cluster = &json["static_resources"]["clusters"][0];
            assert_eq!(cluster["type"], kind);
            let tls = &cluster["transport_socket"]["typed_config"]["common_tls_context"];
            let sans = &tls["combined_validation_context"]["default_validation_context"]["match_typed_subject_alt_names"];
            assert_eq!(sans[0]["matcher"]["exact"], name);
            assert_eq!(tls["tls_certificate_sds_secret_configs"][0]["name"], "default");
        }
    }
}
