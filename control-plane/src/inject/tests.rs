use std::{env, fs};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::*;

fn pod(yaml: &str) -> Pod {
    serde_yaml_ng::from_str(yaml).expect("a pod")
}

fn labels(value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(LABEL.to_owned(), value.to_owned())])
}

fn decide(yaml: &str) -> Result<Decision, Refusal> {
    inject(&pod(yaml), &labels("enabled"), &settings())
}

/// The same at each run.
fn settings() -> Settings {
    let probe_key = ProbeKey::from_secret(b"not random at all").expect("long enough");
    Settings { probe_key, ..Settings::default() }
}

const PLAIN: &str = "
metadata: {name: reviews, namespace: bookstore}
spec: {containers: [{name: app, image: app}]}
";

#[test]
fn golden() {
    let yaml = "
apiVersion: v1
kind: Pod
metadata:
  name: reviews
  namespace: bookstore
  labels: {app: reviews}
  annotations:
    tulle.dev/exclude-inbound-ports: '9100, 9101'
    tulle.dev/exclude-outbound-cidrs: 192.0.2.0/24
    tulle.dev/proxy-log-level: debug
spec:
  serviceAccountName: reviews
  initContainers: [{name: migrate, image: migrate}]
  containers:
  - name: app
    image: app
    ports: [{name: http, containerPort: 9080}]
    startupProbe: {tcpSocket: {port: http}, periodSeconds: 1}
    readinessProbe: {httpGet: {port: http, path: /ready}, timeoutSeconds: 3}
    livenessProbe: {exec: {command: [check]}}
  volumes: [{name: data, emptyDir: {}}]
";
    let Ok(Decision::Injected { pod, warnings }) = decide(yaml) else { panic!("not injected") };
    assert_eq!(warnings, [""; 0]);
    let text = serde_yaml_ng::to_string(&pod).expect("YAML");
    let path = "src/inject/golden.yaml";
    if env::var_os("TULLE_REGENERATE").is_some() {
        fs::write(path, &text).expect("written");
    }
    let golden = fs::read_to_string(path).expect("golden.yaml");
    assert_eq!(
        golden, text,
        "if that is meant: TULLE_REGENERATE=1 cargo test -p tulle-control-plane"
    );
}

#[test]
fn once_is_enough() {
    let Ok(Decision::Injected { pod, .. }) = decide(PLAIN) else { panic!("not injected") };
    let again = inject(&pod, &labels("enabled"), &Settings::default());
    assert_eq!(again, Ok(Decision::Skipped(Skip::AlreadyInjected)));
}

#[test]
fn labels_decide() {
    let settings = Settings::default();
    for (namespace, own, expected) in [
        (None, None, Some(Skip::NotEnabled)),
        (Some("enabled"), None, None),
        (Some("disabled"), None, Some(Skip::NotEnabled)),
        (Some("true"), None, Some(Skip::NamespaceLabel("true".to_owned()))),
        (Some("enabled"), Some("disabled"), Some(Skip::Disabled)),
        (Some("disabled"), Some("enabled"), None),
        (None, Some("enabled"), None),
    ] {
        let mut pod = pod(PLAIN);
        pod.metadata.labels = own.map(labels);
        let namespace = namespace.map(labels).unwrap_or_default();
        match (inject(&pod, &namespace, &settings), expected) {
            (Ok(Decision::Skipped(skip)), Some(expected)) => assert_eq!(skip, expected),
            (Ok(Decision::Injected { .. }), None) => {}
            (other, expected) => panic!("{namespace:?}, {own:?}: {other:?}, not {expected:?}"),
        }
    }
    let mut pod = pod(PLAIN);
    pod.metadata.labels = Some(labels("yes"));
    let refusal = inject(&pod, &labels("enabled"), &settings);
    assert_eq!(refusal, Err(Refusal::Label("yes".to_owned())));
}

