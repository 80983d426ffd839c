//! Output as files:
//!
//! ```text
//! NAMESPACE/tulle-roots.yaml    the ConfigMap
//! status/problems.json          {"problems": [{"file", "line", "object", "field", "reason", …}]}
//! status/objects.json           {"objects": [{"kind", "namespace", "name", "accepted", "reason",
//!                                 "message", "inForce": {"on", "of", "rejections"}, "status"}]}
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Output, Report};
use crate::ca::root::Root;

const ROOTS: &str = "tulle-roots.yaml";
/// No namespace: its folder has another place, and a problem's file cannot be mistaken for one.
const STATUS: &str = "status";

/// Output as files in a directory.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    root: watch::Receiver<Arc<Root>>,
}

impl Directory {
    /// Writes below `path`, with the roots that are trusted then.
    pub fn new(path: PathBuf, root: watch::Receiver<Arc<Root>>) -> Self {
        Self { path, root }
    }

    fn config_map(&self, namespace: &str) -> String {
        let pem = self.root.borrow().trusted_pem();
        let indented: String = pem.lines().map(|line| format!("    {line}\n")).collect();
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: tulle-roots\n  \
             namespace: {namespace:?}\ndata:\n  roots.pem: |\n{indented}"
        )
    }

    /// Roots of namespaces that need them no more, also those that an earlier process wrote.
    fn remove_others(&self, report: &Report) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let namespace = entry.file_name();
            let needed = namespace.to_str().is_some_and(|name| report.namespaces.contains(name));
            let file = entry.path().join(ROOTS);
            if !needed && file.exists() {
                fs::remove_file(file)?;
            }
        }
        Ok(())
    }
}

impl Output for Directory {
    fn write(&mut self, report: &Report) -> io::Result<()> {
        for namespace in &report.namespaces {
            replace(&self.path.join(namespace).join(ROOTS), &self.config_map(namespace))?;
        }
        let write = |name: &str, value: &Value| -> io::Result<()> {
            let text = serde_json::to_string_pretty(value)? + "\n";
            replace(&self.path.join(STATUS).join(name), &text)
        };
        write("problems.json", &json!({ "problems": report.problems }))?;
        let objects: Vec<&Value> = report.statuses.iter().map(|status| &**status).collect();
        write("objects.json", &json!({ "objects": objects }))?;
        self.remove_others(report)
    }
}

/// Replaces a file at once, if it differs: readers see the old text or the new one.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.tmp"));
    fs::write(&temporary, text)?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_differs_and_removes_what_is_not_needed() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::load_or_make(&directory.path().join("ca"), "x").unwrap();
        let pem = root.trusted_pem();
        let (_sender, root) = watch::channel(Arc::new(root));
        let mut output = Directory::new(directory.path().join("out"), root);
        let report = |namespaces: &[&str]| Report {
            complete: true,
            namespaces: namespaces.iter().map(|&n| n.to_owned()).collect(),
            ..Report::default()
        };
        output.write(&report(&["shop", "true"])).unwrap();
        let directory = directory.path().join("out");
        let file = directory.join("true").join(ROOTS);
        let written: Value = serde_yaml_ng::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(written["metadata"]["namespace"], "true");
        assert_eq!(written["data"]["roots.pem"], pem);
        let before = fs::metadata(&file).unwrap().modified().unwrap();
        output.write(&report(&["true"])).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), before);
        assert!(!directory.join("shop").join(ROOTS).exists());
        assert!(directory.join("status/problems.json").exists());
        assert!(directory.join("status/objects.json").exists());
    }
}
