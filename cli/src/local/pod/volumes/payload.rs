//! Files of generated volumes: what they hold, and how they are swapped.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Component, Path},
};

use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod};

use crate::local::pod::env::{self, NotThere};

/// Files of a generated volume: content and mode by relative path.
pub(super) type Payload = BTreeMap<String, (Vec<u8>, u32)>;

pub(super) fn config_map(
    payload: &mut Payload,
    (name, map): (&str, Option<&ConfigMap>),
    items: &Option<Vec<KeyToPath>>,
    optional: bool,
    mode: u32,
) -> Result<(), NotThere> {
    let Some(map) = map else {
        let missing = NotThere(format!("ConfigMap {name} is not there"));
        return if optional { Ok(()) } else { Err(missing) };
    };
    let text = map.data.iter().flatten().map(|(k, v)| (k, v.as_bytes().to_vec()));
    let binary = map.binary_data.iter().flatten().map(|(k, v)| (k, v.0.clone()));
    let data: BTreeMap<_, _> = text.chain(binary).collect();
    let Some(items) = items else {
        return data.into_iter().try_for_each(|(key, value)| insert(payload, key, value, mode));
    };
    for item in items {
        match data.get(&item.key) {
            Some(value) => {
                let mode = item.mode.map_or(mode, |own| self::mode(Some(own)));
                insert(payload, &item.path, value.clone(), mode)?;
            }
            None if optional => {}
            None => {
                return Err(NotThere(format!("key {} of ConfigMap {name} is not there", item.key)));
            }
        }
    }
    Ok(())
}

pub(super) fn downward(
    payload: &mut Payload,
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    default_mode: u32,
) -> Result<(), NotThere> {
    for item in items {
        let Some(field) = &item.field_ref else {
            continue;
        };
        let value = env::field(pod, &field.field_path)
            .ok_or_else(|| NotThere(format!("unknown field {}", field.field_path)))?;
        let mode = item.mode.map_or(default_mode, |own| mode(Some(own)));
        insert(payload, &item.path, value.into_bytes(), mode)?;
    }
    Ok(())
}

/// Paths of files come from YAML: they must stay inside of the volume.
pub(super) fn insert(
    payload: &mut Payload,
    path: &str,
    content: Vec<u8>,
    mode: u32,
) -> Result<(), NotThere> {
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if !inside || path.is_empty() || path.starts_with("..") {
        return Err(NotThere(format!("path {path} does not stay inside of the volume")));
    }
    payload.insert(path.to_owned(), (content, mode));
    Ok(())
}

pub(super) fn mode(given: Option<i32>) -> u32 {
    given.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o644) & 0o777
}

pub(super) fn write(base: &Path, payload: &Payload) -> io::Result<()> {
    fs::create_dir_all(base)?;
    let old = fs::read_link(base.join("..data")).ok();
    let next = format!("..{}", uuid::Uuid::new_v4());
    for (path, (content, mode)) in payload {
        let file = base.join(&next).join(path);
        fs::create_dir_all(file.parent().unwrap_or(base))?;
        fs::write(&file, content)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(*mode))?;
    }
    fs::create_dir_all(base.join(&next))?;
    symlink(&next, base.join("..data_next"))?;
    fs::rename(base.join("..data_next"), base.join("..data"))?;
    let tops: std::collections::BTreeSet<&str> =
        payload.keys().filter_map(|path| path.split('/').next()).collect();
    for entry in fs::read_dir(base)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !tops.contains(name.as_str()) {
            fs::remove_file(entry.path())?;
        }
    }
    for name in tops {
        let link = base.join(name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new("..data").join(name), link)?;
        }
    }
    old.map_or(Ok(()), |old| fs::remove_dir_all(base.join(old)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        for path in ["../x", "/etc/passwd", "a/../../b", "", "..data"] {
            assert!(insert(&mut Payload::new(), path, vec![], 0).is_err(), "{path}");
        }
    }
}
