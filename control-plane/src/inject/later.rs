//! Containers that other webhooks have added to a pod after us: their probes ask the sidecar, too.
//!
//! The API server asks once more about a pod that somebody has changed after our answer (`reinvocationPolicy`). What the
//! sidecar was told stays; what has come is told beside it. A pod of which nothing is new is left as it is.

use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::Value;

use super::{
    AGENT, INJECTED, PROXY, REDIRECT, Settings,
    annotations::Overrides,
    apply::{rewrite, tell},
    drain,
    probes::{self, Plan},
    sidecar::PROBES,
};

/// What is to be changed about a pod that has a sidecar.
#[derive(Debug)]
pub(super) struct Later {
    plan: Plan,
    /// Who asks the application: which init container, by its index.
    sidecar: usize,
}

impl Later {
    /// `None` if nothing is new, or the sidecar is another version's, which may not understand what it would be told.
    pub(super) fn of(metadata: &ObjectMeta, spec: &PodSpec, settings: &Settings) -> Option<Self> {
        let version = metadata.annotations.as_ref()?.get(INJECTED)?;
        let init = spec.init_containers.as_deref().unwrap_or_default();
        let named = |name: &str| init.iter().position(|container| container.name == name);
        // Where nothing is redirected (gRPC's own xDS) the kubelet is asked by nobody.
        if *version != settings.version || named(REDIRECT).is_none() {
            return None;
        }
        let sidecar = named(AGENT).or_else(|| named(PROXY))?;
        // What the annotations say was found good when the sidecar was added.
        let (overrides, _) = Overrides::parse(metadata.annotations.iter().flatten()).ok()?;
        let hold = drain::hold(overrides.drain_time, spec).ok()?;
        let told = told(init.get(sidecar)?);
        let plan = probes::later(told, metadata, spec, &settings.probe_key, hold)?;
        Some(Self { plan, sidecar })
    }

    /// For whoever applied the pod.
    pub(super) fn warnings(&self) -> &[String] {
        &self.plan.warnings
    }

    /// Changes the pod that it was planned for.
    pub(super) fn apply(&self, pod: &mut Value) {
        let Some(spec) = pod.get_mut("spec") else { return };
        self.plan.rewrites.iter().for_each(|change| rewrite(spec, change));
        if let Some(variable) = &self.plan.variable {
            tell(spec, self.sidecar, PROBES, variable);
        }
    }
}

