use k8s_openapi::api::core::v1::PodSpec;

use super::*;

fn run(yaml: &str, flags: &[&str]) -> Result<Output, Vec<String>> {
    let args = Args::parse_from(["inject", "-f", "-"].iter().chain(flags));
    let key = ProbeKey::from_secret(b"the same each time").expect("long enough");
    let sources = [("in.yaml".to_owned(), yaml.to_owned())];
    transform(&sources, &args, settings(&args, &Injection::default(), key), BTreeMap::new())
}

/// Each pod part, and the names of its init containers.
fn injected(yaml: &str) -> Vec<String> {
    let (documents, errors) = document::parse(&[(String::new(), yaml.to_owned())]);
    assert_eq!(errors, [""; 0]);
    let mut found = Vec::new();
    for mut document in documents {
        for part in document::pod_parts(&mut document.value, "default") {
            let spec: PodSpec = part.read("spec").expect("a spec");
            let names: Vec<String> =
                spec.init_containers.into_iter().flatten().map(|c| c.name).collect();
            found.push(format!("{} {}", part.object, names.join(",")));
        }
    }
    found
}

#[test]
fn all_workloads() {
    let template = "template: {metadata: {labels: {a: b}}, spec: {containers: [{name: app}]}}";
    let apps = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"];
    let mut yaml: String = apps
        .map(|kind| format!("---\napiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{{template}}}\n"))
        .concat();
    yaml += &format!(
        "---\napiVersion: batch/v1\nkind: Job\nmetadata: {{name: x}}\nspec: {{{template}}}\n"
    );
    yaml += &format!(
        "---\napiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: x}}\nspec: {{jobTemplate: {{spec: {{{template}}}}}}}\n"
    );
    yaml += "---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: x, namespace: y}, spec: {initContainers: [{name: own}], containers: [{name: app}]}}\n";
    let output = run(&yaml, &[]).expect("injected");
    assert_eq!(output.notes, [""; 0]);
    let ours = "tulle-redirect,tulle-proxy";
    assert_eq!(
        injected(&output.yaml),
        [
            format!("Deployment default/x {ours}"),
            format!("StatefulSet default/x {ours}"),
            format!("DaemonSet default/x {ours}"),
            format!("ReplicaSet default/x {ours}"),
            format!("Job default/x {ours}"),
            format!("CronJob default/x {ours}"),
            format!("Pod y/x {ours},own"),
        ]
    );
    // Once more changes nothing.
    let again = run(&output.yaml, &[]).expect("nothing to do");
    assert_eq!(again.yaml, output.yaml);
    assert!(again.notes.iter().all(|n| n.ends_with("not injected: it has a sidecar already")));
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\nspec: {containers: [{name: app}]}\n";

#[test]
fn namespaces_in_the_input_decide() {
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n";
    let yaml = format!("{namespace}{POD}");
    let output = run(&yaml, &[]).expect("left alone");
    assert_eq!(output.yaml, yaml);
    assert_eq!(
        output.notes,
        [
            "note: in.yaml: document 2: Pod shop/p: not injected: neither it nor its namespace has the \
          label tulle.dev/inject=enabled"
        ]
    );
    let output = run(&yaml, &["--inject-all"]).expect("injected");
    assert_eq!(injected(&output.yaml), ["Pod shop/p tulle-redirect,tulle-proxy"]);
}

#[test]
fn everything_else_is_untouched() {
    let yaml =
        "# a comment\nkind: ConfigMap\napiVersion: v1\ndata:\n    b: |\n      x\n    a:   1\n";
    assert_eq!(run(yaml, &[]).expect("passed through").yaml, yaml);
    // A field that is not known yet, and the order of keys, survive injection.
    let pod = POD.replace("spec: {", "spec: {zebra: {new: true}, apple: 1, ");
    let output = run(&pod, &[]).expect("injected").yaml;
    assert!(output.contains("  zebra:\n    new: true\n  apple: 1\n  containers:"), "{output}");
}

#[test]
fn settings_arrive() {
    let flags = "--image-registry r.example.org/mesh/ --image-tag dev --control-plane cp:1 \
                 --image-pull-policy Never";
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let output = run(POD, &flags).expect("injected").yaml;
    for text in [
        "image: r.example.org/mesh/tulle-proxy:dev",
        "image: r.example.org/mesh/tulle-redirect:dev",
        "value: cp:1",
        "imagePullPolicy: Never",
    ] {
        assert!(output.contains(text), "{text} in {output}");
    }
}

#[test]
fn probes_ask_the_sidecar() {
    let probe = "{periodSeconds: 3, tcpSocket: {port: 1}, zebra: 1}";
    let pod = POD.replace("{name: app}", &format!("{{name: app, livenessProbe: {probe}}}"));
    let output = run(&pod, &[]).expect("injected").yaml;
    // Order and what is not known survive; stable, or each run would be a rollout.
    let kept = "    livenessProbe:\n      periodSeconds: 3\n      zebra: 1\n      httpGet:\n        path: /probe/";
    assert!(output.contains(kept), "{output}");
    assert!(output.contains("name: TULLE_PROBES"), "{output}");
    assert_eq!(run(&pod, &[]).expect("injected").yaml, output);
}

#[test]
fn the_probe_key_is_a_secret() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().display().to_string();
    let key = || probe_key(&Args::parse_from(["inject", "-f", "-", "--probe-key-file", &path]));
    fs::write(&path, "too short").expect("written");
    let error = key().expect_err("too short").to_string();
    assert!(error.starts_with(&format!("{path}: 16 bytes or more")), "{error}");
    fs::write(&path, "quite long enough").expect("written");
    assert_eq!(key().expect("a key"), key().expect("a key"));
}

