//! A directory, a control plane, a pod: enrol, open a stream, follow an edit.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod mesh;
mod reports;
mod taps;
mod versions;

use std::{fs, time::Duration};

use futures_util::future::select_all;
use http::uri::PathAndQuery;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, client::Grpc};
use tonic_prost::ProstCodec;
use tulle_control_plane::ca::{root::Root, service::MAX_REQUEST};
use tulle_proto::ca::v1::{IssueRequest, IssueResponse};
use tulle_xds::{
    client::Event,
    model::{Action, Health, Kind, MtlsMode, PathMatch, Protocol, Resource},
    server::MAX_STREAMS,
};

use mesh::{LOOK, Mesh, Proxy, SHOP};

const CLUSTER: &str = "service/shop/reviews/9080";

#[tokio::test(flavor = "multi_thread")]
async fn enrols_serves_and_follows_an_edit() {
    let mesh = Mesh::start().await;
    let identity = mesh.enrol(&mesh.token("reviews-abc-1", "uid-1")).await.unwrap();
    let mut proxy = Proxy::open(mesh.endpoint(Some(identity)), "shop/reviews-abc-1");

    let Resource::Workload(workload) = proxy.get(Kind::Workload, "shop/reviews-abc-1").await else {
        panic!()
    };
    assert_eq!(workload.identity.as_str(), "spiffe://cluster.local/ns/shop/sa/reviews");
    assert_eq!((&*workload.owner_kind, &*workload.owner_name), ("Deployment", "reviews"));
    assert_eq!((workload.ports[0].port, workload.ports[0].protocol), (8080, Protocol::Http));
    assert_eq!(workload.ports[0].services, ["shop/reviews"]);

    let Resource::Listener(listener) = proxy.get(Kind::Listener, "10.96.0.7:9080").await else {
        panic!()
    };
    assert_eq!(listener.route.as_deref(), Some(CLUSTER));
    proxy.get(Kind::Route, CLUSTER).await;
    proxy.get(Kind::Cluster, CLUSTER).await;
    let Resource::Endpoints(endpoints) = proxy.get(Kind::Endpoints, CLUSTER).await else {
        panic!()
    };
    let endpoint = &endpoints.endpoints[0];
    assert_eq!(endpoint.address, "10.244.0.9:8080".parse().unwrap());
    assert_eq!(endpoint.identity.as_ref(), Some(&workload.identity));
    assert_eq!((endpoint.health, &*endpoint.workload), (Health::Ready, "shop/reviews"));

    // The pod's own address, and an address that is nobody's.
    let Resource::Listener(pod) = proxy.get(Kind::Listener, "10.244.0.9:8080").await else {
        panic!()
    };
    assert_eq!(pod.route.as_deref(), Some("pod/shop/reviews-abc-1/8080"));
    proxy.until(Kind::Listener, "10.96.0.99:80", |known| known.is_none()).await;

    // An edit, a file of its own, a broken edit (nothing changes), and its removal.
    mesh.save("shop.yaml", &SHOP.replace("ready: true", "ready: false"));
    let not_ready = |known: Option<&Resource>| matches!(known, Some(Resource::Endpoints(e)) if e.endpoints[0].health == Health::NotReady);
    proxy.until(Kind::Endpoints, CLUSTER, not_ready).await;
    mesh.save(
        "tls.yaml",
        "apiVersion: tulle.dev/v1alpha1\nkind: MeshTLS\nmetadata: {name: d, namespace: shop}\n\
         spec: {mode: Strict}\n",
    );
    let strict = |known: Option<&Resource>| matches!(known, Some(Resource::Workload(w)) if w.default_mtls == MtlsMode::Strict);
    proxy.until(Kind::Workload, "shop/reviews-abc-1", strict).await;
    mesh.save("shop.yaml", "kind: {");
    let problems = mesh.path("out/status/problems.json");
    let named = || fs::read_to_string(&problems).is_ok_and(|text| text.contains("shop.yaml"));
    mesh.eventually("the broken file is named", named).await;
    assert!(mesh.path("out/shop/tulle-roots.yaml").exists());
    mesh.save("shop.yaml", &SHOP.replace("10.96.0.7", "10.96.0.8"));
    proxy.until(Kind::Listener, "10.96.0.7:9080", |known| known.is_none()).await;
    // With the file goes the pod, and with the pod its stream.
    fs::remove_file(mesh.path("yaml/shop.yaml")).unwrap();
    let error = proxy.ended().await;
    assert!(error.contains("does not exist any more"), "{error}");
    mesh.plane.run_until(std::future::ready(())).await;
}

