//! The objects are what Kubernetes has types for, and what `helm template` makes of the same values.

use std::{collections::BTreeMap, env, path::Path, process::Command};

use k8s_openapi::{
    api::{
        admissionregistration::v1::MutatingWebhookConfiguration,
        apps::v1::{DaemonSet, Deployment},
        core::v1::{ConfigMap, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{objects::INJECTION, values::Values, *};

/// What is left of `object` as a `K`.
fn typed<K: Serialize + DeserializeOwned>(object: &Value) -> Value {
    let typed: K = serde_json::from_value(object.clone()).expect("its type");
    serde_json::to_value(typed).expect("JSON")
}

#[test]
fn every_field_is_one_of_kubernetes() {
    for object in objects::whatever("tulle-system") {
        let typed = match object["kind"].as_str().expect("a kind") {
            "ClusterRole" => typed::<ClusterRole>(&object),
            "ClusterRoleBinding" => typed::<ClusterRoleBinding>(&object),
            "ConfigMap" => typed::<ConfigMap>(&object),
            "CustomResourceDefinition" => typed::<CustomResourceDefinition>(&object),
            "DaemonSet" => typed::<DaemonSet>(&object),
            "Deployment" => typed::<Deployment>(&object),
            "MutatingWebhookConfiguration" => typed::<MutatingWebhookConfiguration>(&object),
            // Kubernetes has no type of it: tests/prometheus/run compares it with what Prometheus takes.
            "PodMonitor" => object.clone(),
            "NetworkPolicy" => typed::<NetworkPolicy>(&object),
            "PodDisruptionBudget" => typed::<PodDisruptionBudget>(&object),
            "Role" => typed::<Role>(&object),
            "RoleBinding" => typed::<RoleBinding>(&object),
            "Service" => typed::<Service>(&object),
            "ServiceAccount" => typed::<ServiceAccount>(&object),
            other => panic!("{other}"),
        };
        assert_eq!(typed, object);
    }
}

#[test]
fn the_control_plane_reads_what_is_installed_for_it() {
    let values = Values::default();
    let objects = objects::all(&values, "mesh");
    let config = objects.iter().find(|o| o["metadata"]["name"] == INJECTION.0).expect("there");
    let text = config["data"][INJECTION.1].as_str().expect("text");
    let (read, warnings) =
        tulle_control_plane::inject::Injection::parse(INJECTION.1, text).expect("good");
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(read, values.injection("mesh"));
    assert_eq!(read.control_plane, "tulle-control-plane.mesh.svc:15010");
}

/// Values that reach every part of the templates.
const TABLE: [&str; 10] = [
    "{}",
    "{image: {registry: registry.example.org/a/b/, tag: '1.2', pullPolicy: Always, envoy: 'e.example.org/envoy:1', pullSecrets: [one, two]}}",
    "{image: {digests: {controlPlane: 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', \
      redirect: 'sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb'}}}",
    "{trustDomain: example.org, clusterDomain: k8s.example.org, meshRanges: [10.96.0.0/12, 'fd00::/8']}",
    "{controlPlane: {replicas: 5, certificateLifetime: 1h30m, log: 'info,tulle_xds=debug', priorityClassName: high, prometheus: 'https://p.m:9090', prometheusSecret: prometheus, releaseHosts: [gate.example.com, '*.shop.svc:8080'], releaseAuthorities: ours, \
      resources: {requests: {cpu: '2'}, limits: {memory: null}}}}",
    "{controlPlane: {nodeSelector: {kubernetes.io/os: linux}, tolerations: [{key: a, operator: Exists, tolerationSeconds: 5}], \
      podLabels: {team: \"a&b <c> 'd'\"}, podAnnotations: {note: 'yes: \"no\"'}, extraArgs: ['--debounce=10ms']}}",
    "{injection: {logLevel: debug, accessLogSample: 1000000, dns: true, dataPlane: envoy, \
      proxyResources: {limits: {cpu: '1', memory: 1Gi}}, redirectResources: {requests: {cpu: null, memory: null}}, \
      webhook: {failurePolicy: Ignore, timeoutSeconds: 2, excludedNamespaces: [ops, 'ci-1']}}}",
    "{networkPolicy: {enabled: true}, global: {of: Helm}}",
    "{podMonitor: {enabled: true, labels: {release: prometheus, app.kubernetes.io/part-of: another}}}",
    "{cni: {enabled: true, binDir: /usr/lib/cni, confDir: /run/cni/net.d, log: debug, resources: {limits: {cpu: '1'}}}, \
      image: {pullSecrets: [one], digests: {cni: 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}}}",
];

/// Objects as they are compared: by title, the text of injection.yaml as what it says.
fn comparable(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let count = objects.len();
    let mut all = BTreeMap::new();
    for mut object in objects {
        if let Some(said) = object.get_mut("data").and_then(|data| data.get_mut(INJECTION.1)) {
            *said = serde_yaml_ng::from_str(said.as_str().expect("text")).expect("YAML");
        }
        whole_numbers(&mut object);
        all.insert(title(&object), object);
    }
    assert_eq!(all.len(), count, "each object once");
    all
}

/// `1.0` is `1`.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Number(number) => {
            let whole = number.as_f64().filter(|f| f.fract() == 0.0).map(|f| format!("{f:.0}"));
            if let Some(whole) = whole.and_then(|text| text.parse::<i64>().ok()) {
                *value = json!(whole);
            }
        }
        _ => {}
    }
}