/// What a sidecar was told to do for the kubelet.
fn told(sidecar: &Container) -> Option<&str> {
    let variable = sidecar.env.iter().flatten().find(|variable| variable.name == PROBES)?;
    variable.value.as_deref()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{Decision, LABEL, inject},
        *,
    };

    /// A pod as the webhook leaves it, with these containers, and those that another one adds then.
    fn pod(own: &Value, added: &[Value], settings: &Settings) -> Value {
        let pod = json!({
            "metadata": {"name": "web", "labels": {LABEL: "enabled"}},
            "spec": {"containers": [own]},
        });
        let pod = serde_json::from_value(pod).unwrap();
        let Ok(Decision::Injected { pod, .. }) = inject(&pod, &Default::default(), settings) else {
            panic!("not injected")
        };
        let mut pod = serde_json::to_value(pod).unwrap();
        pod["spec"]["containers"].as_array_mut().unwrap().extend(added.iter().cloned());
        pod
    }

    fn again(pod: &Value, settings: &Settings) -> Option<Value> {
        let part = |key: &str| pod[key].clone();
        let metadata = serde_json::from_value(part("metadata")).unwrap();
        let spec = serde_json::from_value(part("spec")).unwrap();
        let later = Later::of(&metadata, &spec, settings)?;
        let mut pod = pod.clone();
        later.apply(&mut pod);
        Some(pod)
    }

    /// What the sidecar does, by path: `CONTAINER/HANDLER`, with what follows the secret.
    fn checks(pod: &Value) -> (Vec<String>, Value) {
        let init = pod["spec"]["initContainers"].as_array().unwrap();
        let asks = init.iter().find(|c| c["name"] == AGENT).unwrap_or(&init[1]);
        let variables = asks["env"].as_array().unwrap().iter();
        let mut told = variables.filter(|variable| variable["name"] == PROBES);
        let value = told.next().and_then(|variable| variable["value"].as_str()).unwrap_or("[]");
        assert!(told.next().is_none() && !value.contains('$'), "{value}");
        let all: Vec<Value> = serde_json::from_str(value).unwrap();
        let mut secrets: Vec<_> =
            all.iter().map(|c| c["path"].as_str().unwrap().split('/').nth(2).unwrap()).collect();
        secrets.dedup();
        assert!(secrets.len() <= 1, "{secrets:?}");
        let tail =
            |c: &Value| c["path"].as_str().unwrap().splitn(4, '/').nth(3).unwrap().to_owned();
        (all.iter().map(tail).collect(), all.into())
    }

    #[test]
    fn what_came_later_asks_the_sidecar_too() {
        let settings = Settings::default();
        let plain = json!({"name": "app", "image": "app", "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}});
        let mut probed = plain.clone();
        probed["readinessProbe"] = json!({"httpGet": {"port": 80, "path": "/ok"}});
        let hook = json!({"preStop": {"exec": {"command": ["a"]}}});
        let added = |field: &str, value: Value| {
            let mut container = json!({"name": "vault", "image": "vault", "lifecycle": hook});
            container[field] = value;
            container
        };
        // the pod's own container, what is added, what the sidecar does of it then
        type Case<'a> = (&'a Value, Value, &'a [&'a str]);
        let cases: [Case<'_>; 6] = [
            (
                &plain,
                added("readinessProbe", json!({"httpGet": {"port": 1}})),
                &["vault/readiness"],
            ),
            (
                &probed,
                added("startupProbe", json!({"tcpSocket": {"port": 2}})),
                &["app/readiness", "vault/startup"],
            ),
            (
                &probed,
                added("livenessProbe", json!({"grpc": {"port": 3}})),
                &["app/readiness", "vault/liveness"],
            ),
            (
                &plain,
                added(
                    "lifecycle",
                    json!({"postStart": {"httpGet": {"port": 4}}, "preStop": {"httpGet": {"port": "$(5)", "host": "h"}}}),
                ),
                &["vault/post-start"],
            ),
            (&probed, json!({"name": "hasty", "image": "a"}), &["app/readiness", "hasty/pre-stop"]),
            (
                &probed,
                added("readinessProbe", json!({"httpGet": {"port": 1, "path": "/$(HOME)"}})),
                &["app/readiness", "vault/readiness"],
            ),
        ];
        for (own, container, expected) in cases {
            let before = pod(own, std::slice::from_ref(&container), &settings);
            let after = again(&before, &settings).expect("something is new");
            let (paths, told) = checks(&after);
            assert_eq!(paths, expected, "{container}");
            // What was told before is told as before, and the pod's own container is as it was.
            let (_, earlier) = checks(&before);
            for check in earlier.as_array().unwrap() {
                assert!(told.as_array().unwrap().contains(check), "{check} is not in {told}");
            }
            assert_eq!(after["spec"]["containers"][0], before["spec"]["containers"][0]);
            assert!(again(&after, &settings).is_none(), "twice is as once: {container}");
        }
    }

    #[test]
    fn what_is_not_new_or_not_ours_is_left_alone() {
        let settings = Settings::default();
        let own =
            json!({"name": "app", "image": "app", "readinessProbe": {"httpGet": {"port": 80}}});
        let exec = json!({"name": "b", "image": "b", "livenessProbe": {"exec": {"command": ["a"]}}, "lifecycle": {"preStop": {"exec": {"command": ["a"]}}}});
        assert!(again(&pod(&own, &[], &settings), &settings).is_none());
        assert!(again(&pod(&own, &[exec], &settings), &settings).is_none());
        let new = json!({"name": "b", "image": "b", "livenessProbe": {"httpGet": {"port": 81}}});
        let changed = |change: fn(&mut Value)| {
            let mut pod = pod(&own, std::slice::from_ref(&new), &settings);
            change(&mut pod);
            again(&pod, &settings)
        };
        assert!(changed(|_| {}).is_some());
        // Of another version, without a sidecar, told what nobody can read.
        assert!(changed(|pod| pod["metadata"]["annotations"][INJECTED] = "0".into()).is_none());
        assert!(changed(|pod| pod["metadata"]["annotations"] = json!({})).is_none());
        assert!(changed(|pod| pod["spec"]["initContainers"] = json!([])).is_none());
        let junk = |pod: &mut Value| {
            for variable in pod["spec"]["initContainers"][1]["env"].as_array_mut().unwrap() {
                variable["value"] = "junk".into();
            }
        };
        assert!(changed(junk).is_none());
    }

    #[test]
    fn a_probe_that_was_put_back_is_taken_again() {
        let settings = Settings::default();
        let own =
            json!({"name": "app", "image": "app", "readinessProbe": {"httpGet": {"port": 80}}});
        let mut before = pod(&own, &[], &settings);
        before["spec"]["containers"][0]["readinessProbe"] = json!({"httpGet": {"port": 81}});
        let after = again(&before, &settings).expect("it is new");
        let (paths, told) = checks(&after);
        assert_eq!(paths, ["app/pre-stop", "app/readiness"]);
        assert_eq!(told[1]["action"]["httpGet"]["port"], 81);
    }

    #[test]
    fn with_stock_envoy_the_agent_is_told_and_with_grpc_nobody() {
        let own = json!({"name": "app", "image": "app"});
        let new = json!({"name": "b", "image": "b", "livenessProbe": {"httpGet": {"port": 81}}});
        let of = |data_plane| {
            let settings = Settings { data_plane, ..Settings::default() };
            let pod = pod(&own, std::slice::from_ref(&new), &settings);
            again(&pod, &settings)
        };
        let (paths, _) = checks(&of(super::super::DataPlane::Envoy).expect("something is new"));
        assert_eq!(paths, ["app/pre-stop", "b/liveness", "b/pre-stop"]);
        assert!(of(super::super::DataPlane::Grpc).is_none());
    }
}
