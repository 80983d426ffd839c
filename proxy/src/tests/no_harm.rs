//! Do no harm: with no policy, what a real client and an application say to each other through two
//! sidecars is what they say directly, but for a listed set of header fields.

mod http2;

use std::{collections::BTreeSet, net::SocketAddr, process::Output, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tulle_xds::model::Protocol;

use super::harness::{Pair, Saw, Told};
use crate::context::Settings;

/// What an application sees more or otherwise: who called.
const OF_REQUESTS: [&str; 1] = ["x-forwarded-client-cert"];
/// What a client sees more or otherwise: what concerns its own connection alone.
const OF_RESPONSES: [&str; 3] = ["connection", "keep-alive", "transfer-encoding"];

/// Path, and what is answered there. `<` stands for the end of what a HEAD gets.
const ANSWERS: [(&str, &str); 7] = [
    ("/ok", "HTTP/1.1 200 OK\r\nX-MiXed: a\r\nContent-Length: 5\r\n\r\n<hello"),
    (
        "/cookies",
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n<",
    ),
    ("/phrase", "HTTP/1.1 404 Nothing To See\r\nContent-Length: 2\r\n\r\n<no"),
    ("/none", "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n<"),
    ("/same", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n<"),
    ("/chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n<3\r\nabc\r\n0\r\n\r\n"),
    ("*", "HTTP/1.1 200 OK\r\nAllow: GET\r\nContent-Length: 0\r\n\r\n<"),
];

/// An application that speaks for itself, and notes each head as it came.
async fn application() -> (SocketAddr, Saw<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let saw = Saw::default();
    let noted = Saw::clone(&saw);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, Saw::clone(&noted)));
        }
    });
    (address, saw)
}

async fn serve(stream: TcpStream, saw: Saw<String>) {
    let mut stream = BufReader::new(stream);
    while let Some(head) = read_head(&mut stream).await {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let lower = head.to_lowercase();
        if lower.contains("expect: 100-continue") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        }
        let length = lower.split("content-length: ").nth(1).and_then(|l| l.lines().next());
        let mut received = length.and_then(|l| l.parse::<u64>().ok()).unwrap_or(0);
        if lower.contains("transfer-encoding: chunked") {
            received = read_chunks(&mut stream).await;
        } else {
            let mut body = (&mut stream).take(received);
            tokio::io::copy(&mut body, &mut tokio::io::sink()).await.unwrap();
        }
        let answer = ANSWERS.iter().find(|(known, _)| path == *known);
        let (begin, body) =
            answer.and_then(|(_, answer)| answer.split_once('<')).unwrap_or_default();
        let counted = received.to_string();
        let upload =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{counted}", counted.len());
        let answer = match (begin, head.starts_with("HEAD ")) {
            ("", _) => upload,
            (begin, true) => begin.to_owned(),
            (begin, false) => format!("{begin}{body}"),
        };
        saw.lock().push(head);
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(line).ok()
}

async fn read_head(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push_str(&read_line(stream).await?);
    }
    Some(head)
}

/// How many bytes there were in chunks.
async fn read_chunks(stream: &mut BufReader<TcpStream>) -> u64 {
    let mut total = 0;
    loop {
        let line = read_line(stream).await.unwrap();
        let size = u64::from_str_radix(line.trim(), 16).unwrap();
        total += size;
        let mut chunk = (&mut *stream).take(size + 2);
        tokio::io::copy(&mut chunk, &mut tokio::io::sink()).await.unwrap();
        if size == 0 {
            return total;
        }
    }
}

async fn curl(to: SocketAddr, path: &str, options: &[&str]) -> Output {
    let connect = format!("cart:80:{to}");
    let url = format!("http://cart/{}", path.trim_start_matches(['/', '*']));
    let curl = Command::new("curl")
        .args(["-s", "-S", "--max-time", "60", "--noproxy", "*", "--connect-to", &connect])
        .args(options)
        .arg(url)
        .kill_on_drop(true)
        .output();
    curl.await.expect("curl is there")
}

/// A head's lines but for those of `but`, in any order; names in one case unless it is `kept`.
fn lines(head: &str, but: &[&str], kept: bool) -> BTreeSet<String> {
    let other = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default().to_lowercase();
        !but.contains(&name.as_str())
    };
    let text = |line: &str| match line.split_once(':') {
        Some((name, value)) if !kept => format!("{}: {}", name.to_lowercase(), value.trim()),
        Some((name, value)) => format!("{name}: {}", value.trim()),
        None => line.to_owned(),
    };
    head.lines().filter(other).map(text).collect()
}

