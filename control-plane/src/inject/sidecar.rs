//! The containers and volumes of the sidecar.

use k8s_openapi::{
    api::core::v1::{
        Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource,
        EnvVar, EnvVarSource, ExecAction, HTTPGetAction, Lifecycle, LifecycleHandler,
        ObjectFieldSelector, Probe, ProjectedVolumeSource, ResourceRequirements, SeccompProfile,
        SecurityContext, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};

use super::{DataPlane, PROXY, PROXY_UID, REDIRECT, Resources, Settings, annotations::Overrides};

/// `/ready`, `/started`, `/metrics` and the application's probes, on the pod's address.
pub(super) const STATUS_PORT: i32 = 15021;

/// DNS of the pod's first resolver, on loopback; of the others on the next two.
pub(super) const DNS_PORT: i32 = 15053;

/// Who waits for the redirection: not the sidecar's user, whose own connections are not redirected.
const WAIT_UID: i64 = 5052;

/// What the sidecar does for the kubelet.
pub(super) const PROBES: &str = "TULLE_PROBES";

const PROGRAM: &str = "tulle-proxy";
const TOKEN: (&str, &str) = ("tulle-token", "/var/run/secrets/tulle/token");
const ROOTS: (&str, &str) = ("tulle-roots", "/var/run/secrets/tulle/roots");
pub(super) const RUN: (&str, &str) = ("tulle-run", "/run/tulle");
const AUDIENCE: &str = "tulle";
/// The kubelet replaces a token when a fifth of its time is left.
const TOKEN_SECONDS: i64 = 3600;

/// What a sidecar is told about its pod: variable, field.
const POD_FIELDS: [(&str, &str); 5] = [
    ("TULLE_POD_NAME", "metadata.name"),
    ("TULLE_POD_NAMESPACE", "metadata.namespace"),
    ("TULLE_POD_UID", "metadata.uid"),
    ("TULLE_POD_IPS", "status.podIPs"),
    ("TULLE_SERVICE_ACCOUNT", "spec.serviceAccountName"),
];

/// What is to be redirected of the pod: options of `tulle-proxy redirect`, each followed by its value.
pub(super) fn redirection(overrides: &Overrides, settings: &Settings) -> Vec<String> {
    let mut options = overrides.redirect.clone();
    if dns(overrides, settings) {
        options.extend(["--dns".to_owned(), DNS_PORT.to_string()]);
    }
    options
}

/// The init container that programs the redirection and ends; with tulle-cni, the one that ends once
/// it finds the pod's traffic redirected.
pub(super) fn redirect(overrides: &Overrides, settings: &Settings) -> Container {
    let (image, wait, security) = match settings.cni {
        true => (&settings.proxy_image, Some("--wait".to_owned()), unprivileged(WAIT_UID)),
        false => (&settings.redirect_image, None, network_admin()),
    };
    let args = ["redirect".to_owned()].into_iter().chain(wait);
    Container {
        name: REDIRECT.to_owned(),
        image: Some(image.clone()),
        image_pull_policy: settings.image_pull_policy.clone(),
        command: Some(vec![PROGRAM.to_owned()]),
        args: Some(args.chain(redirection(overrides, settings)).collect()),
        resources: Some(resources(&settings.redirect_resources)),
        security_context: Some(security),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

/// Kubernetes has no ambient capabilities: only uid 0 keeps those that are added.
fn network_admin() -> SecurityContext {
    SecurityContext {
        run_as_user: Some(0),
        run_as_group: Some(0),
        run_as_non_root: Some(false),
        capabilities: Some(Capabilities {
            add: Some(vec!["NET_ADMIN".to_owned(), "NET_RAW".to_owned()]),
            drop: Some(vec!["ALL".to_owned()]),
        }),
        ..confined()
    }
}

/// What Pod Security's level `restricted` asks for, and a root that nothing writes to.
fn unprivileged(user: i64) -> SecurityContext {
    SecurityContext {
        run_as_user: Some(user),
        run_as_group: Some(user),
        run_as_non_root: Some(true),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        ..confined()
    }
}

/// Whether the pod's questions about names go to its sidecar: Envoy and gRPC answer none.
fn dns(overrides: &Overrides, settings: &Settings) -> bool {
    let ours = overrides.data_plane.unwrap_or(settings.data_plane) == DataPlane::Tulle;
    ours && overrides.dns.unwrap_or(settings.dns)
}

/// The sidecar itself. `probes` is what it shall do for the kubelet.
pub(super) fn proxy(
    overrides: &Overrides,
    probes: Option<String>,
    settings: &Settings,
) -> Container {
    Container {
        name: PROXY.to_owned(),
        image: Some(settings.proxy_image.clone()),
        image_pull_policy: settings.image_pull_policy.clone(),
        command: Some(vec![PROGRAM.to_owned()]),
        args: Some(vec!["run".to_owned()]),
        // What makes an init container a sidecar.
        restart_policy: Some("Always".to_owned()),
        env: Some(environment(overrides, probes, settings)),
        ports: Some(vec![ContainerPort {
            name: Some("tulle-status".to_owned()),
            container_port: STATUS_PORT,
            ..ContainerPort::default()
        }]),
        // Containers after it wait for its startup, which a release does not hold up. Ten minutes outlast a restart of the
        // control plane; to be started again would not help sooner.
        startup_probe: Some(Probe {
            period_seconds: Some(1),
            failure_threshold: Some(600),
            ..says("/started")
        }),
        readiness_probe: Some(Probe {
            period_seconds: Some(2),
            failure_threshold: Some(3),
            ..says("/ready")
        }),
        // The kubelet sends a sidecar SIGTERM only after the application has ended, but runs this
        // at once: new requests must stop coming before that.
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                exec: Some(ExecAction {
                    command: Some(vec![PROGRAM.to_owned(), "drain".to_owned()]),
                }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        resources: Some(resources(&settings.proxy_resources)),
        security_context: Some(unprivileged(PROXY_UID)),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![
            mount(TOKEN, Some(true)),
            mount(ROOTS, Some(true)),
            mount(RUN, None),
        ]),
        ..Container::default()
    }
}

/// The sidecar's volumes: its token, the roots that it trusts first, and its socket.
pub(super) fn volumes() -> Vec<Volume> {
    let token = ServiceAccountTokenProjection {
        audience: Some(AUDIENCE.to_owned()),
        expiration_seconds: Some(TOKEN_SECONDS),
        path: "token".to_owned(),
    };
    vec![
        Volume {
            name: TOKEN.0.to_owned(),
            projected: Some(ProjectedVolumeSource {
                sources: Some(vec![VolumeProjection {
                    service_account_token: Some(token),
                    ..VolumeProjection::default()
                }]),
                ..ProjectedVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: ROOTS.0.to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: ROOTS.0.to_owned(),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: RUN.0.to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                size_limit: Some(Quantity("1Mi".to_owned())),
            }),
            ..Volume::default()
        },
    ]
}

fn environment(overrides: &Overrides, probes: Option<String>, settings: &Settings) -> Vec<EnvVar> {
    let field = |(name, path): (&str, &str)| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { field_path: path.to_owned(), api_version: None }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let value = |name: &str, value: String| EnvVar {
        name: name.to_owned(),
        value: Some(value),
        ..EnvVar::default()
    };
    let sample = settings.access_log_sample;
    let level = overrides.log_level.as_ref().unwrap_or(&settings.log_level);
    POD_FIELDS
        .into_iter()
        .map(field)
        .chain([
            value("TULLE_CONTROL_PLANE", settings.control_plane.clone()),
            value("TULLE_LOG", level.clone()),
        ])
        .chain(sample.map(|sample| value("TULLE_ACCESS_LOG_SAMPLE", sample.to_string())))
        .chain(overrides.drain_time.map(|s| value("TULLE_DRAIN_TIME", s.to_string())))
        .chain(dns(overrides, settings).then(|| value("TULLE_DNS_PORT", DNS_PORT.to_string())))
        .chain(probes.map(|probes| value(PROBES, probes)))
        .collect()
}

fn says(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(STATUS_PORT),
            ..HTTPGetAction::default()
        }),
        timeout_seconds: Some(3),
        ..Probe::default()
    }
}

fn confined() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        privileged: Some(false),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..SecurityContext::default()
    }
}

pub(super) fn mount((name, path): (&str, &str), read_only: Option<bool>) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only,
        ..VolumeMount::default()
    }
}

fn resources(resources: &Resources) -> ResourceRequirements {
    let some =
        |map: &std::collections::BTreeMap<String, Quantity>| (!map.is_empty()).then(|| map.clone());
    ResourceRequirements {
        requests: some(&resources.requests),
        limits: some(&resources.limits),
        claims: None,
    }
}
