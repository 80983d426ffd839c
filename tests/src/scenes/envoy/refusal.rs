//! A route that our own proxy takes and Envoy refuses: who refuses it and why is told, and what was good stays.

use tokio::time::Instant;
use tulle_tests::{
    load::Caller,
    mesh::{Force, Mesh, Pod},
    scene::{Failure, prove},
};

use super::PATIENCE;

/// Injection lets Envoy take regular expressions of any size. This one is left with Envoy's own bound.
const ANY: &str = "error_level\":4294967295";
const NARROW: &str = "error_level\":100";
const ROUTE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: refused, namespace: bookstore}
spec:
  parentRefs: [{group: '', kind: Service, name: details}]
  rules:
  - matches: [{path: {type: RegularExpression, value: '/details/REGEX'}}]
    filters:
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: x-rule, value: NAME}]}
    backendRefs: [{name: details, port: 80}]
";
const URL: &str = "http://details/details/1";
const GOOD: (&str, &str) = ("[0-9]+", "good");
const BAD: (&str, &str) = ("[0-9]{1,900}", "bad");

/// What makes an Envoy refuse, in its pod as it was injected.
pub(super) fn narrow(injected: &str) -> Result<String, Failure> {
    let narrow = injected.replacen(ANY, NARROW, 1);
    prove(narrow != injected, || format!("there is no {ANY} in what was injected:\n{injected}"))?;
    Ok(narrow)
}

/// `envoy` is that one; `ours` calls, too.
pub(super) async fn told(mesh: &Mesh, envoy: &Pod, ours: &Pod) -> Result<(), Failure> {
    let route = |(regex, name)| ROUTE.replace("REGEX", regex).replace("NAME", name);
    let edit = mesh.edit("refused.yaml", &route(GOOD))?;
    let [ours, by_envoy] = [ours, envoy].map(|pod| Caller::of(mesh, pod.clone(), "client"));
    for caller in [&by_envoy, &ours] {
        caller.meets(URL, GOOD.1).await?;
    }
    edit.save(&route(BAD))?;
    ours.meets(URL, BAD.1).await?;
    let told = force(mesh, |force| !force.rejections.is_empty() && force.on > 0).await?;
    let by = format!("bookstore/{}", envoy.name);
    let of_envoy = told.rejections.iter().find(|rejection| rejection.proxy == by);
    let named = of_envoy.is_some_and(|rejection| {
        rejection.resource == "service/bookstore/details/80"
            && rejection.reason.contains("program size")
    });
    prove(named && told.on < told.of, || format!("of {by} it is not told right: {told:?}"))?;
    by_envoy.meets(URL, GOOD.1).await?;
    // Put right, it is in force everywhere.
    edit.save(&route(GOOD))?;
    force(mesh, |force| force.rejections.is_empty() && force.on == force.of && force.of > 1)
        .await?;
    drop(edit);
    Ok(())
}

/// Waits until the route stands so.
async fn force(mesh: &Mesh, wanted: impl Fn(&Force) -> bool) -> Result<Force, Failure> {
    let since = Instant::now();
    loop {
        let objects = mesh.status().await?.objects.into_iter();
        let found = objects.filter(|object| object.name == "refused").map(|o| o.in_force).next();
        if let Some(force) = found.clone().filter(|force| wanted(force)) {
            return Ok(force);
        }
        prove(since.elapsed() < PATIENCE, || format!("the route stands otherwise: {found:?}"))?;
    }
}
