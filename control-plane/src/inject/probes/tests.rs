use std::{env, fs};

use super::{
    super::{apply::rewrite, drain::hold},
    *,
};

const KEY: ProbeKey = ProbeKey([7; 16]);

fn spec(yaml: &str) -> PodSpec {
    serde_yaml_ng::from_str(yaml).expect("a pod's spec")
}

fn planned(yaml: &str) -> Plan {
    let spec = spec(yaml);
    plan(&ObjectMeta::default(), &spec, &KEY, hold(None, &spec).expect("nothing was said"))
}

/// What the sidecar is told about a container with this one field, its path without the secret. The
/// pod is in too great a hurry to be held.
fn told(field: &str) -> Result<String, Vec<String>> {
    let ports = "[{name: web, containerPort: 8080}, {name: grpc, containerPort: 9090}]";
    let plan = planned(&format!(
        "terminationGracePeriodSeconds: 2\ncontainers: [{{name: app, ports: {ports}, {field}}}]"
    ));
    let Some(told) = plan.variable else { return Err(plan.warnings) };
    assert_eq!(plan.warnings, [""; 0]);
    let path = plan.rewrites[0].http_get.path.clone().expect("a path");
    let secret = path.split('/').nth(2).expect("a secret part").to_owned();
    assert!(secret.len() == 32 && secret.bytes().all(|b| b.is_ascii_hexdigit()), "{secret}");
    Ok(told.replace(&secret, "S"))
}

