use std::{
    net::{IpAddr, Ipv4Addr},
    slice,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::{sync::watch, time::Instant};
use tulle_xds::{cache::Cache, server::AdsService};

use super::{recent::FRESH, *};
use crate::{
    authorize::Pods,
    ca::subject::tests::Signer,
    console::Surveyed,
    replicas::Surveyor,
    roster::Roster,
    steer::{Desk, Releases},
    telemetry::{Hub, Query},
    world::objects::{Name, Pod},
};

/// A cluster where `admin` may everything, `alice` may see `shop`, `tapper` may tap there; counts what it is asked.
#[derive(Default)]
pub(crate) struct Cluster {
    tokens: AtomicUsize,
    rights: AtomicUsize,
}

#[tonic::async_trait]
impl Access for Cluster {
    async fn who(&self, token: &str) -> Result<User, Unproven> {
        self.tokens.fetch_add(1, Relaxed);
        match token.strip_prefix("of-") {
            Some("nobody-knows") => Err(Unproven::Unavailable("connection refused".to_owned())),
            Some(name) => Ok(User { name: name.to_owned(), ..User::default() }),
            None => Err(Unproven::Refused("invalid bearer token".to_owned())),
        }
    }

    async fn may(&self, user: &User, verb: Verb, namespace: Option<&str>) -> Result<bool, String> {
        self.rights.fetch_add(1, Relaxed);
        tokio::task::yield_now().await;
        Ok(match (user.name.as_str(), verb, namespace) {
            ("admin", ..) => true,
            ("alice" | "tapper", Verb::Get, Some("shop")) => true,
            ("tapper", Verb::Tap, Some("shop")) => true,
            ("releaser", Verb::Steer, Some("shop")) => true,
            _ => user.groups.iter().any(|group| group == "system:masters"),
        })
    }
}

fn gate() -> (Gate, Arc<Cluster>) {
    gate_of(ClientAuthority::default())
}

/// One where this authority vouches for certificates.
pub(crate) fn gate_of(authority: ClientAuthority) -> (Gate, Arc<Cluster>) {
    let roster = Roster::default();
    for (namespace, name) in [("shop", "web"), ("bank", "vault")] {
        let name = Name::new(namespace, name);
        roster.set(&name, Some(&Pod::plain(name.clone(), "default", "uid")), "");
    }
    let pods = Pods { roster: roster.clone(), trust_domain: "cluster.local".to_owned() };
    let hub = Hub::default();
    let surveyor = Surveyor {
        ads: AdsService::new(Cache::new().0, Arc::new(pods)),
        roster: roster.clone(),
        hub: hub.clone(),
        told: watch::channel(Arc::default()).1,
    };
    let console = Console {
        query: Query { hub, roster, replica: None, prometheus: None },
        surveyor,
        world: tokio::sync::mpsc::channel(1).0,
        desk: Desk { releases: Releases::new().0, others: None },
        report: watch::channel(crate::output::Report::default()).1,
        surveyed: Surveyed::default(),
    };
    let cluster = Arc::new(Cluster::default());
    let access: Arc<dyn Access> = Arc::<Cluster>::clone(&cluster);
    (Gate::new(console, access, watch::channel(authority).1), cluster)
}

async fn ask(gate: &Gate, path: &str, said: Option<&str>) -> (u16, String) {
    send(gate, Request::get(path), said).await
}

async fn send(
    gate: &Gate,
    mut request: http::request::Builder,
    said: Option<&str>,
) -> (u16, String) {
    if let Some(said) = said {
        request = request.header(header::AUTHORIZATION, said);
    }
    let answer = gate.handle(request.body(Bytes::new()).unwrap()).await;
    (answer.status().as_u16(), String::from_utf8(answer.body().to_vec()).unwrap())
}

/// The namespaces of the workloads that somebody sees.
async fn seen(gate: &Gate, path: &str, user: &str) -> Result<Vec<String>, (u16, String)> {
    let (status, body) = ask(gate, path, Some(&format!("Bearer of-{user}"))).await;
    if status != 200 {
        return Err((status, body));
    }
    let view: serde_json::Value = serde_json::from_str(&body).unwrap();
    let items = view["items"].as_array().unwrap().iter();
    Ok(items.map(|item| item["namespace"].as_str().unwrap().to_owned()).collect())
}

#[tokio::test]
async fn everybody_sees_what_the_cluster_lets_him_see() {
    let (gate, _cluster) = gate();
    let all = Ok(vec!["bank".to_owned(), "shop".to_owned()]);
    let shop = Ok(vec!["shop".to_owned()]);
    assert_eq!(seen(&gate, "/telemetry/stat", "admin").await, all);
    assert_eq!(seen(&gate, "/telemetry/stat", "alice").await, shop);
    assert_eq!(seen(&gate, "/telemetry/stat?namespace=shop", "alice").await, shop);
    // The last of a name that is said twice does not widen what was looked at.
    let twice = seen(&gate, "/telemetry/stat?namespace=shop&namespace=bank", "alice").await;
    assert_eq!(twice.unwrap_or_default(), Vec::<String>::new());
    let (status, why) = seen(&gate, "/telemetry/stat?namespace=bank", "alice").await.unwrap_err();
    assert_eq!(status, 403);
    assert!(
        why.contains("alice may not get workloads.telemetry.tulle.dev in namespace bank"),
        "{why}"
    );
    assert!(why.contains("ClusterRole tulle-view"), "{why}");
    let (status, why) = seen(&gate, "/telemetry/stat", "eve").await.unwrap_err();
    assert!(status == 403 && why.contains("in any namespace"), "{why}");
    let (status, why) =
        seen(&gate, "/telemetry/tap?namespace=shop&name=web", "alice").await.unwrap_err();
    assert!(status == 403 && why.contains("tulle-tap"), "{why}");
}

#[tokio::test]
async fn who_may_look_may_not_steer_for_that() {
    let (gate, _cluster) = gate();
    let steer = async |path: &str, user: &str| {
        send(&gate, Request::post(path), Some(&format!("Bearer of-{user}"))).await
    };
    let path = "/releases/rollback?namespace=shop&name=reviews";
    let (status, why) = steer(path, "alice").await;
    assert!(status == 403 && why.contains("alice may not steer releases.tulle.dev"), "{why}");
    assert!(why.contains("ClusterRole tulle-steer"), "{why}");
    let (status, why) = steer("/releases/rollback?namespace=bank&name=reviews", "releaser").await;
    assert!(status == 403, "{why}");
    // Nobody steers here: it has come as far as that.
    assert_eq!(steer(path, "releaser").await.0, 503);
    // What was allowed is the first namespace, what is meant the last one.
    let twice = steer("/releases/pause?namespace=shop&namespace=bank&name=reviews", "releaser");
    assert_eq!(twice.await.0, 404);
    for (origin, status) in
        [("https://tulle.example", 503), ("https://evil.example", 403), ("null", 403)]
    {
        let request = Request::post(path)
            .header(header::HOST, "tulle.example")
            .header(header::ORIGIN, origin);
        assert_eq!(send(&gate, request, Some("Bearer of-releaser")).await.0, status, "{origin}");
    }
    let (status, why) = steer("/telemetry/stat?namespace=shop", "releaser").await;
    assert_eq!(status, 405, "{why}");
}

#[tokio::test(start_paused = true)]
async fn who_shows_nothing_or_something_wrong_sees_nothing() {
    let (gate, cluster) = gate();
    for said in [None, Some("Basic YTpi"), Some("Bearer "), Some("Bearer"), Some("Bearer junk")] {
        let (status, why) = ask(&gate, "/telemetry/stat", said).await;
        assert_eq!(status, 401, "{said:?}: {why}");
    }
    let long = format!("Bearer {}", "x".repeat(LONGEST + 1));
    assert_eq!(ask(&gate, "/telemetry/stat", Some(&long)).await.0, 401);
    assert_eq!(ask(&gate, "/telemetry/stat", Some("Bearer of-nobody-knows")).await.0, 503);
    assert_eq!(cluster.rights.load(Relaxed), 0);
    // The page itself is everybody's.
    assert_eq!(ask(&gate, "/", None).await.0, 302);
}

#[tokio::test(start_paused = true)]
async fn the_cluster_is_asked_once_in_ten_seconds() {
    let (gate, cluster) = gate();
    let asked = || (cluster.tokens.load(Relaxed), cluster.rights.load(Relaxed));
    for _ in 0..3 {
        seen(&gate, "/telemetry/stat?namespace=shop", "alice").await.unwrap();
    }
    assert_eq!(asked(), (1, 2));
    for _ in 0..3 {
        ask(&gate, "/telemetry/stat", Some("Bearer junk")).await;
    }
    assert_eq!(asked(), (2, 2));
    tokio::time::advance(FRESH).await;
    seen(&gate, "/telemetry/stat?namespace=shop", "alice").await.unwrap();
    assert_eq!(asked(), (3, 4));
}

#[tokio::test]
async fn who_asks_the_same_at_the_same_time_has_it_asked_once() {
    let (gate, cluster) = gate();
    ask(&gate, "/telemetry/me", Some("Bearer of-alice")).await;
    cluster.rights.store(0, Relaxed);
    let path = "/telemetry/tap?namespace=shop&name=web";
    let all = (0..100).map(|_| ask(&gate, path, Some("Bearer of-alice")));
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(|(status, _)| *status == 403), "{all:?}");
    assert_eq!(cluster.rights.load(Relaxed), 2, "everywhere, and there");
}

