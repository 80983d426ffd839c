//! Where releases are kept that come from files: in a directory of the control plane's own, `releases/NAMESPACE/NAME.json`.
//!
//! What the files say of a release passes through here, and gets what is known of where it is: for the world it is as if both
//! came from one place, as in Kubernetes.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::keep::{Keep, Kept, NotKept};
use crate::{
    output::replace,
    problem::Problem,
    release::Course,
    source::Batch,
    world::{
        Event,
        objects::{Kind, Name, Object, Release},
    },
};

/// Below the directory.
const RELEASES: &str = "releases";

/// Puts things into the drawer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Drawer(mpsc::Sender<Put>);

/// What is in it, and what the files say.
#[derive(Debug)]
pub struct Memory {
    directory: Option<PathBuf>,
    courses: HashMap<Name, Arc<Course>>,
    releases: HashMap<Name, Arc<Release>>,
    /// What the files' source says is wrong: each batch says all of it.
    problems: Vec<Problem>,
    puts: mpsc::Receiver<Put>,
}

#[derive(Debug)]
struct Put {
    release: Name,
    kept: Kept,
    done: oneshot::Sender<Result<(), NotKept>>,
}

/// A file of the drawer: what an object's status is in Kubernetes.
#[derive(Debug, Serialize, Deserialize)]
struct File {
    status: Value,
}

#[tonic::async_trait]
impl Keep for Drawer {
    async fn keep(&self, release: &Name, kept: &Kept) -> Result<(), NotKept> {
        let (done, answer) = oneshot::channel();
        let put = Put { release: release.clone(), kept: kept.clone(), done };
        self.0.send(put).await.map_err(|_ended| ended())?;
        answer.await.unwrap_or_else(|_ended| Err(ended()))
    }
}

fn ended() -> NotKept {
    NotKept::Failed("the control plane is ending".to_owned())
}

impl Memory {
    /// A drawer below this directory; without one all is forgotten with the process.
    pub fn new(directory: Option<PathBuf>) -> (Drawer, Self) {
        let (sender, puts) = mpsc::channel(16);
        let courses = directory.as_deref().map(read_all).unwrap_or_default();
        let (releases, problems) = Default::default();
        (Drawer(sender), Self { directory, courses, releases, problems, puts })
    }

    /// Passes on what the files say, until there is nobody who wants it.
    pub async fn run(mut self, mut files: mpsc::Receiver<Batch>, batches: mpsc::Sender<Batch>) {
        loop {
            tokio::select! {
                batch = files.recv() => {
                    let Some(mut batch) = batch else { return };
                    self.add_to(&mut batch);
                    if batches.send(batch).await.is_err() {
                        return;
                    }
                }
                Some(Put { release, kept, done }) = self.puts.recv() => {
                    let put = match self.put(&release, kept) {
                        Ok(batch) => batches.send(batch).await.map_err(|_ended| ended()),
                        Err(why) => Err(why),
                    };
                    // Whoever put it may have gone.
                    let _gone = done.send(put);
                }
            }
        }
    }

    /// What a batch says of releases, with what is known of them.
    fn add_to(&mut self, batch: &mut Batch) {
        self.problems.clone_from(&batch.problems);
        for event in &mut batch.events {
            match event {
                Event::Apply(Object::Release(release)) => {
                    let course = self.courses.get(&release.name).cloned();
                    *release = Arc::new(Release { course, ..Release::clone(release) });
                    self.releases.insert(release.name.clone(), Arc::clone(release));
                }
                Event::Delete(object) if object.kind == Kind::Release => {
                    self.releases.remove(&object.name);
                    self.courses.remove(&object.name);
                    if let Some(file) = self.file(&object.name) {
                        // It may never have been written.
                        let _none = fs::remove_file(file);
                    }
                }
                _ => {}
            }
        }
    }

    fn put(&mut self, name: &Name, kept: Kept) -> Result<Batch, NotKept> {
        let release = self.releases.get(name).ok_or(NotKept::Changed)?;
        let written = release.course.as_ref().map_or(0, |course| course.written);
        if written != kept.over {
            return Err(NotKept::Changed);
        }
        if let Some(file) = self.file(name) {
            let written = serde_json::to_string_pretty(&json!({ "status": kept.status }));
            let written = written.map_err(io::Error::from);
            let written = written.and_then(|text| replace(&file, &(text + "\n")));
            written.map_err(|error| NotKept::Failed(format!("{}: {error}", file.display())))?;
        }
        let release = Release { course: Some(Arc::clone(&kept.course)), ..Release::clone(release) };
        let release = Arc::new(release);
        self.courses.insert(name.clone(), kept.course);
        self.releases.insert(name.clone(), Arc::clone(&release));
        let events = vec![Event::Apply(Object::Release(release))];
        Ok(Batch { events, problems: self.problems.clone(), ..Batch::default() })
    }

    fn file(&self, name: &Name) -> Option<PathBuf> {
        let directory = self.directory.as_ref()?.join(RELEASES);
        Some(directory.join(&*name.namespace).join(format!("{}.json", name.name)))
    }
}

/// What an earlier process has left. What cannot be read is as if it were not there: the release begins anew.
fn read_all(directory: &Path) -> HashMap<Name, Arc<Course>> {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let namespaces = entries(&directory.join(RELEASES));
    let files = namespaces.flat_map(|namespace| {
        let of = namespace.file_name();
        entries(&namespace.path()).map(move |file| (of.clone(), file.path()))
    });
    let read = files.filter_map(|(namespace, path)| {
        let name = Name::new(namespace.to_str()?, path.file_stem()?.to_str()?);
        let text = fs::read(&path).ok()?;
        let course = serde_json::from_slice(&text).map_err(|error| error.to_string());
        let course = course.and_then(|file: File| {
            let memory = file.status["memory"].as_str().unwrap_or_default();
            serde_json::from_str(memory).map_err(|error| error.to_string())
        });
        match course {
            Ok(course) => Some((name, Arc::new(course))),
            Err(error) => {
                let path = path.display();
                tracing::error!(%path, error, "where a release was cannot be read; it begins anew");
                None
            }
        }
    });
    read.collect()
}
