//! HTTP/2 as bytes: frames that no library would send.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// A connection on which anything can be said.
pub(super) struct Raw(pub(super) TcpStream);

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The first byte of a response's header block; `:status` comes first.
    Response(u8),
    Reset(u32),
    GoAway(u32),
    Closed,
}

/// `:status: 400` of the static table.
pub(super) const STATUS_400: Said = Said::Response(0x80 | 12);
pub(super) const STATUS_200: Said = Said::Response(0x80 | 8);

impl Raw {
    pub(super) async fn connect(to: SocketAddr) -> Self {
        let mut raw = Self(TcpStream::connect(to).await.unwrap());
        raw.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        raw.say(&frame(SETTINGS, 0, 0, &[])).await;
        raw
    }

    /// Whether it could be said.
    pub(super) async fn say(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// What is said next about a stream or the connection's end.
    pub(super) async fn hear(&mut self) -> Said {
        loop {
            let mut head = [0; 9];
            if self.0.read_exact(&mut head).await.is_err() {
                return Said::Closed;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            if self.0.read_exact(&mut payload).await.is_err() {
                return Said::Closed;
            }
            let number = |at: usize| {
                u32::from_be_bytes(payload.get(at..at + 4).unwrap().try_into().unwrap())
            };
            match head[3] {
                HEADERS => return Said::Response(payload[0]),
                RST_STREAM => return Said::Reset(number(0)),
                // The first of a graceful shutdown has no reason.
                GOAWAY => return Said::GoAway(number(4)),
                _ => {}
            }
        }
    }
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A header block of literals, neither indexed nor compressed.
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name.as_bytes());
        text(&mut block, value.as_bytes());
    }
    block
}

/// A string literal (RFC 7541, 5.2).
pub(super) fn text(block: &mut Vec<u8>, text: &[u8]) {
    match u8::try_from(text.len()).ok().filter(|length| *length < 127) {
        Some(length) => block.push(length),
        None => {
            let mut rest = text.len() - 127;
            block.push(127);
            while rest >= 128 {
                block.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            block.push(u8::try_from(rest).unwrap());
        }
    }
    block.extend_from_slice(text);
}

/// A GET, and what else is wanted in its head.
pub(super) fn get(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    let mut fields =
        vec![(":method", "GET"), (":scheme", "http"), (":authority", "cart"), (":path", "/")];
    fields.extend_from_slice(more);
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&fields))
}
