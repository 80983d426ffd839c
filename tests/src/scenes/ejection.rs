//! One endpoint of three fails all requests for a while.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::stock::{Seen, Stock};
use tulle_tests::{
    load::{Caller, float},
    scene::{Failure, Figures, Stage, prove, say},
};

const YAML: &str = "\
apiVersion: tulle.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: ejection, namespace: bookstore}
spec:
  targetRefs: [{group: '', kind: Service, name: stock}]
  ejection: {consecutive5xx: 5, baseTime: 1s, interval: 500ms, maxPercent: 50}
  loadBalancing: {policy: RoundRobin}
";
/// Without a request for so long, an endpoint that got a third of 200 a second is left out.
const SPARED: f64 = 0.5;
/// How long each step may take here. Less than the next time out would be.
const PATIENCE: Duration = Duration::from_secs(6);

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let mesh = stage.mesh().await?;
    let stock = Stock::new(mesh).await?;
    let caller = Caller::client(mesh).await?;
    stock.fail(0, 0).await?;
    let _yaml = mesh.edit("ejection.yaml", YAML)?;
    // Until it is interrupted.
    let args = ["-t", "0", "-qps", "200", "-c", "8", "http://stock:8080/"];
    let (counted, story) = tokio::join!(caller.fortio("5-load", &args), async {
        let story = story(&stock).await;
        caller.interrupt("fortio").await?;
        story
    });
    let (([left_out, first_out, second_out, back], until_well), counted) = (story?, counted?);
    let bad = counted.but(&["200"]);
    let seen = counted.all() - counted.of(&["200"]);
    // Five in a row, and what is in flight then: each time that it was there.
    let Seen { bad: failed, spells, .. } = until_well;
    let times = u64::try_from(spells.len()).unwrap_or(u64::MAX);
    prove(seen <= failed && failed <= times * (5 + 8), || {
        format!("{failed} requests failed in {times} spells, callers saw {}", bad.join("; "))
    })?;
    say(format!(
        "ejected after {left_out:.0} ms, out for {first_out:.2} s, then for {second_out:.2} s"
    ));
    Ok(Figures::from([
        ("requests", float(counted.all())),
        ("failed", float(seen)),
        ("failing_to_left_out_ms", left_out),
        ("first_time_out_s", first_out),
        ("second_time_out_s", second_out),
        ("recovered_to_back_s", back),
    ]))
}

/// From failing to left out in ms; the two times out, and from recovery to return, in s; what v2 saw until it was well. Who
/// is told that late finds it there a third time.
async fn story(stock: &Stock<'_>) -> Result<([f64; 4], Seen), Failure> {
    until(stock, "gets no requests", |seen| seen.good > 60).await?;
    stock.fail(0, 100).await?;
    let left_out = |seen: &Seen, spells: usize| {
        let last = seen.spells.last().map_or(seen.now, |spell| spell.last);
        seen.spells.len() >= spells && seen.now - last > SPARED
    };
    let seen = until(stock, "is not left out", |seen| left_out(seen, 1)).await?;
    let failing = (seen.spells[0].last - seen.told) * 1e3;
    let failed = until(stock, "did not come back, and go again", |seen| left_out(seen, 2)).await?;
    let [first, second] = [&failed.spells[0], &failed.spells[1]];
    let until_well = stock.fail(0, 0).await?;
    let well = until(stock, "does not come back", |seen| seen.good > 0).await?;
    let back = well.spells[0].first;
    let times = [failing, second.first - first.last, back - second.last, back - well.told];
    prove(times[1] >= 0.95 && times[2] >= 1.9, || format!("out too short: {times:?}"))?;
    sleep(Duration::from_secs(1)).await;
    let well = stock.seen_by_v2().await?;
    prove(well.spells.len() == 1 && well.bad == 0, || format!("it did not stay: {well:?}"))?;
    Ok((times, until_well))
}

/// Waits until v2 has seen that.
async fn until(
    stock: &Stock<'_>,
    what: &str,
    holds: impl Fn(&Seen) -> bool,
) -> Result<Seen, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = stock.seen_by_v2().await?;
        if holds(&seen) {
            return Ok(seen);
        }
        prove(Instant::now() < deadline, || format!("v2's endpoint {what}: {seen:?}"))?;
        sleep(Duration::from_millis(50)).await;
    }
}
