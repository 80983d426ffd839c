use std::{fs, net::SocketAddr};

use http::{Request, Response, StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt as _, net::TcpListener, sync::watch, time::sleep};
use tulle_runtime::{
    drain,
    http::{Handler, Names, Terms, answer, serve_tcp, text},
    room::Room,
};

use super::*;
use crate::{
    ca::{issue::Authority, roots::Roots, server_certificate::ServerCertificate},
    release::{Query, Share, Webhook},
    server::{https::Https, webhook as tls_port},
};

/// Says what it is told to, and remembers what it was asked.
#[derive(Clone, Default)]
struct Double(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    says: Option<Response<Bytes>>,
    asked: Vec<(String, Bytes)>,
}

impl Handler for Double {
    async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        let mut inner = self.0.lock();
        let asked = format!("{} {}", request.method(), request.uri());
        inner.asked.push((asked, request.into_body()));
        inner.says.clone().unwrap_or_else(|| text(StatusCode::OK, "fine"))
    }
}

impl Double {
    fn says(&self, response: Response<Bytes>) {
        self.0.lock().says = Some(response);
    }

    fn asked(&self) -> Vec<(String, Bytes)> {
        self.0.lock().asked.clone()
    }

    async fn start(&self) -> (SocketAddr, drain::Trigger) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (trigger, drain) = drain::channel();
        tokio::spawn(serve_tcp(listener, self.clone(), Names::default(), drain));
        (address, trigger)
    }
}

fn release(plan: Plan) -> Release {
    Release {
        name: Name::new("shop", "web"),
        uid: String::new(),
        created: String::new(),
        target: Target::Deployment("web-app".to_owned()),
        services: Vec::new(),
        plan,
        course: None,
    }
}

/// In its first step since second 100.
fn course() -> Course {
    Course {
        phase: Phase::Progressing,
        stable: "7d9c".to_owned(),
        canary: "84f6".to_owned(),
        step: Some(0),
        weight: Share::percent(1),
        since: 100,
        ..Course::default()
    }
}

fn webhook(url: String) -> Plan {
    let every = Duration::from_secs(30);
    let webhooks = vec![Webhook { name: "gate".to_owned(), url, every, failures: 3 }];
    let mut plan = Plan::default();
    plan.gates.webhooks = webhooks;
    plan
}

fn query(promql: &str) -> Plan {
    let mut plan = Plan::default();
    plan.gates.queries = vec![Query {
        name: "orders".to_owned(),
        promql: promql.to_owned(),
        max: Some(1.0),
        min: None,
        every: Duration::from_secs(30),
        failures: 3,
    }];
    plan
}

fn asker(hosts: &[&str]) -> Asker {
    Asker::new(None, hosts.iter().map(|host| host.parse().unwrap()).collect(), None)
}

