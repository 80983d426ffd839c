//! What a sidecar holds: alone, in a large mesh, using a part of it, and after its application has
//! dialled very many addresses outside of it.

use std::time::Duration;

use tokio::{process::Command, time::sleep};
use tulle_tests::{mesh::output_of, scene::Failure};

use crate::{
    Size,
    bed::{Bed, SERVER},
    crowd,
    row::{Row, Subject},
};

/// Accepts whatever comes to the addresses of strangers.
const LISTENER: &str = include_str!("memory/listener.py");
/// Dials each of them once.
const DIALLER: &str = include_str!("memory/dialler.py");
/// How long a sidecar that has answered its first requests is left alone before it is called idle.
const REST: Duration = Duration::from_secs(13);
/// Requests before anything is compared.
const WARM: usize = 20;
/// Addresses outside of the mesh, set aside for benchmarks (RFC 2544).
const STRANGERS: &str = "198.18.0.0/15";

pub(crate) async fn measure(bed: &Bed, size: Size) -> Result<Vec<Row>, Failure> {
    let memory = || bed.sidecar_memory(&bed.caller);
    let row = |metric, value| Row::new("memory", Subject::Tulle, (metric, "MiB"), vec![value]);
    // What a sidecar at rest does not need it gives back within twelve seconds of its start, and then ever more seldom.
    sleep(REST).await;
    let idle = memory().await?;
    // The first requests bring code back that has lain idle: what follows is compared with that.
    for _ in 0..WARM {
        bed.answers(SERVER).await?;
    }
    let server = bed.server.ip.clone().unwrap_or_default();
    crowd::write(&bed.mesh.path(""), 1, 1, &server)?;
    bed.answers("http://svc-0.crowd/").await?;
    let warm = memory().await?;

    crowd::write(&bed.mesh.path(""), size.services, size.used, &server)?;
    let last = format!("http://svc-{}.crowd/", size.used - 1);
    bed.answers(&last).await?;
    let alone = memory().await?;

    for i in 0..size.used {
        let url = format!("http://svc-{i}.crowd/");
        bed.answers(&url).await?;
    }
    let using = memory().await?;

    dial(bed, size.strangers).await?;
    let dialled = memory().await?;
    Ok(vec![
        row("sidecar_idle", idle).at_most(12.0),
        row("sidecar_after_requests", warm),
        row("sidecar_with_unused_services_more", alone - warm).at_most(1.0),
        row("sidecar_using_services_more", using - alone),
        row("sidecar_after_external_addresses_more", dialled - using).at_most(4.0),
    ])
}

/// Has the application dial so many addresses outside of the mesh, one after the other.
async fn dial(bed: &Bed, addresses: usize) -> Result<(), Failure> {
    let outside = bed.mesh.outer_pid()?;
    let inside = |argv: &[&str]| {
        let mut command = Command::new("nsenter");
        command.args(["-t", &outside, "-n", "--"]).args(argv).kill_on_drop(true);
        command
    };
    output_of(inside(&["ip", "route", "replace", "local", STRANGERS, "dev", "lo"])).await?;
    let listener = inside(&["python3", "-c", LISTENER]).spawn()?;
    let count = addresses.to_string();
    let dialled = bed.mesh.exec(&bed.caller, "caller", &["python3", "-c", DIALLER, &count]).await;
    drop(listener);
    dialled.map(drop)
}
