//! Release: its spec with every default, and where its status says that it is.

use std::{sync::Arc, time::Duration};

use http::HeaderName;
use serde_json::Value;
use tulle_api::{
    ErrorsGate, HowMatch, LatencyGate, Promote, ReleaseGates, ReleaseMatch, ReleaseStep,
    ReleaseTarget, ValueMatch, WorkloadRef,
};
use tulle_xds::model::{HeaderMatch, Match, QueryMatch, Regex, StringMatch};

use super::{Fault, Name, metadata::created, typed::read_ours};
use crate::{
    release::{Course, Errors, Gates, Latency, LowTraffic, NoData, Plan, Share, Step},
    world::objects::{Object, Release, Target},
};

/// How long a step takes that does not say.
const STEP: Duration = Duration::from_secs(60);

pub(super) fn convert(name: &Name, value: &Value, faults: &mut Vec<Fault>) -> Option<Object> {
    let release: tulle_api::Release = read_ours(value, faults)?;
    let spec = release.spec;
    let default = Plan::default();
    let or = |said: Option<tulle_api::Duration>, default| said.map_or(default, |said| said.get());
    let (no_data, low) = (spec.no_data.unwrap_or_default(), spec.low_traffic.unwrap_or_default());
    let plan = Plan {
        steps: match &spec.steps {
            Some(steps) => steps.iter().map(step).collect(),
            None => default.steps,
        },
        gates: gates(spec.gates.unwrap_or_default()),
        no_data: NoData {
            hold: or(no_data.hold, default.no_data.hold),
            then: no_data.then.unwrap_or(default.no_data.then),
        },
        low_traffic: LowTraffic {
            wait: or(low.wait, default.low_traffic.wait),
            then: low.then.unwrap_or(default.low_traffic.then),
        },
        approve_promotion: spec.promote == Some(Promote::Approve),
        on_fail: spec.on_fail.unwrap_or(default.on_fail),
        deadline: or(spec.deadline, default.deadline),
        stick_by: spec.stick_by,
    };
    Some(Object::Release(Arc::new(Release {
        name: name.clone(),
        uid: release.metadata.uid.unwrap_or_default(),
        created: created(value),
        target: target(spec.target)?,
        services: spec.services,
        plan,
        course: course(value, faults),
    })))
}

fn target(told: ReleaseTarget) -> Option<Target> {
    let workload = |WorkloadRef { kind, name }| (kind, name);
    match told {
        ReleaseTarget { name: Some(name), .. } => Some(Target::Deployment(name)),
        ReleaseTarget { stable: Some(stable), canary: Some(canary), .. } => {
            Some(Target::Two { stable: workload(stable), canary: workload(canary) })
        }
        // Validation has said so.
        _ => None,
    }
}

fn step(told: &ReleaseStep) -> Step {
    Step {
        weight: Share::percent(told.weight),
        lasts: told.lasts.map_or(STEP, |lasts| lasts.get()),
        approve: told.approve,
        webhook: told.webhook.clone(),
        matches: told.matches.iter().filter_map(matches).collect(),
        mirror: told.mirror,
    }
}

/// Validation has refused what is no name and no expression.
fn matches(told: &ReleaseMatch) -> Option<Match> {
    let text = |told: &ValueMatch| match told.how {
        HowMatch::Exact => Some(StringMatch::Exact(told.value.clone())),
        HowMatch::RegularExpression => Regex::new(&told.value).ok().map(StringMatch::Regex),
    };
    let header = |told: &ValueMatch| {
        Some(HeaderMatch { name: told.name.parse::<HeaderName>().ok()?, value: text(told)? })
    };
    let query =
        |told: &ValueMatch| Some(QueryMatch { name: told.name.clone(), value: text(told)? });
    Some(Match {
        headers: told.headers.iter().map(header).collect::<Option<_>>()?,
        query: told.query_params.iter().map(query).collect::<Option<_>>()?,
        ..Match::default()
    })
}

fn gates(told: ReleaseGates) -> Gates {
    let default = Gates::default();
    let share = |said: tulle_api::Percent| f64::from(said.ppm()) / 1e6;
    let errors = told.errors.unwrap_or_default();
    let latency = told.latency.unwrap_or_default();
    Gates {
        false_alarm: told.false_alarm.map_or(default.false_alarm, share),
        min_requests: told.min_requests.map_or(default.min_requests, u64::from),
        errors: default.errors.filter(|_| !errors.disabled).map(|default| {
            let ErrorsGate { tolerate, floor, max, .. } = errors;
            Errors {
                tolerate: tolerate.map_or(default.tolerate, |more| 1.0 + share(more)),
                floor: floor.map_or(default.floor, share),
                most: max.map_or(default.most, share),
            }
        }),
        latency: default.latency.filter(|_| !latency.disabled).map(|default| {
            let LatencyGate { quantile, tolerate, warmup, .. } = latency;
            Latency {
                quantile: quantile.map_or(default.quantile, share),
                tolerate: tolerate.map_or(default.tolerate, |more| 1.0 + share(more)),
                warmup: warmup.map_or(default.warmup, |warmup| warmup.get()),
            }
        }),
        restarts: told.restarts.or(default.restarts),
    }
}

