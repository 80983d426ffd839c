//! What the process says: diagnostics by `tracing` as JSON lines on stderr, access log lines on
//! stdout. Neither ever waits for whoever reads it.

use std::{
    fmt,
    io::{self, Write},
    iter, panic,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt as format, layer::SubscriberExt, registry::LookupSpan, reload,
};

/// Bytes of lines that may wait for the writer.
const QUEUE: usize = 4 << 20;

/// Bytes of lines that are written at once.
const BATCH: usize = 60 << 10;

/// How long the writer waits for more lines after the first. Without it each line of a busy proxy
/// wakes the writer.
const GATHER: Duration = Duration::from_millis(5);

/// How long the last diagnostics may take to be written.
const LAST: Duration = Duration::from_millis(500);

/// Where diagnostics go, once they do.
static DIAGNOSTICS: OnceLock<Lines> = OnceLock::new();

/// A filter that does not parse.
#[derive(Debug, thiserror::Error)]
#[error("log filter {filter:?}: {reason}; write a level such as `info`, or `info,tulle_xds=debug`")]
pub struct BadFilter {
    filter: String,
    reason: String,
}

/// Changes the filter of a running process.
#[derive(Clone)]
pub struct Filter {
    handle: reload::Handle<EnvFilter, Registry>,
}

impl Filter {
    /// Replaces the filter.
    ///
    /// # Errors
    /// If it does not parse; the old one stays.
    pub fn set(&self, filter: &str) -> Result<(), BadFilter> {
        let parsed = parse(filter)?;
        self.handle
            .reload(parsed)
            .map_err(|gone| BadFilter { filter: filter.to_owned(), reason: gone.to_string() })
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}

/// Sends `tracing` events as JSON lines to stderr, from now on and once per process. A panic waits
/// until what was said before it is written; so must the end of the process: [`flush`].
///
/// # Errors
/// If the filter does not parse, or logging was begun before.
pub fn init(filter: &str) -> Result<Filter, BadFilter> {
    let (filter_layer, handle) = reload::Layer::new(parse(filter)?);
    let diagnostics = DIAGNOSTICS.get_or_init(|| Lines::to(io::stderr())).clone();
    let events = events(diagnostics);
    let subscriber = tracing_subscriber::registry().with(filter_layer).with(events);
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|twice| BadFilter { filter: filter.to_owned(), reason: twice.to_string() })?;
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        flush();
        before(panic);
    }));
    Ok(Filter { handle })
}

/// Waits until the diagnostics so far are written, for half a second at most. Blocks the thread: for
/// the end of the process.
pub fn flush() {
    if let Some(diagnostics) = DIAGNOSTICS.get() {
        diagnostics.flush(LAST);
    }
}

/// Diagnostics lost so far.
pub fn dropped() -> u64 {
    DIAGNOSTICS.get().map_or(0, Lines::dropped)
}

/// Events as JSON.
fn events<S>(to: Lines) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    format::layer().json().flatten_event(true).with_writer(move || Event(to.clone()))
}

/// Takes an event, which comes whole, with its end of line.
struct Event(Lines);

impl Write for Event {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn parse(filter: &str) -> Result<EnvFilter, BadFilter> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|e| BadFilter { filter: filter.to_owned(), reason: e.to_string() })
}

/// Lines that leave through a thread of their own: a reader that stalls costs lines, never time.
#[derive(Debug, Clone)]
pub struct Lines {
    queue: Sender<Item>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes in the queue.
    waiting: AtomicUsize,
    /// Lines lost.
    dropped: AtomicU64,
}

#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    /// Is dropped once all lines before it are written.
    Mark(Sender<()>),
}

impl Lines {
    /// Lines to standard output.
    pub fn stdout() -> Self {
        Self::to(io::stdout())
    }

    /// Lines to any writer, in order, each written whole. Ends when the last clone is gone.
    pub fn to(writer: impl Write + Send + 'static) -> Self {
        let (queue, items) = channel();
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        thread::spawn(move || write(writer, &items, &counted));
        Self { queue, counts }
    }

