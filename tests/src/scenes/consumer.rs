//! A route in another namespace than its Service's is for the calls of that namespace, and for no others.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tulle_tests::{
    mesh::{Mesh, Pod},
    scene::{Failure, prove},
};

/// Somebody who calls from there, and by which rule.
const CALLER: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: readers, labels: {tulle.dev/inject: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: reader, namespace: readers}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: client, image: 'curlimages/curl:8.16.0', command: [sleep, infinity]}
";
const ROUTE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mine, namespace: readers}
spec:
  parentRefs: [{group: '', kind: Service, namespace: bookstore, name: reviews}]
  rules:
  - filters:
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: x-rule, value: readers}]}
    backendRefs: [{namespace: bookstore, name: reviews, port: 9080}]
";
const PATIENCE: Duration = Duration::from_secs(40);

/// With `rule` in force for everybody else, whose caller is `other`.
pub(super) async fn runs(mesh: &Mesh, other: &Pod, rule: &str) -> Result<(), Failure> {
    let _caller = mesh.edit("reader.yaml", CALLER)?;
    let since = Instant::now();
    let reader = loop {
        match mesh.pod("readers", "reader").await {
            Ok(pod) if pod.ready => break pod,
            other => prove(since.elapsed() < PATIENCE, || format!("no reader: {other:?}"))?,
        }
        sleep(Duration::from_millis(20)).await;
    };
    meets(mesh, &reader, rule).await?;
    let route = mesh.edit("readers.yaml", ROUTE)?;
    meets(mesh, &reader, "readers").await?;
    prove(self::rule(mesh, other).await? == rule, || "others follow it, too".into())?;
    drop(route);
    meets(mesh, &reader, rule).await
}

/// Waits until the caller gets answers under this rule.
async fn meets(mesh: &Mesh, from: &Pod, wanted: &str) -> Result<(), Failure> {
    let since = Instant::now();
    loop {
        let met = rule(mesh, from).await;
        if met.as_ref().is_ok_and(|met| met == wanted) {
            return Ok(());
        }
        prove(since.elapsed() < PATIENCE, || format!("{} meets {met:?}, not {wanted}", from.name))?;
        sleep(Duration::from_millis(20)).await;
    }
}

async fn rule(mesh: &Mesh, from: &Pod) -> Result<String, Failure> {
    let curl = ["curl", "-sS", "-f", "-m", "5", "-D", "-", "-o", "/dev/null"];
    let argv = [&curl[..], &["http://reviews.bookstore:9080/reviews/1"]].concat();
    let head = mesh.exec(from, "client", &argv).await?;
    let rule = head.lines().find_map(|line| line.strip_prefix("x-rule: "));
    Ok(rule.unwrap_or_default().trim().to_owned())
}
