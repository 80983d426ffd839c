//! A source of objects: directories of Kubernetes YAML.
//!
//! ```text
//! inotify ─┐                                              ┌─► events   ─┐
//!          ├─► which files to look at, and when ─► parse ─┤             ├─► publish
//! rescan  ─┘                                              └─► problems ─┘
//! ```
//!
//! Invariants: a file is read when its writer has closed it or moved it into place, or when it has
//! not changed for [`SETTLE`]; a file that has gone counts as gone only after [`SETTLE`], because
//! editors move files away before they write them anew. What cannot be read changes nothing.
//!
//! Runs on a thread of its own: it reads files and parses, and both would hold up a runtime.

#[cfg(test)]
mod mutations;
mod parse;
mod scan;
mod set;
mod yaml;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::{sync::mpsc, time::Instant};

pub use self::parse::{AtLine, Located, Parsed, Unreadable, parse, values};
use self::{
    parse::MAX_FILE,
    scan::{Stamp, is_candidate, stamp, walk},
    set::{FileId, Files},
};
use crate::{parallel, problem::Problem, source::Batch, world::Event};

/// How long a file must stay as it is to be read without its writer having closed it, and how long
/// a file must have gone to be gone.
pub const SETTLE: Duration = Duration::from_millis(100);

/// Inotify sees everything on local file systems; this is for those where it does not.
const RESCAN: Duration = Duration::from_secs(2);

/// How many times as long as a look at everything the pause after it is, at least: it takes 1 % of a processor, however
/// many files there are.
const RESCAN_SHARE: u32 = 100;

/// Notifications that may wait. When there are more, everything is looked at instead.
const SIGNALS: usize = 4096;

/// Reads `directories` and watches them, until the receiver is dropped. The first batch holds
/// everything that is there at the start; of an object that is in several directories, the one in
/// the later one counts. Nothing below `own`, what this process writes itself, is read.
///
/// # Errors
/// If the thread or the notifications of the kernel cannot be had.
pub fn watch(
    directories: &[PathBuf],
    own: Option<&Path>,
) -> Result<mpsc::Receiver<Batch>, WatchError> {
    // The kernel's notifications come with absolute paths.
    let absolute = |path: &Path| std::path::absolute(path).map_err(WatchError::Path);
    let directories: Vec<_> = directories.iter().map(|d| absolute(d)).collect::<Result<_, _>>()?;
    let own = own.map(absolute).transpose()?;
    let (to_source, signals) = sync_channel(SIGNALS);
    let overflow = Arc::new(AtomicBool::new(false));
    let watcher = notify::recommended_watcher(forward(to_source, Arc::clone(&overflow)))?;
    let (batches, receiver) = mpsc::channel(16);
    let source = Source {
        watched: vec![false; directories.len()],
        directories,
        own,
        watcher,
        signals,
        overflow,
        files: Files::default(),
        loaded: BTreeMap::new(),
        due: BTreeMap::new(),
        rescan: Instant::now(),
    };
    thread::Builder::new()
        .name("files".to_owned())
        .spawn(move || source.run(&batches))
        .map_err(WatchError::Thread)?;
    Ok(receiver)
}

/// Why directories cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kernel gives no notifications.
    #[error("inotify: {0}; is fs.inotify.max_user_instances too small?")]
    Notify(#[from] notify::Error),
    /// There is no current directory.
    #[error("current directory: {0}")]
    Path(std::io::Error),
    /// No thread.
    #[error("thread for the directories: {0}")]
    Thread(std::io::Error),
}

/// Never waits: it is called on the thread that must read the kernel's queue.
fn forward(
    to_source: SyncSender<notify::Event>,
    overflow: Arc<AtomicBool>,
) -> impl Fn(notify::Result<notify::Event>) + Send + 'static {
    move |event| {
        let lost = match event {
            Ok(event) => event.need_rescan() || to_source.try_send(event).is_err(),
            Err(_unknown_what) => true,
        };
        if lost {
            overflow.store(true, Ordering::Relaxed);
        }
    }
}

