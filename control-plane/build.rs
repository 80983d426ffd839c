//! Puts the dashboard into the program, if it has been built: `dashboard/dist`, each file plain and by gzip.

use std::{
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    let dist = Path::new("../dashboard/dist");
    println!("cargo::rerun-if-changed=../dashboard/dist");
    let mut files = Vec::new();
    list(dist, &mut files)?;
    files.sort();
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("dashboard.rs");
    let mut out = fs::File::create(out)?;
    writeln!(out, "const FILES: &[File] = &[")?;
    for file in files {
        let path = file.strip_prefix(dist).map_err(io::Error::other)?.display().to_string();
        // Where this crate is: clones that share a target directory find each its own.
        let bytes = |end: &str| {
            format!(
                "include_bytes!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/../dashboard/dist/{path}{end}\"))"
            )
        };
        let (plain, zipped) = (bytes(""), bytes(".gz"));
        writeln!(out, "File {{ path: {path:?}, plain: {plain}, zipped: {zipped} }},")?;
    }
    writeln!(out, "];")
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if path.extension().is_some_and(|end| end != "gz") {
            files.push(path);
        }
    }
    Ok(())
}
