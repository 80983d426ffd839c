//! What is ours in a node's folders: the program and its tools beside the other plugins, and our
//! entry in the network's configuration. Everything is put there whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, fchown, symlink},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{NAME, TOOLS, conflist};

/// A node, and what it is to get.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where its runtime finds plugins.
    pub programs: PathBuf,
    /// Where its runtime finds configurations of networks.
    pub networks: PathBuf,
    /// Our program.
    pub program: PathBuf,
    /// The folder with nft, iptables, ip and what they need.
    pub tools: PathBuf,
}

/// Why a node is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No network yet.
    #[error(
        "there is no network's configuration in {}: has the cluster's own CNI come up, and is this its folder?",
        .0.display()
    )]
    NoNetwork(PathBuf),
    /// It is not one that can be added to.
    #[error("{}: {reason}", path.display())]
    Network {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: conflist::NotAList,
    },
    /// Something is not there.
    #[error("{}: it is not there, or not ours", .0.display())]
    Missing(PathBuf),
    /// A file of the node's.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
}

type Result<T> = std::result::Result<T, NodeError>;

/// What went wrong with the file at `path`.
fn at(path: &Path) -> impl FnOnce(io::Error) -> NodeError {
    |reason| NodeError::File { path: path.to_owned(), reason }
}

impl Node {
    /// Puts the program and its tools there, whatever was there before.
    ///
    /// # Errors
    /// [`NodeError`]
    pub fn bring(&self) -> Result<()> {
        let (new, tools) = (self.programs.join(format!(".{TOOLS}.new")), self.programs.join(TOOLS));
        clear(&new)?;
        copy(&self.tools, &new)?;
        // Exchanged, so that there is no moment without.
        if renameat_with(CWD, &new, CWD, &tools, RenameFlags::EXCHANGE).is_err() {
            clear(&tools)?;
            fs::rename(&new, &tools).map_err(at(&tools))?;
        }
        clear(&new)?;
        let program = self.programs.join(NAME);
        let content = fs::read(&self.program).map_err(at(&self.program))?;
        replace(&program, &content, |file| file.set_permissions(fs::Permissions::from_mode(0o755)))
    }

    /// Whether program and tools are those that [`Self::bring`] brings, by what can be seen from
    /// outside.
    fn has_program(&self) -> bool {
        let size = |path: &Path| fs::metadata(path).map(|of| of.len()).ok();
        let nft = |folder: &Path| size(&folder.join("usr/sbin/nft"));
        let program = size(&self.programs.join(NAME));
        program.is_some()
            && program == size(&self.program)
            && nft(&self.programs.join(TOOLS)) == nft(&self.tools)
    }

    /// Puts back what is missing, and says what that was.
    ///
    /// # Errors
    /// [`NodeError`]
    pub fn repair(&self) -> Result<Vec<String>> {
        let mut done = Vec::new();
        if !self.has_program() {
            self.bring()?;
            done.push(self.programs.join(NAME).display().to_string());
        }
        let (path, text) = self.network()?;
        let wanted = conflist::add(&text);
        let wanted = wanted.map_err(|reason| NodeError::Network { path: path.clone(), reason })?;
        if let Some(wanted) = wanted {
            rewrite(&path, &wanted)?;
            done.push(path.display().to_string());
        }
        Ok(done)
    }

    /// Says what is missing, if something is.
    ///
    /// # Errors
    /// [`NodeError`]
    pub fn check(&self) -> Result<()> {
        let (path, text) = self.network()?;
        match conflist::add(&text) {
            Ok(None) if self.has_program() => Ok(()),
            Ok(None) => Err(NodeError::Missing(self.programs.join(NAME))),
            Ok(Some(_)) => Err(NodeError::Missing(path)),
            Err(reason) => Err(NodeError::Network { path, reason }),
        }
    }

    /// Takes our entry out of every network's configuration. From then on no pod's start asks for the
    /// program; [`Self::remove_program`] comes later, as one may be starting.
    ///
    /// # Errors
    /// [`NodeError`]
    pub fn leave(&self) -> Result<()> {
        for path in self.configurations()? {
            let text = fs::read_to_string(&path).map_err(at(&path))?;
            if let Ok(Some(without)) = conflist::remove(&text) {
                rewrite(&path, &without)?;
            }
        }
        Ok(())
    }

    /// Removes the program and its tools.
    ///
    /// # Errors
    /// [`NodeError`]
    pub fn remove_program(&self) -> Result<()> {
        for name in [NAME, TOOLS] {
            clear(&self.programs.join(name))?;
            clear(&self.programs.join(format!(".{name}.new")))?;
        }
        Ok(())
    }

    /// The network's configuration that the runtime uses: the first by name.
    fn network(&self) -> Result<(PathBuf, String)> {
        let path = self.configurations()?.into_iter().next();
        let path = path.ok_or_else(|| NodeError::NoNetwork(self.networks.clone()))?;
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        Ok((path, text))
    }

