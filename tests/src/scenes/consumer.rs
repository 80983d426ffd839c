//! A route in another namespace than its Service's is for the calls of that namespace, and for no others.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tulle_tests::{
    load::{Caller, REVIEWS},
    mesh::Mesh,
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
pub(super) async fn runs(mesh: &Mesh, other: &Caller<'_>, rule: &str) -> Result<(), Failure> {
    let _caller = mesh.edit("reader.yaml", CALLER)?;
    let since = Instant::now();
    let reader = loop {
        match mesh.pod("readers", "reader").await {
            Ok(pod) if pod.ready => break pod,
            other => prove(since.elapsed() < PATIENCE, || format!("no reader: {other:?}"))?,
        }
        sleep(Duration::from_millis(20)).await;
    };
    let reader = Caller::of(mesh, reader, "client");
    reader.meets(REVIEWS, rule).await?;
    let route = mesh.edit("readers.yaml", ROUTE)?;
    reader.meets(REVIEWS, "readers").await?;
    prove(other.rule(REVIEWS).await? == rule, || "others follow it, too".into())?;
    drop(route);
    reader.meets(REVIEWS, rule).await
}
