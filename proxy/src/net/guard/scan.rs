//! Follows the messages of one HTTP/1 stream, and says how much of it may pass. Pure.
//!
//! Only what is whole passes: a head, a trailer section, the line of a chunk's size. So whoever reads
//! behind it never sees the beginning of something that turns out to be wrong, and a verdict does not
//! depend on how the bytes were cut.

use http::StatusCode;
use memchr::memchr;

use super::line::{self, Field};

/// Extensions that one chunk may carry; nobody uses them but for attacks (CVE-2023-39326).
const MOST_EXTENSION: usize = 1 << 10;

/// How much of a message is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Of a head, or of a trailer section.
    pub head_bytes: usize,
    /// Of a request line.
    pub uri_bytes: usize,
    /// Fields of a head, or of a trailer section.
    pub fields: usize,
}

/// What is wrong, and how a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Fault {
    /// The answer.
    pub status: StatusCode,
    /// For the log.
    pub what: &'static str,
}

/// How much of what was shown may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scanned {
    /// So many bytes from the start.
    pub pass: usize,
    /// Nothing behind them will ever pass.
    pub fault: Option<Fault>,
}

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Messages {
    /// A client's.
    Requests,
    /// A server's, of which each answers what [`Scanner::asked`] said last.
    Responses,
}

/// What a request says about its response's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Asked {
    /// Nothing was asked: nothing may be answered.
    #[default]
    Nothing,
    /// For a response.
    Response,
    /// For a head alone.
    Head,
    /// For a response, or for another protocol.
    Upgrade,
}

/// Follows one stream.
#[derive(Debug)]
pub struct Scanner {
    messages: Messages,
    bounds: Bounds,
    state: State,
    head: Head,
    asked: Asked,
    heads: u64,
    payload: u64,
    /// Where the current line begins in what was not passed yet.
    line: usize,
    /// Up to where its end was looked for.
    searched: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a head, or before one.
    Head,
    /// So many bytes of a body are left.
    Body(u64),
    /// In a chunk's first line.
    Size,
    /// So many bytes of a chunk are left.
    Chunk(u64),
    /// At the line end behind a chunk.
    ChunkEnd,
    /// Behind the last chunk.
    Trailers,
    /// The response decides what follows.
    Held,
    /// Nobody knows what this is; or it ends with the connection.
    Open,
    /// Nothing passes any more.
    Faulty { in_head: bool },
}

/// What is known of the current head or trailer section.
#[derive(Debug, Default)]
struct Head {
    /// An empty line came before it.
    after_empty: bool,
    started: bool,
    fields: usize,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    is_http10: bool,
    status: u16,
}

impl Fault {
    pub(super) const fn new(status: StatusCode, what: &'static str) -> Self {
        Self { status, what }
    }

    pub(super) const fn bad(what: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, what)
    }

    const fn too_large(what: &'static str) -> Self {
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, what)
    }
}

impl Scanner {
    /// At the beginning of a stream.
    pub fn new(messages: Messages, bounds: Bounds) -> Self {
        Self {
            messages,
            bounds,
            state: State::Head,
            head: Head::default(),
            asked: Asked::Nothing,
            heads: 0,
            payload: 0,
            line: 0,
            searched: 0,
        }
    }

    /// How many final heads have passed: requests, or responses without the interim ones.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// How many bytes of all bodies have passed, chunks without their frame.
    pub fn payload(&self) -> u64 {
        self.payload
    }

    /// Says what the next response answers.
    pub fn asked(&mut self, asked: Asked) {
        self.asked = asked;
    }

    /// Whether everything passes from now on.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether nothing passes until [`release`](Self::release): the last request wants another
    /// protocol, and its response says whether it gets it.
    pub fn is_held(&self) -> bool {
        self.state == State::Held
    }

    /// Whether the next byte belongs to a head, or would without a fault.
    pub fn is_at_head(&self) -> bool {
        matches!(self.state, State::Head | State::Faulty { in_head: true })
    }

    /// The response has come: another protocol follows if it has `upgraded`, else the next request.
    pub fn release(&mut self, upgraded: bool) {
        if self.is_held() {
            self.state = if upgraded { State::Open } else { State::Head };
        }
    }

    /// Looks at all bytes that have not passed yet, the new ones last.
    pub fn scan(&mut self, bytes: &[u8]) -> Scanned {
        let mut pass = 0;
        let fault = self.advance(bytes, &mut pass).err();
        if fault.is_some() {
            self.state = State::Faulty { in_head: self.is_at_head() };
        }
        self.line = self.line.saturating_sub(pass);
        self.searched = self.searched.saturating_sub(pass);
        Scanned { pass, fault }
    }

