//! A release in words.

use tulle_api::ReleasePhase as Phase;
use tulle_control_plane::steer::ReleaseView;

use super::{is_under_way, picture};
use crate::table::Table;

/// To begin with. Each default stands as what it is.
pub(super) const TEMPLATE: &str = "\
apiVersion: tulle.dev/v1alpha1
kind: Release
metadata: {name: reviews, namespace: shop}
spec:
  target: {kind: Deployment, name: reviews}   # all that must be said; the rest are the defaults
  # or two workloads that run side by side:
  # target: {stable: {kind: Deployment, name: reviews-v1}, canary: {kind: Deployment, name: reviews-v2}}
  # services: [reviews]         # default: each Service that selects the pods
  steps:
  - {weight: 1, for: 1m}
  - {weight: 5, for: 2m}
  - {weight: 25, for: 5m}       # besides: match, mirror, approve, webhook
  # stickBy: {header: x-user}   # or {cookie: sid}, {sourceIP: true}: who was with the new version stays there
  gates:
    falseAlarm: 0.1%            # of so many releases of a good version one is stopped
    minRequests: 200            # to the new version, in each step
    errors: {tolerate: 25%, floor: 0.1%, max: 5%}
    latency: {quantile: 99%, tolerate: 25%, warmup: 30s}
    restarts: 1
  noData: {hold: 10m, then: Pause}
  lowTraffic: {wait: 5m, then: Pause}
  promote: Auto                 # or Approve
  onFail: Rollback              # or Pause
  deadline: 24h
";

/// Why it is where it is.
pub(super) fn why(release: &ReleaseView) -> String {
    let ReleaseView { namespace, name, target, stable, canary, phase, .. } = release;
    let mut lines = vec![match canary.as_str() {
        "" => format!("{namespace}/{name} ({target}): {stable} gets all requests."),
        _ => format!("{namespace}/{name} ({target}): {canary} shall replace {stable}."),
    }];
    lines.push(format!("{phase:?}: {}.", release.reason));
    if is_under_way(*phase) || *phase == Phase::Held {
        lines.extend(release.gates.iter().map(|gate| {
            let then = match gate.state.as_str() {
                "Amber" => " It may be chance: no step ends until more is known.",
                "Red" => " That is proof.",
                _ => "",
            };
            format!("  {} is {}: {}.{then}", gate.gate, gate.state.to_lowercase(), gate.why)
        }));
        lines.extend(release.callers.iter().map(|caller| {
            let (new, old) = (caller.errors.canary, caller.errors.stable);
            format!(
                "  {} saw {} of {} requests fail at {canary}, {} of {} at {stable}.",
                caller.name, new.bad, new.all, old.bad, old.all
            )
        }));
    }
    if release.capped {
        lines.push(format!(
            "The step wants {}, but the {} pods of {canary} carry no more than {} without more load each than those of {stable} \
             have; `maxSurge` of the Deployment says how many there can be.",
            picture::percent(release.weight),
            release.pods.canary.serving,
            picture::percent(release.share),
        ));
    }
    lines.extend(remedy(release));
    lines.join("\n") + "\n"
}

/// What to do, where somebody must.
pub(super) fn remedy(release: &ReleaseView) -> Vec<String> {
    let ReleaseView { namespace, name, target, canary, stable, phase, .. } = release;
    match phase {
        Phase::Held => {
            let deployment = target.strip_prefix("Deployment ").filter(|name| !name.contains(' '));
            let undo = deployment.map(|deployment| {
                format!(
                    "The Deployment still wants {canary}: put {stable} back where its YAML is kept, or run\n  \
                     kubectl -n {namespace} rollout undo deployment/{deployment}"
                )
            });
            let again = format!("To try {canary} again: tulle release start {namespace}/{name}");
            undo.into_iter().chain([again]).collect()
        }
        Phase::Paused => vec![format!(
            "It goes on with: tulle release resume {namespace}/{name}; back with: tulle release rollback {namespace}/{name}"
        )],
        _ => Vec::new(),
    }
}

/// What happened.
pub(super) fn history(release: &ReleaseView) -> String {
    let mut table = Table::new(&["TIME", "WHAT", "WHO", "WHY"]);
    for entry in &release.history {
        let at = picture::time(entry.at);
        table.row([at, entry.did.clone(), entry.who.clone(), entry.why.clone()]);
    }
    if table.is_empty() { "nothing has happened yet\n".to_owned() } else { table.to_string() }
}
