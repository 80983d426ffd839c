//! The same over HTTP/2, by curl. gRPC's own client and server are compared in a whole mesh:
//! `scenes --network`.

use std::{convert::Infallible, net::SocketAddr, process::Stdio, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, process::Command};
use tulle_xds::model::Protocol;

use super::{
    super::harness::{Pair, Saw, Told},
    OF_REQUESTS, curl,
};

const PATHS: [&str; 6] = ["/ok", "/trailers", "/none", "/same", "/missing", "/length?a=b&c=%2F"];

/// An application that notes of each request its line, its fields and the length of its body.
async fn application() -> (SocketAddr, Saw<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let saw = Saw::default();
    let noted = Saw::clone(&saw);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let noted = Arc::clone(&noted);
            let service = service_fn(move |request| answered(request, Arc::clone(&noted)));
            let mut http2 = http2::Builder::new(TokioExecutor::new());
            http2.auto_date_header(false);
            tokio::spawn(http2.serve_connection(TokioIo::new(stream), service));
        }
    });
    (address, saw)
}

async fn answered(
    request: Request<Incoming>,
    saw: Saw<Vec<String>>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let (head, mut body) = request.into_parts();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    let mut seen = fields(&head.headers);
    seen.extend([format!("{} {} {:?}", head.method, head.uri, head.version), length.to_string()]);
    saw.lock().push(seen);

    let response = Response::builder();
    let trailers = [("x-end", "1"), ("x-end", "2"), ("x-raw-bin", "AP8")];
    let (response, body, trailers) = match head.uri.path() {
        "/ok" => (
            response
                .header("x-a", "1")
                .header("set-cookie", "a=1")
                .header("set-cookie", "b=2")
                .header("content-length", "5"),
            "hello".to_owned(),
            &[][..],
        ),
        "/trailers" => (response.header("trailer", "x-end"), "hello".to_owned(), &trailers[..]),
        "/none" => (response.status(204), String::new(), &[][..]),
        "/same" => (response.status(304).header("etag", "\"x\""), String::new(), &[][..]),
        "/missing" => (response.status(404).header("x-empty", ""), "no".to_owned(), &[][..]),
        _ => (response, length.to_string(), &[][..]),
    };
    let mut frames = Vec::new();
    // The answer to HEAD is a head.
    if head.method != Method::HEAD && !body.is_empty() {
        frames.push(Ok(Frame::data(Bytes::from(body))));
    }
    if head.method != Method::HEAD && !trailers.is_empty() {
        let mut map = HeaderMap::new();
        for (name, value) in trailers {
            map.append(*name, value.parse().unwrap());
        }
        frames.push(Ok(Frame::trailers(map)));
    }
    let body = StreamBody::new(futures_util::stream::iter(frames));
    Ok(response.body(BodyExt::boxed(body)).unwrap())
}

/// A head's fields but for those that may differ, in order of their names.
fn fields(headers: &HeaderMap) -> Vec<String> {
    let counts = |name: &str| !OF_REQUESTS.contains(&name);
    let fields = headers.iter().filter(|(name, _)| counts(name.as_str()));
    let mut fields: Vec<_> = fields.map(|(name, value)| format!("{name}: {value:?}")).collect();
    fields.sort();
    fields
}

#[tokio::test]
async fn curl_sees_and_says_the_same_over_http2() {
    let (direct, saw) = application().await;
    let told = Told { protocol: Protocol::Http, ..Told::default() };
    let pair = Pair::new(&[direct], told).await;
    let options: [&[&str]; 5] = [
        &[],
        &["-I"],
        &["-d", "a=1", "-H", "X-CuStom: 1", "-H", "X-Empty;", "-b", "a=1; b=2"],
        &["-X", "DELETE", "-A", "", "-H", "Accept: a", "-H", "Accept: b", "-H", "TE: trailers"],
        &["-T", "/proc/self/cmdline"],
    ];
    for path in PATHS {
        for options in options {
            let mut said = Vec::new();
            for to in [direct, pair.outbound] {
                let output =
                    curl(to, path, &[&["--http2-prior-knowledge", "-i"], options].concat()).await;
                assert!(output.status.success(), "{path} {options:?}: {output:?}");
                // Every byte, also of trailers; the order of fields means nothing.
                let mut answer: Vec<_> =
                    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
                answer.sort();
                said.push((saw.lock().pop().unwrap(), answer));
            }
            assert_eq!(said[0], said[1], "{path} {options:?}");
        }
    }
    let both = ["--http2-prior-knowledge", "-i"];
    let trailers = String::from_utf8(curl(pair.outbound, "/trailers", &both).await.stdout).unwrap();
    assert!(trailers.contains("x-raw-bin: AP8"), "{trailers}");
}

#[tokio::test]
async fn an_upload_is_streamed_over_http2() {
    const MIB: usize = 256;
    let (application, _) = application().await;
    let told = Told { protocol: Protocol::Http, ..Told::default() };
    let pair = Pair::new(&[application], told).await;
    let script = format!(
        "head -c {MIB}M /dev/zero | curl -s -S --http2-prior-knowledge --noproxy '*' -T - \
         --connect-to cart:80:{} http://cart/length",
        pair.outbound
    );
    let mut command = Command::new("sh");
    let output = command.args(["-c", &script]).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = output.await.unwrap();
    let counted = String::from_utf8(output.stdout).unwrap();
    assert_eq!(counted, (MIB << 20).to_string(), "{:?}", output.stderr);
}
