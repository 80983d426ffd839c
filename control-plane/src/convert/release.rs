//! Release: its spec with every default, and where its status says that it is.

use std::{sync::Arc, time::Duration};

use http::HeaderName;
use serde_json::Value;
use tulle_api::{
    ErrorsGate, HowMatch, LatencyGate, Promote, QueryGate, ReleaseGates, ReleaseMatch, ReleaseStep,
    ReleaseTarget, ValueMatch, WebhookGate, WorkloadRef,
};
use tulle_xds::model::{HeaderMatch, Match, QueryMatch, StringMatch};

use super::{Fault, Field, Name, metadata::created, route::regex, typed::read_ours};
use crate::{
    release::{
        Course, Errors, Gates, Latency, LowTraffic, NoData, Plan, Query, Share, Step, Webhook,
    },
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
            Some(told) => {
                let steps = told.iter().enumerate();
                let field = |at| Field::from("spec.steps").index(at);
                steps.map(|(at, told)| step(&field(at), told, faults)).collect()
            }
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
    let header = plan.stick_by.as_ref().and_then(|by| by.header.as_ref());
    if let Some(name) = header {
        header_name(Field::from("spec.stickBy.header"), name, faults);
    }
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

fn step(field: &Field, told: &ReleaseStep, faults: &mut Vec<Fault>) -> Step {
    let field = field.key("match");
    let matching = told.matches.iter().enumerate();
    let matching = matching.filter_map(|(at, told)| matches(&field.index(at), told, faults));
    Step {
        weight: Share::percent(told.weight),
        lasts: told.lasts.map_or(STEP, |lasts| lasts.get()),
        approve: told.approve,
        webhook: told.webhook.clone(),
        matches: matching.collect(),
        mirror: told.mirror,
    }
}

/// `None` if there is something wrong with it.
pub(super) fn matches(
    field: &Field,
    told: &ReleaseMatch,
    faults: &mut Vec<Fault>,
) -> Option<Match> {
    let mut found = Some(Match::default());
    for (at, told) in told.headers.iter().enumerate() {
        let field = field.key("headers").index(at);
        let name = header_name(field.key("name"), &told.name, faults);
        let header = name.zip(text(&field, told, faults));
        found = found.zip(header).map(|(mut found, (name, value))| {
            found.headers.push(HeaderMatch { name, value });
            found
        });
    }
    for (at, told) in told.query_params.iter().enumerate() {
        let value = text(&field.key("queryParams").index(at), told, faults);
        found = found.zip(value).map(|(mut found, value)| {
            found.query.push(QueryMatch { name: told.name.clone(), value });
            found
        });
    }
    found
}

fn header_name(field: Field, name: &str, faults: &mut Vec<Fault>) -> Option<HeaderName> {
    let wrong = |_| faults.push(Fault::fatal(field, format!("{name:.100?} is no header name")));
    name.parse().map_err(wrong).ok()
}

fn text(field: &Field, told: &ValueMatch, faults: &mut Vec<Fault>) -> Option<StringMatch> {
    match told.how {
        HowMatch::Exact => Some(StringMatch::Exact(told.value.clone())),
        HowMatch::RegularExpression => regex(&told.value)
            .map(StringMatch::Regex)
            .map_err(|reason| faults.push(Fault::fatal(field.key("value"), reason)))
            .ok(),
    }
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
        queries: told.queries.into_iter().map(query).collect(),
        webhooks: told.webhooks.into_iter().map(webhook).collect(),
    }
}

fn query(told: QueryGate) -> Query {
    let QueryGate { name, promql, max, min, every, failures } = told;
    // Validation has refused what is no number.
    let bound = |told: Option<String>| told.and_then(|number| number.parse().ok());
    Query {
        name,
        promql,
        max: bound(max),
        min: bound(min),
        every: interval(every),
        failures: failures.unwrap_or(Query::FAILURES),
    }
}

fn webhook(told: WebhookGate) -> Webhook {
    let WebhookGate { name, url, every, failures } = told;
    let failures = failures.unwrap_or(Query::FAILURES);
    Webhook { name, url, every: interval(every), failures }
}