struct Source {
    directories: Vec<PathBuf>,
    own: Option<PathBuf>,
    /// Whether each directory is watched; one may come into being only later.
    watched: Vec<bool>,
    watcher: RecommendedWatcher,
    signals: Receiver<notify::Event>,
    overflow: Arc<AtomicBool>,
    files: Files,
    /// What each file looked like when it was read last.
    loaded: BTreeMap<FileId, Stamp>,
    /// Files to look at, when, and what they looked like when that was decided.
    due: BTreeMap<FileId, (Instant, Option<Stamp>)>,
    /// When everything is looked at next.
    rescan: Instant,
}

impl Source {
    fn run(mut self, batches: &mpsc::Sender<Batch>) {
        let mut reported = None;
        while !batches.is_closed() {
            if let Some(batch) = self.batch(&mut reported)
                && batches.blocking_send(batch).is_err()
            {
                return;
            }
            if !self.wait() {
                return;
            }
        }
    }

    /// What is new since the problems that were `reported` last, if anything is; the first time everything.
    fn batch(&mut self, reported: &mut Option<Vec<Problem>>) -> Option<Batch> {
        let (first, mut events) = (reported.is_none(), Vec::new());
        self.look(first, &mut events);
        if !self.files.take_touched() && !first {
            return None;
        }
        let (problems, places) = (self.files.problems(), self.files.take_places());
        let news = reported.as_ref() != Some(&problems) || !events.is_empty() || !places.is_empty();
        *reported = Some(problems.clone());
        news.then(|| Batch { events, problems, places, editions: Vec::new() })
    }

    /// Waits for something to do. `false` if nothing can come any more.
    fn wait(&mut self) -> bool {
        let next = self.due.values().map(|(at, _)| *at).chain([self.rescan]).min();
        let timeout = next.map_or(RESCAN, |at| at.saturating_duration_since(Instant::now()));
        match self.signals.recv_timeout(timeout) {
            Ok(event) => self.note(&event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        while let Ok(event) = self.signals.try_recv() {
            self.note(&event);
        }
        if self.overflow.swap(false, Ordering::Relaxed) {
            self.rescan = Instant::now();
        }
        true
    }

    /// Decides when to look at what an event speaks of.
    fn note(&mut self, event: &notify::Event) {
        let now = Instant::now();
        for path in &event.paths {
            let Some(id) = self.identify(path) else {
                continue;
            };
            let at = match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write))
                | EventKind::Modify(ModifyKind::Name(_)) => now,
                EventKind::Access(_) => continue,
                EventKind::Any
                | EventKind::Create(_)
                | EventKind::Modify(_)
                | EventKind::Remove(_)
                | EventKind::Other => now + SETTLE,
            };
            if is_candidate(&id.path, &self.directories[id.directory]) {
                let missing = std::fs::metadata(path).is_err();
                let at = if missing { now + SETTLE } else { at };
                self.due.insert(id, (at, stamp(path)));
            } else if concerns_folders(event, path) {
                self.rescan = now;
            }
        }
    }

    fn identify(&self, path: &Path) -> Option<FileId> {
        if self.own.as_ref().is_some_and(|own| path.starts_with(own)) {
            return None;
        }
        // A directory inside of another one is its own: the innermost counts.
        let inside = self.directories.iter().enumerate().filter(|(_, d)| path.starts_with(d));
        let (directory, _) = inside.max_by_key(|(_, directory)| directory.components().count())?;
        Some(FileId { directory, path: path.into() })
    }

    /// Looks at all files whose time has come.
    fn look(&mut self, first: bool, events: &mut Vec<Event>) {
        let now = Instant::now();
        if now >= self.rescan {
            self.scan(first, now);
            let done = Instant::now();
            self.rescan = done + RESCAN.max((done - now) * RESCAN_SHARE);
        }
        let due = self.due.iter();
        let due = due.map(|(id, (at, seen))| (id.clone(), *at <= now, *seen, stamp(&id.path)));
        let due: Vec<_> = due.collect();
        // Written to in the meantime, by a writer that is perhaps not done.
        let unsettled = |seen, found| found != seen && !first;
        let settled = due.iter().filter(|(_, is_due, seen, found)| {
            *is_due && found.is_some() && !unsettled(*seen, *found)
        });
        let settled: Vec<&Path> = settled.map(|(id, ..)| &*id.path).collect();
        let mut parsed = parse_all(&settled).into_iter();
        for (id, is_due, seen, found) in due {
            match (found, is_due) {
                (None, false) => events.extend(self.files.fade(&id)),
                (None, true) => {
                    self.due.remove(&id);
                    self.loaded.remove(&id);
                    events.extend(self.files.remove(&id));
                }
                (Some(_), false) => {}
                (Some(_), true) if unsettled(seen, found) => {
                    self.due.insert(id, (now + SETTLE, found));
                }
                (Some(stamp), true) => {
                    self.due.remove(&id);
                    self.loaded.insert(id.clone(), stamp);
                    let parsed = parsed.next().into_iter();
                    events.extend(parsed.flat_map(|parsed| self.files.load(&id, parsed)));
                }
            }
        }
    }

    /// Compares everything that is there with what was read.
    fn scan(&mut self, first: bool, now: Instant) {
        let mut there = BTreeMap::new();
        for index in 0..self.directories.len() {
            self.watch(index);
            let apart = |folder: &Path| {
                self.own.as_deref() == Some(folder) || self.directories.iter().any(|d| d == folder)
            };
            walk(&self.directories[index], &apart, &mut |path, stamp| {
                there.insert(FileId { directory: index, path: path.into() }, stamp);
            });
        }
        for id in self.files.ids().filter(|id| !there.contains_key(id)) {
            self.due.entry(id.clone()).or_insert((now + SETTLE, None));
        }
        let at = if first { now } else { now + SETTLE };
        for (id, stamp) in there {
            if self.loaded.get(&id) != Some(&stamp) {
                self.due.entry(id).or_insert((at, Some(stamp)));
            }
        }
    }

    /// Asks for notifications about a directory as soon as there is one.
    fn watch(&mut self, index: usize) {
        let directory = &self.directories[index];
        let there = directory.is_dir();
        if there
            && !self.watched[index]
            && let Err(error) = self.watcher.watch(directory, RecursiveMode::Recursive)
        {
            let directory = directory.display();
            tracing::warn!(%directory, %error, "cannot be watched; changes are seen a few seconds late");
        }
        self.watched[index] = there;
    }
}

