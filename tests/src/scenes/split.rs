//! An HTTPRoute sends a tenth to v2, then half; wrk counts what callers get.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::consumer;
use tokio::time::sleep;

use tulle_tests::{
    load::{Answers, Caller, REVIEWS, float},
    mesh::Place,
    scene::{Failure, Figures, Stage, prove, say},
};

/// Each answer tells under which rule it came, by a header that the route sets.
const ROUTE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: split, namespace: bookstore}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews, port: 9080}]
  rules:
  - filters:
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: x-rule, value: to-v2-PERCENT}]}
    backendRefs:
    - name: reviews-v1
      port: 9080
      weight: REST
    - name: reviews-v2
      port: 9080
      weight: PERCENT
";
/// So many answers at the least are counted; and so many where programs are slow.
const ENOUGH: u64 = 20_000;
const FEW: u64 = 3_000;
/// wrk runs for so many seconds at a time.
const PIECE: &str = "4s";
/// And for so many beside an edit by kubectl, which on a busy machine takes seconds to begin.
const BESIDE_KUBECTL: &str = "12s";
/// The edit comes that far into a run.
const BEFORE: Duration = Duration::from_millis(1500);

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let enough = if stage.small { FEW } else { ENOUGH };
    let beside = if stage.place == Place::Cluster { BESIDE_KUBECTL } else { PIECE };
    let mesh = stage.mesh().await?;
    let caller = Caller::client(mesh).await?;
    let route = mesh.edit("split.yaml", &route(10))?;
    caller.meets(REVIEWS, "to-v2-10").await?;

    let mut tenth = Vec::new();
    for piece in 1.. {
        tenth.extend(caller.reviews(&format!("3-tenth-{piece}"), PIECE).await?);
        if Answers::total(&tenth) >= enough {
            break;
        }
    }
    let (tenth, all_tenth) = share(&tenth, "to-v2-10")?;
    say(format!("with weights 90 to 10, {tenth:.2} % of {all_tenth} answers came from v2"));

    let edit = async {
        sleep(BEFORE).await;
        let saved = since_1970();
        route.save(&self::route(50))?;
        Ok::<f64, Failure>(saved)
    };
    let (counted, saved) = tokio::join!(caller.reviews("3-edit", beside), edit);
    let (counted, saved) = (counted?, saved?);
    let (old, new): (Vec<Answers>, Vec<Answers>) =
        counted.into_iter().partition(|some| some.rule == "to-v2-10");
    prove(!old.is_empty(), || "the run had not begun when the edit came".into())?;
    prove(!new.is_empty(), || "the edit was not in force before the run ended".into())?;
    let first = new.iter().map(|some| some.first).fold(f64::INFINITY, f64::min);
    let last = old.iter().map(|some| some.last).fold(0.0, f64::max);
    let (half, all_half) = share(&new, "to-v2-50")?;
    say(format!("edited to 50 to 50 under load, {half:.2} % of {all_half} answers came from v2"));
    consumer::runs(mesh, &caller, "to-v2-50").await?;
    say("a route in another namespace was for the callers there, and for nobody else");
    Ok(Figures::from([
        ("answers", float(all_tenth + Answers::total(&old) + all_half)),
        ("share_of_v2_under_a_tenth_percent", tenth),
        ("share_of_v2_under_a_half_percent", half),
        ("save_to_first_under_new_rule_ms", (first - saved) * 1e3),
        ("save_to_last_under_old_rule_ms", (last - saved) * 1e3),
    ]))
}

/// How much of it came from v2, in percent, and of how many; fails unless that is what `rule` says, and each answer came under it.
fn share(answers: &[Answers], rule: &str) -> Result<(f64, u64), Failure> {
    let wanted = rule.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
    let share = Answers::share(answers, "v2", wanted)?;
    let stray = answers.iter().find(|some| some.rule != rule);
    prove(stray.is_none(), || format!("not under the rule {rule}: {stray:?}"))?;
    Ok(share)
}

fn route(percent: u32) -> String {
    let rest = (100 - percent).to_string();
    ROUTE.replace("PERCENT", &percent.to_string()).replace("REST", &rest)
}

/// What the clock says, as wrk's script tells it.
fn since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
