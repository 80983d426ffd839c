//! What the mesh itself runs: the control plane as a Deployment like any other, and cluster DNS as a
//! Service that leads to the runtime.

use std::path::Path;

use super::{
    directory, dns,
    network::gateway,
    objects::Document,
    state::{Launch, State},
    token,
};

/// Namespace of the control plane.
pub(super) const NAMESPACE: &str = "tulle-system";
/// Where the control plane finds the user's directory.
pub(super) const MOUNTED: &str = "/tulle/user";
/// And that of what a Prometheus is asked with.
const CREDENTIALS: &str = "/tulle/prometheus";
/// The machine, as pods call it.
pub(super) const NODE: &str = "local";

/// The documents, as if they stood in a file.
pub(super) fn documents(state: &State, launch: &Launch) -> Vec<Document> {
    // JSON strings are YAML strings, whatever is in the path.
    let quoted = |path: &Path| serde_json::Value::from(path.display().to_string()).to_string();
    let families = launch.families;
    let addresses = families.list().iter().map(|family| dns::address(*family).to_string());
    let argument = |text: String| format!("\n            - {}", serde_json::Value::from(text));
    let prometheus = launch.prometheus.as_ref().map(|url| argument(format!("--prometheus={url}")));
    let hosts = launch.release_hosts.iter().map(|host| argument(format!("--release-hosts={host}")));
    let credentials = launch.prometheus_credentials.as_deref().map(|path| {
        let argument = format!("\n            - --prometheus-credentials={CREDENTIALS}");
        let mounted = format!("{{name: prometheus, mountPath: {CREDENTIALS}, readOnly: true}}");
        let volume = format!("{{name: prometheus, hostPath: {{path: {}}}}}", quoted(path));
        [argument, format!("\n            - {mounted}"), format!("\n        - {volume}")]
    });
    let [asked_with, mounted, volume] = credentials.unwrap_or_default();
    let mut yaml = MANIFEST
        .replace("@USER@", &quoted(&launch.directory))
        .replace("@LIFETIME@", &launch.certificate_lifetime.to_string())
        .replace("@RELEASE-HOSTS@", &hosts.collect::<String>())
        .replace("@PROMETHEUS@", &format!("{}{asked_with}", prometheus.unwrap_or_default()))
        .replace("@CREDENTIALS-MOUNT@", &mounted)
        .replace("@CREDENTIALS@", &volume)
        .replace("@MOUNTED@", MOUNTED)
        .replace("@OBJECTS@", &quoted(&state.objects()))
        .replace("@OUTPUT@", &quoted(&state.control_plane()))
        .replace("@CA@", &quoted(&state.ca()))
        .replace("@TOKEN-KEYS@", &quoted(&state.token_keys()))
        .replace("@ISSUER@", token::ISSUER)
        .replace("@DNS@", &dns::address(families.primary()).to_string())
        .replace("@ALL-DNS@", &addresses.collect::<Vec<_>>().join("\", \""));
    for family in families.list() {
        yaml += &DNS_SLICE
            .replace("@FAMILY@", family.name())
            .replace("@NAME@", &family.name().to_lowercase())
            .replace("@GATEWAY@", &gateway(*family).to_string());
    }
    let (documents, problems) = directory::parse(Path::new("tulle-system"), yaml.as_bytes());
    for problem in problems {
        tracing::error!(%problem, "own manifest");
    }
    documents
}

/// The control plane reads and writes files of root's, whatever their mode: that, and nothing else, is
/// what it may do.
const MANIFEST: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: tulle-system, labels: {tulle.dev/inject: disabled}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: tulle-control-plane, namespace: tulle-system}
spec:
  selector: {matchLabels: {app: tulle-control-plane}}
  template:
    metadata: {labels: {app: tulle-control-plane}}
    spec:
      serviceAccountName: tulle-control-plane
      terminationGracePeriodSeconds: 5
      containers:
        - name: control-plane
          command: [tulle-control-plane]
          args:
            - --directory=@MOUNTED@
            - --directory=/tulle/objects
            - --output=/tulle/output
            - --admin-socket=/tulle/output/admin.sock
            - --ca-directory=/tulle/ca
            - --token-keys=/tulle/token-keys.json
            - --token-issuer=@ISSUER@
            - --certificate-lifetime=@LIFETIME@@PROMETHEUS@@RELEASE-HOSTS@
            - --mesh-range=10.244.0.0/16
            - --mesh-range=fd00:10:244::/64
            - --mesh-range=10.96.0.0/16
            - --mesh-range=fd00:10:96::/112
          ports:
            - {name: grpc, containerPort: 15010}
            - {name: status, containerPort: 15014}
          readinessProbe: {httpGet: {path: /ready, port: status}, periodSeconds: 1}
          securityContext:
            allowPrivilegeEscalation: false
            capabilities: {drop: [ALL], add: [DAC_OVERRIDE]}
          volumeMounts:
            - {name: user, mountPath: @MOUNTED@, readOnly: true}
            - {name: objects, mountPath: /tulle/objects, readOnly: true}
            - {name: output, mountPath: /tulle/output}
            - {name: ca, mountPath: /tulle/ca}
            - {name: token-keys, mountPath: /tulle/token-keys.json, readOnly: true}@CREDENTIALS-MOUNT@
      volumes:
        - {name: user, hostPath: {path: @USER@}}
        - {name: objects, hostPath: {path: @OBJECTS@}}
        - {name: output, hostPath: {path: @OUTPUT@}}
        - {name: ca, hostPath: {path: @CA@}}
        - {name: token-keys, hostPath: {path: @TOKEN-KEYS@}}@CREDENTIALS@