#[test]
fn pods_that_are_left_alone() {
    for (spec, reason) in [
        ("hostNetwork: true, containers: [{name: app}]", "the node's network"),
        ("os: {name: windows}, containers: [{name: app}]", "Windows"),
        ("nodeSelector: {kubernetes.io/os: windows}, containers: [{name: app}]", "Windows"),
        (
            "nodeSelector: {kubernetes.io/arch: s390x}, containers: [{name: app}]",
            "neither amd64 nor",
        ),
        ("containers: [{name: app}, {name: istio-proxy}]", "Istio (container istio-proxy)"),
        ("initContainers: [{name: linkerd-proxy}], containers: [{name: app}]", "Linkerd"),
        ("containers: [{name: app}, {name: kuma-sidecar}]", "Kuma"),
        ("initContainers: [{name: tulle-proxy}], containers: [{name: app}]", "a sidecar already"),
    ] {
        let decision = decide(&format!("{{metadata: {{}}, spec: {{{spec}}}}}"));
        let Ok(Decision::Skipped(skip)) = decision else { panic!("{spec}: {decision:?}") };
        assert!(skip.to_string().contains(reason), "{spec}: {skip}");
    }
    // The kubelet has started it from a file already. Refused or changed, it would be seen by nobody.
    let mirror = "{metadata: {annotations: {kubernetes.io/config.mirror: 4f2a}},
        spec: {nodeName: node1, containers: [{name: app}]}}";
    assert_eq!(decide(mirror), Ok(Decision::Skipped(Skip::Mirror)));
}

#[test]
fn pods_that_are_refused() {
    for (pod, reason) in [
        (
            "{metadata: {}, spec: {containers: [{name: app, securityContext: {runAsUser: 5050}}]}}",
            "container app runs as user 5050",
        ),
        (
            "{metadata: {}, spec: {securityContext: {runAsUser: 5050}, containers: [{name: app}]}}",
            "container app runs as user 5050",
        ),
        (
            "{metadata: {}, spec: {containers: [{name: app, ports: [{containerPort: 15006}]}]}}",
            "container app declares port 15006",
        ),
        (
            "{metadata: {}, spec: {containers: [{name: app}], volumes: [{name: tulle-run}]}}",
            "volume tulle-run",
        ),
        (
            "{metadata: {annotations: {tulle.dev/exclude-uids: root}}, spec: {containers: []}}",
            "annotation tulle.dev/exclude-uids: \"root\"",
        ),
        (
            "{metadata: {annotations: {tulle.dev/proxy-memory-request: 1Gi}}, spec: {containers: []}}",
            "annotation tulle.dev/proxy-memory-request: \"1Gi\": it must not be more than the limit, 256Mi",
        ),
        (
            "{metadata: {annotations: {tulle.dev/drain-time: 30s}}, spec: {containers: []}}",
            "annotation tulle.dev/drain-time: \"30s\": it must be less than",
        ),
    ] {
        let refusal = decide(pod).expect_err(pod).to_string();
        assert!(refusal.contains(reason), "{refusal}");
    }
    // A container may differ from its pod.
    let pod = "{metadata: {}, spec: {securityContext: {runAsUser: 5050},
        containers: [{name: app, securityContext: {runAsUser: 1000}}]}}";
    assert!(matches!(decide(pod), Ok(Decision::Injected { .. })));
}

