//! What people ask goes down a proxy's stream, and its answer comes up, as that pod's.

use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use tulle_proto::telemetry::v1::{
    Cursor, Direction, Edge, Question, Record, Records, ReportRequest, ReportResponse,
    telemetry_service_client::TelemetryServiceClient,
};

use super::mesh::Mesh;

const TAP: &str = "/telemetry/tap?namespace=shop";

/// A request that failed, of a workload that says to be another one.
fn record(path: &str) -> Record {
    let edge = Edge {
        direction: Direction::Inbound.into(),
        peer_namespace: "shop".to_owned(),
        peer: "web".to_owned(),
        ..Edge::default()
    };
    Record {
        time: 1_764_270_221_000_000_000,
        edge: Some(edge),
        path: path.to_owned(),
        method: "GET".to_owned(),
        reason: "timeout".to_owned(),
        detail: "no answer within 2s".to_owned(),
        policy: "TrafficPolicy/shop/pay-slow".to_owned(),
        policy_field: "spec.timeouts.request".to_owned(),
        failed: true,
        ..Record::default()
    }
}

/// The next question, answered with these records.
async fn answer(
    (reports, answers): &mut (mpsc::Sender<ReportRequest>, Streaming<ReportResponse>),
    records: Vec<Record>,
    ended: u64,
) -> Question {
    let question = loop {
        if let Some(question) = answers.message().await.unwrap().unwrap().question {
            break question;
        }
    };
    let cursor = Some(Cursor { process: 7, ended: vec![ended] });
    let matched = records.len() as u64;
    let records = Records { number: question.number, cursor, records, matched, missed: 1 };
    reports
        .send(ReportRequest { records: Some(records), ..ReportRequest::default() })
        .await
        .unwrap();
    question
}

fn page(said: &str) -> Value {
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{said}");
    serde_json::from_str(body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_reaches_the_pods_that_it_is_for_and_they_answer_for_themselves() {
    let mesh = Mesh::start().await;
    let identity = mesh.enrol(&mesh.token("reviews-abc-1", "uid-1")).await.unwrap();
    // Nobody is there yet.
    let silent = page(&mesh.dump(&format!("{TAP}&name=reviews")).await);
    assert_eq!(silent["silent"][0], "shop/reviews-abc-1");

    let (reports, said) = mpsc::channel(4);
    let channel = mesh.endpoint(Some(identity)).connect().await.unwrap();
    let answers = TelemetryServiceClient::new(channel).report(ReceiverStream::new(said)).await;
    let mut stream = (reports, answers.unwrap().into_inner());
    let first = stream.1.message().await.unwrap().unwrap();
    assert_eq!((first.taken, first.question), (0, None));

    let url = format!("{TAP}&kind=Deployment&name=reviews&status=5xx&show=x-tenant&most=2");
    let many = ["/0", "/1", "/2\u{1b}"].map(record).to_vec();
    let (said, question) = tokio::join!(mesh.dump(&url), answer(&mut stream, many, 3));
    assert_eq!(
        (question.most, question.headers, question.since),
        (2, vec!["x-tenant".to_owned()], None)
    );
    assert_eq!((question.namespace.as_str(), question.workload.as_str()), ("shop", "reviews"));
    assert_eq!(question.filter.unwrap().statuses[0].last, 599);
    let said = page(&said);
    // No more than was asked for, and as the pod that its certificate names.
    assert_eq!(said["records"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        (&said["missed"], &said["leftOut"], &said["asked"]),
        (&1.into(), &1.into(), &1.into())
    );
    let first = &said["records"][0];
    assert_eq!(
        (&first["pod"], &first["workload"]["name"]),
        (&"shop/reviews-abc-1".into(), &"reviews".into())
    );
    assert_eq!((&first["caller"]["name"], &first["direction"]), (&"web".into(), &"inbound".into()));
    let why = "no answer within 2s, set by TrafficPolicy shop/pay-slow spec.timeouts.request";
    assert_eq!(first["why"], why);

    // It goes on where it was; a pod, a Service and a whole namespace are asked the same way.
    for target in ["&name=reviews-abc-1", "&kind=Pod&name=reviews-abc-1", "&name=reviews", ""] {
        let url = format!("{TAP}{target}&cursor={}", said["cursor"].as_str().unwrap());
        let (said, question) = tokio::join!(mesh.dump(&url), answer(&mut stream, Vec::new(), 9));
        assert_eq!(question.since, Some(Cursor { process: 7, ended: vec![3] }), "{target}");
        assert_eq!(page(&said)["records"], Value::Array(Vec::new()));
    }

    for (url, status, text) in [
        ("/telemetry/tap", 400, "namespace is missing"),
        ("/telemetry/tap?namespace=shop&name=cart", 404, "there are deployment/reviews"),
        ("/telemetry/tap?namespace=bank", 404, "no pods in namespace bank"),
        (
            "/telemetry/tap?namespace=shop&kind=Service&name=web",
            404,
            "no Service that was called lately",
        ),
        ("/telemetry/tap?namespace=shop&status=abc", 400, "404, 5xx, 400-499"),
    ] {
        let said = mesh.asked(url).await;
        assert!(
            said.starts_with(&format!("HTTP/1.1 {status}")) && said.contains(text),
            "{url}: {said}"
        );
    }

    // What nobody asked for ends the stream.
    let unasked = Records { number: 99, ..Records::default() };
    stream
        .0
        .send(ReportRequest { records: Some(unasked), ..ReportRequest::default() })
        .await
        .unwrap();
    let ended = loop {
        if let Err(ended) = stream.1.message().await {
            break ended;
        }
    };
    assert_eq!(ended.code(), Code::InvalidArgument, "{ended}");
}