/// Where it is, as the control plane noted it.
fn course(value: &Value, faults: &mut Vec<Fault>) -> Option<Arc<Course>> {
    let memory = value.pointer("/status/memory").and_then(Value::as_str)?;
    match serde_json::from_str(memory) {
        Ok(course) => Some(Arc::new(course)),
        Err(error) => {
            let reason = format!("cannot be read ({error}): the release begins anew");
            faults.push(Fault::note("status.memory", reason));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tulle_api::{OnFail, OnLowTraffic, ReleasePhase, StickBy};

    use super::*;

    fn release(spec: Value, status: Value) -> (Option<Arc<Release>>, Vec<String>) {
        let value = json!({
            "apiVersion": "tulle.dev/v1alpha1", "kind": "Release",
            "metadata": {"namespace": "shop", "name": "web", "uid": "u"},
            "spec": spec, "status": status,
        });
        let mut faults = Vec::new();
        let object = convert(&Name::new("shop", "web"), &value, &mut faults);
        let object = object.filter(|_| faults.iter().all(|fault| fault.applies));
        let faults = faults.iter().map(|f| format!("{}: {}", f.field, f.reason)).collect();
        match object {
            Some(Object::Release(release)) => (Some(release), faults),
            None => (None, faults),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        let spec = json!({"target": {"kind": "Deployment", "name": "web"}});
        let (release, faults) = release(spec, Value::Null);
        let release = release.unwrap();
        assert_eq!(faults, [""; 0]);
        assert_eq!(release.target, Target::Deployment("web".to_owned()));
        assert_eq!((&release.plan, &release.course), (&Plan::default(), &None));
    }

    #[test]
    fn everything_that_is_said_is_heard() {
        let (release, faults) = release(
            json!({
                "target": {
                    "stable": {"kind": "Deployment", "name": "web"},
                    "canary": {"kind": "StatefulSet", "name": "web2"},
                },
                "services": ["web"],
                "steps": [
                    {"weight": 0, "match": [{"headers": [{"name": "X-Beta", "value": "1"}]}], "mirror": 10},
                    {"weight": 5, "for": "2m", "approve": true, "webhook": "https://gate.example.com"},
                ],
                "stickBy": {"header": "x-user"},
                "gates": {
                    "falseAlarm": "0.2%", "minRequests": 50, "restarts": 3,
                    "errors": {"tolerate": "50%", "floor": "1%", "max": "20%"},
                    "latency": {"disabled": true},
                },
                "noData": {"hold": "1m", "then": "Rollback"},
                "lowTraffic": {"wait": "2m", "then": "Widen"},
                "promote": "Approve", "onFail": "Pause", "deadline": "1h",
            }),
            json!({"memory": r#"{"phase":"Progressing","stable":"web","canary":"web2","weight":500}"#}),
        );
        let release = release.unwrap();
        assert_eq!(faults, [""; 0]);
        let two = |kind: &str, name: &str| (kind.to_owned(), name.to_owned());
        let (stable, canary) = (two("Deployment", "web"), two("StatefulSet", "web2"));
        assert_eq!(release.target, Target::Two { stable, canary });
        let beta = HeaderMatch {
            name: HeaderName::from_static("x-beta"),
            value: StringMatch::Exact("1".to_owned()),
        };
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let plan = Plan {
            steps: vec![
                Step {
                    lasts: STEP,
                    matches: vec![Match { headers: vec![beta], ..Match::default() }],
                    mirror: 10,
                    ..Step::default()
                },
                Step {
                    weight: Share::percent(5),
                    lasts: minutes(2),
                    approve: true,
                    webhook: "https://gate.example.com".to_owned(),
                    ..Step::default()
                },
            ],
            gates: Gates {
                false_alarm: 0.002,
                min_requests: 50,
                errors: Some(Errors { tolerate: 1.5, floor: 0.01, most: 0.2 }),
                latency: None,
                restarts: Some(3),
            },
            no_data: NoData { hold: minutes(1), then: OnFail::Rollback },
            low_traffic: LowTraffic { wait: minutes(2), then: OnLowTraffic::Widen },
            approve_promotion: true,
            on_fail: OnFail::Pause,
            deadline: minutes(60),
            stick_by: Some(StickBy { header: Some("x-user".to_owned()), ..StickBy::default() }),
        };
        assert_eq!(release.plan, plan);
        assert_eq!(release.services, ["web"]);
        let course = release.course.as_deref().unwrap();
        assert_eq!(
            (course.phase, course.weight, &*course.canary),
            (ReleasePhase::Progressing, Share::percent(5), "web2")
        );
    }

    #[test]
    fn a_memory_that_makes_no_sense_is_named_and_the_release_is_there() {
        let spec = json!({"target": {"kind": "Deployment", "name": "web"}});
        let (found, faults) = release(spec.clone(), json!({"memory": "{"}));
        assert_eq!(found.unwrap().course, None);
        assert!(faults[0].starts_with("status.memory: cannot be read"), "{faults:?}");
        // One of a newer version is read as far as it is understood.
        let (found, faults) = release(spec, json!({"memory": r#"{"stable":"a","new":1}"#}));
        assert_eq!(
            (found.unwrap().course.as_ref().unwrap().stable.as_str(), faults.len()),
            ("a", 0)
        );
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let spec = json!({"target": {"kind": "Deployment", "name": "web"}, "steps": [{"weight": 5}, {"weight": 1}]});
        let (found, faults) = release(spec, Value::Null);
        assert!(
            found.is_none() && faults[0].starts_with("spec.steps[1].weight: 1 is less"),
            "{faults:?}"
        );
    }
}
