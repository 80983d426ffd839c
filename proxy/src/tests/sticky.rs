//! Who has once been with a backend stays with it.

use std::net::SocketAddr;

use http::{Request, StatusCode};
use tulle_xds::model::{Action, Backend, Protocol, Rule, Stick};

use super::{
    ends::{Does, full, http1, plays},
    harness::{CLUSTER, Pair, Told, forward},
};

const CANARY: &str = "service/shop/canary/80";

/// A mesh of two backends: the first answers with 201, the other with 202.
async fn mesh(stick: Stick) -> Pair {
    let (canary, _) = plays(|_, _| Does::Answer(201)).await;
    let (stable, _) = plays(|_, _| Does::Answer(202)).await;
    let backend = |(cluster, weight): (&str, _)| Backend {
        cluster: cluster.to_owned(),
        weight,
        filters: Vec::new(),
    };
    let action = Action::Forward([(CANARY, 5000), (CLUSTER, 5000)].map(backend).into());
    let told = Told {
        rules: vec![Rule { action, stick: Some(stick), ..forward() }],
        protocol: Protocol::Http,
        plain: vec![stable],
        others: vec![(CANARY, canary)],
        ..Told::default()
    };
    Pair::new(&[], told).await
}

/// Asks twenty times; whether the canary answered.
async fn ask(to: SocketAddr, line: Option<(&str, &str)>) -> [bool; 20] {
    let mut client = http1(to).await;
    let mut canary = [false; 20];
    for answered in &mut canary {
        let request = Request::get("/").header("host", "cart");
        let request = line.into_iter().fold(request, |all, (name, value)| all.header(name, value));
        let response = client.send_request(request.body(full("")).unwrap()).await.unwrap();
        *answered = response.status() == StatusCode::CREATED;
        client.ready().await.unwrap();
    }
    canary
}

#[tokio::test]
async fn a_user_stays_and_without_a_key_chance_decides() {
    let by_header = Stick::Header("x-user".parse().unwrap());
    // What `xxhsum -H64` says of "a".
    let of = |hash: u64| hash % 10_000 < 5000;
    for (stick, line) in [
        (by_header, ("x-user", "a")),
        (Stick::Cookie("sid".to_owned()), ("cookie", "other=1; sid=a")),
    ] {
        let pair = mesh(stick).await;
        let answered = ask(pair.outbound, Some(line)).await;
        assert_eq!(answered, [of(0xd24e_c4f1_a98c_6e5b); 20]);
        // In one of half a million runs it is not so.
        let answered = ask(pair.outbound, None).await;
        assert!(answered.contains(&true) && answered.contains(&false));
    }
    let pair = mesh(Stick::SourceIp).await;
    let [first, rest @ ..] = ask(pair.outbound, None).await;
    assert_eq!(rest, [first; 19]);
}
