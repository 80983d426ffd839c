//! Who reaches what, and as whom.

use tokio::process::Command;
use tulle_tests::{
    mesh::output_of,
    scene::{Failure, Figures, Stage, prove},
};

use super::{Shop, at, ip};

/// Nothing listens there, so that a client of HTTP's is told so, or reset.
const REFUSED: &str = "503 tulle: connect";
const RESET: &str = "ConnectionResetError";

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let shop = Shop::both(stage).await?;
    let http = |ip: &str, port| format!("http://{}", at(ip, port));
    let web = |port| http(ip(&shop.web), port);
    let raw = format!("tcp://{}", at(ip(&shop.web), 7000));
    let datagram = format!("udp://{}", at(ip(&shop.web), 5000));
    let seen = |name: &str, pod| format!("{name} {} -", ip(pod));
    shop.told(
        &shop.client,
        &[
            ("http://web:80".to_owned(), "200 web 169.254.41.1 -"),
            ("tcp://others:7000".to_owned(), "raw 169.254.41.1 -"),
            // Bound to the pod's address alone, and to loopback alone, which is for the pod itself.
            ("http://others:9002".to_owned(), "200 own 169.254.41.1 -"),
            ("http://others:9004".to_owned(), REFUSED),
            ("http://others:9006".to_owned(), REFUSED),
            // By the pod's address: ports of Services, one that none has, and none at all.
            (web(8080), "200 web 169.254.41.1 -"),
            (web(7070), "200 unlisted 169.254.41.1 -"),
            (raw.clone(), "raw 169.254.41.1 -"),
            (web(9004), REFUSED),
            (web(1), REFUSED),
            // What the sidecar tells of itself: a Prometheus may be meshed.
            (format!("{}/ready", web(15021)), "200 ready"),
            // UDP is not the sidecar's.
            (datagram.clone(), &seen("datagram", &shop.client)),
            ("udp://others:5000".to_owned(), &seen("datagram", &shop.client)),
            // A pod without sidecar.
            (http(ip(&shop.stranger), 8080), &seen("200 far", &shop.client)),
        ],
    )
    .await?;
    shop.told(
        &shop.stranger,
        &[
            ("http://web4.shop:80".to_owned(), "200 web 169.254.41.1 -"),
            ("http://web6.shop:80".to_owned(), "200 web fd00:7475:6c6c:65::1 -"),
            ("tcp://others.shop:7000".to_owned(), "raw 169.254.41.1 -"),
            (web(8080), "200 web 169.254.41.1 -"),
            (web(7070), "200 unlisted 169.254.41.1 -"),
            (web(9002), "200 own 169.254.41.1 -"),
            (raw, "raw 169.254.41.1 -"),
            (datagram, &seen("datagram", &shop.stranger)),
            (web(9004), REFUSED),
            // The sidecar's own ports lead nowhere, least of all back to itself.
            (web(15001), REFUSED),
            (web(15006), RESET),
            (web(15053), REFUSED),
        ],
    )
    .await?;
    // A pod that calls its own Service does so through its sidecar; itself by address it calls directly.
    shop.told(
        &shop.web,
        &[
            ("http://web:80/itself".to_owned(), "200 web 169.254.41.1 -"),
            (web(8080), &seen("200 web", &shop.web)),
            ("http://127.0.0.1:9004".to_owned(), "200 loopback4 127.0.0.1 -"),
            ("http://[::1]:9006".to_owned(), "200 loopback6 ::1 -"),
        ],
    )
    .await?;
    let itself =
        |line: &serde_json::Value| line["path"] == "/itself" && line["direction"] == "inbound";
    let line = shop.mesh.logged(&shop.web, "tulle-proxy", itself).await?;
    prove(line["peer"] == "spiffe://cluster.local/ns/shop/sa/web", || format!("itself: {line}"))?;
    from_the_machine(&shop).await?;
    annotations(&shop).await
}

/// What a person opens on this machine, outside of the mesh's network.
async fn from_the_machine(shop: &Shop<'_>) -> Result<(), Failure> {
    let curl = async |url: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-m", "5", "--noproxy", "*", url]);
        output_of(curl).await
    };
    for (what, ports, wanted) in [
        ("web", ":7070", "unlisted 169.254.41.1"),
        ("svc/web", ":80", "web 169.254.41.1"),
        ("svc/shop/web6", ":80", "web fd00:7475:6c6c:65::1"),
    ] {
        let (forward, url) = shop.mesh.forward(what, ports).await?;
        for _ in 0..2 {
            let told = curl(&url).await?;
            prove(told.contains(wanted), || format!("forward {what} {ports} leads to {told:?}"))?;
        }
        let pid = forward.id().unwrap_or_default().to_string();
        let interrupted = Command::new("kill").args(["-INT", &pid]).status().await?;
        let ended = forward.wait_with_output().await?.status;
        prove(interrupted.success() && ended.success(), || format!("forward ended: {ended}"))?;
        prove(curl(&url).await.is_err(), || format!("{url} still leads to {what}"))?;
    }
    Ok(())
}

/// What the pod's annotations exclude does not meet its sidecar.
async fn annotations(shop: &Shop<'_>) -> Result<Figures, Failure> {
    let to = |pod, port, path: &str| format!("http://{}/{path}", at(ip(pod), port));
    let (by_stranger, by_picky) =
        (format!("200 excluded {} -", ip(&shop.stranger)), ip(&shop.picky));
    shop.told(
        &shop.stranger,
        &[
            (to(&shop.picky, 7001, ""), &by_stranger),
            (to(&shop.picky, 8080, ""), "200 picky 169.254.41.1 -"),
        ],
    )
    .await?;
    // A meshed caller knows that there is no sidecar to speak TLS with.
    let by_client = format!("200 excluded {} -", ip(&shop.client));
    shop.told(&shop.client, &[(to(&shop.picky, 7001, ""), &by_client)]).await?;
    // The application sees the pod's address in both cases: its sidecar's log tells.
    let excluded = (to(&shop.stranger, 8081, "excluded"), &*format!("200 excluded {by_picky} -"));
    let redirected = (to(&shop.stranger, 8080, "redirected"), &*format!("200 far {by_picky} -"));
    shop.told(&shop.picky, &[excluded]).await?;
    shop.told(&shop.picky, &[redirected]).await?;
    shop.mesh.logged(&shop.picky, "tulle-proxy", |line| line["path"] == "/redirected").await?;
    let log = shop.mesh.logs(&shop.picky, "tulle-proxy").await?;
    prove(!log.contains("/excluded"), || "an excluded port was redirected".to_owned())?;
    Ok(Figures::new())
}
