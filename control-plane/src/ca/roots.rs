//! The root, followed: what is changed on disk is in force within seconds, without a restart.
//!
//! One root takes over from another in three steps, each saved once the one before is everywhere:
//! `root.pem` with the old and the new one (the old one first, which signs on); the new one first,
//! with its key; the new one alone. Between the first and the last step everybody trusts both.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, time::sleep};

use super::root::{CERTIFICATE, KEY, Root, RootError};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The root in force. Clones share it.
#[derive(Debug, Clone)]
pub struct Roots(Arc<watch::Sender<Arc<Root>>>);

impl Roots {
    /// See [`Root::load_or_make`].
    ///
    /// # Errors
    /// If there is no root that can sign.
    pub fn load_or_make(directory: &Path, trust_domain: &str) -> Result<Self, RootError> {
        Ok(Self::new(Root::load_or_make(directory, trust_domain)?))
    }

    /// With this root first.
    pub fn new(root: Root) -> Self {
        Self(Arc::new(watch::Sender::new(Arc::new(root))))
    }

    /// From now on it is this one. Nobody hears of one that is the same.
    pub fn replace(&self, root: Root) {
        self.0.send_if_modified(|current| {
            let differs = !current.is(&root);
            if differs {
                let (trusted, issues) = (root.trusted().len(), root.issues());
                tracing::info!(trusted, issues, "the root has changed");
                *current = Arc::new(root);
            }
            differs
        });
    }

    /// The root in force.
    pub fn current(&self) -> Arc<Root> {
        Arc::clone(&self.0.borrow())
    }

    /// Changes with the root.
    pub fn watch(&self) -> watch::Receiver<Arc<Root>> {
        self.0.subscribe()
    }

    /// Follows the files in `directory`, for ever. Files that make no root change nothing: the last one stays.
    pub async fn follow(self, directory: PathBuf) {
        let files = [directory.join(CERTIFICATE), directory.join(KEY)];
        let mut seen = read(&files).ok();
        loop {
            sleep(LOOK).await;
            let now = read(&files).ok();
            if now == seen {
                continue;
            }
            seen = now;
            let [certificate, key] = &files;
            match Root::load(certificate, key, self.current().trust_domain()) {
                Ok(root) => self.replace(root),
                // Certificate and key are two files: between the two they may not fit.
                Err(error) => tracing::error!(%error, "the last root stays in force"),
            }
        }
    }
}

fn read([certificate, key]: &[PathBuf; 2]) -> io::Result<[Vec<u8>; 2]> {
    Ok([fs::read(certificate)?, fs::read(key)?])
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn copy(from: &Path, to: &Path, file: &str) {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_on_disk_is_in_force_and_junk_is_not() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let roots = Roots::load_or_make(old.path(), "cluster.local").unwrap();
        let next = Root::load_or_make(new.path(), "cluster.local").unwrap();
        tokio::spawn(roots.clone().follow(old.path().to_owned()));
        let mut changes = roots.watch();
        let first = changes.borrow_and_update().trusted_pem();

        sleep(Duration::from_millis(1)).await;
        fs::write(old.path().join(CERTIFICATE), "junk").unwrap();
        assert!(timeout(3 * LOOK, changes.changed()).await.is_err());
        let both = format!("{first}{}", next.trusted_pem());
        fs::write(old.path().join(CERTIFICATE), &both).unwrap();
        timeout(3 * LOOK, changes.changed()).await.unwrap().unwrap();
        assert_eq!(changes.borrow_and_update().trusted_pem(), both);
        // The certificate of another key, until the key comes too.
        copy(new.path(), old.path(), CERTIFICATE);
        assert!(timeout(3 * LOOK, changes.changed()).await.is_err());
        copy(new.path(), old.path(), KEY);
        timeout(3 * LOOK, changes.changed()).await.unwrap().unwrap();
        assert_eq!(roots.current().trusted_pem(), next.trusted_pem());
    }
}
