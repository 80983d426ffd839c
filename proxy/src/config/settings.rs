//! The data path's bounds, of which `docs/limits.md` has the table.

use std::{fmt::Display, str::FromStr, time::Duration};

use super::{BadConfig, Environment};
use crate::context::Settings;

/// Less would refuse what ordinary clients send.
const LEAST_HEAD: usize = 8 << 10;

impl Settings {
    /// The defaults, but for what the environment says.
    pub(super) fn read(
        from: &Environment<impl Fn(&str) -> Option<String>>,
    ) -> Result<Self, BadConfig> {
        let default = Self::default();
        let settings = Self {
            max_connections: from.positive("TULLE_MAX_CONNECTIONS", default.max_connections)?,
            detect_timeout: from.seconds("TULLE_DETECT_TIMEOUT", default.detect_timeout)?,
            head_timeout: from.seconds("TULLE_HEAD_TIMEOUT", default.head_timeout)?,
            client_idle_timeout: from
                .seconds("TULLE_CLIENT_IDLE_TIMEOUT", default.client_idle_timeout)?,
            max_head_bytes: from.positive("TULLE_MAX_HEAD_BYTES", default.max_head_bytes)?,
            max_uri_bytes: from.positive("TULLE_MAX_URI_BYTES", default.max_uri_bytes)?,
            max_headers: from.positive("TULLE_MAX_HEADERS", default.max_headers)?,
            max_body_bytes: match from.parsed("TULLE_MAX_BODY_BYTES", 0_u64)? {
                0 => None,
                most => Some(most),
            },
            max_streams: from.positive("TULLE_MAX_STREAMS", default.max_streams)?,
            preserve_header_case: from.parsed("TULLE_PRESERVE_HEADER_CASE", false)?,
            access_log_sample: from.parsed("TULLE_ACCESS_LOG_SAMPLE", default.access_log_sample)?,
            ..default
        };
        if settings.max_head_bytes < LEAST_HEAD {
            let problem = format!("{}: at least {LEAST_HEAD}", settings.max_head_bytes);
            return Err(BadConfig { variable: "TULLE_MAX_HEAD_BYTES", problem });
        }
        Ok(settings)
    }
}

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    fn positive<T>(&self, variable: &'static str, default: T) -> Result<T, BadConfig>
    where
        T: FromStr<Err: Display> + PartialEq + Default,
    {
        match self.parsed(variable, default)? {
            zero if zero == T::default() => {
                Err(BadConfig { variable, problem: "0 would refuse everything".to_owned() })
            }
            number => Ok(number),
        }
    }

    /// A number of seconds, of which a part may be behind a point.
    fn seconds(&self, variable: &'static str, default: Duration) -> Result<Duration, BadConfig> {
        let seconds = self.positive(variable, default.as_secs_f64())?;
        Duration::try_from_secs_f64(seconds)
            .map_err(|error| BadConfig { variable, problem: format!("{seconds}: {error}") })
    }
}