/// The next answers about the release; there must be some.
async fn answers(asker: &mut Asker) -> Vec<(Gate, Answer)> {
    loop {
        let answers = asker.answers(&Name::new("shop", "web"));
        if !answers.is_empty() {
            return answers;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// What comes of asking there once.
async fn asked(mut asker: Asker, url: String) -> Answer {
    asker.follow([(&release(webhook(url)), &course())], 1000);
    let [(gate, answer)] = &answers(&mut asker).await[..] else { panic!("one is asked") };
    assert_eq!(*gate, Gate::Webhook("gate".to_owned()));
    answer.clone()
}

#[tokio::test]
async fn yes_no_and_not_yet() {
    let double = Double::default();
    let (address, _open) = double.start().await;
    let host = address.to_string();
    let ask = async || asked(asker(&[&host]), format!("http://{address}/gates/web?x=1#y")).await;
    let of = |text: &str| text.to_owned();
    assert_eq!(ask().await, Answer::Yes(of("200 OK: fine")));
    double.says(text(StatusCode::CONFLICT, "frozen until Monday\nmore"));
    assert_eq!(ask().await, Answer::No(of("409 Conflict: frozen until Monday")));
    double.says(text(StatusCode::TOO_EARLY, ""));
    assert_eq!(ask().await, Answer::Open(of("425 Too Early")));
    let mut elsewhere = text(StatusCode::TEMPORARY_REDIRECT, "");
    let location = format!("http://{address}/elsewhere").parse().unwrap();
    elsewhere.headers_mut().insert(header::LOCATION, location);
    double.says(elsewhere);
    let refused = "307 Temporary Redirect: redirects are not followed";
    assert_eq!(ask().await, Answer::Open(of(refused)));
    double.says(text(StatusCode::OK, vec![b'x'; 65 << 10]));
    let Answer::Open(said) = ask().await else { panic!("a huge answer is none") };
    assert_eq!(said, "length limit exceeded");
    let asked = double.asked();
    assert_eq!(asked.len(), 5, "nobody is asked twice, nor elsewhere");
    let expected = json!({
        "release": "shop/web", "namespace": "shop", "name": "web", "gate": "gate",
        "revision": {"stable": "7d9c", "canary": "84f6"}, "step": 1, "weight": 1, "phase": "Progressing",
    });
    for (head, body) in asked {
        assert_eq!(head, "POST /gates/web?x=1");
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
    }
}

#[tokio::test]
async fn who_is_not_allowed_is_not_asked() {
    let double = Double::default();
    let (address, _open) = double.start().await;
    let (port, host) = (address.port(), address.to_string());
    let meta = "169.254.169.254";
    for (allowed, url, said) in [
        (
            &[][..],
            format!("http://{address}/"),
            format!("{address} is not among the hosts that the installation allows: controlPlane.releaseHosts"),
        ),
        (
            &["127.0.0.1", "*.example.com"],
            format!("http://{address}/"),
            format!("{address} is not among the hosts that the installation allows: controlPlane.releaseHosts"),
        ),
        (
            &["*.example.com"],
            "https://example.com".to_owned(),
            "example.com is not among the hosts that the installation allows: controlPlane.releaseHosts".to_owned(),
        ),
        (
            &[meta],
            format!("http://{meta}/latest/meta-data"),
            format!("{meta} is at {meta}, which is link-local: nobody is asked there"),
        ),
        (
            &["[::ffff:169.254.169.254]"],
            "http://[::ffff:a9fe:a9fe]/".to_owned(),
            "[::ffff:a9fe:a9fe] is at ::ffff:169.254.169.254, which is link-local: nobody is asked there".to_owned(),
        ),
    ] {
        assert_eq!(asked(asker(allowed), url).await, Answer::Open(said));
    }
    assert_eq!(double.asked(), []);
    // Nobody is there.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = asked(asker(&[&nobody.to_string()]), format!("http://{nobody}/")).await;
    let Answer::Open(said) = refused else { panic!("nobody says yes") };
    assert!(said.contains("refused"), "{said}");
    // The machine itself, by its name.
    let allowed = format!("localhost:{port}");
    let answer = asked(asker(&[&allowed, &host]), format!("http://localhost:{port}/")).await;
    assert_eq!(answer, Answer::Yes("200 OK: fine".to_owned()));
    // In another spelling of its address, which is resolved as a name.
    let Answer::Open(said) = asked(asker(&["127.1"]), "http://127.1/".to_owned()).await else {
        panic!()
    };
    assert!(said.ends_with("which is this machine: nobody is asked there"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_who_does_not_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let late = Answer::Open("no answer within 5s".to_owned());
    let host = address.to_string();
    assert_eq!(asked(asker(&[&host]), format!("http://{address}/")).await, late);
}

#[tokio::test]
async fn a_host_behind_tls_is_known_by_the_authority_that_the_installation_says() {
    let folder = tempfile::tempdir().unwrap();
    let roots = Roots::load_or_make(folder.path(), "cluster.local").unwrap();
    let issuer = Authority::new(roots, Duration::from_secs(3600));
    let certificate = ServerCertificate::new(issuer, vec!["localhost".to_owned()]).unwrap();
    let port = Https {
        name: "gate",
        handler: Double::default(),
        tls: watch::channel(tls_port::tls(certificate).unwrap()).1,
        terms: Terms::default(),
        room: Room::new(64, 64),
        metrics: Arc::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let number = listener.local_addr().unwrap().port();
    let (_open, drain) = drain::channel();
    tokio::spawn(port.serve(listener, drain));
    let file = folder.path().join("ca.pem");
    fs::write(&file, "junk").unwrap();
    let ask = async |authority: Option<PathBuf>| {
        let hosts = vec![format!("localhost:{number}").parse().unwrap()];
        let asker = Asker::new(None, hosts, authority);
        asked(asker, format!("https://localhost:{number}/")).await
    };
    let Answer::Open(said) = ask(None).await else { panic!("nobody here has signed it") };
    assert!(said.starts_with("TLS: "), "{said}");
    let no_authority = "TLS: --release-ca holds no certificate in PEM".to_owned();
    assert_eq!(ask(Some(file.clone())).await, Answer::Open(no_authority));
    fs::copy(folder.path().join("root.pem"), &file).unwrap();
    assert_eq!(ask(Some(file)).await, Answer::Yes("200 OK: fine".to_owned()));
}

#[tokio::test]
async fn a_prometheus_is_asked_for_one_number() {
    let double = Double::default();
    let (address, _open) = double.start().await;
    let prometheus: Prometheus = format!("http://{address}/prom").parse().unwrap();
    let asked = async || {
        let mut asker = Asker::new(Some(prometheus.clone()), Vec::new(), None);
        let release = release(query(r#"sum(x{a="$namespace/$target/$revision"})"#));
        asker.follow([(&release, &course())], 1000);
        let [(gate, answer)] = &answers(&mut asker).await[..] else { panic!("one is asked") };
        assert_eq!(*gate, Gate::Query("orders".to_owned()));
        answer.clone()
    };
    let vector = |values: &[&str]| {
        let all: Vec<_> = values.iter().map(|v| json!({"metric": {}, "value": [1, v]})).collect();
        json!({"resultType": "vector", "result": all})
    };
    let open = |said: &str| Answer::Open(said.to_owned());
    for (data, expected) in [
        (vector(&["0.25"]), Answer::Number(0.25)),
        (json!({"resultType": "scalar", "result": [1.5, "-7"], "more": 1}), Answer::Number(-7.0)),
        (vector(&["+Inf"]), Answer::Number(f64::INFINITY)),
        (vector(&[]), open("no value")),
        (vector(&["1", "2", "3"]), open("3 values: make one of them, as sum(…) does")),
        (vector(&["many"]), open("\"many\" is no number")),
        (
            json!({"resultType": "vector", "result": [{"metric": {}, "histogram": [1, {}]}]}),
            open("a histogram is no number: histogram_quantile(…) makes one"),
        ),
        (json!({"resultType": "matrix", "result": [{}]}), open("a range of values is no number")),
        (json!({"resultType": "string", "result": [1, "2"]}), open("a text is no number")),
    ] {
        let body = json!({"status": "success", "data": data}).to_string();
        double.says(answer(StatusCode::OK, "application/json", body));
        assert_eq!(asked().await, expected, "{data}");
    }
    let body = json!({"data": vector(&["NaN"])}).to_string();
    double.says(text(StatusCode::OK, body));
    assert!(matches!(asked().await, Answer::Number(number) if number.is_nan()));
    double.says(text(StatusCode::BAD_REQUEST, r#"{"status": "error", "error": "parse error"}"#));
    assert_eq!(asked().await, open("400 Bad Request: parse error"));
    double.says(text(StatusCode::OK, "<html>"));
    let Answer::Open(said) = asked().await else { panic!() };
    assert!(said.starts_with("its answer is none of Prometheus"), "{said}");
    double.says(text(StatusCode::OK, vec![b' '; 300 << 10]));
    assert_eq!(asked().await, open("length limit exceeded"));
    let form = "query=sum%28x%7Ba%3D%22shop%2Fweb-app%2F84f6%22%7D%29&timeout=5s";
    let first = ("POST /prom/api/v1/query".to_owned(), Bytes::from(form));
    assert_eq!(double.asked()[0], first);

    let mut asker = asker(&[]);
    asker.follow([(&release(query("x")), &course())], 1000);
    let none = "the installation has no Prometheus: controlPlane.prometheus";
    assert_eq!(answers(&mut asker).await, [(Gate::Query("orders".to_owned()), open(none))]);
}

/// What is asked in a second, by the number of its questions.
fn waiting(asker: &Asker) -> usize {
    asker.releases.values().flat_map(|one| &one.asked).filter(|one| one.answer.is_some()).count()
}

#[tokio::test]
async fn each_is_asked_when_it_is_due_and_once_at_a_time() {
    let double = Double::default();
    let (address, _open) = double.start().await;
    let host = address.to_string();
    let (mut asker, mut course) = (asker(&[&host]), course());
    let release = release(webhook(format!("http://{address}/")));
    // In its first step since 100: after thirty seconds of it, and each thirty seconds.
    for (now, asks) in
        [(101, 0), (129, 0), (130, 1), (131, 0), (159, 0), (160, 1), (250, 1), (251, 0)]
    {
        asker.follow([(&release, &course)], now);
        assert_eq!(waiting(&asker), asks, "{now}");
        for _ in 0..asks {
            assert_eq!(answers(&mut asker).await.len(), 1);
        }
        assert_eq!(asker.answers(&release.name), []);
    }
    // A control plane that has just come asks at once, unless it is the first step.
    let mut other = self::asker(&[&host]);
    course.step = Some(1);
    other.follow([(&release, &course)], 101);
    assert_eq!(waiting(&other), 1);
    // What does not answer is not asked again, also when it is due; in the next step it is.
    asker.follow([(&release, &course)], 280);
    assert_eq!(waiting(&asker), 1);
    let due = |asker: &Asker| asker.releases[&release.name].asked[0].due;
    asker.follow([(&release, &course)], 320);
    assert_eq!((waiting(&asker), due(&asker)), (1, 310));
    course.step = Some(2);
    asker.follow([(&release, &course)], 321);
    assert_eq!((waiting(&asker), due(&asker)), (1, 351));
    // Nobody asks about what is over, or of another revision.
    for phase in [Phase::Held, Phase::Promoted, Phase::RolledBack, Phase::Idle, Phase::Waiting] {
        course.phase = phase;
        asker.follow([(&release, &course)], 322);
        assert_eq!((waiting(&asker), asker.releases.len()), (0, 0), "{phase:?}");
    }
    (course.phase, course.step, course.since) = (Phase::Paused, Some(0), 322);
    asker.follow([(&release, &course)], 352);
    assert_eq!(waiting(&asker), 1);
    course.canary = "c0de".to_owned();
    asker.follow([(&release, &course)], 353);
    assert_eq!((waiting(&asker), asker.answers(&release.name).len()), (1, 0));
    asker.follow([], 354);
    assert!(asker.releases.is_empty());
}

#[tokio::test]
async fn a_step_is_asked_for_at_once_with_what_it_would_be() {
    let double = Double::default();
    let (address, _open) = double.start().await;
    let host = address.to_string();
    let mut plan = Plan::default();
    plan.steps[1].webhook = format!("http://{address}/step");
    let release = release(plan);
    let (mut asker, mut course) = (asker(&[&host]), course());
    asker.follow([(&release, &course)], 101);
    assert!(asker.releases.is_empty());
    course.asking = Some(1);
    asker.follow([(&release, &course)], 101);
    let yes = Answer::Yes("200 OK: fine".to_owned());
    assert_eq!(answers(&mut asker).await, [(Gate::Step(1), yes)]);
    let (head, body) = double.asked().remove(0);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (head.as_str(), &body["step"], &body["weight"]),
        ("POST /step", &json!(2), &json!(5))
    );
    assert_eq!(body.get("gate"), None);
    asker.follow([(&release, &course)], 110);
    assert_eq!(waiting(&asker), 0);
    asker.follow([(&release, &course)], 111);
    assert_eq!(waiting(&asker), 1);
}

#[tokio::test]
async fn who_is_not_waited_for_any_more_is_hung_up_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let host = address.to_string();
    let mut asker = asker(&[&host]);
    asker.follow([(&release(webhook(format!("http://{address}/"))), &course())], 1000);
    let (mut io, _) = listener.accept().await.unwrap();
    let mut bytes = [0; 4];
    io.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"POST");
    drop(asker);
    let mut rest = Vec::new();
    // To its end.
    let ended = timeout(Duration::from_secs(4), io.read_to_end(&mut rest)).await;
    assert!(ended.is_ok());
}
