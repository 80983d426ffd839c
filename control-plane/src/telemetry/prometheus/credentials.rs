//! How a Prometheus is known, and how it knows who asks: files of a directory, named and read as those of its own configuration,
//! <https://prometheus.io/docs/prometheus/latest/configuration/configuration/#http_config>.

use std::{io, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use tokio::io::AsyncReadExt as _;

/// Who has signed its certificate, in PEM.
const AUTHORITY: &str = "ca_file";
/// A bearer token.
const TOKEN: &str = "credentials_file";
/// Or these two, RFC 7617.
const USER: &str = "username_file";
const PASSWORD: &str = "password_file";
/// Bytes of a file, at most.
const LARGEST: u64 = 1 << 20;

/// What stands in the files at the moment: they may be replaced at any time.
#[derive(Default)]
pub(super) struct Credentials {
    pub(super) authority: Option<Vec<u8>>,
    pub(super) authorization: Option<HeaderValue>,
}

impl Credentials {
    /// What the directory holds.
    pub(super) async fn read(directory: &Path) -> Result<Self, String> {
        let file = async |name: &str| read(&directory.join(name)).await;
        let authority = file(AUTHORITY).await?;
        let (token, user) = (file(TOKEN).await?, file(USER).await?);
        let value = match (token, user) {
            (None, None) => None,
            (Some(_), Some(_)) => {
                return Err(format!(
                    "{}: there are {TOKEN} and {USER}: keep one of them",
                    directory.display()
                ));
            }
            (Some(token), None) => Some(format!("Bearer {}", text(TOKEN, &token)?)),
            (None, Some(user)) => {
                let password = file(PASSWORD).await?.unwrap_or_default();
                let pair = format!("{}:{}", text(USER, &user)?, text(PASSWORD, &password)?);
                Some(format!("Basic {}", STANDARD.encode(pair)))
            }
        };
        let authorization = value.map(|value| {
            let mut value = HeaderValue::try_from(value)
                .map_err(|_unprintable| format!("{TOKEN}: that is no token: it has line breaks"))?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        });
        Ok(Self { authority, authorization: authorization.transpose()? })
    }
}

/// `None`: there is no such file.
async fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let file = match tokio::fs::File::open(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).await.map_err(failed)?;
    match bytes.len() as u64 <= LARGEST {
        true => Ok(Some(bytes)),
        false => Err(format!("{}: it is larger than {LARGEST} bytes", path.display())),
    }
}

/// As it was meant: who writes a file with an editor ends it with a line break.
fn text<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, String> {
    let text = std::str::from_utf8(bytes).map_err(|_bytes| format!("{name}: it is no text"))?;
    Ok(text.trim_end_matches(['\r', '\n']))
}