const ROUTE: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: split, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: reviews, port: 9080}]
  rules:
    - name: beta
      matches: [{path: {value: /beta}}]
      backendRefs: [{name: reviews, port: 9080, weight: 9}, {name: gone, port: 9080}]
---
apiVersion: tulle.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: retry, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: split, sectionName: beta}]
  retries: {attempts: 3, when: [503]}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_route_comes_and_goes() {
    let mesh = Mesh::start().await;
    let identity = mesh.enrol(&mesh.token("reviews-abc-1", "uid-1")).await.unwrap();
    let mut proxy = Proxy::open(mesh.endpoint(Some(identity)), "shop/reviews-abc-1");
    proxy.get(Kind::Workload, "shop/reviews-abc-1").await;
    let Resource::Route(default) = proxy.get(Kind::Route, CLUSTER).await else { panic!() };
    assert_eq!(default.rules[0].origin.kind, "Service");

    mesh.save("route.yaml", ROUTE);
    let retried = |known: Option<&Resource>| matches!(known, Some(Resource::Route(r)) if r.rules[0].retry.is_some());
    let Some(Resource::Route(route)) = proxy.until(Kind::Route, CLUSTER, retried).await else {
        panic!()
    };
    let rule = &route.rules[0];
    assert_eq!((&*rule.origin.kind, &*rule.origin.rule), ("HTTPRoute", "beta"));
    assert_eq!(rule.matches.path, PathMatch::Prefix("/beta".to_owned()));
    let Action::Forward(backends) = &rule.action else { panic!("{rule:?}") };
    let shares: Vec<_> = backends.iter().map(|b| (&*b.cluster, b.weight)).collect();
    assert_eq!(shares, [(CLUSTER, 9), ("invalid", 1)]);
    assert_eq!(rule.retry.as_ref().unwrap().attempts, 3);

    let status = mesh.path("out/status/problems.json");
    let named = |parts: [&str; 4]| {
        fs::read_to_string(&status).is_ok_and(|text| parts.iter().all(|part| text.contains(part)))
    };
    let problem = [
        "\"line\": 10",
        "HTTPRoute shop/split",
        "spec.rules[0].backendRefs[1]",
        "there is no Service shop/gone",
    ];
    mesh.eventually("the missing backend is named", || named(problem)).await;

    fs::remove_file(mesh.path("yaml/route.yaml")).unwrap();
    let back =
        |known: Option<&Resource>| matches!(known, Some(Resource::Route(r)) if *r == default);
    proxy.until(Kind::Route, CLUSTER, back).await;
    mesh.eventually("nothing is wrong any more", || !named(problem)).await;
}

const FAR: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: caller, namespace: far, uid: uid-far}
spec:
  serviceAccountName: reviews
  initContainers: [{name: tulle-proxy, restartPolicy: Always}]
  containers: [{name: app}]