---
apiVersion: v1
kind: Service
metadata: {name: tulle-control-plane, namespace: tulle-system}
spec:
  # There is one, which lets its clients wait until it is ready: sooner for them than to try again.
  publishNotReadyAddresses: true
  selector: {app: tulle-control-plane}
  ports:
    - {name: grpc, port: 15010, targetPort: grpc}
    - {name: status, port: 15014, targetPort: status}
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec:
  clusterIP: "@DNS@"
  clusterIPs: ["@ALL-DNS@"]
  ports:
    - {name: dns, port: 53, protocol: UDP}
    - {name: dns-tcp, port: 53}
"#;

/// Cluster DNS is the runtime's, at the gateway.
const DNS_SLICE: &str = r#"---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: kube-dns-@NAME@
  namespace: kube-system
  labels: {kubernetes.io/service-name: kube-dns}
addressType: @FAMILY@
endpoints: [{addresses: ["@GATEWAY@"], conditions: {ready: true, serving: true, terminating: false}}]
ports:
  - {name: dns, port: 53, protocol: UDP}
  - {name: dns-tcp, port: 53, protocol: TCP}
"#;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use clap::ValueEnum as _;
    use tulle_control_plane::inject::DataPlane;

    use super::*;
    use crate::local::{config::Programs, network::Families, objects::Objects};

    fn launch(families: Families, credentials: Option<&str>) -> Launch {
        Launch {
            name: "x".to_owned(),
            directory: PathBuf::from("/a: b/'\"#"),
            data_plane: DataPlane::Tulle,
            families,
            certificate_lifetime: tulle_api::Duration::from_millis(90_500),
            prometheus: Some("http://p:9090".to_owned()),
            prometheus_credentials: credentials.map(PathBuf::from),
            release_hosts: vec!["*.shop.svc".to_owned(), "[fd00::1]:8080".to_owned()],
            programs: Programs::default(),
        }
    }

    #[test]
    fn the_own_manifest_is_honoured_wholly() {
        for families in Families::value_variants() {
            for credentials in [None, Some("/c: d/'\"#")] {
                let documents = documents(&State::of("x"), &launch(*families, credentials));
                let objects = Objects::read(&documents, &Objects::default());
                assert_eq!(objects.problems, []);
                assert_eq!(objects.notes, []);
                assert_eq!((objects.deployments.len(), objects.services.len()), (1, 2));
            }
        }
    }

    #[test]
    fn the_control_plane_gets_whom_it_asks_and_with_what() {
        for credentials in [None, Some("/c: d/'\"#")] {
            let launch = launch(Families::value_variants()[0], credentials);
            let documents = documents(&State::of("x"), &launch);
            let pod = documents.iter().find_map(|d| d.value.pointer("/spec/template/spec"));
            let container = &pod.unwrap()["containers"][0];
            let has = |list: &serde_json::Value, item: serde_json::Value| {
                list.as_array().unwrap().contains(&item)
            };
            assert!(has(&container["args"], "--prometheus=http://p:9090".into()));
            for host in ["*.shop.svc", "[fd00::1]:8080"] {
                assert!(has(&container["args"], format!("--release-hosts={host}").into()));
            }
            let (path, there) = (credentials.unwrap_or_default(), credentials.is_some());
            let argument = "--prometheus-credentials=/tulle/prometheus".into();
            assert_eq!(has(&container["args"], argument), there);
            let mount = serde_json::json!({"name": "prometheus", "mountPath": "/tulle/prometheus", "readOnly": true});
            assert_eq!(has(&container["volumeMounts"], mount), there);
            let volume = serde_json::json!({"name": "prometheus", "hostPath": {"path": path}});
            assert_eq!(has(&pod.unwrap()["volumes"], volume), there);
        }
    }
}
