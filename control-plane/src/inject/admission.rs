//! What the API server asks, and what it is answered. Pure.
//!
//! AdmissionReview, admission.k8s.io/v1:
//! <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::{api::core::v1::PodSpec, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Additions, LABEL, Plan, Settings, Skip, later::Later, plan};

/// Longer warnings are cut by the API server, at a place of its choice.
const LONGEST_WARNING: usize = 256;

/// What was decided, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It gets a sidecar.
    Injected,
    /// It has one, which is told of containers that came later.
    Amended,
    /// It gets none.
    Skipped(Skip),
    /// It is not created.
    Refused(String),
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The AdmissionReview to send back.
    pub review: Value,
    /// The pod, as far as it has a name by now.
    pub pod: String,
    /// What was decided.
    pub verdict: Verdict,
}

/// Answers an AdmissionReview about a pod. `enabled` is whether its namespace asks for sidecars, which the API server has
/// found out by the webhook's selector.
///
/// # Errors
/// If it is none.
pub fn review(review: &Value, enabled: bool, settings: &Settings) -> Result<Answer, String> {
    let request = review.get("request").ok_or("no AdmissionReview: it has no request")?;
    let uid = request.get("uid").and_then(Value::as_str).ok_or("the request has no uid")?;
    let pod = request.get("object").ok_or("the request has no object")?;
    let text = |value: &Value, key: &str| {
        value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let namespace = text(request, "namespace");
    let metadata = pod.get("metadata").cloned().unwrap_or_default();
    // Pods of a controller get their name only after this.
    let name = match (text(&metadata, "name"), text(&metadata, "generateName")) {
        (name, generate) if name.is_empty() => format!("{generate}…"),
        (name, _) => name,
    };
    let labels = match enabled {
        true => BTreeMap::from([(LABEL.to_owned(), "enabled".to_owned())]),
        false => BTreeMap::new(),
    };
    let (response, verdict) = match decide(pod, &labels, settings) {
        Ok(Decided::Add(additions)) => {
            let mut injected = pod.clone();
            additions.apply(&mut injected);
            (changed(pod, &injected, &additions.warnings), Verdict::Injected)
        }
        Ok(Decided::Amend(later)) => {
            let mut amended = pod.clone();
            later.apply(&mut amended);
            (changed(pod, &amended, later.warnings()), Verdict::Amended)
        }
        Ok(Decided::Leave(skip)) => {
            // Whoever did not ask for one need not be told.
            let silent = [Skip::Disabled, Skip::NotEnabled, Skip::AlreadyInjected];
            let warnings = match !silent.contains(&skip) {
                true => vec![cut(&format!("Tulle: this pod gets no sidecar: {skip}"))],
                false => Vec::new(),
            };
            (json!({"allowed": true, "warnings": warnings}), Verdict::Skipped(skip))
        }
        Err(reason) => {
            let status = json!({
                "code": 400,
                "reason": "BadRequest",
                "message": format!(
                    "Tulle cannot add a sidecar: {reason}; without one the pod runs if it has the label {LABEL}=disabled"
                ),
            });
            (json!({"allowed": false, "status": status}), Verdict::Refused(reason))
        }
    };
    let mut response = response;
    response["uid"] = uid.into();
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response,
    });
    Ok(Answer { review, pod: format!("{namespace}/{name}"), verdict })
}

/// What becomes of a pod.
enum Decided {
    Add(Box<Additions>),
    Amend(Later),
    Leave(Skip),
}

fn decide(
    pod: &Value,
    labels: &BTreeMap<String, String>,
    settings: &Settings,
) -> Result<Decided, String> {
    let metadata: ObjectMeta = part(pod, "metadata")?;
    let spec: PodSpec = part(pod, "spec")?;
    let plan = plan(&metadata, &spec, labels, settings).map_err(|refusal| refusal.to_string())?;
    Ok(match plan {
        Plan::Inject(additions) => Decided::Add(additions),
        Plan::Skip(Skip::AlreadyInjected) => match Later::of(&metadata, &spec, settings) {
            Some(later) => Decided::Amend(later),
            None => Decided::Leave(Skip::AlreadyInjected),
        },
        Plan::Skip(skip) => Decided::Leave(skip),
    })
}

fn changed(before: &Value, after: &Value, warnings: &[String]) -> Value {
    let patch = Value::from(patch(before, after)).to_string();
    let warnings: Vec<_> = warnings.iter().map(|warning| cut(warning)).collect();
    json!({
        "allowed": true,
        "patchType": "JSONPatch",
        "patch": STANDARD.encode(patch),
        "warnings": warnings,
    })
}