/// Compares what is said directly with what is said through two sidecars.
async fn compare(kept: bool) {
    let (direct, saw) = application().await;
    let tune: fn(&mut Settings) =
        if kept { |settings| settings.preserve_header_case = true } else { |_| {} };
    let told = Told { protocol: Protocol::Http, tune, ..Told::default() };
    let pair = Pair::new(&[direct], told).await;
    let options: [&[&str]; 5] = [
        &["-i"],
        &["-I"],
        &["-i", "-d", "a=1", "-H", "X-CuStom: 1", "-H", "X-Empty;"],
        &["-i", "-T", "/proc/self/cmdline", "-H", "Expect: 100-continue"],
        &["-i", "-X", "DELETE", "-A", "", "-H", "Accept: a", "-H", "Accept: b"],
    ];
    for (path, _) in ANSWERS {
        for options in options {
            let star: &[&str] = &["--request-target", "*", "-i", "-X", "OPTIONS"];
            let options = if path == "*" { star } else { options };
            let mut said = Vec::new();
            for to in [direct, pair.outbound] {
                let output = curl(to, path, options).await;
                assert!(output.status.success(), "{path} {options:?}: {output:?}");
                let answer = String::from_utf8(output.stdout).unwrap();
                let (head, body) = answer.rsplit_once("\r\n\r\n").unwrap();
                // The interim response is each hop's own.
                let head = head.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n");
                let request = saw.lock().pop().unwrap();
                let (request, head) =
                    (lines(&request, &OF_REQUESTS, kept), lines(head, &OF_RESPONSES, kept));
                said.push((request, head, body.to_owned()));
            }
            assert_eq!(said[0], said[1], "{path} {options:?}");
        }
    }
}

#[tokio::test]
async fn curl_sees_and_says_the_same() {
    compare(false).await;
}

#[tokio::test]
async fn header_names_keep_their_case_by_setting() {
    compare(true).await;
}

#[tokio::test]
async fn an_upload_is_streamed() {
    let (application, _) = application().await;
    let told = Told { protocol: Protocol::Http, ..Told::default() };
    let pair = Pair::new(&[application], told).await;
    let script = format!(
        "head -c 64M /dev/zero | curl -s -S --noproxy '*' -T - --connect-to cart:80:{} http://cart/upload",
        pair.outbound
    );
    let output =
        Command::new("sh").args(["-c", &script]).kill_on_drop(true).output().await.unwrap();
    let counted = String::from_utf8(output.stdout).unwrap();
    assert_eq!(counted, (64 << 20).to_string(), "{:?}", output.stderr);
}

/// What an upload can make two sidecars and the kernel hold: its windows, and the socket buffers of
/// three connections.
const HELD: usize = 64 << 20;

#[tokio::test]
async fn a_large_upload_waits_for_its_application_and_is_kept_nowhere() {
    const BODY: usize = 256 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (go, told_to_go) = oneshot::channel();
    let application = tokio::spawn(async move {
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        read_head(&mut stream).await.unwrap();
        told_to_go.await.unwrap();
        let mut body = (&mut stream).take(BODY as u64);
        let read = tokio::io::copy(&mut body, &mut tokio::io::sink()).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        read
    });
    let told = Told { protocol: Protocol::Http, ..Told::default() };
    let pair = Pair::new(&[address], told).await;
    let mut client = TcpStream::connect(pair.outbound).await.unwrap();
    let head = format!("POST /upload HTTP/1.1\r\nHost: cart\r\nContent-Length: {BODY}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();

    let (zeros, mut sent) = (vec![0; 64 << 10], 0);
    // The application reads nothing: sooner or later nobody takes a byte any more.
    while let Ok(more) = timeout(Duration::from_secs(1), client.write(&zeros)).await {
        sent += more.unwrap();
        assert!(sent < HELD, "{sent} bytes are held somewhere");
    }
    go.send(()).unwrap();
    while sent < BODY {
        let rest = zeros.len().min(BODY - sent);
        sent += client.write(&zeros[..rest]).await.unwrap();
    }
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert_eq!(application.await.unwrap(), BODY as u64);
}

#[tokio::test]
async fn events_and_long_polls_come_when_they_are_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let application = listener.local_addr().unwrap();
    let (events, mut sent) = mpsc::channel::<&str>(1);
    tokio::spawn(async move {
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        read_head(&mut stream).await.unwrap();
        while let Some(event) = sent.recv().await {
            stream.write_all(event.as_bytes()).await.unwrap();
        }
    });
    let told = Told { protocol: Protocol::Http, ..Told::default() };
    let pair = Pair::new(&[application], told).await;
    let mut client = TcpStream::connect(pair.outbound).await.unwrap();
    client
        .write_all(b"GET /events HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    // A long poll: nothing comes for a while, and nobody minds.
    let silence = timeout(Duration::from_secs(2), client.read_u8()).await;
    assert!(silence.is_err());
    events.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await.unwrap();
    let mut heard = String::new();
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        events.send(event).await.unwrap();
        // It is here before the next one is sent.
        while !heard.contains(event) {
            heard.push(char::from(client.read_u8().await.unwrap()));
        }
    }
    drop(events);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap_or_default();
    assert!(!heard.contains("content-length"), "{heard}");
}
