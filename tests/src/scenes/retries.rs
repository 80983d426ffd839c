//! v2 takes half of the requests and fails every fifth of them.
//!
//! The budget is Envoy's: a share of what is in flight towards one backend, retries included. Where a fifth
//! of all tries fails, a fifth of them are retries on average, and now and then more: what is allowed in any
//! case has to be enough for that.

use super::stock::{Seen, Stock};
use tulle_tests::{
    load::{Caller, float},
    scene::{Failure, Figures, Stage, prove, say},
};

const YAML: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: stock, namespace: bookstore}
spec:
  parentRefs: [{group: '', kind: Service, name: stock, port: 8080}]
  rules:
  - filters:
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: x-rule, value: RULE}]}
    backendRefs:
    - {name: stock-v1, port: 8080, weight: 1}
    - {name: stock-v2, port: 8080, weight: 1}
---
apiVersion: tulle.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: stock, namespace: bookstore}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: stock}]
  retries:
    attempts: 8
    when: [5xx]
    backoff: {base: 1ms, max: 2ms}
    budget: {percent: 20, minConcurrency: LEAST}
";
const URL: &str = "http://stock:8080/";
/// Requests in flight.
const FLIGHT: &str = "64";
/// POSTs, each with a path of its own.
const POSTS: u64 = 300;

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let gets = if stage.small { 1000 } else { 5000 };
    let mesh = stage.mesh().await?;
    let caller = Caller::client(mesh).await?;
    let stock = Stock::new(mesh).await?;
    let yaml = |rule: &str, least: &str| YAML.replace("RULE", rule).replace("LEAST", least);
    let edit = mesh.edit("retries.yaml", &yaml("ample", "20"))?;
    // With the route the policy is: clusters, which have the budget, come before routes.
    caller.meets(URL, "ample").await?;

    // GETs, while v2 fails a fifth.
    stock.fail(0, 20).await?;
    let got = caller.h2load("4-gets", &many(&gets.to_string())).await?;
    let bad = got.but(&["2xx"]);
    prove(bad.is_empty() && got.of(&["2xx"]) == gets, || {
        format!("callers see failures: {}", bad.join("; "))
    })?;
    let seen = stock.seen().await?;
    let (failed, tries) = (sum(&seen, |s| s.bad), sum(&seen, |s| s.good + s.bad));
    prove(failed > gets / 20, || format!("only {failed} of {tries} tries failed"))?;
    prove(tries == gets + failed, || {
        format!("{tries} tries for {gets} requests, {failed} failed")
    })?;
    let extra = 100.0 * float(tries - gets) / float(gets);
    say(format!("{gets} GETs, none failed; {failed} tries did, and cost {extra:.1} % extra"));

    // POSTs: what a server has answered may have been done.
    stock.fail(0, 20).await?;
    let list = format!("seq {POSTS} | sed 's,^,{URL}post/,' > /tmp/posts; echo item > /tmp/item");
    caller.run("4-list", &["sh", "-c", &list]).await?;
    let count = POSTS.to_string();
    // One client: each would begin with the first path.
    let argv = ["--h1", "-c", "1", "-n", &count, "-i", "/tmp/posts", "-d", "/tmp/item"];
    let posted = caller.h2load("4-posts", &argv).await?;
    let seen = stock.seen().await?;
    let (failed, paths) = (sum(&seen, |s| s.bad), sum(&seen, |s| s.posts));
    let most = seen.iter().map(|seen| seen.most_times).max().unwrap_or_default();
    prove(most == 1 && paths == POSTS, || {
        format!("a POST came {most} times; {paths} of {POSTS} came")
    })?;
    prove(
        failed > 0 && posted.of(&["5xx"]) == failed && posted.of(&["2xx"]) == POSTS - failed,
        || format!("{failed} POSTs failed, callers saw {:?}", posted.codes),
    )?;
    say(format!(
        "{POSTS} POSTs, each came exactly once; the {failed} that failed were not repeated"
    ));

    // Everything fails, and no more retries are allowed than the share.
    edit.save(&yaml("tight", "1"))?;
    caller.meets(URL, "tight").await?;
    stock.fail(100, 100).await?;
    let all = gets / 2;
    let got = caller.h2load("4-all-fail", &many(&all.to_string())).await?;
    let tries = sum(&stock.seen().await?, |s| s.good + s.bad);
    prove(got.of(&["5xx"]) == all, || format!("callers saw {:?}", got.codes))?;
    let most = 100.0 * float(tries.saturating_sub(all)) / float(all);
    // A fifth of those in flight are retries: a quarter of the others. Without a budget it were 8 for each.
    prove(most > 0.0 && most <= 75.0, || {
        format!("{most:.1} % extra, with a budget of a fifth in flight")
    })?;
    say(format!("all failing, {all} GETs cost {most:.1} % extra tries"));
    Ok(Figures::from([
        ("gets", float(gets)),
        ("gets_failed", 0.0),
        ("extra_tries_percent", extra),
        ("posts", float(POSTS)),
        ("posts_failed_and_not_repeated", float(failed)),
        ("extra_tries_when_all_fail_percent", most),
    ]))
}

fn many(count: &str) -> [&str; 6] {
    ["--h1", "-c", FLIGHT, "-n", count, URL]
}

fn sum(seen: &[Seen], of: impl Fn(&Seen) -> u64) -> u64 {
    seen.iter().map(of).sum()
}
