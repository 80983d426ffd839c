//! Volumes of a pod: made before its first container, kept up to date while it runs.
//!
//! What is generated (ConfigMap, projected, downward API) is swapped as the kubelet does it: a folder
//! with the new content, and one link renamed over the old one, so that a reader sees all files old
//! or all files new.

mod payload;

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, HostPathVolumeSource, Pod, ServiceAccountTokenProjection, Volume,
};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use self::payload::{Payload, config_map, downward, insert, mode};
use super::{
    ConfigMaps,
    env::{self, NotThere},
};
use crate::local::{
    controllers::Id,
    token::{Bearer, Signer},
};

/// Volumes of one pod.
#[derive(Debug)]
pub(super) struct Volumes {
    base: PathBuf,
    /// By volume and path.
    tokens: HashMap<(String, String), Token>,
    /// What generated volumes hold now.
    written: HashMap<String, Payload>,
    mounted: Vec<PathBuf>,
}

/// A token, and when to replace it (seconds since 1970).
struct Token {
    text: String,
    renew: u64,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("renew", &self.renew).finish_non_exhaustive()
    }
}

/// A volume cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum VolumeError {
    /// Something that may still come.
    #[error("volume {volume}: {reason}")]
    NotThere {
        /// Its name.
        volume: String,
        /// What is missing.
        reason: NotThere,
    },
    /// The file system refused.
    #[error("volume {volume}: {source}")]
    Io {
        /// Its name.
        volume: String,
        /// Why.
        source: io::Error,
    },
}

impl Volumes {
    pub(super) fn new(base: PathBuf) -> Self {
        Self { base, tokens: HashMap::new(), written: HashMap::new(), mounted: Vec::new() }
    }

    /// Where a volume is, or the host's path.
    pub(super) fn path(&self, volume: &Volume) -> PathBuf {
        match &volume.host_path {
            Some(host) => PathBuf::from(&host.path),
            None => self.base.join(&volume.name),
        }
    }

    /// Makes what is missing, refreshes what changed. Returns whether anything was written.
    ///
    /// # Errors
    /// The first volume that cannot be made.
    pub(super) fn refresh(
        &mut self,
        pod: &Pod,
        config_maps: &ConfigMaps,
        signer: &Signer,
    ) -> Result<(), VolumeError> {
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        for volume in volumes {
            let name = volume.name.clone();
            let io = |source| VolumeError::Io { volume: name.clone(), source };
            if let Some(empty) = &volume.empty_dir {
                self.empty_dir(pod, &volume.name, empty).map_err(io)?;
            } else if let Some(host) = &volume.host_path {
                host_path(host).map_err(io)?;
            } else {
                let payload = self.payload(pod, volume, config_maps, signer);
                let payload = payload
                    .map_err(|reason| VolumeError::NotThere { volume: name.clone(), reason })?;
                if self.written.get(&volume.name) != Some(&payload) {
                    payload::write(&self.base.join(&volume.name), &payload).map_err(io)?;
                    self.written.insert(volume.name.clone(), payload);
                }
            }
        }
        Ok(())
    }

    /// Unmounts what was mounted; the files go with the pod's directory.
    pub(super) fn release(&mut self) {
        for path in self.mounted.drain(..) {
            if let Err(error) = unmount(&path, UnmountFlags::DETACH) {
                tracing::warn!(path = %path.display(), %error, "volume stays mounted");
            }
        }
    }

    fn empty_dir(&mut self, pod: &Pod, name: &str, empty: &EmptyDirVolumeSource) -> io::Result<()> {
        let path = self.base.join(name);
        if path.exists() {
            return Ok(());
        }
        fs::create_dir_all(&path)?;
        if empty.medium.as_deref() == Some("Memory") {
            let limit = empty.size_limit.as_ref().and_then(|limit| bytes(&limit.0));
            let options = limit.map_or_else(String::new, |limit| format!("size={limit}"));
            let options = std::ffi::CString::new(options).unwrap_or_default();
            mount(
                "tmpfs",
                &path,
                "tmpfs",
                MountFlags::NOSUID | MountFlags::NODEV,
                options.as_c_str(),
            )?;
            self.mounted.push(path.clone());
        }
        let group = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()?.fs_group);
        let group = group.and_then(|group| u32::try_from(group).ok());
        chown(&path, None, group)?;
        let mode = if group.is_some() { 0o2777 } else { 0o777 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
    }

    fn payload(
        &mut self,
        pod: &Pod,
        volume: &Volume,
        config_maps: &ConfigMaps,
        signer: &Signer,
    ) -> Result<Payload, NotThere> {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let find = |name: &str| config_maps.get(&Id::new(namespace.clone(), name));
        let mut payload = Payload::new();
        if let Some(source) = &volume.config_map {
            let optional = source.optional.unwrap_or(false);
            let mode = mode(source.default_mode);
            config_map(
                &mut payload,
                (&source.name, find(&source.name)),
                &source.items,
                optional,
                mode,
            )?;
        } else if let Some(source) = &volume.downward_api {
            let items = source.items.as_deref().unwrap_or_default();
            downward(&mut payload, pod, items, mode(source.default_mode))?;
        } else if let Some(projected) = &volume.projected {
            let mode = mode(projected.default_mode);
            for source in projected.sources.iter().flatten() {
                if let Some(map) = &source.config_map {
                    let optional = map.optional.unwrap_or(false);
                    config_map(
                        &mut payload,
                        (&map.name, find(&map.name)),
                        &map.items,
                        optional,
                        mode,
                    )?;
                }
                if let Some(api) = &source.downward_api {
                    downward(&mut payload, pod, api.items.as_deref().unwrap_or_default(), mode)?;
                }
                if let Some(token) = &source.service_account_token {
                    let text = self.token(pod, &volume.name, token, signer)?;
                    insert(&mut payload, &token.path, text.into_bytes(), mode)?;
                }
            }
        } else {
            return Err(NotThere("volumes of this type are not available here".to_owned()));
        }
        Ok(payload)
    }

