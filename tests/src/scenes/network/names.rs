//! DNS: the sidecar answers for the mesh, the pod's own resolver for everything else.

use tulle_tests::scene::{Failure, Figures, Stage, prove};

use super::{Shop, ip};

/// Cluster DNS and the loner's second resolver, and how the kinds of answers begin.
const CLUSTER: &str = "10.96.0.10:53";
const OWN: &str = "10.96.0.53:53";
const SERVICE: &str = "NOERROR mesh 10.96.…";
const NOTHING: &str = "NOERROR mesh";
const NOBODY: &str = "NXDOMAIN resolver";

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let shop = Shop::both(stage).await?;
    let (client, loner) = (&shop.client, &shop.loner);
    every_form(&shop).await?;
    let web = "web.shop.svc.cluster.local";
    let own = format!("NOERROR mesh {}", ip(&shop.web));
    let at = |name: &str, kind: &str| format!("dns://{CLUSTER}/{name}/{kind}");
    let by_tcp = |name: &str| format!("dns+tcp://{CLUSTER}/{name}/A");
    shop.told(
        client,
        &[
            (at(web, "A"), SERVICE),
            (at(web, "AAAA"), "NOERROR mesh fd00:10:96::…"),
            (at("web4.shop.svc.cluster.local", "A"), SERVICE),
            // There, though not with such an address: else nobody would ask for the other kind.
            (at("web4.shop.svc.cluster.local", "AAAA"), NOTHING),
            (at("web6.shop.svc.cluster.local", "A"), NOTHING),
            (at("each.shop.svc.cluster.local", "A"), &own),
            (at("web-0.each.shop.svc.cluster.local", "A"), &own),
            (at("alias.shop.svc.cluster.local", "A"), "NOERROR resolver 10.96.…"),
            (at("nobody.shop.svc.cluster.local", "A"), NOBODY),
            (at("web-1.each.shop.svc.cluster.local", "A"), NOBODY),
            (at("www.example", "A"), NOBODY),
            (by_tcp(web), SERVICE),
            (by_tcp("nobody.shop.svc.cluster.local"), NOBODY),
            ("http://alias:80".to_owned(), "200 web 169.254.41.1 -"),
            ("http://web-0.each:8080".to_owned(), "200 web 169.254.41.1 -"),
        ],
    )
    .await?;
    // Its resolver knows other names than cluster DNS does, and none of the mesh.
    let at = |name: &str| format!("dns://{OWN}/{name}/A");
    shop.told(
        loner,
        &[
            (at("www.example"), "NOERROR resolver 192.0.2.7"),
            (format!("dns+tcp://{OWN}/www.example/A"), "NOERROR resolver 192.0.2.7"),
            (at(web), SERVICE),
            (format!("dns+tcp://{OWN}/{web}/A"), SERVICE),
            (at("nobody.shop.svc.cluster.local"), NOBODY),
            ("http://web.shop.svc:80".to_owned(), "200 web 169.254.41.1 -"),
        ],
    )
    .await?;
    control_plane_hangs(&shop).await
}

/// As programs ask, by the C library and the search list.
async fn every_form(shop: &Shop<'_>) -> Result<(), Failure> {
    let forms = ["web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local"];
    let urls = forms.map(|name| format!("names://{name}:0"));
    let told = shop.ask(&shop.client, &urls).await?;
    let first = told.first().cloned().unwrap_or_default();
    let both = first.starts_with("10.96.") && first.contains(",fd00:10:96::");
    prove(both && told.iter().all(|told| *told == first), || format!("{told:?}"))
}

/// What was told last stays; what was never asked for is the resolver's.
async fn control_plane_hangs(shop: &Shop<'_>) -> Result<Figures, Failure> {
    let at = |name: &str| format!("dns://{CLUSTER}/{name}.shop.svc.cluster.local/A");
    shop.mesh.signal("STOP", "tulle-control-p").await?;
    let told = shop
        .told(
            &shop.client,
            &[
                (at("web"), SERVICE),
                (at("each"), "NOERROR mesh 10.244.…"),
                (at("others"), "NOERROR resolver 10.96.…"),
                (at("nobody"), NOBODY),
                ("http://web:80".to_owned(), "200 web 169.254.41.1 -"),
            ],
        )
        .await;
    shop.mesh.signal("CONT", "tulle-control-p").await?;
    told.map(|()| Figures::new())
}