    /// All that runtimes read, in their order.
    fn configurations(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.networks).map_err(at(&self.networks))? {
            let path = entry.map_err(at(&self.networks))?.path();
            let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
            if ["conf", "conflist", "json"].contains(&kind) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Gives the file another text; whose it is, and who may read it, stays.
fn rewrite(path: &Path, text: &str) -> Result<()> {
    let old = fs::metadata(path).map_err(at(path))?;
    replace(path, text.as_bytes(), |file| {
        file.set_permissions(old.permissions())?;
        fchown(file, Some(old.uid()), Some(old.gid()))
    })
}

/// Puts a file there whole, by a name beside it that no runtime reads.
fn replace(path: &Path, content: &[u8], dress: impl FnOnce(&File) -> io::Result<()>) -> Result<()> {
    let name = path.file_name().unwrap_or_default().display();
    let new = path.with_file_name(format!(".{name}.new"));
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(content)?;
        dress(&file)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(at(path))
}

/// Removes a file or a folder, if it is there.
fn clear(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(of) if of.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let of = fs::symlink_metadata(from).map_err(at(from))?;
    if of.is_symlink() {
        let target = fs::read_link(from).map_err(at(from))?;
        symlink(target, to).map_err(at(to))
    } else if of.is_dir() {
        fs::create_dir(to).map_err(at(to))?;
        for entry in fs::read_dir(from).map_err(at(from))? {
            let entry = entry.map_err(at(from))?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        Ok(())
    } else {
        fs::copy(from, to).map(drop).map_err(at(to))
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const LIST: &str = "{ \"cniVersion\": \"1.0.0\", \"plugins\": [ {\"type\": \"ptp\"} ] }\n";

    /// A node's folders, and an image's.
    fn node() -> (TempDir, Node) {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let node = Node {
            programs: at("bin"),
            networks: at("net.d"),
            program: at("image/tulle-cni"),
            tools: at("image/tools"),
        };
        for folder in ["bin", "net.d", "image/tools/usr/sbin"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        fs::write(&node.program, "program").unwrap();
        fs::write(node.tools.join("usr/sbin/nft"), "nft").unwrap();
        symlink("nft", node.tools.join("usr/sbin/iptables-restore")).unwrap();
        fs::write(node.programs.join("ptp"), "theirs").unwrap();
        (root, node)
    }

    fn listing(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn it_comes_is_repaired_and_goes() {
        let (_root, node) = node();
        let missing = node.repair().unwrap_err().to_string();
        assert!(missing.starts_with("there is no network's configuration in "), "{missing}");
        let list = node.networks.join("10-net.conflist");
        fs::write(&list, LIST).unwrap();
        fs::set_permissions(&list, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(node.networks.join("00-notes.txt"), "no").unwrap();
        assert!(node.check().is_err());
        assert_eq!(node.repair().unwrap(), [list.display().to_string()]);
        node.check().unwrap();
        assert_eq!(node.repair().unwrap(), [""; 0]);
        assert_eq!(fs::metadata(&list).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(listing(&node.programs), ["ptp", NAME, TOOLS]);
        let link = node.programs.join(TOOLS).join("usr/sbin/iptables-restore");
        assert_eq!(fs::read_link(link).unwrap(), Path::new("nft"));
        // Whoever owns the network writes it anew, or somebody clears the folder.
        fs::write(&list, LIST).unwrap();
        fs::remove_dir_all(node.programs.join(TOOLS)).unwrap();
        assert!(node.check().is_err());
        assert_eq!(node.repair().unwrap().len(), 2);
        node.check().unwrap();
        node.leave().unwrap();
        node.remove_program().unwrap();
        assert_eq!(fs::read_to_string(&list).unwrap(), LIST);
        assert_eq!(listing(&node.programs), ["ptp"]);
        assert_eq!(listing(&node.networks), ["00-notes.txt", "10-net.conflist"]);
    }

    #[test]
    fn the_first_network_is_the_pods() {
        let (_root, node) = node();
        fs::write(node.networks.join("10-a.conflist"), LIST).unwrap();
        node.repair().unwrap();
        fs::write(node.networks.join("05-b.conf"), LIST.replace("plugins", "more")).unwrap();
        let error = node.repair().unwrap_err().to_string();
        assert!(error.contains("05-b.conf: it has no list of plugins"), "{error}");
        fs::write(node.networks.join("05-b.conf"), LIST).unwrap();
        assert_eq!(node.repair().unwrap().len(), 1);
        node.leave().unwrap();
        for name in ["05-b.conf", "10-a.conflist"] {
            assert_eq!(fs::read_to_string(node.networks.join(name)).unwrap(), LIST);
        }
    }

    #[test]
    fn a_newer_one_takes_its_place() {
        let (_root, node) = node();
        node.bring().unwrap();
        fs::write(&node.program, "another program").unwrap();
        fs::write(node.tools.join("usr/sbin/nft"), "another nft").unwrap();
        node.bring().unwrap();
        assert_eq!(fs::read(node.programs.join(NAME)).unwrap(), b"another program");
        let nft = node.programs.join(TOOLS).join("usr/sbin/nft");
        assert_eq!(fs::read(nft).unwrap(), b"another nft");
        assert_eq!(listing(&node.programs), ["ptp", NAME, TOOLS]);
    }
}
