//! MeshTLS Strict: plaintext gets nowhere.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tulle_tests::scene::{Failure, Figures, Stage, prove};

use super::{Shop, at, ip};

const STRICT: &str = "\
apiVersion: tulle.dev/v1alpha1
kind: MeshTLS
metadata: {name: strict, namespace: shop}
spec: {mode: Strict}
";
const RESET: &str = "ConnectionResetError";
/// How long a change may take.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let shop = Shop::both(stage).await?;
    let web = |kind: &str, port| format!("{kind}://{}", at(ip(&shop.web), port));
    let ways = [
        "http://web4.shop:80".to_owned(),
        "http://web6.shop:80".to_owned(),
        // Opaque, where a request is plaintext as any other.
        "http://others.shop:7000".to_owned(),
        web("http", 7000),
        "http://others.shop:9002".to_owned(),
        // By the pod's address: listed ports, one that no Service has, one that is bound to loopback.
        web("http", 8080),
        web("http", 7070),
        web("http", 9004),
    ];
    let edit = shop.mesh.edit("strict.yaml", STRICT)?;
    let saved = Instant::now();
    while shop.ask(&shop.stranger, &ways[..1]).await?[0].starts_with("200") {
        prove(saved.elapsed() < PATIENCE, || "a stranger still gets through".to_owned())?;
        sleep(LOOK).await;
    }
    let refused: Vec<_> = ways.iter().map(|way| (way.clone(), RESET)).collect();
    shop.told(&shop.stranger, &refused).await?;
    shop.told(
        &shop.client,
        &[
            ("http://web:80".to_owned(), "200 web 169.254.41.1 -"),
            ("tcp://others:7000".to_owned(), "raw 169.254.41.1 -"),
            (web("http", 8080), "200 web 169.254.41.1 -"),
            (web("tcp", 7000), "raw 169.254.41.1 -"),
            (web("http", 7070), "200 unlisted 169.254.41.1 -"),
        ],
    )
    .await?;
    // What never leaves the pod needs no proof.
    shop.told(
        &shop.web,
        &[
            ("http://web:80".to_owned(), "200 web 169.254.41.1 -"),
            (web("http", 8080), &format!("200 web {} -", ip(&shop.web))),
            ("http://127.0.0.1:9004".to_owned(), "200 loopback4 127.0.0.1 -"),
        ],
    )
    .await?;
    untold(&shop, &[web("http", 8080), web("http", 7070)]).await?;
    drop(edit);
    Ok(Figures::new())
}

/// A sidecar that starts while the control plane hangs has been told nothing, so nobody gets in.
async fn untold(shop: &Shop<'_>, ways: &[String]) -> Result<(), Failure> {
    shop.mesh.signal("STOP", "tulle-control-p").await?;
    let hanging = async {
        shop.mesh.kill(&shop.web, "tulle-proxy").await?;
        let killed = Instant::now();
        while shop.mesh.exec(&shop.web, "tulle-proxy", &["true"]).await.is_err() {
            prove(killed.elapsed() < PATIENCE, || "the sidecar does not start again".to_owned())?;
            closed(shop, ways).await?;
        }
        closed(shop, ways).await
    };
    let outcome = hanging.await;
    shop.mesh.signal("CONT", "tulle-control-p").await?;
    outcome?;
    shop.mesh.ready().await?;
    shop.told(&shop.client, &[("http://web:80".to_owned(), "200 web 169.254.41.1 -")]).await
}

async fn closed(shop: &Shop<'_>, ways: &[String]) -> Result<(), Failure> {
    let told = shop.ask(&shop.stranger, ways).await?;
    let open = told.iter().any(|told| told.starts_with("200"));
    prove(!open, || format!("open before it was told anything: {told:?}"))
}
