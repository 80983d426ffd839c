//! What the types of a Release cannot rule out.

use std::collections::BTreeSet;

use super::{
    QueryGate, Release, ReleaseGates, ReleaseMatch, ReleaseStep, ReleaseTarget, StickBy,
    ValueMatch, WebhookGate,
};
use crate::{
    Percent,
    validate::{Problem, Problems, Validate, too_many},
};

/// Gates that a query or a webhook would be taken for.
const OWN_GATES: [&str; 3] = ["errors", "latency", "restarts"];
/// Most of each.
const MAX_STEPS: usize = 32;
const MAX_SERVICES: usize = 16;
const MAX_MATCHES: usize = 8;
const MAX_GATES: usize = 8;
/// Quantiles that can be told from requests, in millionths.
const QUANTILES: std::ops::RangeInclusive<u32> = 500_000..=999_000;
/// False alarms: a chance of none would never stop anything.
const ALARMS: std::ops::RangeInclusive<u32> = 1..=100_000;

impl Validate for Release {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        let spec = &self.spec;
        check_target(&spec.target, &mut problems);
        too_many("spec.services", spec.services.len(), MAX_SERVICES, &mut problems);
        twice("spec.services", spec.services.iter(), &mut problems);
        let steps = spec.steps.as_deref().unwrap_or_default();
        too_many("spec.steps", steps.len(), MAX_STEPS, &mut problems);
        for (at, step) in steps.iter().enumerate() {
            check_step(&format!("spec.steps[{at}]"), step, &mut problems);
        }
        for (at, pair) in steps.windows(2).enumerate() {
            let [before, after] =
                [pair.first(), pair.last()].map(|step| step.map_or(0, |s| s.weight));
            problems.check(after < before, &format!("spec.steps[{}].weight", at + 1), || {
                format!("{after} is less than the {before} before it; steps do not go down")
            });
        }
        if let Some(stick_by) = &spec.stick_by {
            check_stick_by(stick_by, &mut problems);
        }
        if let Some(gates) = &spec.gates {
            check_gates(gates, &mut problems);
        }
        let zero = spec.deadline.is_some_and(|deadline| deadline.is_zero());
        problems.check(zero, "spec.deadline", || {
            "0s is no time for anything; leave it out for 24h".to_owned()
        });
        problems.into_vec()
    }
}

fn check_target(target: &ReleaseTarget, problems: &mut Problems) {
    let ReleaseTarget { kind, name, stable, canary } = target;
    let one = kind.is_some() || name.is_some();
    let two = stable.is_some() || canary.is_some();
    let whole =
        if one { kind.is_some() && name.is_some() } else { stable.is_some() && canary.is_some() };
    problems.check(one == two || !whole, "spec.target", || {
        "write `kind` and `name` of one Deployment, or `stable` and `canary`".to_owned()
    });
    problems.check(two && stable == canary, "spec.target.canary", || {
        "it is the stable one as well; a Deployment alone is released by its `kind` and `name`"
            .to_owned()
    });
    let named = [
        ("name", name.as_ref()),
        ("stable.name", stable.as_ref().map(|w| &w.name)),
        ("canary.name", canary.as_ref().map(|w| &w.name)),
    ];
    let twins = stable.as_ref().zip(canary.as_ref());
    let twins = twins.is_some_and(|(one, other)| one.kind != other.kind && one.name == other.name);
    problems.check(twins, "spec.target.canary.name", || {
        "it is the stable one's as well; proxies tell two workloads apart by their names".to_owned()
    });
    for (field, name) in named {
        let wrong = name.is_some_and(|name| !(1..=253).contains(&name.len()));
        problems.check(wrong, &format!("spec.target.{field}"), || {
            "it must have 1 to 253 characters".to_owned()
        });
    }
}

fn check_step(field: &str, step: &ReleaseStep, problems: &mut Problems) {
    problems.range(&format!("{field}.weight"), Some(step.weight.into()), 0..=100);
    problems.range(&format!("{field}.mirror"), Some(step.mirror.into()), 0..=100);
    too_many(&format!("{field}.match"), step.matches.len(), MAX_MATCHES, problems);
    for (at, one) in step.matches.iter().enumerate() {
        one.check(&format!("{field}.match[{at}]"), problems);
    }
    if !step.webhook.is_empty() {
        check_url(&format!("{field}.webhook"), &step.webhook, problems);
    }
}

impl ReleaseMatch {
    pub(crate) fn check(&self, field: &str, problems: &mut Problems) {
        let Self { headers, query_params } = self;
        problems.check(headers.is_empty() && query_params.is_empty(), field, || {
            "it says nothing, and would match every request; weight 100 does that".to_owned()
        });
        for (part, values) in [("headers", headers), ("queryParams", query_params)] {
            too_many(&format!("{field}.{part}"), values.len(), MAX_MATCHES, problems);
            let names: Vec<_> =
                values.iter().map(|value| value.name.to_ascii_lowercase()).collect();
            twice(&format!("{field}.{part}"), names.iter(), problems);
            for (at, ValueMatch { name, value, .. }) in values.iter().enumerate() {
                let field = format!("{field}.{part}[{at}]");
                problems
                    .check(name.is_empty(), &format!("{field}.name"), || "it is empty".to_owned());
                problems.check(value.is_empty(), &format!("{field}.value"), || {
                    "it is empty".to_owned()
                });
                let long = value.len() > 4096;
                problems.check(long, &format!("{field}.value"), || {
                    "it has more than 4096 characters".to_owned()
                });
            }
        }
    }
}