    fn advance(&mut self, bytes: &[u8], pass: &mut usize) -> Result<(), Fault> {
        loop {
            let rest = bytes.get(self.line..).unwrap_or_default();
            match self.state {
                State::Held | State::Faulty { .. } => return Ok(()),
                State::Open => {
                    *pass = bytes.len();
                    self.line = bytes.len();
                    return Ok(());
                }
                State::Body(left) | State::Chunk(left) => {
                    let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.line += taken;
                    *pass = self.line;
                    self.payload += taken as u64;
                    let left = left - taken as u64;
                    let chunked = matches!(self.state, State::Chunk(_));
                    self.state = match (left, chunked) {
                        (0, true) => State::ChunkEnd,
                        (0, false) => self.after_message(),
                        (left, true) => State::Chunk(left),
                        (left, false) => State::Body(left),
                    };
                    if left > 0 {
                        return Ok(());
                    }
                }
                State::ChunkEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        self.line += 2;
                        *pass = self.line;
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(()),
                    _ => return Err(Fault::bad("a chunk is longer than its size")),
                },
                State::Head | State::Size | State::Trailers => {
                    let from = self.searched.max(self.line);
                    let found = memchr(b'\n', bytes.get(from..).unwrap_or_default());
                    let end = found.map_or(bytes.len(), |at| from + at);
                    self.within_bounds(end - *pass, end - self.line)?;
                    if found.is_none() {
                        self.searched = end;
                        return Ok(());
                    }
                    let Some((b'\r', line)) =
                        bytes.get(self.line..end).and_then(<[u8]>::split_last)
                    else {
                        return Err(Fault::bad("a line ends without CR"));
                    };
                    self.line = end + 1;
                    if self.line_ended(line)? {
                        *pass = self.line;
                    }
                }
            }
        }
    }

    /// Before a line is whole, so that it does not matter when its end comes.
    fn within_bounds(&self, section: usize, line: usize) -> Result<(), Fault> {
        let request_line = self.messages == Messages::Requests && !self.head.started;
        match self.state {
            State::Head if request_line && line > self.bounds.uri_bytes => {
                Err(Fault::new(StatusCode::URI_TOO_LONG, "the request line is too long"))
            }
            State::Size if line > MOST_EXTENSION => {
                Err(Fault::bad("a chunk's first line is too long"))
            }
            _ if section > self.bounds.head_bytes => Err(Fault::too_large("the head is too long")),
            _ => Ok(()),
        }
    }

    /// Whether everything up to the end of this line may pass.
    fn line_ended(&mut self, line: &[u8]) -> Result<bool, Fault> {
        match self.state {
            State::Size => {
                self.state = match line::chunk(line)? {
                    0 => {
                        self.head.fields = 0;
                        State::Trailers
                    }
                    size => State::Chunk(size),
                };
                Ok(true)
            }
            State::Trailers if line.is_empty() => {
                self.state = self.after_message();
                Ok(true)
            }
            State::Trailers => match self.field(line)? {
                Field::Other => Ok(false),
                _ => Err(Fault::bad("a trailer field that belongs into the head")),
            },
            _ if !self.head.started => self.first_line(line),
            _ if line.is_empty() => {
                self.state = self.head_ended()?;
                Ok(true)
            }
            _ => {
                match self.field(line)? {
                    Field::Length(_) if self.head.length.is_some() => {
                        return Err(Fault::bad("Content-Length twice"));
                    }
                    Field::Length(length) => self.head.length = Some(length),
                    Field::Chunked if self.head.chunked => {
                        return Err(Fault::bad("Transfer-Encoding twice"));
                    }
                    Field::Chunked => self.head.chunked = true,
                    Field::Upgrade => self.head.upgrade = true,
                    Field::Host | Field::Other => {}
                }
                Ok(false)
            }
        }
    }

    fn field(&mut self, line: &[u8]) -> Result<Field, Fault> {
        self.head.fields += 1;
        if self.head.fields > self.bounds.fields {
            return Err(Fault::too_large("too many header fields"));
        }
        line::field(line)
    }

    fn first_line(&mut self, line: &[u8]) -> Result<bool, Fault> {
        match self.messages {
            // RFC 9112, 2.2: a server should ignore an empty line before the request.
            Messages::Requests if line.is_empty() && !self.head.after_empty => {
                self.head.after_empty = true;
                return Ok(false);
            }
            Messages::Requests => {
                self.head.is_http10 = line::request(line)?.is_http10;
            }
            Messages::Responses if self.asked == Asked::Nothing => {
                return Err(Fault::bad("a response that nobody asked for"));
            }
            Messages::Responses => {
                let said = line::status(line)?;
                (self.head.is_http10, self.head.status) = (said.is_http10, said.status);
            }
        }
        self.head.started = true;
        Ok(false)
    }

    fn head_ended(&mut self) -> Result<State, Fault> {
        let Head { chunked, length, is_http10, status, .. } = self.head;
        if chunked && length.is_some() {
            return Err(Fault::bad("Content-Length beside Transfer-Encoding"));
        }
        if chunked && is_http10 {
            return Err(Fault::bad("Transfer-Encoding in HTTP/1.0"));
        }
        if self.messages == Messages::Requests {
            self.heads += 1;
            return Ok(match (chunked, length) {
                (true, _) => State::Size,
                (false, Some(length)) if length > 0 => State::Body(length),
                _ => self.after_message(),
            });
        }
        if status == 101 && self.asked != Asked::Upgrade {
            return Err(Fault::bad("a change of protocol that nobody asked for"));
        }
        if (100..200).contains(&status) && status != 101 {
            return Ok(self.after_message());
        }
        self.heads += 1;
        let asked = std::mem::take(&mut self.asked);
        Ok(match (status, chunked, length) {
            (101, ..) => State::Open,
            (204 | 304, ..) => self.after_message(),
            _ if asked == Asked::Head => self.after_message(),
            (_, true, _) => State::Size,
            (_, false, Some(0)) => self.after_message(),
            (_, false, Some(length)) => State::Body(length),
            (_, false, None) => State::Open,
        })
    }

    /// What follows a message.
    fn after_message(&mut self) -> State {
        let Head { upgrade, is_http10, .. } = std::mem::take(&mut self.head);
        if upgrade && !is_http10 && self.messages == Messages::Requests {
            State::Held
        } else {
            State::Head
        }
    }
}
