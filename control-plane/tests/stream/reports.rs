//! What proxies report is remembered for the pod that they prove to be, once.

use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use tulle_proto::telemetry::v1::{
    Counts, Direction, Edge, EdgeCounts, ReportRequest, ReportResponse, Requests,
    telemetry_service_client::TelemetryServiceClient,
};

use super::mesh::Mesh;

/// So many requests came from `web`, which says to be in whatever namespace it likes.
fn report(number: u64, times: u64) -> ReportRequest {
    let requests = vec![Requests { status: 200, times, ..Requests::default() }];
    let edge = Edge {
        direction: Direction::Inbound.into(),
        peer_namespace: "shop".to_owned(),
        peer: "web".to_owned(),
        ..Edge::default()
    };
    let counts = Counts { requests, ..Counts::default() };
    let edges = vec![EdgeCounts { edge: Some(edge), counts: Some(counts) }];
    ReportRequest {
        process: 7,
        number,
        edges,
        records: None,
        certificate_ends: 0,
        attempts: Vec::new(),
        lanes: Vec::new(),
    }
}

async fn answer(answers: &mut Streaming<ReportResponse>) -> (u64, u32) {
    let answer = answers.message().await.unwrap().unwrap();
    (answer.taken, answer.interval_ms)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_remembered_once_for_the_pod_that_proves_to_be_it() {
    let mesh = Mesh::start().await;
    let (nobody, said) = mpsc::channel(1);
    nobody.send(report(1, 1000)).await.unwrap();
    let channel = mesh.endpoint(None).connect().await.unwrap();
    let refused = TelemetryServiceClient::new(channel).report(ReceiverStream::new(said)).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);

    let identity = mesh.enrol(&mesh.token("reviews-abc-1", "uid-1")).await.unwrap();
    let open = async |identity| {
        let (reports, said) = mpsc::channel(4);
        let channel = mesh.endpoint(Some(identity)).connect().await.unwrap();
        let answers = TelemetryServiceClient::new(channel).report(ReceiverStream::new(said)).await;
        (reports, answers.unwrap().into_inner())
    };
    let (reports, mut answers) = open(identity.clone()).await;
    assert_eq!(answer(&mut answers).await, (0, 10_000), "the first answer comes at once");
    reports.send(report(1, 3)).await.unwrap();
    assert_eq!(answer(&mut answers).await, (1, 10_000));

    // Who looks has it said every second, and says so to those who are there.
    let look = mesh.dump("/telemetry/stat?namespace=shop&watch=true").await;
    assert_eq!(answer(&mut answers).await, (1, 1000), "{look}");

    // The connection breaks before an answer came: the same again is not counted again.
    drop((reports, answers));
    let (reports, mut answers) = open(identity).await;
    assert_eq!(answer(&mut answers).await, (0, 1000));
    for (number, times) in [(1, 3), (2, 4)] {
        reports.send(report(number, times)).await.unwrap();
        assert_eq!(answer(&mut answers).await, (number, 1000));
    }
    // As soon as its slot is over.
    let mut item = Value::Null;
    for _ in 0..3000 {
        let stat = mesh.dump("/telemetry/stat?namespace=shop&window=900").await;
        let (_head, body) = stat.split_once("\r\n\r\n").unwrap();
        item = serde_json::from_str::<Value>(body).unwrap()["items"][0].clone();
        if item["signals"]["requests"] == 7 {
            break;
        }
        tokio::time::sleep(super::LOOK).await;
    }
    let named = [&item["name"], &item["kind"], &item["signals"]["requests"], &item["reporting"]];
    assert_eq!(named, [&"reviews".into(), &"Deployment".into(), &Value::from(7), &Value::from(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_pods_streams_the_newest_counts_and_the_others_are_closed() {
    let mesh = Mesh::start().await;
    let identity = mesh.enrol(&mesh.token("reviews-abc-1", "uid-1")).await.unwrap();
    let channel = mesh.endpoint(Some(identity)).connect().await.unwrap();
    let open = async || {
        let (reports, said) = mpsc::channel(4);
        let mut client = TelemetryServiceClient::new(channel.clone());
        let mut answers = client.report(ReceiverStream::new(said)).await.unwrap().into_inner();
        assert_eq!(answer(&mut answers).await.1, 10_000);
        (reports, answers)
    };
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(open().await);
    }
    let (reports, mut answers) = streams.pop().unwrap();
    for (_reports, mut older) in streams {
        assert_eq!(older.message().await.unwrap_err().code(), Code::Aborted);
    }
    reports.send(report(1, 3)).await.unwrap();
    assert_eq!(answer(&mut answers).await, (1, 10_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_sidecars_count_nothing_is_not_shown_as_without_traffic() {
    let mesh = Mesh::start().await;
    let quiet = "{apiVersion: tulle.dev/v1alpha1, kind: Telemetry, metadata: {name: quiet, namespace: shop}, \
                 spec: {metrics: {disabled: true}}}";
    mesh.save("quiet.yaml", quiet);
    let mut item = Value::Null;
    for _ in 0..1000 {
        let stat = mesh.dump("/telemetry/stat?namespace=shop").await;
        let (_head, body) = stat.split_once("\r\n\r\n").unwrap();
        item = serde_json::from_str::<Value>(body).unwrap()["items"][0].clone();
        if item["uncounted"] == 1 {
            break;
        }
        tokio::time::sleep(super::LOOK).await;
    }
    let by = serde_json::json!(["shop/quiet"]);
    assert_eq!((&item["uncountedBy"], &item["known"]), (&by, &Value::from(false)), "{item}");
}