#[test]
fn a_pods_own_amounts_and_drain_time_reach_all_of_ours() {
    for data_plane in ["tulle", "envoy", "grpc"] {
        let yaml = format!(
            "
metadata:
  annotations:
    tulle.dev/data-plane: {data_plane}
    tulle.dev/proxy-cpu-limit: 500m
    tulle.dev/proxy-memory-request: 32Mi
    tulle.dev/drain-time: 20s
spec: {{containers: [{{name: app}}]}}
"
        );
        let Ok(Decision::Injected { pod, warnings }) = decide(&yaml) else { panic!("{yaml}") };
        assert_eq!(warnings, [""; 0]);
        let spec = pod.spec.expect("a spec");
        for container in spec.init_containers.into_iter().flatten() {
            let resources = container.resources.expect("some");
            let limit = resources.limits.and_then(|limits| limits.get("cpu").cloned());
            assert_eq!(limit.map(|cpu| cpu.0).as_deref(), Some("500m"), "{}", container.name);
            let request = resources.requests.and_then(|requests| requests.get("memory").cloned());
            let expected = if container.name == REDIRECT { "16Mi" } else { "32Mi" };
            assert_eq!(request.map(|memory| memory.0).as_deref(), Some(expected));
            if let Some(env) = container.env {
                let said = env.iter().find(|variable| variable.name == "TULLE_DRAIN_TIME");
                assert_eq!(said.and_then(|said| said.value.as_deref()), Some("20"));
                let probes = env.iter().find(|variable| variable.name == "TULLE_PROBES");
                let held = probes.and_then(|probes| probes.value.clone()).unwrap_or_default();
                assert_eq!(held.contains("\"seconds\":20"), data_plane != "grpc", "{held}");
            }
        }
    }
}

#[test]
fn with_a_drain_time_of_nothing_no_container_is_held() {
    let pod =
        "{metadata: {annotations: {tulle.dev/drain-time: 0s}}, spec: {containers: [{name: app}]}}";
    let Ok(Decision::Injected { pod, .. }) = decide(pod) else { panic!("not injected") };
    assert_eq!(pod.spec.expect("a spec").containers[0].lifecycle, None);
}

#[test]
fn warnings_reach_the_caller() {
    let pod = "{metadata: {annotations: {tulle.dev/exclude-uid: '1'}}, spec: {containers: []}}";
    let Ok(Decision::Injected { warnings, .. }) = decide(pod) else { panic!("not injected") };
    assert_eq!(
        warnings,
        [
            "annotation tulle.dev/exclude-uid is unknown and does nothing; is tulle.dev/exclude-uids meant?"
        ]
    );
}

#[test]
fn grpc_gets_the_agent_and_nothing_is_redirected() {
    let yaml = "
metadata: {name: caller, namespace: shop, annotations: {tulle.dev/data-plane: grpc}}
spec:
  securityContext: {supplementalGroups: [7]}
  initContainers: [{name: migrate, image: migrate}]
  containers:
  - {name: app, image: app, readinessProbe: {httpGet: {port: 80}}}
  - {name: own, image: own, env: [{name: GRPC_XDS_BOOTSTRAP, value: /own.json}]}
";
    let Ok(Decision::Injected { pod, warnings }) = decide(yaml) else { panic!("not injected") };
    assert_eq!(warnings, [""; 0]);
    let spec = pod.spec.clone().expect("a spec");
    let init = spec.init_containers.expect("the agent");
    let names: Vec<_> = init.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(names, [AGENT, "migrate"]);
    let agent = &init[0];
    let security = agent.security_context.clone().expect("one");
    assert_eq!((security.run_as_user, agent.lifecycle.is_none()), (Some(PROXY_UID), true));
    assert_eq!(agent.args.clone().unwrap_or_default()[0], "agent");
    let bootstrap = |container: &Container| {
        let env = container.env.iter().flatten();
        env.filter(|v| v.name == "GRPC_XDS_BOOTSTRAP").filter_map(|v| v.value.clone()).collect()
    };
    let told: Vec<Vec<String>> =
        [&init[1], &spec.containers[0], &spec.containers[1]].into_iter().map(bootstrap).collect();
    let ours = "/var/run/tulle-grpc/bootstrap.json";
    assert_eq!(told, [[ours], [ours], ["/own.json"]], "what is set stays");
    // The key is for the pod's own group, and its folder for nobody to write to.
    let groups = spec.security_context.and_then(|s| s.supplemental_groups);
    assert_eq!(groups, Some(vec![7, PROXY_UID]));
    for container in &spec.containers {
        let mounts = container.volume_mounts.clone().unwrap_or_default();
        assert_eq!((mounts[0].name.as_str(), mounts[0].read_only), ("tulle-grpc", Some(true)));
    }
    // The kubelet asks the application itself, which nothing stands in front of.
    let probe = spec.containers[0].readiness_probe.clone().and_then(|p| p.http_get);
    assert_eq!(probe.map(|get| get.port), Some(IntOrString::Int(80)));
    let again = inject(&pod, &labels("enabled"), &settings());
    assert_eq!(again, Ok(Decision::Skipped(Skip::AlreadyInjected)));
}

