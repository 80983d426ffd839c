//! The public keys that tokens are signed with, from a JWKS file (RFC 7517).

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet},
};
use parking_lot::Mutex;

/// A JWKS file, read anew whenever it has changed. Clones share.
#[derive(Clone)]
pub struct TokenKeys {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

/// A public key.
#[derive(Clone)]
pub struct TokenKey {
    /// Its id, if it has one.
    pub id: Option<String>,
    /// What it signs with.
    pub algorithm: Algorithm,
    /// The key.
    pub key: DecodingKey,
}

#[derive(Default)]
struct State {
    modified: Option<(SystemTime, u64)>,
    keys: Arc<[TokenKey]>,
}

/// A file that holds no usable keys.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct BadKeys {
    path: PathBuf,
    reason: String,
}

impl TokenKeys {
    /// Keys from the file at `path`, which need not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, state: Arc::default() }
    }

    /// The keys as they are in the file now. If it cannot be read any more the ones that were read
    /// last stay.
    ///
    /// # Errors
    /// If it never could be read.
    pub fn current(&self) -> Result<Arc<[TokenKey]>, BadKeys> {
        let mut state = self.state.lock();
        let metadata = std::fs::metadata(&self.path);
        let stamp = metadata.and_then(|metadata| Ok((metadata.modified()?, metadata.len()))).ok();
        if stamp.is_some() && stamp == state.modified {
            return Ok(Arc::clone(&state.keys));
        }
        match read(&self.path) {
            Ok(keys) => *state = State { modified: stamp, keys: keys.into() },
            Err(reason) => {
                let bad = BadKeys { path: self.path.clone(), reason };
                if state.keys.is_empty() {
                    return Err(bad);
                }
                tracing::warn!(error = %bad, "the token keys that were read last stay in use");
            }
        }
        Ok(Arc::clone(&state.keys))
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKeys").field("path", &self.path).finish_non_exhaustive()
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<TokenKey>, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let set: JwkSet =
        serde_json::from_slice(&text).map_err(|error| format!("is no JWKS: {error}"))?;
    let keys: Vec<_> = set.keys.iter().filter_map(usable).collect();
    if keys.is_empty() {
        return Err("has no RS256 or ES256 key in it".to_owned());
    }
    Ok(keys)
}

/// The algorithm follows from the key, never from the token: a token cannot choose how it is
/// checked (RFC 8725, 3.1).
fn usable(jwk: &Jwk) -> Option<TokenKey> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        _ => return None,
    };
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some(TokenKey { id: jwk.common.key_id.clone(), algorithm, key })
}