#[test]
fn errors_name_file_document_and_object() {
    let bad_annotation =
        POD.replace("namespace: shop", "annotations: {tulle.dev/exclude-uids: root}");
    let yaml = format!("a: [\n---\n{bad_annotation}---\n{}", POD.replace("[{name: app}]", "7"));
    let errors = run(&yaml, &[]).expect_err("three errors");
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(errors[0].starts_with("in.yaml: document 1: "), "{errors:?}");
    let second = "in.yaml: document 2: Pod default/p: annotation tulle.dev/exclude-uids: \"root\"";
    assert!(errors[1].starts_with(second), "{errors:?}");
    let third = "in.yaml: document 3: Pod shop/p: spec of the pod: ";
    assert!(errors[2].starts_with(third), "{errors:?}");
}

#[test]
fn warnings_are_notes() {
    let pod = POD.replace("namespace: shop", "annotations: {tulle.dev/exclude-uid: '1'}");
    let notes = run(&pod, &[]).expect("injected").notes;
    assert!(
        notes[0].starts_with("warning: in.yaml: document 1: Pod default/p: annotation"),
        "{notes:?}"
    );
}

#[test]
fn texts_stay_texts_for_kubectl() {
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: x, annotations: {a: 'yes'}}, \
        spec: {containers: [{name: app, env: [{name: SWITCH, value: 'off'}]}]}}";
    let output = run(pod, &[]).expect("injected");
    assert!(output.yaml.contains("value: \"off\"\n"), "{}", output.yaml);
    assert!(output.yaml.contains("a: \"yes\"\n"), "{}", output.yaml);
}

#[test]
fn the_installation_decides_and_options_win() {
    let installed = Injection {
        proxy_image: "r/proxy:1".to_owned(),
        dns: true,
        log_level: sidecar::LogLevel::Debug,
        image_pull_policy: Some(sidecar::PullPolicy::Never),
        ..Injection::default()
    };
    let key = ProbeKey::from_secret(b"the same each time").expect("long enough");
    let with = |flags: &[&str]| {
        let args = Args::parse_from(["inject", "-f", "-"].iter().chain(flags));
        settings(&args, &installed, key.clone())
    };
    assert_eq!(with(&[]), Settings { probe_key: key.clone(), ..installed.settings() });
    let other = with(&["--image-registry", "own", "--image-pull-policy", "Always"]);
    assert!(other.proxy_image.starts_with("own/tulle-proxy:"), "{}", other.proxy_image);
    assert_eq!(other.image_pull_policy.as_deref(), Some("Always"));
    assert_eq!(other.log_level, "debug");
}

#[test]
fn namespaces_of_the_input_win_over_the_clusters() {
    let labels = |value: &str| BTreeMap::from([(sidecar::LABEL.to_owned(), value.to_owned())]);
    let cluster = BTreeMap::from([
        ("in".to_owned(), labels("enabled")),
        ("out".to_owned(), BTreeMap::new()),
        ("changed".to_owned(), BTreeMap::new()),
    ]);
    let pod = |namespace: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: x, namespace: {namespace}}}, \
             spec: {{containers: [{{name: app}}]}}}}\n"
        )
    };
    let changed = "---\n{apiVersion: v1, kind: Namespace, metadata: {name: changed, labels: {tulle.dev/inject: enabled}}}\n";
    let yaml = [pod("in"), pod("out"), pod("changed"), changed.to_owned()].concat();
    let args = Args::parse_from(["inject", "-f", "-"]);
    let sources = [("in.yaml".to_owned(), yaml)];
    let output = transform(&sources, &args, Settings::default(), cluster).expect("injected");
    assert_eq!(output.notes.len(), 1, "{:?}", output.notes);
    assert!(output.notes[0].contains("Pod out/x: not injected"), "{:?}", output.notes);
}