#[test]
fn questions_about_names_go_to_our_own_sidecar_only() {
    for (data_plane, redirected) in [(DataPlane::Tulle, true), (DataPlane::Envoy, false)] {
        let settings = Settings { dns: true, data_plane, ..settings() };
        let injected = inject(&pod(PLAIN), &labels("enabled"), &settings);
        let Ok(Decision::Injected { pod, .. }) = injected else { panic!("not injected") };
        let text = serde_yaml_ng::to_string(&pod).expect("YAML");
        assert_eq!(text.contains("--dns"), redirected, "{data_plane:?}");
        assert_eq!(text.contains("TULLE_DNS_PORT"), redirected, "{data_plane:?}");
    }
}

/// Pod Security's level `restricted`, as far as containers can break it.
#[test]
fn with_cni_pods_are_of_the_restricted_level() {
    for data_plane in [DataPlane::Tulle, DataPlane::Envoy, DataPlane::Grpc] {
        let settings = Settings { cni: true, dns: true, data_plane, ..settings() };
        let mut plain = pod(PLAIN);
        let annotation = BTreeMap::from([("tulle.dev/exclude-uids".to_owned(), "7, 8".to_owned())]);
        plain.metadata.annotations = Some(annotation);
        let injected = inject(&plain, &labels("enabled"), &settings);
        let Ok(Decision::Injected { pod, .. }) = injected else { panic!("not injected") };
        let init = pod.spec.clone().and_then(|spec| spec.init_containers).expect("ours");
        for container in &init {
            let security = container.security_context.clone().expect("one");
            let dropped = security.capabilities.expect("some");
            assert_eq!((dropped.add, dropped.drop), (None, Some(vec!["ALL".to_owned()])));
            assert_eq!(security.allow_privilege_escalation, Some(false));
            assert_eq!((security.run_as_non_root, security.privileged), (Some(true), Some(false)));
            assert_ne!(security.run_as_user, Some(0));
            assert_eq!(security.seccomp_profile.expect("one").type_, "RuntimeDefault");
        }
        // What the plugin reads is what the pod waits for.
        let said = pod.metadata.annotations.and_then(|mut all| all.remove(REDIRECTION));
        let expected = match data_plane {
            DataPlane::Tulle => Some("--exclude-uids 7,8 --dns 15053"),
            DataPlane::Envoy => Some("--exclude-uids 7,8"),
            DataPlane::Grpc => None,
        };
        assert_eq!(said.as_deref(), expected);
        if let Some(options) = expected {
            assert_eq!(init[0].name, REDIRECT);
            assert_eq!(
                init[0].image,
                Some(settings.proxy_image.clone()),
                "no other one is fetched"
            );
            let args = init[0].args.clone().unwrap_or_default().join(" ");
            assert_eq!(args, format!("redirect --wait {options}"));
            assert_ne!(init[0].security_context.clone().unwrap().run_as_user, Some(PROXY_UID));
        }
    }
    let Ok(Decision::Injected { pod, .. }) = decide(PLAIN) else { panic!("not injected") };
    assert!(!pod.metadata.annotations.expect("one").contains_key(REDIRECTION));
}