#[tokio::test(start_paused = true)]
async fn a_strangers_junk_keeps_nobody_waiting() {
    let (gate, _cluster) = gate();
    let ask = async |address: &str, token: &str| {
        let client = Client { address: address.parse().unwrap(), shown: [].into() };
        let request = Request::get("/telemetry/me").extension(client);
        let request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        gate.handle(request.body(Bytes::new()).unwrap()).await.status().as_u16()
    };
    let begun = Instant::now();
    let junk = ["a", "b", "c", "d"].map(|junk| ask("10.0.0.9", junk));
    let (mut junk, own, other) = tokio::join!(
        futures_util::future::join_all(junk),
        ask("127.0.0.1", "of-admin"),
        ask("10.0.0.8", "of-admin"),
    );
    junk.sort_unstable();
    assert_eq!(junk, [401, 401, 429, 429]);
    assert_eq!((own, other), (200, 200));
    assert!(begun.elapsed() <= PENALTY);
    // Who may see nothing is told so, and not refused: the page says it.
    assert_eq!(ask("127.0.0.1", "of-eve").await, 200);
}

#[tokio::test]
async fn a_client_certificate_names_user_and_groups_if_the_authority_vouches_for_it() {
    let signer = Signer::new();
    let (gate, cluster) = gate_of(signer.authority());
    let ask = async |signer: &Signer, names: &[(&str, &str)], token: Option<&str>| {
        let shown = slice::from_ref(&signer.sign(names, 1).0).into();
        let client = Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), shown };
        let mut request = Request::get("/telemetry/me").extension(client);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let answer = gate.handle(request.body(Bytes::new()).unwrap()).await;
        (answer.status().as_u16(), String::from_utf8(answer.body().to_vec()).unwrap())
    };
    let root = [("CN", "root"), ("O", "system:masters")];
    let (status, me) = ask(&signer, &root, None).await;
    assert!(
        status == 200 && me.contains(r#""user":"root""#) && me.contains(r#""namespaces":null"#),
        "{me}"
    );
    let (status, me) = ask(&signer, &[("CN", "eve")], None).await;
    assert!(status == 200 && me.contains(r#""namespaces":[]"#), "{me}");
    let (status, why) = ask(&signer, &[("O", "system:masters")], None).await;
    assert!(status == 401 && why.contains("names no user"), "{why}");
    assert_eq!(cluster.tokens.load(Relaxed), 0);
    // One that says the same and is of somebody else counts for nothing: neither for nor against.
    let stranger = Signer::new();
    let (status, why) = ask(&stranger, &root, None).await;
    assert!(status == 401 && why.contains("does not know your client certificate"), "{why}");
    let (status, me) = ask(&stranger, &root, Some("of-alice")).await;
    assert!(status == 200 && me.contains(r#""user":"alice""#), "{me}");
    let (status, why) = ask(&stranger, &root, Some("junk")).await;
    assert!(status == 401 && why.contains("does not know this token"), "{why}");
}