fn check_stick_by(stick_by: &StickBy, problems: &mut Problems) {
    let StickBy { header, cookie, source_ip } = stick_by;
    let said =
        usize::from(header.is_some()) + usize::from(cookie.is_some()) + usize::from(*source_ip);
    problems.check(said != 1, "spec.stickBy", || {
        "write one of `header`, `cookie` and `sourceIP: true`".to_owned()
    });
}

fn check_gates(gates: &ReleaseGates, problems: &mut Problems) {
    let share = |percent: Option<Percent>| percent.map(Percent::ppm);
    if let Some(ppm) = share(gates.false_alarm).filter(|ppm| !ALARMS.contains(ppm)) {
        let percent = Percent::of_ppm(ppm);
        problems.check(true, "spec.gates.falseAlarm", || {
            format!(
                "{percent} is not between 0.0001% and 10%: with 0% nothing could ever be proven"
            )
        });
    }
    let quantile = gates.latency.as_ref().and_then(|latency| share(latency.quantile));
    if let Some(ppm) = quantile.filter(|ppm| !QUANTILES.contains(ppm)) {
        let percent = Percent::of_ppm(ppm);
        problems.check(true, "spec.gates.latency.quantile", || {
            format!("{percent} is not between 50% and 99.9%")
        });
    }
    let max = gates.errors.as_ref().and_then(|errors| share(errors.max));
    problems.check(max == Some(0), "spec.gates.errors.max", || {
        "with 0% one failed request would be too many; write for example 1%".to_owned()
    });
    too_many("spec.gates.queries", gates.queries.len(), MAX_GATES, problems);
    too_many("spec.gates.webhooks", gates.webhooks.len(), MAX_GATES, problems);
    let queries = gates.queries.iter().map(|query| &query.name).enumerate();
    let webhooks = gates.webhooks.iter().map(|webhook| &webhook.name).enumerate();
    let named = queries.map(|(at, name)| ("queries", at, name));
    let named: Vec<_> = named.chain(webhooks.map(|(at, name)| ("webhooks", at, name))).collect();
    twice("spec.gates", named.iter().map(|(_, _, name)| name), problems);
    for (part, at, name) in named {
        let field = format!("spec.gates.{part}[{at}].name");
        problems.check(OWN_GATES.contains(&name.as_str()), &field, || {
            format!("a gate of every release is called {name}; take another name")
        });
        problems.check(!(1..=63).contains(&name.len()), &field, || {
            "it must have 1 to 63 characters".to_owned()
        });
    }
    for (at, query) in gates.queries.iter().enumerate() {
        check_query(&format!("spec.gates.queries[{at}]"), query, problems);
    }
    for (at, WebhookGate { url, failures, .. }) in gates.webhooks.iter().enumerate() {
        let field = format!("spec.gates.webhooks[{at}]");
        check_url(&format!("{field}.url"), url, problems);
        problems.range(&format!("{field}.failures"), *failures, 1..=100);
    }
}

fn check_query(field: &str, query: &QueryGate, problems: &mut Problems) {
    let QueryGate { promql, max, min, failures, .. } = query;
    problems
        .check(promql.trim().is_empty(), &format!("{field}.promql"), || "it is empty".to_owned());
    problems.check(max.is_none() && min.is_none(), field, || {
        "nothing is too much or too little; write `max` or `min`".to_owned()
    });
    for (part, bound) in [("max", max), ("min", min)] {
        let number = |text: &String| text.parse::<f64>().is_ok_and(f64::is_finite);
        let wrong = bound.as_ref().is_some_and(|text| !number(text));
        problems.check(wrong, &format!("{field}.{part}"), || {
            "it is no number; write for example '0.5'".to_owned()
        });
    }
    problems.range(&format!("{field}.failures"), *failures, 1..=100);
}

fn check_url(field: &str, url: &str, problems: &mut Problems) {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let good = url.len() <= 2048
        && url.bytes().all(|b| b.is_ascii_graphic())
        && host.is_some_and(|host| !host.is_empty() && !host.contains('@'));
    problems.check(!good, field, || {
        "it is no address; write for example https://gate.example.com/reviews, without a password".to_owned()
    });
}

fn twice(field: &str, names: impl IntoIterator<Item = impl AsRef<str>>, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for name in names {
        let name = name.as_ref().to_owned();
        problems.check(seen.contains(&name), field, || format!("{name:?} is listed twice"));
        seen.insert(name);
    }
}
