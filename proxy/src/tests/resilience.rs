//! Retries, timeouts, budgets and ejection, with endpoints that fail.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Method, Request, StatusCode, request::Parts};
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tulle_xds::model::{Action, Ejection, Limits, Protocol, Retry, RetryBudget, Rule, Timeouts};

use super::{
    ends::{Does, full, http1, http2, plays},
    harness::{Pair, Saw, Told, forward, nobody},
};
use crate::mesh;

fn rule(retry: Option<Retry>) -> Rule {
    Rule { retry, ..forward() }
}

/// Twice on 503, with hardly a pause.
pub(super) fn twice() -> Retry {
    Retry {
        attempts: 2,
        statuses: vec![StatusCode::SERVICE_UNAVAILABLE],
        grpc_statuses: Vec::new(),
        on_connect: false,
        on_reset: false,
        base_backoff: Duration::from_millis(1),
        max_backoff: Duration::from_millis(1),
    }
}

fn told(rule: Rule) -> Told {
    Told { rules: vec![rule], protocol: Protocol::Http, ..Told::default() }
}

/// The status of one request, and how many attempts it took.
async fn ask(pair: &mut Pair, method: Method) -> (StatusCode, u64) {
    let request = Request::builder().method(method).uri("/").header("host", "cart");
    let body = full("body");
    let sent = http1(pair.outbound).await.send_request(request.body(body).unwrap()).await;
    let status = sent.unwrap().status();
    (status, pair.client.record().await["attempts"].as_u64().unwrap_or(0))
}

#[tokio::test]
async fn a_get_is_tried_again_on_its_status_and_a_post_never() {
    let (application, saw) = plays(|_, _| Does::Answer(503)).await;
    let mut pair = Pair::new(&[application], told(rule(Some(twice())))).await;
    assert_eq!(ask(&mut pair, Method::GET).await, (StatusCode::SERVICE_UNAVAILABLE, 3));
    assert_eq!(saw.lock().len(), 3);
    assert_eq!(ask(&mut pair, Method::POST).await, (StatusCode::SERVICE_UNAVAILABLE, 1));
    assert_eq!(saw.lock().len(), 4, "each POST exactly once");
}

#[tokio::test]
async fn the_first_good_answer_is_given_with_the_whole_body_sent_again() {
    let script = |_: &Parts, nth| Does::Answer(if nth < 2 { 503 } else { 200 });
    let (application, _) = plays(script).await;
    let mut pair = Pair::new(&[application], told(rule(Some(twice())))).await;
    assert_eq!(ask(&mut pair, Method::PUT).await, (StatusCode::OK, 3));
    assert_eq!(pair.server.record().await["bytes_received"], 4);
    assert_eq!(pair.server.record().await["bytes_received"], 4);
}