    /// Queues a line, which must end in `\n`. Never waits: when the queue is full the line is
    /// dropped and counted.
    pub fn write(&self, line: Vec<u8>) {
        let len = line.len();
        let full = self.counts.waiting.fetch_add(len, Ordering::Relaxed) + len > QUEUE;
        if full || self.queue.send(Item::Line(line)).is_err() {
            self.counts.waiting.fetch_sub(len, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was queued is written, at most for so long. Blocks the thread.
    pub fn flush(&self, within: Duration) {
        let (mark, written) = channel();
        if self.queue.send(Item::Mark(mark)).is_ok() {
            // It is never sent to: either it is dropped, or the time has passed.
            let _over = written.recv_timeout(within).is_err();
        }
    }

    /// Lines lost so far.
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }
}

/// Writes what comes until nobody is left to send. One write for whatever is waiting: a system call
/// per line costs more than the line.
#[expect(clippy::disallowed_methods, reason = "this thread sleeps for itself alone")]
fn write(mut writer: impl Write, items: &Receiver<Item>, counts: &Counts) {
    let (mut batch, mut lines) = (Vec::with_capacity(BATCH), 0);
    let mut emit = |batch: &mut Vec<u8>, lines: &mut u64| {
        if writer.write_all(batch).and_then(|()| writer.flush()).is_err() {
            counts.dropped.fetch_add(*lines, Ordering::Relaxed);
        }
        counts.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
        batch.clear();
        *lines = 0;
    };
    while let Ok(first) = items.recv() {
        if matches!(first, Item::Line(_)) {
            thread::sleep(GATHER);
        }
        for item in iter::once(first).chain(items.try_iter()) {
            match item {
                Item::Line(line) => {
                    batch.extend_from_slice(&line);
                    lines += 1;
                    if batch.len() >= BATCH {
                        emit(&mut batch, &mut lines);
                    }
                }
                Item::Mark(_written) => emit(&mut batch, &mut lines),
            }
        }
        emit(&mut batch, &mut lines);
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// Blocks until told to go on.
    struct Stalled(Receiver<()>);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_reader_costs_lines_and_no_time() {
        let (_go, stall) = channel();
        let lines = Lines::to(Stalled(stall));
        for _ in 0..8192 {
            lines.write(vec![b'x'; 64 << 10]);
        }
        assert!(lines.dropped() > 8000, "{}", lines.dropped());
        assert!(lines.counts.waiting.load(Ordering::Relaxed) <= QUEUE);
    }

    /// Counts its writes.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_come_together_are_written_at_once_and_before_a_flush_returns() {
        let written = Written::default();
        let lines = Lines::to(written.clone());
        for number in 0..100 {
            lines.write(format!("{number}\n").into_bytes());
        }
        lines.flush(Duration::from_secs(60));
        let writes = written.0.lock();
        let text: String = (0..100).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8(writes.concat()).unwrap(), text);
        assert!(writes.len() < 100, "{writes:?}");
    }

    #[test]
    fn diagnostics_do_not_wait_for_their_reader_either() {
        let (go, stall) = channel();
        let stalled = Lines::to(Stalled(stall));
        let written = Written::default();
        let lines = Lines::to(written.clone());
        let both = tracing_subscriber::registry()
            .with(events(stalled.clone()))
            .with(events(lines.clone()));
        let last = 100;
        tracing::subscriber::with_default(both, || {
            for number in 0..=last {
                tracing::warn!(number, text = "x".repeat(64 << 10), "said");
            }
        });
        assert!(stalled.dropped() > 0);
        drop(go);
        lines.flush(Duration::from_secs(60));
        let text = String::from_utf8(written.0.lock().concat()).unwrap();
        let whole = text.lines().filter(|line| line.starts_with('{') && line.ends_with('}'));
        assert_eq!(whole.count() as u64 + lines.dropped(), last + 1);
        assert!(text.contains("\"message\":\"said\",\"number\":0,"), "{:?}", text.get(..200));
    }

    #[test]
    fn a_filter_that_does_not_parse_says_what_to_write() {
        let error = parse("info,tulle=loud").unwrap_err().to_string();
        assert!(error.contains("write a level such as `info`"), "{error}");
    }
}
