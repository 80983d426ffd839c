//! The dashboard of the mesh that runs, in a real browser: its address, and pictures that somebody can judge.

use tokio::process::Command;
use tulle_tests::{
    load::{Caller, float},
    mesh::{output_of, root},
    scene::{Failure, Figures, Stage, prove, say},
};

/// Six pages, in two themes and two widths.
const PICTURES: u64 = 24;

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let mesh = stage.mesh().await?;
    let client = Caller::client(mesh).await?;
    let (_serves, address) = mesh.dashboard().await?;
    say(format!("`tulle dashboard` says {address}"));
    let mut browser = Command::new(root().join("tests/dashboard/run"));
    browser.arg("pictures").arg(&address).arg(mesh.raw());
    let words = ["-c", "4", "-qps", "40", "-t", "0", "http://productpage:9080/books/1"];
    let (counted, looked) = tokio::join!(client.fortio("12-load", &words), async {
        let looked = output_of(browser).await;
        client.interrupt("fortio").await?;
        looked
    });
    looked?;
    let named = |name: &str| name.starts_with("dashboard-") && name.ends_with(".png");
    let files = std::fs::read_dir(mesh.raw())?.filter_map(Result::ok);
    let pictures = files.map(|file| u64::from(named(&file.file_name().to_string_lossy()))).sum();
    prove(pictures == PICTURES, || format!("there are {pictures} pictures of {PICTURES}"))?;
    let good = counted?.of(&["200"]);
    say(format!("{pictures} pictures of its pages, while {good} requests were answered"));
    Ok(Figures::from([("pictures", float(pictures)), ("answers", float(good))]))
}
