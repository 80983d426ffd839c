//! Certificate, key and roots as files, for gRPC's `file_watcher`.
//!
//! ```text
//!  FOLDER/certificate.pem ─► ..data/certificate.pem       ..data ─► ..2 (swapped in one step)
//!  FOLDER/key.pem         ─► ..data/key.pem
//!  FOLDER/roots.pem       ─► ..data/roots.pem
//! ```
//!
//! As the kubelet does it: whoever opens a file finds a whole one, and all three change at once.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use tulle_xds::sds::Secrets;

pub(super) const CERTIFICATE: &str = "certificate.pem";
pub(super) const KEY: &str = "key.pem";
pub(super) const ROOTS: &str = "roots.pem";

/// The symbolic link that is swapped.
const DATA: &str = "..data";

/// `f_type` of file systems in memory (statfs(2)).
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6]; // tmpfs, ramfs

/// Why keys cannot be written to a folder.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant is its text")]
pub enum BadFolder {
    #[error("cannot write certificates to {}: {error}", .folder.display())]
    Io { folder: PathBuf, error: io::Error },
    #[error(
        "{} is not in memory, and keys are never written to a disk: mount an emptyDir with `medium: Memory` there", .0.display()
    )]
    OnDisk(PathBuf),
}

/// The folder, open for writing.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder if it is not there, and checks that it is in memory.
    pub(super) fn open(folder: &Path) -> Result<Self, BadFolder> {
        let failed = |error: io::Error| BadFolder::Io { folder: folder.to_owned(), error };
        // Its files say who may read them.
        match DirBuilder::new().recursive(true).mode(0o755).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            _ => {}
        }
        let kind = rustix::fs::statfs(folder).map_err(|error| failed(error.into()))?.f_type;
        if !IN_MEMORY.contains(&kind) {
            return Err(BadFolder::OnDisk(folder.to_owned()));
        }
        Ok(Self(folder.to_owned()))
    }

    /// Puts these in place of the last ones, all at once.
    pub(super) fn write(&self, secrets: &Secrets) -> Result<(), BadFolder> {
        self.replace(secrets).map_err(|error| BadFolder::Io { folder: self.0.clone(), error })
    }

    fn replace(&self, secrets: &Secrets) -> io::Result<()> {
        let (data, last) = (self.0.join(DATA), fs::read_link(self.0.join(DATA)).ok());
        // One of two names, whichever is not in use: what a crash left behind goes first.
        let next = if last.as_deref() == Some(Path::new("..1")) { "..2" } else { "..1" };
        let folder = self.0.join(next);
        remove(&folder)?;
        DirBuilder::new().mode(0o755).create(&folder)?;
        let files = [
            (CERTIFICATE, &secrets.chain, 0o644),
            (KEY, &secrets.key, 0o640),
            (ROOTS, &secrets.roots, 0o644),
        ];
        for (name, text, mode) in files {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(folder.join(name))?;
            // Whatever the umask is.
            file.set_permissions(Permissions::from_mode(mode))?;
            file.write_all(text.as_bytes())?;
        }
        link(next, &data)?;
        for (name, ..) in files {
            let to = format!("{DATA}/{name}");
            if fs::read_link(self.0.join(name)).ok().as_deref() != Some(Path::new(&to)) {
                link(&to, &self.0.join(name))?;
            }
        }
        last.map_or(Ok(()), |last| remove(&self.0.join(last)))
    }
}

/// Makes `at` a symbolic link, in place of whatever is there, in one step.
fn link(to: &str, at: &Path) -> io::Result<()> {
    let mut aside = at.to_owned().into_os_string();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(to, &aside)?;
    fs::rename(aside, at)
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a file that holds no secret, whole or not at all.
pub(super) fn write_whole(file: &Path, text: &str) -> io::Result<()> {
    let mut aside = file.to_owned().into_os_string();
    aside.push(".new");
    fs::write(&aside, text)?;
    fs::rename(aside, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder in memory of this test's own.
    fn in_memory(name: &str) -> PathBuf {
        let folder = PathBuf::from(format!("/dev/shm/tulle-{name}-{}", std::process::id()));
        remove(&folder).unwrap();
        folder
    }

    fn secrets(serial: u32) -> Secrets {
        Secrets {
            chain: format!("chain {serial}"),
            key: format!("key {serial}"),
            roots: "roots".to_owned(),
        }
    }

    #[test]
    fn all_files_change_at_once_and_only_the_last_ones_stay() {
        let path = in_memory("files");
        let folder = Folder::open(&path).unwrap();
        for serial in 1..5 {
            folder.write(&secrets(serial)).unwrap();
            let read = |name| fs::read_to_string(path.join(name)).unwrap();
            assert_eq!(read(CERTIFICATE), format!("chain {serial}"));
            assert_eq!(read(KEY), format!("key {serial}"));
            assert_eq!(read(ROOTS), "roots");
            // ..data, one folder behind it, three links.
            assert_eq!(fs::read_dir(&path).unwrap().count(), 5);
        }
        let mode = |name| fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(KEY) & 0o137, 0, "nobody but owner and group");
        remove(&path).unwrap();
    }

    #[test]
    fn whoever_holds_the_old_folder_open_is_not_disturbed() {
        let path = in_memory("files-open");
        let folder = Folder::open(&path).unwrap();
        folder.write(&secrets(1)).unwrap();
        let mut open = fs::File::open(path.join(KEY)).unwrap();
        folder.write(&secrets(2)).unwrap();
        assert_eq!(io::read_to_string(&mut open).unwrap(), "key 1");
        remove(&path).unwrap();
    }

    #[test]
    fn what_a_crash_left_behind_is_no_obstacle() {
        let path = in_memory("files-crash");
        let folder = Folder::open(&path).unwrap();
        fs::create_dir(path.join("..1")).unwrap();
        fs::write(path.join("..1").join(KEY), "half").unwrap();
        symlink("nowhere", path.join("..data.new")).unwrap();
        folder.write(&secrets(1)).unwrap();
        assert_eq!(fs::read_to_string(path.join(KEY)).unwrap(), "key 1");
        remove(&path).unwrap();
    }

    #[test]
    fn what_is_not_in_memory_is_refused() {
        // Not one, but not memory of ours either, and there on every machine.
        let refused = Folder::open(Path::new("/proc")).unwrap_err();
        assert!(refused.to_string().contains("medium: Memory"), "{refused}");
    }
}