#[tokio::test]
async fn between_tries_there_are_pauses() {
    let (application, _) = plays(|_, _| Does::Answer(503)).await;
    let pause = Duration::from_millis(50);
    let retry = Retry { attempts: 10, base_backoff: pause, max_backoff: pause, ..twice() };
    let mut pair = Pair::new(&[application], told(rule(Some(retry)))).await;
    let begun = Instant::now();
    assert_eq!(ask(&mut pair, Method::GET).await.1, 11);
    // Ten random ones of 25 ms on average: once in 500,000 runs they are shorter together.
    assert!(begun.elapsed() >= Duration::from_millis(60), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn each_try_has_its_time_and_all_together_too() {
    let script = |_: &Parts, nth| if nth == 0 { Does::Nothing } else { Does::Answer(200) };
    let retry = Retry { statuses: vec![StatusCode::GATEWAY_TIMEOUT], ..twice() };
    let mut rule = rule(Some(retry));
    rule.timeouts = Timeouts { per_try: Some(Duration::from_millis(200)), ..Timeouts::default() };
    let (application, _) = plays(script).await;
    let mut pair = Pair::new(&[application], told(rule.clone())).await;
    assert_eq!(ask(&mut pair, Method::GET).await, (StatusCode::OK, 2));

    // What the server may have acted on is not repeated.
    let (application, saw) = plays(script).await;
    let mut pair = Pair::new(&[application], told(rule.clone())).await;
    assert_eq!(ask(&mut pair, Method::POST).await, (StatusCode::GATEWAY_TIMEOUT, 1));
    assert_eq!(saw.lock().len(), 1);

    // No time is left for the pause before another try: the answer that is there is given.
    let (application, _) = plays(|_, _| Does::Answer(503)).await;
    let hour = Duration::from_secs(3600);
    rule.retry = Some(Retry { base_backoff: hour, max_backoff: hour, ..twice() });
    rule.timeouts.request = Some(Duration::from_secs(5));
    let mut pair = Pair::new(&[application], told(rule)).await;
    let asked = timeout(Duration::from_secs(3), ask(&mut pair, Method::GET));
    assert_eq!(asked.await.unwrap(), (StatusCode::SERVICE_UNAVAILABLE, 1));
}

#[tokio::test]
async fn who_has_got_an_endpoints_address_gets_none_of_its_requests() {
    let (bank, of_bank) = plays(|_, _| Does::Answer(200)).await;
    let (cart, of_cart) = plays(|_, _| Does::Answer(200)).await;
    let to = || Told { recycled: vec![bank], ..told(rule(None)) };
    let mut pair = Pair::new(&[cart], to()).await;
    let mut attempts = Vec::new();
    for _ in 0..4 {
        let (status, tried) = ask(&mut pair, Method::POST).await;
        assert_eq!(status, StatusCode::OK);
        attempts.push(tried);
    }
    assert!(attempts.contains(&2), "{attempts:?}: the other address was never tried");
    assert_eq!((of_cart.lock().len(), of_bank.lock().len()), (4, 0));
    // The one that was tried has seen a handshake that its client broke off, and no request.
    assert_eq!(pair.stranger.record().await["reason"], "tls");

    // Nobody else is left.
    let mut pair = Pair::new(&[], to()).await;
    assert_eq!(ask(&mut pair, Method::POST).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(of_bank.lock().len(), 0);
}

#[tokio::test]
async fn a_budget_bounds_retries_in_flight() {
    let (application, saw) = plays(|_, _| Does::Late(Duration::from_millis(100), 503)).await;
    let budget = RetryBudget { percent: 0.0, min_concurrency: 1 };
    let limits = Limits { retry_budget: budget, ..Limits::default() };
    let mut pair = Pair::new(&[application], Told { limits, ..told(rule(Some(twice()))) }).await;
    let get = || Request::get("/").header("host", "cart").body(full("")).unwrap();
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(http1(pair.outbound).await);
    }
    let asked = clients.iter_mut().map(|client| client.send_request(get()));
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(answer.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    let mut attempts = 0;
    for _ in 0..10 {
        attempts += pair.client.record().await["attempts"].as_u64().unwrap();
    }
    assert_eq!(usize::try_from(attempts).unwrap(), saw.lock().len());
    // Ten fail at about the same time; the one that finds room tries twice, then the next may.
    assert!((12..=16).contains(&attempts), "{attempts}");
}

#[tokio::test]
async fn connect_and_reset_are_two_things() {
    let connect = Retry { statuses: Vec::new(), on_connect: true, ..twice() };
    let reset = Retry { statuses: Vec::new(), on_reset: true, ..twice() };
    for (retry, closed, broken) in [(connect, 3, 1), (reset, 3, 3)] {
        for method in [Method::GET, Method::POST] {
            let to = |plain| Told { plain: vec![plain], ..told(rule(Some(retry.clone()))) };
            let mut pair = Pair::new(&[], to(nobody().await)).await;
            let asked = ask(&mut pair, method.clone()).await;
            assert_eq!(asked, (StatusCode::SERVICE_UNAVAILABLE, closed), "{method} {retry:?}");
            let (application, saw) = plays(|_, _| Does::Reset).await;
            let mut pair = Pair::new(&[], to(application)).await;
            let broken = if method == Method::POST { 1 } else { broken };
            let asked = ask(&mut pair, method.clone()).await;
            assert_eq!(asked, (StatusCode::SERVICE_UNAVAILABLE, broken), "{method} {retry:?}");
            assert_eq!(saw.lock().len() as u64, broken);
        }
    }
}

async fn call(pair: &mut Pair) -> Value {
    let request = Request::post("http://cart/svc/Do").header("content-type", "application/grpc");
    let mut client = http2(pair.outbound).await;
    client.send_request(request.body(full("")).unwrap()).await.unwrap();
    pair.client.record().await
}

#[tokio::test]
async fn a_grpc_code_that_is_listed_is_tried_again_although_calls_are_posts() {
    let script = |_: &Parts, nth| Does::Grpc(if nth == 0 { 14 } else { 0 });
    for (grpc_statuses, attempts, status) in [(vec![14], 2, "OK"), (vec![8], 1, "UNAVAILABLE")] {
        let (application, _) = plays(script).await;
        let retry = Retry { grpc_statuses, ..twice() };
        let mut pair = Pair::new(&[application], told(rule(Some(retry)))).await;
        let record = call(&mut pair).await;
        let got = (&record["attempts"], &record["grpc_status"]);
        assert_eq!(got, (&attempts.into(), &status.into()));
    }
}

#[tokio::test]
async fn an_invalid_backend_is_500_and_for_grpc_unavailable() {
    let (application, _) = plays(|_, _| Does::Answer(200)).await;
    let mut fails = forward();
    fails.action = Action::Fail(StatusCode::INTERNAL_SERVER_ERROR);
    let mut pair = Pair::new(&[application], told(fails)).await;
    assert_eq!(ask(&mut pair, Method::GET).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    let record = call(&mut pair).await;
    let got = (&record["reason"], &record["grpc_status"]);
    assert_eq!(got, (&"invalid_backend".into(), &"UNAVAILABLE".into()));
}

/// An application that fails while the switch is on.
async fn fickle(failing: &Arc<AtomicBool>, fails: Does) -> (SocketAddr, Saw<Parts>) {
    let failing = Arc::clone(failing);
    plays(move |_, _| if failing.load(Ordering::Relaxed) { fails } else { Does::Answer(200) }).await
}

fn ejection() -> Ejection {
    Ejection {
        consecutive_5xx: Some(3),
        consecutive_local_failures: Some(3),
        base_time: Duration::from_millis(300),
        max_time: Duration::from_secs(10),
        interval: Duration::from_millis(50),
        max_percent: 50,
    }
}

/// Asks until the failing application was not asked `well` times in a row.
async fn until_left_out(pair: &mut Pair, saw: &Saw<Parts>) {
    let mut spared = 0;
    for _ in 0..200 {
        let before = saw.lock().len();
        ask(pair, Method::GET).await;
        spared = if saw.lock().len() == before { spared + 1 } else { 0 };
        if spared == 9 {
            return;
        }
    }
    panic!("never left out");
}

#[tokio::test]
async fn who_fails_is_left_out_for_a_while_and_comes_back() {
    for fails in [Does::Answer(500), Does::Reset, Does::Nothing] {
        let failing = Arc::new(AtomicBool::new(true));
        let (sick, saw) = fickle(&failing, fails).await;
        let (well, _) = plays(|_, _| Does::Answer(200)).await;
        let mut rule = rule(None);
        rule.timeouts.request = Some(Duration::from_millis(250));
        // Long enough to be looked at on a busy machine.
        let ejection = Ejection { base_time: Duration::from_secs(2), ..ejection() };
        let told = Told { ejection: Some(ejection), plain: vec![sick, well], ..told(rule) };
        let mut pair = Pair::new(&[], told).await;
        let begun = Instant::now();
        until_left_out(&mut pair, &saw).await;
        assert!(pair.client.metrics().contains("tulle_upstream_ejected{server_address="));
        let dump = mesh::dump(&pair.client.shared.store.current()).to_string();
        assert!(dump.contains("\"ejected\":{\"cause\":\"consecutive_"), "{dump}");
        failing.store(false, Ordering::Relaxed);
        let before = saw.lock().len();
        while saw.lock().len() == before {
            ask(&mut pair, Method::GET).await;
            assert!(begun.elapsed() < Duration::from_secs(20), "never back: {dump}");
        }
        let count = "tulle_upstream_ejections_total{server_address=\"cart.shop.svc.cluster.local\",server_port=\"80\",cause=";
        assert!(pair.client.metrics().contains(count), "{}", pair.client.metrics());
    }
}
