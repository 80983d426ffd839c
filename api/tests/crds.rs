//! `deploy/crds/*.yaml` are what the types say. `TULLE_REGENERATE=1 cargo test -p tulle-api` writes
//! them anew.

use std::{collections::BTreeSet, env, fs, path::Path};

#[test]
fn crds_are_fresh() {
    let folder = Path::new("../deploy/crds");
    let regenerate = env::var_os("TULLE_REGENERATE").is_some();
    let mut expected = BTreeSet::new();
    for crd in tulle_api::crd::all() {
        let name = format!("{}.yaml", crd.metadata.name.as_deref().unwrap());
        let yaml = tulle_api::yaml::to_string(&crd).unwrap();
        let text =
            format!("# Generated from api/: TULLE_REGENERATE=1 cargo test -p tulle-api\n{yaml}");
        let path = folder.join(&name);
        if regenerate {
            fs::create_dir_all(folder).unwrap();
            fs::write(&path, &text).unwrap();
        }
        assert_eq!(
            fs::read_to_string(&path).unwrap_or_default(),
            text,
            "{} is stale: run TULLE_REGENERATE=1 cargo test -p tulle-api",
            path.display()
        );
        expected.insert(name);
    }
    let found: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, expected, "files in {} that no kind stands for", folder.display());
}