/// Whether an event may have moved many files at once: folders come, go, or are renamed, or the
/// link `..data` by which Kubernetes swaps all files of a mounted ConfigMap.
fn concerns_folders(event: &notify::Event, path: &Path) -> bool {
    let moved = matches!(
        event.kind,
        EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
    );
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    moved && (name == "..data" || !name.starts_with('.') && path.extension().is_none())
        || matches!(event.kind, EventKind::Modify(ModifyKind::Name(_))) && path.is_dir()
}

/// What these files say, in their order. In a mesh of 5,000 Services nine tenths of the start are spent here.
fn parse_all(paths: &[&Path]) -> Vec<Parsed> {
    parallel::map(paths, |path| match read(path) {
        Ok(text) => parse(path, &text),
        Err(error) => Parsed::failed(path, format!("cannot be read: {error}")),
    })
}

/// The text of a file, and no more of it than tells that it is too large.
///
/// # Errors
/// The file cannot be read.
pub fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_FILE as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// The files below a directory that count, in order. What cannot be read is left out.
pub fn below(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    walk(directory, &|_| false, &mut |path, _| {
        found.insert(path);
    });
    found
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::time::timeout;

    use super::*;

    fn namespace(name: &str) -> String {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
    }

    /// Every event until `last` has come, as `+name` or `-name`.
    async fn until(batches: &mut mpsc::Receiver<Batch>, last: &str) -> Vec<String> {
        let mut seen = Vec::new();
        let follow = async {
            while seen.last().is_none_or(|event| event != last) {
                for event in batches.recv().await.unwrap().events {
                    seen.push(match event {
                        Event::Apply(object) => format!("+{}", object.name()),
                        Event::Delete(reference) => format!("-{}", reference.name),
                    });
                }
            }
        };
        let done = timeout(Duration::from_secs(20), follow).await;
        assert!(done.is_ok(), "never {last}: {seen:?}");
        seen
    }

    /// The problems as soon as they are `right`; until then nothing may happen.
    async fn without_events(
        batches: &mut mpsc::Receiver<Batch>,
        right: impl Fn(&[Problem]) -> bool,
    ) -> Vec<Problem> {
        loop {
            let next = timeout(Duration::from_secs(20), batches.recv());
            let Batch { events, problems, .. } = next.await.unwrap().unwrap();
            assert_eq!(events, []);
            if right(&problems) {
                return problems;
            }
        }
    }

    #[tokio::test]
    async fn follows_what_editors_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("a.yaml"), namespace("a")).unwrap();
        let mut batches = watch(&[directory.path().to_owned()], None).unwrap();
        assert_eq!(until(&mut batches, "+a").await, ["+a"]);

        // Written in place.
        fs::write(path("a.yaml"), namespace("a") + "---\n" + &namespace("b")).unwrap();
        assert_eq!(until(&mut batches, "+b").await, ["+b"]);
        // Moved away as a backup, written anew: nothing is gone in between.
        fs::rename(path("a.yaml"), path("a.yaml~")).unwrap();
        fs::write(path("a.yaml"), namespace("a") + "---\n" + &namespace("c")).unwrap();
        assert_eq!(until(&mut batches, "+c").await, ["-b", "+c"]);
        // Renamed: nothing changes but what comes after it.
        fs::rename(path("a.yaml"), path("z.yaml")).unwrap();
        fs::create_dir(path("deep")).unwrap();
        fs::write(
            path("deep/d.json"),
            r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "d"}}"#,
        )
        .unwrap();
        assert_eq!(until(&mut batches, "+d").await, ["+d"]);
        // A folder of files goes at once.
        fs::rename(path("deep"), path(".hidden")).unwrap();
        assert_eq!(until(&mut batches, "-d").await, ["-d"]);
        fs::remove_file(path("z.yaml")).unwrap();
        assert_eq!(until(&mut batches, "-c").await, ["-a", "-c"]);
    }

    /// As the kubelet swaps the files of a mounted ConfigMap: all at once, by one link.
    #[tokio::test]
    async fn follows_links_that_are_swapped() {
        use std::os::unix::fs::symlink;
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let fill = |folder: &str, name: &str| {
            fs::create_dir(path(folder)).unwrap();
            fs::write(path(folder).join("a.yaml"), namespace(name)).unwrap();
        };
        fill("..1", "a");
        symlink("..1", path("..data")).unwrap();
        symlink("..data/a.yaml", path("a.yaml")).unwrap();
        let mut batches = watch(&[directory.path().to_owned()], None).unwrap();
        assert_eq!(until(&mut batches, "+a").await, ["+a"]);
        fill("..2", "b");
        symlink("..2", path("..next")).unwrap();
        fs::rename(path("..next"), path("..data")).unwrap();
        fs::remove_dir_all(path("..1")).unwrap();
        assert_eq!(until(&mut batches, "+b").await, ["-a", "+b"]);
    }

    /// A writer that takes its time: half of the file is named, and takes nothing away.
    #[tokio::test]
    async fn a_file_that_is_written_in_two_steps_loses_nothing() {
        use std::io::Write;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.yaml");
        let text = namespace("a") + "---\n" + &namespace("b");
        fs::write(&path, &text).unwrap();
        let mut batches = watch(&[directory.path().to_owned()], None).unwrap();
        until(&mut batches, "+b").await;

        let (half, rest) = text.split_at(text.len() - 5);
        let mut file = File::create(&path).unwrap();
        file.write_all(half.as_bytes()).unwrap();
        let problems = without_events(&mut batches, |problems| !problems.is_empty()).await;
        assert_eq!((problems.len(), problems[0].document), (1, Some(2)), "{problems:?}");
        file.write_all(rest.as_bytes()).unwrap();
        drop(file);
        without_events(&mut batches, <[Problem]>::is_empty).await;
    }

    #[tokio::test]
    async fn a_directory_may_come_later_and_inside_of_another() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        let directories = [outer.path().to_owned(), inner.clone()];
        let mut batches = watch(&directories, Some(&outer.path().join("own"))).unwrap();
        fs::create_dir(outer.path().join("own")).unwrap();
        fs::write(outer.path().join("own/x.yaml"), namespace("x")).unwrap();
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("a.yaml"), namespace("a")).unwrap();
        assert_eq!(until(&mut batches, "+a").await, ["+a"]);
        fs::remove_file(inner.join("a.yaml")).unwrap();
        assert_eq!(until(&mut batches, "-a").await, ["-a"]);
    }
}
