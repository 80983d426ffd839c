//! HTTP/2 clients that cost more than they pay.

use std::time::Duration;

use socket2::SockRef;
use tokio::{io::AsyncWriteExt, net::TcpListener, time::timeout};
use tulle_xds::model::Protocol;

use super::{
    defences::silent,
    ends::{echo, http1, post, text},
    frames::{
        CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, Raw, SETTINGS,
        STATUS_200, Said, block, frame, get, text as literal,
    },
    harness::{Pair, Told},
};

/// `ENHANCE_YOUR_CALM` (RFC 9113, 7).
const CALM: u32 = 11;
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;

const WITHIN: Duration = Duration::from_secs(30);

async fn pair() -> Pair {
    let (application, _) = echo().await;
    Pair::new(&[application], Told { protocol: Protocol::Http2, ..Told::default() }).await
}

/// Others are served meanwhile and afterwards.
async fn serves(pair: &Pair) {
    let response = http1(pair.outbound).await.send_request(post("x")).await.unwrap();
    assert_eq!(text(response).await, "x");
}

/// What is heard once everything is said; frames that no longer matter are passed over.
async fn last_words(raw: &mut Raw) -> Said {
    let hear = async {
        loop {
            match raw.hear().await {
                Said::Response(_) | Said::Reset(_) => {}
                end => return end,
            }
        }
    };
    timeout(WITHIN, hear).await.expect("the connection ends")
}

#[tokio::test]
async fn rapid_reset_ends_the_connection() {
    let pair = pair().await;
    let mut raw = Raw::connect(pair.outbound).await;
    let mut flood = Vec::new();
    for stream in (1..4000).step_by(2) {
        flood.extend(get(stream, &[]));
        flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    let _ended = raw.say(&flood).await;
    let end = last_words(&mut raw).await;
    assert!([Said::GoAway(CALM), Said::Closed].contains(&end), "{end:?}");
    serves(&pair).await;
}

#[tokio::test]
async fn a_continuation_flood_ends_the_connection() {
    let pair = pair().await;
    let mut raw = Raw::connect(pair.outbound).await;
    raw.say(&frame(HEADERS, END_STREAM, 1, &block(&[(":method", "GET")]))).await;
    // 100 MB of header fields, if they were taken.
    let more = frame(CONTINUATION, 0, 1, &block(&[("x-a", &"a".repeat(1000))]));
    let mut said = 0;
    while said < 100_000 && raw.say(&more).await {
        said += 1;
    }
    assert!(said < 10_000, "{said} CONTINUATION frames were taken");
    let end = last_words(&mut raw).await;
    assert!(matches!(end, Said::GoAway(CALM | PROTOCOL_ERROR) | Said::Closed), "{end:?}");
    serves(&pair).await;
}

#[tokio::test]
async fn an_hpack_bomb_is_refused() {
    let (application, saw) = echo().await;
    let told = Told { protocol: Protocol::Http2, ..Told::default() };
    let pair = Pair::new(&[application], told).await;
    let mut raw = Raw::connect(pair.outbound).await;
    let mut bomb =
        block(&[(":method", "GET"), (":scheme", "http"), (":authority", "cart"), (":path", "/")]);
    // Into the dynamic table; then named 10,000 times by one byte each: 40 MB.
    bomb.push(0x40);
    literal(&mut bomb, b"x-a");
    literal(&mut bomb, "a".repeat(4000).as_bytes());
    bomb.extend([0x80 | 62].repeat(10_000));
    raw.say(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &bomb)).await;
    let end = timeout(WITHIN, raw.hear()).await.unwrap();
    assert_ne!(end, STATUS_200);
    assert_eq!(saw.lock().len(), 0);
    serves(&pair).await;
}

/// Says `flood` again and again without listening. The proxy must stop to read when its answers are not
/// taken: what is said then waits in the kernel, and no memory grows.
async fn is_pushed_back(flood: &[u8]) {
    let pair = pair().await;
    let mut raw = Raw::connect(pair.outbound).await;
    SockRef::from(&raw.0).set_recv_buffer_size(4 << 10).unwrap();
    SockRef::from(&raw.0).set_send_buffer_size(4 << 10).unwrap();
    let many = flood.repeat(4096 / flood.len());
    let mut said = 0;
    while let Ok(written) = timeout(Duration::from_secs(2), raw.0.write_all(&many)).await {
        written.unwrap();
        said += many.len();
        assert!(said < 64 << 20, "all of a flood is taken");
    }
    serves(&pair).await;
}

#[tokio::test]
async fn a_ping_flood_is_pushed_back() {
    is_pushed_back(&frame(PING, 0, 0, &[0; 8])).await;
}

#[tokio::test]
async fn a_settings_flood_is_pushed_back() {
    is_pushed_back(&frame(SETTINGS, 0, 0, &[])).await;
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let application = listener.local_addr().unwrap();
    tokio::spawn(silent(listener));
    let told = Told {
        protocol: Protocol::Http2,
        tune: |settings| settings.max_streams = 4,
        ..Told::default()
    };
    let pair = Pair::new(&[application], told).await;
    let mut raw = Raw::connect(pair.outbound).await;
    for stream in [1, 3, 5, 7, 9] {
        raw.say(&get(stream, &[])).await;
    }
    assert_eq!(timeout(WITHIN, raw.hear()).await.unwrap(), Said::Reset(REFUSED_STREAM));
}