/// `HELM` is the program, as tests/cluster/helm.sh makes it.
#[test]
#[ignore = "needs helm: tests/cluster/chart.sh runs it"]
fn helm_makes_the_same_objects() {
    let helm = env::var_os("HELM").expect("HELM=$(tests/cluster/helm.sh)");
    let chart = Path::new("../deploy/chart");
    let folder = tempfile::tempdir().expect("a folder");
    for (namespace, yaml) in
        TABLE.iter().map(|yaml| ("tulle-system", yaml)).chain([("mesh", &"{}")])
    {
        let file = folder.path().join("values.yaml");
        std::fs::write(&file, yaml).expect("written");
        let template = || {
            let output = Command::new(&helm)
                .args(["template", "tulle", "--namespace", namespace, "-f"])
                .args([file.as_path(), chart])
                .output()
                .expect("helm runs");
            assert!(output.status.success(), "{yaml}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).expect("UTF-8")
        };
        let text = template();
        assert_eq!(text, template(), "the same each time");
        let theirs: Vec<Value> = serde_yaml_ng::Deserializer::from_str(&text)
            .map(|document| serde::Deserialize::deserialize(document).expect("YAML"))
            .filter(|value: &Value| !value.is_null())
            .collect();
        let args = Args::parse_from([Path::new("install"), Path::new("-f"), &file]);
        let ours = objects::all(&args.choice.read().expect("good values").values, namespace);
        let (ours, theirs) = (comparable(ours), comparable(theirs));
        let titles = |all: &BTreeMap<String, Value>| all.keys().cloned().collect::<Vec<_>>();
        assert_eq!(titles(&ours), titles(&theirs), "{yaml}");
        for (title, object) in &ours {
            assert_eq!(object, &theirs[title], "{yaml}: {title}: ours, and helm's");
        }
    }
}

/// What our types refuse the chart's schema refuses too.
#[test]
#[ignore = "needs helm: tests/cluster/chart.sh runs it"]
fn helm_refuses_what_we_refuse() {
    let helm = env::var_os("HELM").expect("HELM=$(tests/cluster/helm.sh)");
    let chart = Path::new("../deploy/chart");
    for set in [
        "controlPlane.replica=3",
        "controlPlane.replicas=0",
        "controlPlane.replicas=many",
        "controlPlane=null",
        "controlPlane.prometheusSecret=prometheus",
        "controlPlane.releaseAuthorities=ours",
        "injection.logLevel=verbose",
        "injection.webhook.timeoutSeconds=6",
        "injection.webhook.failurePolicy=fail",
        "image.pullPolicy=always",
        "nonsense=1",
    ] {
        let args = Args::parse_from(["install", "--set", set]);
        assert!(args.choice.read().is_err(), "{set}");
        let output = Command::new(&helm)
            .args(["template", "tulle", "--set", set])
            .arg(chart)
            .output()
            .expect("helm runs");
        assert!(!output.status.success(), "{set}");
    }
}
