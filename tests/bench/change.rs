//! One endpoint changes in a large mesh: how soon the proxies that use it act on it, and how many
//! bytes it costs them, and all others. Bytes are the kernel's count, so that now and then there are 39 more: a PING of
//! the connection's keep-alive (17 bytes, in a TLS record).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::{join, time::sleep};
use tulle_tests::scene::Failure;

use crate::{
    Size,
    bed::Bed,
    crowd,
    row::{Row, Subject},
};

/// Asks without a pause, and says when it got the first answer from somewhere else.
const WATCHER: &str = include_str!("change/watcher.py");
/// Time in which all that a change costs has arrived everywhere.
const SETTLED: Duration = Duration::from_secs(1);
/// The Service that changes.
const URL: &str = "http://turning.crowd/";
const FILE: &str = "turning.yaml";

pub(crate) async fn measure(bed: &Bed, size: Size) -> Result<Vec<Row>, Failure> {
    let server = bed.server.ip.clone().unwrap_or_default();
    crowd::write(&bed.mesh.path(""), size.services, 0, &server)?;
    turn(bed, &server, 8080)?;
    bed.answers(URL).await?;
    let changes = 4 * size.runs;
    let count = changes.to_string();
    let caller = bed.calls();
    let watcher = ["python3", "-c", WATCHER, URL, &count];
    let watch = caller.run("watcher", &watcher);
    let (seen, changed) = join!(watch, change(bed, changes, &server));
    let (seen, changed) = (seen?, changed?);
    let seen: Vec<f64> = seen.lines().filter_map(|line| line.parse().ok()).collect();
    if seen.len() != changes {
        return Err(Failure(format!("of {changes} changes the caller saw {}", seen.len())));
    }
    let delays = seen.iter().zip(&changed).map(|(seen, change)| (seen - change.saved) * 1e3);
    let row = |metric, runs: Vec<f64>| Row::new("change", Subject::Tulle, metric, runs);
    Ok(vec![
        row(("save_to_first_request_elsewhere", "ms"), delays.collect()).at_most(50.0),
        row(("bytes_to_a_user", "B"), changed.iter().map(|change| change.user).collect()),
        row(("bytes_to_another", "B"), changed.iter().map(|c| c.other).collect()).at_most(0.0),
    ])
}

/// A change, and what was sent for it.
struct Changed {
    /// Seconds since 1970.
    saved: f64,
    user: f64,
    other: f64,
}

/// Sends the Service's requests to this port of the server.
fn turn(bed: &Bed, server: &str, port: u16) -> Result<(), Failure> {
    bed.mesh.save(FILE, &crowd::service("turning", &[server.to_owned()], port))
}

/// Moves the Service's endpoint to and fro.
async fn change(bed: &Bed, times: usize, server: &str) -> Result<Vec<Changed>, Failure> {
    // Longer than the watcher needs for its first answer.
    sleep(2 * SETTLED).await;
    let mut changed = Vec::new();
    for i in 0..times {
        let told = || async {
            Ok::<_, Failure>((bed.told(&bed.caller).await?, bed.told(&bed.server).await?))
        };
        let before = told().await?;
        let port = if i % 2 == 0 { 8082 } else { 8080 };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        turn(bed, server, port)?;
        let saved = now.map_err(|error| Failure(error.to_string()))?.as_secs_f64();
        sleep(SETTLED).await;
        let after = told().await?;
        changed.push(Changed { saved, user: after.0 - before.0, other: after.1 - before.1 });
    }
    Ok(changed)
}
