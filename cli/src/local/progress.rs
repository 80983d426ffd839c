//! What a person sees while the mesh comes up, lives and ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use tokio::time::Instant;

use super::{
    objects::Note,
    overview::{Overview, PodLine},
    up::say,
};

/// Prints the difference between one overview and the next.
#[derive(Debug)]
pub(super) struct Progress<W> {
    begun: Instant,
    out: W,
    /// Pods that were shown, with whether they were ready.
    pods: BTreeMap<(String, String), bool>,
    said: BTreeSet<String>,
}

impl<W: io::Write> Progress<W> {
    pub(super) fn new(begun: Instant, out: W) -> Self {
        Self { begun, out, pods: BTreeMap::new(), said: BTreeSet::new() }
    }

    /// Shows what is new.
    pub(super) fn show(&mut self, overview: &Overview) {
        let mut text = String::new();
        for pod in &overview.pods {
            let key = (pod.namespace.clone(), pod.name.clone());
            let before = self.pods.insert(key, pod.ready);
            self.pod(&mut text, pod, before);
        }
        let there = |key: &(String, String)| {
            overview.pods.iter().any(|pod| pod.namespace == key.0 && pod.name == key.1)
        };
        let gone: Vec<_> = self.pods.keys().filter(|key| !there(key)).cloned().collect();
        for key in gone {
            line(&mut text, &self.clock(), "○", &format!("{}/{}", key.0, key.1), "gone");
            self.pods.remove(&key);
        }
        for problem in &overview.problems {
            self.once(&mut text, format!("  ✗ {problem}\n"));
        }
        for note in gathered(&overview.not_honoured) {
            self.once(&mut text, format!("  ! not honoured: {note}\n"));
        }
        say(&mut self.out, &text);
    }

    fn pod(&self, text: &mut String, pod: &PodLine, before: Option<bool>) {
        let name = format!("{}/{}", pod.namespace, pod.name);
        match (before, pod.ready) {
            (None | Some(false), true) => {
                let after = pod.ready_after_ms.unwrap_or_default();
                let (ready, all) = pod.ready_of();
                let containers = if all == 1 { "container" } else { "containers" };
                let what = format!(
                    "ready after {}.{:01} s  {ready}/{all} {containers}  {}",
                    after / 1000,
                    after % 1000 / 100,
                    pod.ip
                );
                line(text, &self.clock(), "●", &name, &what);
            }
            (Some(true), false) if !pod.terminating => {
                line(text, &self.clock(), "◐", &name, &pod.waiting.join("; "));
            }
            _ => {}
        }
    }

    fn once(&mut self, text: &mut String, line: String) {
        if self.said.insert(line.clone()) {
            text.push_str(&line);
        }
    }

    /// Everything is ready for the first time.
    pub(super) fn settled(&mut self, overview: &Overview, name: &str, dashboard: Option<&str>) {
        let option = if name == super::MESH { String::new() } else { format!(" --name {name}") };
        let pods = overview.pods.iter().filter(|pod| pod.namespace != super::system::NAMESPACE);
        let example = pods.clone().next().map_or("POD", |pod| pod.name.as_str());
        let text = format!(
            "\nThe mesh is up, {} of your pods, in {}. Edits in {} apply as they are saved.\n\n\
             \x20 tulle local status{option}\n\
             \x20 tulle local logs{option} {example} -f\n\
             \x20 tulle local exec{option} {example} -- sh\n\
             \x20 tulle local down{option}\n\n\
             {}\n\n",
            pods.count(),
            self.clock().trim_start(),
            overview.directory,
            match dashboard {
                Some(address) => format!("Dashboard: {address}"),
                None => format!("`tulle dashboard{option}` opens the dashboard."),
            },
        );
        say(&mut self.out, &text);
    }

    /// Not everything became ready in time; the mesh goes on trying.
    pub(super) fn late(&mut self, waiting: &[String]) {
        let waiting: String = waiting.iter().map(|text| format!("  {text}\n")).collect();
        say(&mut self.out, &format!("\nStill waiting, for:\n{waiting}\n"));
    }

    /// The end begins.
    pub(super) fn ending(&mut self) {
        say(&mut self.out, "\nEnding the mesh; again ctrl-C ends it at once.\n");
    }

    fn clock(&self) -> String {
        let elapsed = self.begun.elapsed();
        format!("{:>4}.{:01} s", elapsed.as_secs(), elapsed.subsec_millis() / 100)
    }
}

fn line(text: &mut String, clock: &str, sign: &str, name: &str, what: &str) {
    *text += &format!("{clock}  {sign} {name:<52} {what}\n");
}

/// The same field of several objects in one line.
pub(super) fn gathered(notes: &[Note]) -> Vec<String> {
    let mut by_field: BTreeMap<String, Vec<&Note>> = BTreeMap::new();
    for note in notes {
        let field = note.field.clone().unwrap_or_else(|| note.object.clone());
        by_field.entry(field).or_default().push(note);
    }
    let lines = by_field.into_iter().map(|(field, notes)| {
        let places = notes.iter().map(|note| format!("{} ({})", note.object, note.place));
        format!("{field}: {}", places.collect::<Vec<_>>().join(", "))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_thing_is_said_once() {
        let pod = |ready| PodLine {
            namespace: "shop".into(),
            name: "cart".into(),
            ready,
            ready_after_ms: ready.then_some(1234),
            waiting: vec!["app: starting".into()],
            ..PodLine::default()
        };
        let overview = |pods| Overview { pods, ..Overview::default() };
        let mut progress = Progress::new(Instant::now(), Vec::new());
        for pods in [vec![pod(false)], vec![pod(true)], vec![pod(true)], vec![pod(false)], vec![]] {
            progress.show(&overview(pods));
        }
        let text = String::from_utf8(progress.out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].contains("ready after 1.2 s"));
        assert!(lines[1].contains("app: starting"));
        assert!(lines[2].contains("gone"));
    }
}
