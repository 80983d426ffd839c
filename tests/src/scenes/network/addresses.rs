//! Requests through two sidecars over IPv4 and IPv6.

use tulle_tests::scene::{Failure, Figures, Stage, prove};

use super::{Shop, at, ip};

const OVER_V4: &str = "200 web 169.254.41.1 -";
const OVER_V6: &str = "200 web fd00:7475:6c6c:65::1 -";

/// A mesh with both.
pub(crate) async fn both(stage: &mut Stage) -> Result<Figures, Failure> {
    let shop = Shop::both(stage).await?;
    let (named, first) = ("names://web:0".to_owned(), "names://web-0.each:0".to_owned());
    let told = shop.ask(&shop.client, &[named, first]).await?;
    let addresses = |told: &str| told.split(',').map(str::to_owned).collect::<Vec<_>>();
    let (service, pod) = (addresses(&told[0]), addresses(&told[1]));
    prove(service.len() == 2 && pod.len() == 2, || format!("one version is missing: {told:?}"))?;
    let url = |ip: &str, port, path| format!("http://{}/{path}", at(ip, port));
    shop.told(
        &shop.client,
        &[
            // A Service of one version leads to pods over that one, whatever else they have.
            ("http://web4:80/only-4".to_owned(), OVER_V4),
            ("http://web6:80/only-6".to_owned(), OVER_V6),
            // With both versions, the first one leads to the pods …
            (url(&service[0], 80, "service-4"), OVER_V4),
            (url(&service[1], 80, "service-6"), OVER_V4),
            (url(&pod[0], 8080, "pod-4"), OVER_V4),
            (url(&pod[1], 8080, "pod-6"), OVER_V4),
            // … and the second, where nobody listens on the first.
            ("http://six:80".to_owned(), "200 six fd00:7475:6c6c:65::1 -"),
            (url(&pod[0], 9016, "six"), "200 six fd00:7475:6c6c:65::1 -"),
        ],
    )
    .await?;
    for path in ["only-4", "only-6", "service-4", "service-6", "pod-4", "pod-6"] {
        seen_by_both(&shop, &format!("/{path}")).await?;
    }
    Ok(Figures::new())
}

/// A mesh without IPv4.
pub(crate) async fn ipv6(stage: &mut Stage) -> Result<Figures, Failure> {
    let shop = Shop::ipv6(stage).await?;
    let own = format!("NOERROR mesh {}", ip(&shop.web));
    let dns =
        |name: &str, kind| format!("dns://[fd00:10:96::a]:53/{name}.shop.svc.cluster.local/{kind}");
    let by_pod = format!("http://{}/pod", at(ip(&shop.web), 8080));
    shop.told(
        &shop.client,
        &[
            (dns("web", "AAAA"), "NOERROR mesh fd00:10:96::…"),
            (dns("web", "A"), "NOERROR mesh"),
            (dns("each", "AAAA"), &own),
            (dns("nobody", "AAAA"), "NXDOMAIN resolver"),
            ("http://web:80/name".to_owned(), OVER_V6),
            ("http://alias:80/alias".to_owned(), OVER_V6),
            ("tcp://others:7000".to_owned(), "raw fd00:7475:6c6c:65::1 -"),
            ("http://others:9006".to_owned(), "503 tulle: connect"),
            (by_pod.clone(), OVER_V6),
        ],
    )
    .await?;
    for path in ["/name", "/alias", "/pod"] {
        seen_by_both(&shop, path).await?;
    }
    let far = format!("http://{}", at(ip(&shop.stranger), 8080));
    shop.told(&shop.loner, &[("http://web.shop.svc:80".to_owned(), OVER_V6)]).await?;
    shop.told(&shop.web, &[("http://web:80".to_owned(), OVER_V6)]).await?;
    shop.told(&shop.stranger, &[(by_pod, OVER_V6)]).await?;
    let seen = format!("200 far {} -", ip(&shop.client));
    shop.told(&shop.client, &[(far, &seen)]).await?;
    Ok(Figures::new())
}

/// Both access logs have the request, and name who was on the other side.
async fn seen_by_both(shop: &Shop<'_>, path: &str) -> Result<(), Failure> {
    let request = |line: &serde_json::Value| line["path"] == path && line["status"] == 200;
    for (pod, direction, other) in
        [(&shop.client, "outbound", "web"), (&shop.web, "inbound", "client")]
    {
        let line = shop.mesh.logged(pod, "tulle-proxy", request).await?;
        let peer = format!("spiffe://cluster.local/ns/shop/sa/{other}");
        let right =
            line["direction"] == direction && line["tls"] == true && line["peer"] == peer.as_str();
        prove(right, || format!("{path}: {}'s log says {line}", pod.name))?;
    }
    Ok(())
}