    /// The token, signed anew when a fifth of its life is left.
    fn token(
        &mut self,
        pod: &Pod,
        volume: &str,
        source: &ServiceAccountTokenProjection,
        signer: &Signer,
    ) -> Result<String, NotThere> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let key = (volume.to_owned(), source.path.clone());
        if let Some(token) = self.tokens.get(&key)
            && now < token.renew
        {
            return Ok(token.text.clone());
        }
        // Kubernetes' default and lower limit.
        let lifetime = source.expiration_seconds.unwrap_or(3600).max(600).unsigned_abs();
        let audience = source.audience.as_deref().unwrap_or(crate::local::token::ISSUER);
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let bearer = Bearer {
            namespace: &text(&pod.metadata.namespace),
            pod: &text(&pod.metadata.name),
            pod_uid: &text(&pod.metadata.uid),
            service_account: env::service_account(pod),
        };
        let text = signer.sign(bearer, audience, now, lifetime);
        let text = text.map_err(|error| NotThere(error.to_string()))?;
        let renew = now + lifetime * 4 / 5;
        self.tokens.insert(key, Token { text: text.clone(), renew });
        Ok(text)
    }
}

fn host_path(host: &HostPathVolumeSource) -> io::Result<()> {
    let path = Path::new(&host.path);
    match host.type_.as_deref() {
        Some("DirectoryOrCreate") => fs::create_dir_all(path),
        Some("FileOrCreate") => fs::File::options().create(true).append(true).open(path).map(drop),
        _ => fs::metadata(path).map(drop),
    }
}

/// `64Mi`, `1G`, `500`: a Kubernetes quantity in bytes.
fn bytes(quantity: &str) -> Option<u64> {
    let split = quantity.find(|c: char| !c.is_ascii_digit()).unwrap_or(quantity.len());
    let (number, unit) = quantity.split_at_checked(split)?;
    let factor = match unit {
        "" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn pod(volume: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"a": "b"}},
            "spec": {"containers": [], "volumes": [volume]},
        }))
        .unwrap()
    }

    fn maps(key: &str, value: &str) -> ConfigMaps {
        let data = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        ConfigMaps::from([(
            Id::new("ns", "m"),
            ConfigMap { data: Some(data), ..ConfigMap::default() },
        )])
    }

    #[test]
    fn a_config_map_is_waited_for_and_followed() {
        let dir = tempfile::tempdir().unwrap();
        let signer = Signer::generate().unwrap();
        let pod = pod(serde_json::json!({"name": "v", "configMap": {"name": "m"}}));
        let mut volumes = Volumes::new(dir.path().to_owned());
        let missing = volumes.refresh(&pod, &ConfigMaps::new(), &signer).unwrap_err();
        assert_eq!(missing.to_string(), "volume v: ConfigMap m is not there");

        volumes.refresh(&pod, &maps("a", "1"), &signer).unwrap();
        assert_eq!(fs::read(dir.path().join("v/a")).unwrap(), b"1");
        volumes.refresh(&pod, &maps("b", "2"), &signer).unwrap();
        assert!(!dir.path().join("v/a").exists());
        assert_eq!(fs::read(dir.path().join("v/b")).unwrap(), b"2");
        // The link, the folder it names, and the file.
        assert_eq!(fs::read_dir(dir.path().join("v")).unwrap().count(), 3);
    }

    #[test]
    fn a_token_is_kept_until_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let signer = Signer::generate().unwrap();
        let pod = pod(serde_json::json!({"name": "t", "projected": {"sources": [
            {"serviceAccountToken": {"audience": "tulle", "path": "token", "expirationSeconds": 3600}},
            {"downwardAPI": {"items": [{"path": "sub/labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        ]}}));
        let mut volumes = Volumes::new(dir.path().to_owned());
        volumes.refresh(&pod, &ConfigMaps::new(), &signer).unwrap();
        let first = fs::read(dir.path().join("t/token")).unwrap();
        volumes.refresh(&pod, &ConfigMaps::new(), &signer).unwrap();
        assert_eq!(fs::read(dir.path().join("t/token")).unwrap(), first);
        assert_eq!(fs::read(dir.path().join("t/sub/labels")).unwrap(), b"a=\"b\"");
    }

    #[test]
    fn quantities() {
        assert_eq!(bytes("64Mi"), Some(64 << 20));
        assert_eq!(bytes("1k"), Some(1000));
        assert_eq!(bytes("7"), Some(7));
        assert_eq!(bytes("x"), None);
    }
}