#[test]
fn what_the_sidecar_does_instead() {
    let http = |path: &str, port: u16, rest: &str| {
        format!(r#""action":{{"httpGet":{{"httpHeaders":[{rest}],"path":"{path}","port":{port}"#)
    };
    for (field, parts) in [
        (
            "readinessProbe: {httpGet: {port: web}}",
            vec![
                http("", 8080, ""),
                r#""path":"/probe/S/app/readiness","timeoutSeconds":1"#.to_owned(),
            ],
        ),
        (
            "livenessProbe: {timeoutSeconds: 7, httpGet: {port: 81, path: /a?b=1, scheme: HTTPS}}",
            vec![
                http("/a?b=1", 81, ""),
                r#""scheme":"HTTPS""#.to_owned(),
                r#"/app/liveness","timeoutSeconds":7"#.to_owned(),
            ],
        ),
        (
            "startupProbe: {httpGet: {port: '82', httpHeaders: [{name: Host, value: x.example}]}}",
            vec![http("", 82, r#"["Host","x.example"]"#), "/app/startup".to_owned()],
        ),
        (
            "startupProbe: {tcpSocket: {port: web}}",
            vec![r#""action":{"tcpSocket":{"port":8080}}"#.to_owned()],
        ),
        (
            "livenessProbe: {timeoutSeconds: 0, grpc: {port: 9090, service: cart}}",
            vec![
                r#""action":{"grpc":{"port":9090,"service":"cart"}}"#.to_owned(),
                r#""timeoutSeconds":1"#.to_owned(),
            ],
        ),
        (
            "lifecycle: {postStart: {httpGet: {port: web, path: /warm}}}",
            // A hook has no time of its own.
            vec![http("/warm", 8080, ""), r#""path":"/probe/S/app/post-start"}"#.to_owned()],
        ),
        (
            "lifecycle: {preStop: {httpGet: {port: web}}}",
            vec![r#""path":"/probe/S/app/pre-stop"}"#.to_owned()],
        ),
        (
            // What Kubernetes would take for a variable.
            "livenessProbe: {httpGet: {port: 80, path: /$(HOME)}}",
            vec![http(r"/\u0024(HOME)", 80, "")],
        ),
    ] {
        let told = told(field).expect(field);
        for part in parts {
            assert!(told.contains(&part), "{field}: {part} in {told}");
        }
    }
}

#[test]
fn what_stays() {
    for (field, warning) in [
        ("readinessProbe: {exec: {command: [true]}}", None),
        ("lifecycle: {preStop: {sleep: {seconds: 3}}}", None),
        ("lifecycle: {preStop: {exec: {command: [true]}}}", None),
        ("readinessProbe: {httpGet: {port: 15021, path: /ready}}", None),
        ("readinessProbe: {tcpSocket: {port: 15021}}", None),
        (
            "readinessProbe: {httpGet: {port: 80, host: 127.0.0.1}}",
            Some(
                "readinessProbe of container app stays as it is: it asks host 127.0.0.1 and not the pod",
            ),
        ),
        (
            "livenessProbe: {tcpSocket: {port: wbe}}",
            Some(
                "livenessProbe of container app stays as it is: none of the container's ports is named \"wbe\"",
            ),
        ),
        (
            "startupProbe: {httpGet: {port: 65536}}",
            Some("startupProbe of container app stays as it is: 65536 is no port"),
        ),
        (
            "lifecycle: {postStart: {httpGet: {port: 80, scheme: FTP}}}",
            Some(
                "lifecycle.postStart of container app stays as it is: its scheme \"FTP\" is neither HTTP nor HTTPS",
            ),
        ),
    ] {
        let warnings = told(field).expect_err(field);
        match warning {
            None => assert_eq!(warnings, [""; 0], "{field}"),
            Some(warning) => assert!(warnings[0].starts_with(warning), "{warnings:?}"),
        }
    }
}

#[test]
fn all_containers_and_nothing_else_changes() {
    let before = "
containers:
- {name: app, image: app, readinessProbe: {periodSeconds: 3, failureThreshold: 9, tcpSocket: {port: 1}}}
- {name: two, image: two, livenessProbe: {grpc: {port: 2}}, lifecycle: {preStop: {httpGet: {port: 3}}}}
initContainers:
- {name: migrate, image: migrate}
- {name: own, image: own, restartPolicy: Always, startupProbe: {httpGet: {port: 4, path: /x}}}
";
    let plan = planned(before);
    let mut spec = serde_yaml_ng::from_str(before).expect("a spec");
    for change in plan.rewrites {
        rewrite(&mut spec, &change);
    }
    let part = KEY.part(&ObjectMeta::default(), &serde_yaml_ng::from_str(before).expect("a spec"));
    let ours = |tail: &str| format!("httpGet: {{port: 15021, path: /probe/{part}/{tail}}}");
    let hook = format!("lifecycle: {{preStop: {{{}}}}}", ours("app/pre-stop"));
    let after = before
        .replace("tcpSocket: {port: 1}}", &format!("{}}}, {hook}", ours("app/readiness")))
        .replace("grpc: {port: 2}", &ours("two/liveness"))
        .replace("httpGet: {port: 3}", &ours("two/pre-stop"))
        .replace("httpGet: {port: 4, path: /x}", &ours("own/startup"));
    assert_eq!(spec, serde_yaml_ng::from_str::<serde_json::Value>(&after).expect("a spec"));
}

#[test]
fn an_application_is_held_back_while_callers_leave() {
    for (yaml, hold) in [
        ("containers: [{name: app}]", Some(10)),
        ("terminationGracePeriodSeconds: 300\ncontainers: [{name: app}]", Some(10)),
        ("terminationGracePeriodSeconds: 8\ncontainers: [{name: app}]", Some(2)),
        ("terminationGracePeriodSeconds: 2\ncontainers: [{name: app}]", None),
        ("containers: [{name: app, lifecycle: {postStart: {exec: {command: [a]}}}}]", Some(10)),
        ("containers: [{name: app, lifecycle: {preStop: {sleep: {seconds: 1}}}}]", None),
        // The kubelet ends sidecars after the application.
        ("containers: []\ninitContainers: [{name: own, restartPolicy: Always}]", None),
    ] {
        let told = planned(yaml).variable;
        let wanted = hold.map(|seconds| format!(r#"{{"hold":{{"seconds":{seconds}}}}}"#));
        match (told, wanted) {
            (Some(told), Some(wanted)) => assert!(told.contains(&wanted), "{yaml}: {told}"),
            (told, wanted) => assert_eq!(told, wanted, "{yaml}"),
        }
    }
}

#[test]
fn paths_are_stable_and_cannot_be_guessed() {
    let pod = spec("containers: [{name: app}]");
    let named = |name: &str| ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let part = KEY.part(&named("a"), &pod);
    assert_eq!(part, KEY.part(&named("a"), &pod));
    assert_ne!(part, KEY.part(&named("b"), &pod));
    assert_ne!(part, ProbeKey::random().part(&named("a"), &pod));
    assert_eq!(format!("{KEY:?}"), "ProbeKey");

    let secret = |text: &str| ProbeKey::from_secret(text.as_bytes());
    assert_eq!(secret("fifteen bytes.."), None);
    assert!(secret("sixteen bytes...").is_some());
    assert_ne!(secret("sixteen bytes..."), secret("sixteen bytes.. "));
}

/// `proxy/src/probe.rs` reads the very same file.
#[test]
fn golden_variable() {
    let plan = planned(
        "
containers:
- name: app
  ports: [{name: http, containerPort: 9080}]
  startupProbe: {tcpSocket: {port: http}}
  readinessProbe:
    timeoutSeconds: 3
    httpGet: {port: http, path: healthz, scheme: HTTPS, httpHeaders: [{name: X-Key, value: $1}]}
  livenessProbe: {grpc: {port: 9090, service: cart}}
  lifecycle: {preStop: {httpGet: {port: http, path: /bye}}}
- name: helper
",
    );
    let text = plan.variable.expect("something to do") + "\n";
    let path = "src/inject/probes/golden.json";
    if env::var_os("TULLE_REGENERATE").is_some() {
        fs::write(path, &text).expect("written");
    }
    let golden = fs::read_to_string(path).expect("golden.json");
    assert_eq!(
        golden, text,
        "if that is meant: TULLE_REGENERATE=1 cargo test -p tulle-control-plane"
    );
}
