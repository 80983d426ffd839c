use super::*;

fn spec(resources: &str) -> PodSpec {
    serde_yaml_ng::from_str(&format!("{{containers: [], resources: {resources}}}")).expect("a spec")
}

/// What annotations say, each as `cpu-limit=1`.
fn said(annotations: &[&str]) -> Resources {
    let mut resources = Resources::default();
    for annotation in annotations {
        let (name, value) = annotation.split_once('=').expect("NAME=VALUE");
        let said = ANNOTATIONS.iter().find(|said| said.name.ends_with(&format!("proxy-{name}")));
        said.expect(name).read(value, &mut resources).expect(value);
    }
    resources
}

/// Requests and limits, `cpu 10m memory 20Mi / memory 256Mi`.
fn show(resources: &Resources) -> String {
    let list = |amounts: &BTreeMap<String, Quantity>| {
        let each = amounts.iter().map(|(name, amount)| format!("{name} {}", amount.0));
        each.collect::<Vec<_>>().join(" ")
    };
    format!("{} / {}", list(&resources.requests), list(&resources.limits))
}

#[test]
fn amounts_as_kubernetes_writes_them() {
    for (text, nano) in [
        ("1", Some(ONE)),
        ("100m", Some(100 * MILLI)),
        ("0.1", Some(100 * MILLI)),
        (".5", Some(500 * MILLI)),
        ("1.", Some(ONE)),
        ("1k", Some(1000 * ONE)),
        ("1Ki", Some(1024 * ONE)),
        ("1.5Gi", Some(1536 * (ONE << 20))),
        ("2e3", Some(2000 * ONE)),
        ("5E-3", Some(5 * MILLI)),
        ("1E", Some(1_000_000_000_000_000_000 * ONE)),
        ("7n", Some(7)),
        ("", None),
        (".", None),
        ("-1", None),
        ("1 Gi", None),
        ("1Mb", None),
        ("1e99", None),
        ("1e2147483647", None),
        ("1e-2147483648", None),
        ("1.2.3", None),
        ("99999999999999999999999999999999999999999", None),
    ] {
        assert_eq!(amount(text), nano, "{text:?}");
    }
}

#[test]
fn annotations_take_the_place_of_settings() {
    for (annotations, proxy, redirect) in [
        (&[][..], "cpu 10m memory 20Mi / memory 256Mi", "cpu 10m memory 16Mi / memory 64Mi"),
        (
            &["cpu-request=50m", "memory-request=100Mi"],
            "cpu 50m memory 100Mi / memory 256Mi",
            "cpu 10m memory 16Mi / memory 64Mi",
        ),
        // For a quota each container has one: the init container, too.
        (
            &["cpu-limit=1"],
            "cpu 10m memory 20Mi / cpu 1 memory 256Mi",
            "cpu 10m memory 16Mi / cpu 1 memory 64Mi",
        ),
        (
            &["memory-limit=1Gi"],
            "cpu 10m memory 20Mi / memory 1Gi",
            "cpu 10m memory 16Mi / memory 64Mi",
        ),
        // Nobody asks for more than it may use.
        (
            &["memory-limit=16Mi"],
            "cpu 10m memory 16Mi / memory 16Mi",
            "cpu 10m memory 16Mi / memory 64Mi",
        ),
    ] {
        let (settings, word) =
            settle(&Settings::default(), &said(annotations), &PodSpec::default()).expect("good");
        assert_eq!(show(&settings.proxy_resources), proxy, "{annotations:?}");
        assert_eq!(show(&settings.redirect_resources), redirect, "{annotations:?}");
        assert_eq!(word, None);
    }
    let mut dear = Settings::default();
    dear.redirect_resources.requests.insert("cpu".to_owned(), Quantity("1".to_owned()));
    let (settings, _) =
        settle(&dear, &said(&["cpu-limit=500m"]), &PodSpec::default()).expect("good");
    assert_eq!(show(&settings.redirect_resources), "cpu 1 memory 16Mi / cpu 1 memory 64Mi");
    let wrong = settle(&dear, &said(&["memory-request=300Mi"]), &PodSpec::default());
    assert_eq!(
        wrong.expect_err("more than the limit").to_string(),
        "annotation tulle.dev/proxy-memory-request: \"300Mi\": it must not be more than the limit, 256Mi; \
         tulle.dev/proxy-memory-limit changes that"
    );
}