fn part<T: DeserializeOwned + Default>(pod: &Value, key: &str) -> Result<T, String> {
    match pod.get(key) {
        None | Some(Value::Null) => Ok(T::default()),
        Some(value) => T::deserialize(value).map_err(|error| format!("{key}: {error}")),
    }
}

/// JSON Patch (RFC 6902): whatever differs one level below `metadata` and `spec`, anew.
fn patch(before: &Value, after: &Value) -> Vec<Value> {
    let mut operations = Vec::new();
    for part in ["metadata", "spec"] {
        let fields = after.get(part).and_then(Value::as_object).into_iter().flatten();
        for (field, value) in fields {
            if before.get(part).and_then(|part| part.get(field)) != Some(value) {
                let path = format!("/{part}/{field}");
                // It adds or replaces (RFC 6902, 4.1).
                operations.push(json!({"op": "add", "path": path, "value": value}));
            }
        }
    }
    operations
}

fn cut(warning: &str) -> String {
    match warning.char_indices().map(|(at, _)| at).nth(LONGEST_WARNING - 1) {
        Some(at) => format!("{}…", warning.get(..at).unwrap_or_default()),
        None => warning.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inject::{INJECTED, PROXY};

    fn ask(pod: Value, enabled: bool) -> (Value, Verdict) {
        let request = json!({"request": {"uid": "u-1", "namespace": "shop", "object": pod}});
        let answer = review(&request, enabled, &Settings::default()).unwrap();
        assert_eq!(answer.review["response"]["uid"], "u-1");
        (answer.review["response"].clone(), answer.verdict)
    }

    fn pod() -> Value {
        json!({
            "metadata": {"generateName": "web-"},
            "spec": {
                "fieldOfTomorrow": {"a": 1},
                "containers": [{
                    "name": "app", "image": "app",
                    "resizePolicyOfTomorrow": 1,
                    "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 3},
                }],
            },
        })
    }

    #[test]
    fn the_patch_adds_and_takes_nothing_away() {
        let (response, verdict) = ask(pod(), true);
        assert_eq!(verdict, Verdict::Injected);
        let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
        let patch: Vec<Value> = serde_json::from_slice(&patch).unwrap();
        let paths: Vec<_> = patch.iter().map(|op| op["path"].as_str().unwrap()).collect();
        let expected =
            ["/metadata/annotations", "/spec/containers", "/spec/initContainers", "/spec/volumes"];
        assert_eq!(paths, expected);
        let containers = &patch[1]["value"];
        assert_eq!(containers[0]["resizePolicyOfTomorrow"], 1);
        assert_eq!(containers[0]["readinessProbe"]["periodSeconds"], 3);
        assert!(containers[0]["readinessProbe"]["httpGet"]["path"].is_string());
        assert!(containers[0]["readinessProbe"].get("tcpSocket").is_none());
        assert_eq!(patch[2]["value"][1]["name"], PROXY);

        // Asked again, for what another webhook has added: it has a sidecar.
        let mut again = pod();
        again["metadata"]["annotations"] = json!({INJECTED: "1"});
        let (response, verdict) = ask(again, true);
        assert_eq!(verdict, Verdict::Skipped(Skip::AlreadyInjected));
        assert_eq!(response["warnings"], json!([]));
    }

    #[test]
    fn whoever_asked_is_told() {
        let mut hosts = pod();
        hosts["spec"]["hostNetwork"] = true.into();
        let (response, _) = ask(hosts, true);
        assert_eq!(response["allowed"], true);
        assert!(response["warnings"][0].as_str().unwrap().contains("node's network"));
        let (response, verdict) = ask(pod(), false);
        assert_eq!(
            (verdict, &response["warnings"]),
            (Verdict::Skipped(Skip::NotEnabled), &json!([]))
        );
        let mut wrong = pod();
        wrong["metadata"]["labels"] = json!({LABEL: "on"});
        let (response, verdict) = ask(wrong, false);
        assert!(matches!(verdict, Verdict::Refused(_)));
        let message = response["status"]["message"].as_str().unwrap();
        assert!(message.contains("it must be \"enabled\" or \"disabled\""), "{message}");
    }

    #[test]
    fn junk_is_no_review() {
        for junk in
            [json!(null), json!({}), json!({"request": {}}), json!({"request": {"uid": "u"}})]
        {
            assert!(review(&junk, true, &Settings::default()).is_err(), "{junk}");
        }
        let (_, verdict) = ask(json!({"spec": {"containers": 1}}), true);
        assert!(matches!(verdict, Verdict::Refused(_)));
        assert!(cut(&"ä".repeat(300)).chars().count() <= LONGEST_WARNING);
    }
}
