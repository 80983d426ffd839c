//! `tulle release template`: YAML to begin with.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use crate::observe::{Error, label};

/// Print the YAML of a Release, with what each field is if it is left out.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tulle release template reviews -n shop > release.yaml\n  \
    tulle release template reviews -n shop | kubectl apply -f -")]
pub(super) struct Args {
    /// The Deployment, after which the Release is named as well.
    #[arg(value_name = "NAME", default_value = "reviews", value_parser = label)]
    deployment: String,
    /// Its namespace.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default", value_parser = label)]
    namespace: String,
}

impl Args {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        let text = yaml(&self.namespace, &self.deployment);
        io::stdout().lock().write_all(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// With these names.
pub(super) fn yaml(namespace: &str, name: &str) -> String {
    TEMPLATE.replace("NAMESPACE", namespace).replace("NAME", name)
}

/// What it says is what holds without it: a test compares both.
const TEMPLATE: &str = r#"# All but `target` is what holds if it is left out.
apiVersion: tulle.dev/v1alpha1
kind: Release
metadata:
  name: NAME
  namespace: NAMESPACE
spec:
  target:
    kind: Deployment
    name: NAME
  # Of two workloads that you run yourself, instead:
  # target:
  #   stable: {kind: StatefulSet, name: NAME-v1}
  #   canary: {kind: StatefulSet, name: NAME-v2}

  # The Services through which it is called; else all whose selector matches its pods.
  # services: [NAME]

  # Each step ends when its time is over, enough requests were seen, and nothing speaks against the canary.
  steps:
    - {weight: 1, for: 1m}
    - {weight: 5, for: 2m}
    - {weight: 25, for: 5m}
    # A step can also say:
    #   match: [{headers: [{name: x-beta, value: '1'}]}]   these requests always go to the canary
    #   mirror: 10                                         percent of the others of which it gets a copy (GET, HEAD, OPTIONS)
    #   approve: true                                      somebody must say `tulle release step` before it begins
    #   webhook: https://gate.example.com/NAME             it must answer 2xx before it begins

  # Whose requests stay with a version: {header: x-user-id}, {cookie: sid} or {sourceIP: true}; else nobody's.
  # stickBy: {header: x-user-id}

  gates:
    falseAlarm: 0.1%     # the chance that a version which is no worse is ever stopped by errors and latency
    minRequests: 200     # to the canary, before a step may end
    errors:              # disabled: true, if they are not to be judged
      tolerate: 25%      # so much more often than the stable version it may fail
      floor: 0.1%        # fewer than that nobody minds
      max: 5%            # more than that is too much, whatever the stable version does
    latency:
      quantile: 99%      # slow is what takes longer than so many of the stable version's requests
      tolerate: 25%      # so much more often than the stable version it may be slow
      warmup: 30s        # for so long new pods need not be quick
    restarts: 1          # of its containers in a step that are forgiven
    # queries:
    #   - {name: orders, promql: 'rate(orders_failed_total{pod=~"$target-$revision.*"}[1m])', max: '0.5', every: 30s, failures: 3}
    # webhooks:
    #   - {name: smoke, url: https://gate.example.com/smoke, every: 30s, failures: 3}

  noData:                # too few sidecars tell what happens: no step ends, and
    hold: 10m            # after so long
    then: Pause          # or Rollback
  lowTraffic:            # a step's time is over, and minRequests were not seen:
    wait: 5m             # after so long more
    then: Pause          # or Rollback, or Widen: the next step without proof
  promote: Auto          # or Approve: somebody must say `tulle release promote`
  onFail: Rollback       # what a gate that says no leads to; or Pause
  deadline: 24h          # in all; then onFail
"#;