/// Nobody is asked without a pause.
fn interval(told: Option<tulle_api::Duration>) -> Duration {
    told.map_or(Query::EVERY, |every| every.get().max(Duration::from_secs(1)))
}

/// Where it is, as the control plane noted it.
fn course(value: &Value, faults: &mut Vec<Fault>) -> Option<Arc<Course>> {
    let memory = value.pointer("/status/memory").and_then(Value::as_str)?;
    if memory.is_empty() {
        return None;
    }
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

    fn all_fields() -> Value {
        json!({
            "target": {
                "stable": {"kind": "Deployment", "name": "web"},
                "canary": {"kind": "StatefulSet", "name": "web2"},
            },
            "services": ["web"],
            "steps": [
                {"weight": 0, "mirror": 10, "match": [
                    {"headers": [{"name": "X-Beta", "value": "1"}]},
                    {"queryParams": [{"name": "u", "type": "RegularExpression", "value": "a.*"}]},
                ]},
                {"weight": 5, "for": "2m", "approve": true, "webhook": "https://gate.example.com"},
            ],
            "stickBy": {"header": "x-user"},
            "gates": {
                "falseAlarm": "0.2%", "minRequests": 50, "restarts": 3,
                "errors": {"tolerate": "50%", "floor": "1%", "max": "20%"},
                "latency": {"disabled": true},
                "queries": [{"name": "q", "promql": "up", "min": "0.5", "every": "1m"}],
                "webhooks": [{"name": "w", "url": "http://w", "failures": 1}],
            },
            "noData": {"hold": "1m", "then": "Rollback"},
            "lowTraffic": {"wait": "2m", "then": "Widen"},
            "promote": "Approve", "onFail": "Pause", "deadline": "1h",
        })
    }

    #[test]
    fn everything_that_is_said_is_heard() {
        let (release, faults) = release(
            all_fields(),
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
        let user =
            QueryMatch { name: "u".to_owned(), value: StringMatch::Regex(regex("a.*").unwrap()) };
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let query = Query {
            name: "q".to_owned(),
            promql: "up".to_owned(),
            max: None,
            min: Some(0.5),
            every: minutes(1),
            failures: 3,
        };
        let webhook = Webhook {
            name: "w".to_owned(),
            url: "http://w".to_owned(),
            every: Duration::from_secs(30),
            failures: 1,
        };
        let plan = Plan {
            steps: vec![
                Step {
                    lasts: STEP,
                    matches: vec![
                        Match { headers: vec![beta], ..Match::default() },
                        Match { query: vec![user], ..Match::default() },
                    ],
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
                queries: vec![query],
                webhooks: vec![webhook],
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
        let header = |told: Value| json!({"steps": [{"match": [{"headers": [told]}]}]});
        let query = |told: Value| json!({"steps": [{}, {"match": [{"queryParams": [told]}]}]});
        for (more, fault) in [
            (json!({"steps": [{"weight": 5}, {"weight": 1}]}), "spec.steps[1].weight: 1 is less"),
            (json!({"step": []}), "spec.step: unknown field"),
            (
                header(json!({"name": "a b", "value": "1"})),
                "spec.steps[0].match[0].headers[0].name: \"a b\" is no header name",
            ),
            (
                query(json!({"type": "RegularExpression", "name": "a", "value": "("})),
                "spec.steps[1].match[0].queryParams[0].value: \"(\" is no regular expression",
            ),
            (
                header(json!({"type": "RegularExpression", "name": "a", "value": "(?x) a"})),
                "spec.steps[0].match[0].headers[0].value: \"(?x) a\" is no regular expression for RE2",
            ),
            (json!({"stickBy": {"header": "a b"}}), "spec.stickBy.header: \"a b\" is no header"),
        ] {
            let mut spec = json!({"target": {"kind": "Deployment", "name": "web"}});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let (found, faults) = release(spec, Value::Null);
            assert!(found.is_none() && faults[0].starts_with(fault), "{more}: {faults:?}");
        }
    }
}