status: {phase: Running, podIP: 10.244.0.20, podIPs: [{ip: 10.244.0.20}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mine, namespace: far}
spec:
  parentRefs: [{group: "", kind: Service, name: reviews, namespace: shop}]
  rules: [{backendRefs: [{name: reviews, namespace: shop, port: 9080}]}]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_consumers_route_is_for_its_own_callers() {
    let mesh = Mesh::start().await;
    let identity = mesh.enrol(&mesh.token("reviews-abc-1", "uid-1")).await.unwrap();
    let mut near = Proxy::open(mesh.endpoint(Some(identity)), "shop/reviews-abc-1");
    let Resource::Route(default) = near.get(Kind::Route, CLUSTER).await else { panic!() };
    assert_eq!(default.rules[0].origin.kind, "Service");

    mesh.save("far.yaml", FAR);
    let there = || async {
        loop {
            if let Ok(identity) = mesh.enrol(&mesh.token_in("far", "caller", "uid-far")).await {
                break identity;
            }
        }
    };
    let identity = timeout(Duration::from_secs(20), there()).await.unwrap();
    let mut far = Proxy::open(mesh.endpoint(Some(identity)), "far/caller");
    let Resource::Route(own) = far.get(Kind::Route, CLUSTER).await else { panic!() };
    let origin = &own.rules[0].origin;
    assert_eq!((&*origin.kind, &*origin.namespace, &*origin.name), ("HTTPRoute", "far", "mine"));

    // A producer's route is for the others; the end of the consumer's brings it to all.
    mesh.save("route.yaml", ROUTE);
    let producers = |known: Option<&Resource>| matches!(known, Some(Resource::Route(r)) if r.rules[0].origin.name == "split");
    near.until(Kind::Route, CLUSTER, producers).await;
    assert_eq!(far.known[&(Kind::Route, CLUSTER.to_owned())], Some(Resource::Route(own)));
    mesh.save("far.yaml", FAR.split("---").next().unwrap());
    far.until(Kind::Route, CLUSTER, producers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_say_what_is_accepted_and_where_it_is_in_force() {
    let mesh = Mesh::start().await;
    mesh.save("route.yaml", ROUTE);
    // Nobody uses it: that is no fault.
    let status = mesh.in_force("HTTPRoute", "split", 0, 0).await;
    let parent = &status["status"]["parents"][0];
    assert_eq!(parent["parentRef"]["name"], "reviews");
    let reasons: Vec<_> =
        parent["conditions"].as_array().unwrap().iter().map(|c| &c["reason"]).collect();
    assert_eq!(reasons, ["Accepted", "BackendNotFound", "NotInUse"]);

    let identity = mesh.enrol(&mesh.token("reviews-abc-1", "uid-1")).await.unwrap();
    let mut proxy = Proxy::open(mesh.endpoint(Some(identity)), "shop/reviews-abc-1");
    proxy.get(Kind::Route, CLUSTER).await;
    mesh.in_force("HTTPRoute", "split", 1, 1).await;
    let policy = mesh.in_force("TrafficPolicy", "retry", 1, 1).await;
    assert_eq!(policy["status"]["ancestors"][0]["ancestorRef"]["sectionName"], "beta");

    // An edit that the proxy does not take: what it said stays, and the object that is behind it
    // says who did not take what, and why.
    proxy.rejects = Some("not today");
    mesh.save("route.yaml", &ROUTE.replace("/beta", "/gamma"));
    let follow = async {
        loop {
            let event = proxy.events.recv().await.unwrap();
            proxy.learn(event);
        }
    };
    let status = tokio::select! {
        () = follow => panic!("the stream has ended"),
        status = mesh.in_force("HTTPRoute", "split", 0, 1) => status,
    };
    let rejection = &status["inForce"]["rejections"][0];
    assert_eq!(rejection["proxy"], "shop/reviews-abc-1");
    assert_eq!(rejection["resource"], CLUSTER);
    assert_eq!(rejection["reason"], "virtual_hosts[0].routes[0].x: not today");
    let policy = mesh.in_force("TrafficPolicy", "retry", 0, 1).await;
    assert_eq!(policy["inForce"]["rejections"], Value::Null, "the reason names the route's rule");

    // A document that does not apply: the object says so, and stays.
    mesh.save("route.yaml", &ROUTE.replace("weight: 9", "weight: -9"));
    let invalid = || mesh.status("HTTPRoute", "split").is_some_and(|s| s["reason"] == "Invalid");
    mesh.eventually("the broken document is named", invalid).await;

    for (path, part) in [
        ("/debug/world", "HttpRoute"),
        ("/debug/cache", CLUSTER),
        ("/debug/streams", "shop/reviews-abc-1"),
        ("/debug/status", "split"),
        ("/metrics", "tulle_control_plane_rejected_resources{kind=\"route\"} 1"),
        ("/metrics", "tulle_xds_streams{dialect=\"tulle\"} 1"),
        ("/metrics", "tulle_push_pending 0"),
        ("/metrics", "tulle_push_bytes_total "),
        ("/metrics", "tulle_push_duration_seconds_count "),
    ] {
        let dump = mesh.dump(path).await;
        assert!(dump.contains(part), "{path}: {dump}");
    }
    fs::remove_file(mesh.path("yaml/route.yaml")).unwrap();
    mesh.eventually("it is gone", || mesh.status("HTTPRoute", "split").is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_strangers() {
    let mesh = Mesh::start().await;
    let refused = mesh.enrol(&mesh.token("reviews-abc-1", "uid-0")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("uid"), "{refused}");

    // Without a certificate; for another pod.
    let error = Proxy::open(mesh.endpoint(None), "shop/reviews-abc-1").disconnected().await;
    assert!(error.contains("no client certificate"), "{error}");
    let identity = mesh.enrol(&mesh.token("reviews-abc-1", "uid-1")).await.unwrap();
    let error =
        Proxy::open(mesh.endpoint(Some(identity.clone())), "shop/other").disconnected().await;
    assert!(error.contains("is for pod shop/reviews-abc-1"), "{error}");
    // Of one that turns out to be elsewhere: it comes back, and is told what is for those there.
    let open = || Proxy::open(mesh.endpoint(Some(identity.clone())), "shop/reviews-abc-1");
    let mut stream = open();
    stream.get(Kind::Workload, "shop/reviews-abc-1").await;
    let placed = SHOP.replace("spec:\n  serviceAccount", "spec:\n  nodeName: n1\n  serviceAccount");
    mesh.save("shop.yaml", &placed);
    let error = stream.ended().await;
    assert!(error.contains("connect again"), "{error}");
    // For a pod that has been replaced: its stream ends, and there is no other one.
    let mut open = open();
    open.get(Kind::Workload, "shop/reviews-abc-1").await;
    mesh.save("shop.yaml", &placed.replace("uid-1", "uid-2"));
    let replaced = || async {
        let token = mesh.token("reviews-abc-1", "uid-2");
        while mesh.enrol(&token).await.is_err() {
            sleep(LOOK).await;
        }
    };
    timeout(Duration::from_secs(20), replaced()).await.unwrap();
    let error = open.ended().await;
    assert!(error.contains("does not exist any more"), "{error}");
    let error =
        Proxy::open(mesh.endpoint(Some(identity)), "shop/reviews-abc-1").disconnected().await;
    assert!(error.contains("does not exist"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_given_little() {
    let mesh = Mesh::start().await;
    let channel = mesh.endpoint(None).connect().await.unwrap();
    // Messages are ours to choose: nobody reads them, or they never come.
    let silent = || Request::new(tokio_stream::pending::<IssueRequest>());
    let codec = ProstCodec::<IssueRequest, IssueResponse>::default;

    let mut ads = Grpc::new(channel.clone());
    ads.ready().await.unwrap();
    let path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
    let unread = ads.streaming(silent(), PathAndQuery::from_static(path), codec());
    let refused = timeout(Duration::from_secs(5), unread).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");

    let issue = async |csr: usize| {
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let request = Request::new(IssueRequest { csr: vec![0; csr].into() });
        let path = PathAndQuery::from_static("/tulle.ca.v1.CertificateService/Issue");
        let answer = grpc.unary::<_, IssueResponse, _>(request, path, codec()).await;
        answer.unwrap_err()
    };
    let too_large = issue(MAX_REQUEST).await;
    assert_eq!(too_large.code(), Code::OutOfRange, "{too_large}");

    // Four questions that never come are all that a connection has room for, until their time is
    // over. Sent first because they are polled first.
    let unasked = || {
        Box::pin(async {
            let mut grpc = Grpc::new(channel.clone());
            grpc.ready().await.unwrap();
            let path = PathAndQuery::from_static("/tulle.ca.v1.CertificateService/Issue");
            grpc.client_streaming(silent(), path, codec()).await.unwrap_err()
        })
    };
    let unasked = select_all([unasked(), unasked(), unasked(), unasked()]);
    let mut fifth = Box::pin(issue(100));
    tokio::select! {
        biased;
        (_late, _, _) = unasked => {}
        early = &mut fifth => panic!("a fifth stream was answered: {early}"),
    }
    assert_eq!(fifth.await.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_has_so_many_streams_and_no_more() {
    let mesh = Mesh::start().await;
    let identity = mesh.enrol(&mesh.token("reviews-abc-1", "uid-1")).await.unwrap();
    let open = || Proxy::open(mesh.endpoint(Some(identity.clone())), "shop/reviews-abc-1");
    let mut streams = Vec::new();
    for _ in 0..MAX_STREAMS {
        let mut stream = open();
        stream.get(Kind::Workload, "shop/reviews-abc-1").await;
        streams.push(stream);
    }
    let error = open().disconnected().await;
    assert!(error.contains("streams open already"), "{error}");
    // One leaves, one may come.
    drop(streams.pop());
    let room = async {
        let mut late = open();
        while !late.known.values().any(Option::is_some) {
            let event = late.events.recv().await.unwrap();
            late.learn(event);
        }
    };
    timeout(Duration::from_secs(20), room).await.unwrap();
}

/// The three steps of `ca/roots.rs`, with a client that was there before the first.
#[tokio::test(flavor = "multi_thread")]
async fn one_root_takes_over_from_another_without_a_restart() {
    let mesh = Mesh::start().await;
    let token = mesh.token("reviews-abc-1", "uid-1");
    let veteran = mesh.enrol(&token).await.unwrap();
    let root = |name: &str| fs::read_to_string(mesh.path(name)).unwrap();
    let (old, other) = (root("ca/root.pem"), tempfile::tempdir().unwrap());
    Root::load_or_make(other.path(), "cluster.local").unwrap();
    let new = fs::read_to_string(other.path().join("root.pem")).unwrap();
    // What the pods get, in the end; and that somebody who trusts nothing else still connects.
    let in_force = async |pem: &str| {
        let line = pem.lines().nth(1).unwrap().to_owned();
        let map = mesh.path("out/shop/tulle-roots.yaml");
        let written = || fs::read_to_string(&map).is_ok_and(|text| text.contains(&line));
        mesh.eventually("the roots reach the pods", written).await;
    };

    fs::write(mesh.path("ca/root.pem"), format!("{old}{new}")).unwrap();
    in_force(&new).await;
    fs::copy(other.path().join("root.key"), mesh.path("ca/root.key")).unwrap();
    fs::write(mesh.path("ca/root.pem"), format!("{new}{old}")).unwrap();
    // The server's own certificate is of the new root by now, and so are those that it issues.
    let novice = async {
        loop {
            let trusting = mesh.trusting(&new, None).connect().await;
            if trusting.is_ok() {
                return mesh.enrol(&token).await.unwrap();
            }
            sleep(LOOK).await;
        }
    };
    let novice = timeout(Duration::from_secs(20), novice).await.unwrap();
    for identity in [&veteran, &novice] {
        let endpoint = mesh.trusting(&new, Some(identity.clone()));
        Proxy::open(endpoint, "shop/reviews-abc-1").get(Kind::Workload, "shop/reviews-abc-1").await;
    }
    fs::write(mesh.path("ca/root.pem"), &new).unwrap();
    let refused = async {
        let endpoint = mesh.trusting(&new, Some(veteran));
        loop {
            let mut late = Proxy::open(endpoint.clone(), "shop/reviews-abc-1");
            match late.events.recv().await.unwrap() {
                Event::Disconnected { error } => return error,
                event => late.learn(event),
            }
            sleep(LOOK).await;
        }
    };
    let error = timeout(Duration::from_secs(20), refused).await.unwrap();
    // By TLS, whose alert may be overtaken by the end of the connection; not by a verdict of ours.
    assert!(error.contains("transport error"), "{error}");
    let endpoint = mesh.trusting(&new, Some(novice));
    Proxy::open(endpoint, "shop/reviews-abc-1").get(Kind::Workload, "shop/reviews-abc-1").await;
}
