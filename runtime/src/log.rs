//! What the process says: diagnostics by `tracing` as JSON lines on stderr, and access log lines on
//! stdout that never wait for whoever reads them.

use std::{
    fmt,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use tracing_subscriber::{EnvFilter, Registry, fmt as format, layer::SubscriberExt, reload};

/// How many lines may wait for the writer. At 500 bytes a line this is at most 4 MiB.
const QUEUE: usize = 8192;

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

/// Sends `tracing` events as JSON lines to stderr, from now on and once per process.
///
/// # Errors
/// If the filter does not parse, or logging was begun before.
pub fn init(filter: &str) -> Result<Filter, BadFilter> {
    let (filter_layer, handle) = reload::Layer::new(parse(filter)?);
    let lines = format::layer().json().flatten_event(true).with_writer(io::stderr);
    let subscriber = tracing_subscriber::registry().with(filter_layer).with(lines);
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|twice| BadFilter { filter: filter.to_owned(), reason: twice.to_string() })?;
    Ok(Filter { handle })
}

fn parse(filter: &str) -> Result<EnvFilter, BadFilter> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|e| BadFilter { filter: filter.to_owned(), reason: e.to_string() })
}

/// Lines that leave through a thread of their own: a reader that stalls costs lines, never time.
#[derive(Debug, Clone)]
pub struct Lines {
    queue: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    /// Lines to standard output.
    pub fn stdout() -> Self {
        Self::to(io::stdout())
    }

    /// Lines to any writer, in order, each written whole. Ends when the last clone is gone.
    pub fn to(mut writer: impl Write + Send + 'static) -> Self {
        let (queue, lines) = sync_channel::<Vec<u8>>(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        thread::spawn(move || {
            let mut batch = Vec::with_capacity(64 << 10);
            while let Ok(line) = lines.recv() {
                batch.clear();
                batch.extend_from_slice(&line);
                let mut count = 1;
                // One write for whatever is waiting: a system call per line costs more than the line.
                while batch.len() < 60 << 10
                    && let Ok(line) = lines.try_recv()
                {
                    batch.extend_from_slice(&line);
                    count += 1;
                }
                if writer.write_all(&batch).and_then(|()| writer.flush()).is_err() {
                    lost.fetch_add(count, Ordering::Relaxed);
                }
            }
        });
        Self { queue, dropped }
    }

    /// Queues a line, which must end in `\n`. Never waits: when the queue is full the line is
    /// dropped and counted.
    pub fn write(&self, line: Vec<u8>) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.queue.try_send(line)
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines lost so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

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
        for _ in 0..QUEUE + 100_000 {
            lines.write(b"line\n".to_vec());
        }
        assert!(lines.dropped() > 0);
    }

    #[test]
    fn a_filter_that_does_not_parse_says_what_to_write() {
        let error = parse("info,tulle=loud").unwrap_err().to_string();
        assert!(error.contains("write a level such as `info`"), "{error}");
    }
}