#[test]
fn bad_amounts_are_refused_with_what_they_may_be() {
    for (name, value, may) in [
        ("cpu-request", "much", "cpu of 1m or more, written for example 100m or 2"),
        ("cpu-request", "0", "cpu of 1m or more"),
        ("cpu-limit", "1m", "cpu of 10m or more"),
        ("cpu-limit", "10.5m", "cpu of 10m or more"),
        ("memory-request", "64", "memory of 1Mi or more, written for example 64Mi or 1Gi"),
        ("memory-request", "64MB", "memory of 1Mi or more"),
        ("memory-limit", "128m", "memory of 16Mi or more"),
        ("memory-limit", "8Mi", "memory of 16Mi or more"),
    ] {
        let said = ANNOTATIONS.iter().find(|said| said.name.ends_with(&format!("proxy-{name}")));
        let error = said.expect(name).read(value, &mut Resources::default()).expect_err(value);
        assert!(error.contains(may), "{name}={value}: {error}");
    }
}

/// The API server's two rules: what containers ask for together is no more than the pod says, and none may
/// use more. All that the pod says may be its own containers' already.
#[test]
fn what_the_pod_says_for_all_containers_is_for_the_sidecar_too() {
    for (pod, annotations, proxy, redirect) in [
        // As the webhook sees a pod: with requests, which the API server has put in.
        (
            "{requests: {cpu: 100m, memory: 1Gi}, limits: {cpu: 1, memory: 1Gi}}",
            &[][..],
            "cpu 0 memory 0 / memory 256Mi",
            "cpu 0 memory 0 / memory 64Mi",
        ),
        (
            "{requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 1, memory: 32Mi}}",
            &[],
            "cpu 0 memory 0 / memory 32Mi",
            "cpu 0 memory 0 / memory 32Mi",
        ),
        (
            "{requests: {cpu: 5m}}",
            &[],
            "cpu 0 memory 20Mi / memory 256Mi",
            "cpu 0 memory 16Mi / memory 64Mi",
        ),
        // Its own limit, without which one that goes mad would take all, and without a request of the limit.
        (
            "{requests: {memory: 1Gi}}",
            &[],
            "cpu 10m memory 0 / memory 256Mi",
            "cpu 10m memory 0 / memory 64Mi",
        ),
        // As in a file: the request is to become the limit, and `0` would be a request.
        ("{limits: {cpu: 1, memory: 1Gi}}", &[], " / ", " / "),
        ("{limits: {cpu: 1}}", &[], "memory 20Mi / memory 256Mi", "memory 16Mi / memory 64Mi"),
        ("{}", &[], "cpu 10m memory 20Mi / memory 256Mi", "cpu 10m memory 16Mi / memory 64Mi"),
        // Who says it has left room for it.
        (
            "{requests: {cpu: 100m, memory: 1Gi}, limits: {cpu: 1, memory: 1Gi}}",
            &["cpu-request=50m", "cpu-limit=2"],
            "cpu 50m memory 0 / cpu 1 memory 256Mi",
            "cpu 0 memory 0 / cpu 1 memory 64Mi",
        ),
    ] {
        let settings = settle(&Settings::default(), &said(annotations), &spec(pod));
        let (settings, _) = settings.expect("good");
        assert_eq!(show(&settings.proxy_resources), proxy, "{pod} {annotations:?}");
        assert_eq!(show(&settings.redirect_resources), redirect, "{pod} {annotations:?}");
    }
}

#[test]
fn what_comes_out_of_the_pods_own_is_said() {
    for (pod, annotations, word) in [
        ("{requests: {cpu: 1, memory: 1Gi}}", &[][..], Some("(cpu 10m, memory 20Mi)")),
        ("{limits: {cpu: 1}}", &[], Some("(cpu 10m)")),
        ("{requests: {cpu: 1, memory: 1Gi}}", &["cpu-request=10m"], Some("(memory 20Mi)")),
        ("{requests: {cpu: 1}}", &["cpu-request=10m"], None),
        ("{}", &[], None),
    ] {
        let (_, said) = settle(&Settings::default(), &said(annotations), &spec(pod)).expect("good");
        assert_eq!(said.is_some(), word.is_some(), "{pod}: {said:?}");
        assert!(said.unwrap_or_default().ends_with(word.unwrap_or_default()), "{pod}");
    }
}
