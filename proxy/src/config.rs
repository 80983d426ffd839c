//! Settings from the environment, read here and nowhere else.

mod settings;

use std::{
    env, fmt::Display, net::IpAddr, num::NonZeroUsize, path::PathBuf, str::FromStr, thread,
    time::Duration,
};

use crate::{context::Settings, probe::Probes, tls::control_plane::ControlPlane};

/// Where the admin socket is unless `TULLE_ADMIN_SOCKET` says otherwise.
const ADMIN_SOCKET: &str = "/run/tulle/admin.sock";

/// Workers of a sidecar unless `TULLE_WORKERS` says otherwise: a sidecar is there for one pod, and
/// each worker costs memory and connections of its own.
const MOST_WORKERS: usize = 2;

/// How this proxy runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who it belongs to.
    pub pod: Pod,
    /// Where certificates and configuration come from.
    pub control_plane: ControlPlane,
    /// The pod's token, `TULLE_TOKEN_FILE`.
    pub token_file: PathBuf,
    /// The admin socket, `TULLE_ADMIN_SOCKET`.
    pub admin_socket: PathBuf,
    /// Data path threads, `TULLE_WORKERS`.
    pub workers: NonZeroUsize,
    /// Log filter, `TULLE_LOG`.
    pub log: String,
    /// Where it listens.
    pub ports: Ports,
    /// Zone of the node, `TULLE_ZONE`: for data planes that prefer what is near.
    pub zone: Option<String>,
    /// What it does for the kubelet, `TULLE_PROBES`.
    pub probes: Probes,
    /// How long inbound traffic may take to end, `TULLE_DRAIN_TIME` in seconds; without it, as long as
    /// containers are held back.
    pub drain_time: Option<Duration>,
    /// Bounds of the data path.
    pub settings: Settings,
}

/// The pod that a sidecar belongs to.
#[derive(Debug, Clone)]
pub struct Pod {
    /// `TULLE_POD_NAME`.
    pub name: String,
    /// `TULLE_POD_NAMESPACE`.
    pub namespace: String,
    /// `TULLE_POD_UID`.
    pub uid: String,
    /// `TULLE_POD_IPS`, separated by commas.
    pub addresses: Vec<IpAddr>,
    /// `TULLE_SERVICE_ACCOUNT`.
    pub service_account: String,
}

/// Where a sidecar listens.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// On loopback, `TULLE_OUTBOUND_PORT`.
    pub outbound: u16,
    /// On the pod's addresses, `TULLE_INBOUND_PORT`.
    pub inbound: u16,
    /// On the pod's addresses, `TULLE_STATUS_PORT`.
    pub status: u16,
    /// On loopback, this one and the next two, `TULLE_DNS_PORT`; without it there is no DNS.
    pub dns: Option<u16>,
}

/// A variable that is missing or makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {problem}")]
pub struct BadConfig {
    variable: &'static str,
    problem: String,
}

impl Config {
    /// The configuration of this process.
    ///
    /// # Errors
    /// The variable that is missing or makes no sense.
    pub fn from_environment() -> Result<Self, BadConfig> {
        Self::read(&Environment(variable))
    }

    /// What these variables say.
    #[cfg(test)]
    pub(crate) fn for_tests(set: &[(&str, &str)]) -> Self {
        let find = |name: &str| {
            let found = set.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Self::read(&Environment(find)).expect("a test's variables make sense")
    }

    fn read(from: &Environment<impl Fn(&str) -> Option<String>>) -> Result<Self, BadConfig> {
        let host_and_port = "TULLE_CONTROL_PLANE";
        let address = from.text(host_and_port, "tulle-control-plane.tulle-system.svc:15010");
        let (host, port) = split_address(&address)
            .map_err(|problem| BadConfig { variable: "TULLE_CONTROL_PLANE", problem })?;
        // Reached by its name, that is the name it proves.
        let by_name = host.parse::<IpAddr>().is_err().then_some(host.as_str());
        let name = by_name.unwrap_or("tulle-control-plane.tulle-system.svc").to_owned();
        let secrets = "/var/run/secrets/tulle";
        Ok(Self {
            pod: Pod {
                name: from.required("TULLE_POD_NAME")?,
                namespace: from.required("TULLE_POD_NAMESPACE")?,
                uid: from.required("TULLE_POD_UID")?,
                addresses: from.list("TULLE_POD_IPS")?,
                service_account: from.text("TULLE_SERVICE_ACCOUNT", "default"),
            },
            control_plane: ControlPlane {
                host,
                port,
                name: from.text("TULLE_CONTROL_PLANE_NAME", &name),
                roots_file: from
                    .text("TULLE_ROOTS_FILE", &format!("{secrets}/roots/roots.pem"))
                    .into(),
            },
            token_file: from.text("TULLE_TOKEN_FILE", &format!("{secrets}/token/token")).into(),
            admin_socket: from.text("TULLE_ADMIN_SOCKET", ADMIN_SOCKET).into(),
            workers: from.parsed("TULLE_WORKERS", default_workers())?,
            log: from.text("TULLE_LOG", "info"),
            ports: Ports {
                outbound: from.parsed("TULLE_OUTBOUND_PORT", 15001)?,
                inbound: from.parsed("TULLE_INBOUND_PORT", 15006)?,
                status: from.parsed("TULLE_STATUS_PORT", 15021)?,
                dns: from.optional("TULLE_DNS_PORT")?,
            },
            zone: from.get("TULLE_ZONE"),
            probes: from.probes("TULLE_PROBES")?,
            drain_time: from.optional("TULLE_DRAIN_TIME")?.map(Duration::from_secs),
            settings: Settings::read(from)?,
        })
    }
}

impl Pod {
    /// `NAMESPACE/POD`: how the control plane calls it.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// The admin socket of the proxy in this container.
pub fn admin_socket() -> PathBuf {
    Environment(variable).text("TULLE_ADMIN_SOCKET", ADMIN_SOCKET).into()
}

#[expect(clippy::disallowed_methods, reason = "this is the one place")]
fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// As many as there are processors for this process, which knows of CPU limits, up to a bound.
fn default_workers() -> NonZeroUsize {
    let most = NonZeroUsize::new(MOST_WORKERS).unwrap_or(NonZeroUsize::MIN);
    thread::available_parallelism().map_or(most, |cpus| cpus.min(most))
}

struct Environment<F>(F);

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    /// An empty variable is one that is not set.
    fn get(&self, variable: &str) -> Option<String> {
        (self.0)(variable).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn text(&self, variable: &str, default: &str) -> String {
        self.get(variable).unwrap_or_else(|| default.to_owned())
    }

    fn required(&self, variable: &'static str) -> Result<String, BadConfig> {
        self.get(variable).ok_or_else(|| BadConfig {
            variable,
            problem: "it is not set; injection sets it from the pod's fields".to_owned(),
        })
    }

    fn parsed<T>(&self, variable: &'static str, default: T) -> Result<T, BadConfig>
    where
        T: FromStr<Err: Display>,
    {
        self.get(variable).map_or(Ok(default), |value| parse(variable, &value))
    }

    fn optional<T>(&self, variable: &'static str) -> Result<Option<T>, BadConfig>
    where
        T: FromStr<Err: Display>,
    {
        self.get(variable).map(|value| parse(variable, &value)).transpose()
    }

    /// Without its value in the error, which may hold credentials for the application.
    fn probes(&self, variable: &'static str) -> Result<Probes, BadConfig> {
        let probes = self.get(variable).map_or(Ok(Probes::default()), |json| json.parse());
        probes.map_err(|problem| BadConfig { variable, problem })
    }

    fn list<T>(&self, variable: &'static str) -> Result<Vec<T>, BadConfig>
    where
        T: FromStr<Err: Display>,
    {
        self.required(variable)?.split(',').map(|item| parse(variable, item.trim())).collect()
    }
}

fn parse<T: FromStr<Err: Display>>(variable: &'static str, value: &str) -> Result<T, BadConfig> {
    value.parse().map_err(|e| BadConfig { variable, problem: format!("{value:?}: {e}") })
}

/// `HOST:PORT`, an IPv6 address in brackets.
fn split_address(address: &str) -> Result<(String, u16), String> {
    let wrong = || format!("{address:?} is not HOST:PORT (an IPv6 address goes in brackets)");
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|e| format!("{port:?} is no port: {e}"))?;
    let bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if host.is_empty() || bare_ipv6 {
        return Err(wrong());
    }
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(extra: &[(&str, &str)]) -> Result<Config, BadConfig> {
        let pod = [
            ("TULLE_POD_NAME", "web-0"),
            ("TULLE_POD_NAMESPACE", "shop"),
            ("TULLE_POD_UID", "12ab"),
            ("TULLE_POD_IPS", "10.244.0.7, fd00:10:244::7"),
        ];
        let find = |name: &str| {
            let found = extra.iter().chain(&pod).find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Config::read(&Environment(find))
    }

    #[test]
    fn a_pod_alone_is_enough() {
        let config = read(&[]).unwrap();
        assert_eq!(config.pod.full_name(), "shop/web-0");
        assert_eq!(config.pod.addresses.len(), 2);
        assert_eq!(config.control_plane.host, "tulle-control-plane.tulle-system.svc");
        assert_eq!(config.control_plane.port, 15010);
        assert!(config.workers.get() <= MOST_WORKERS);
        assert_eq!(config.drain_time, None);
        let said = read(&[("TULLE_DRAIN_TIME", "25")]).unwrap();
        assert_eq!(said.drain_time, Some(Duration::from_secs(25)));
    }

    #[test]
    fn bounds_have_defaults_and_can_be_set() {
        let settings = read(&[("TULLE_HEAD_TIMEOUT", "0.5"), ("TULLE_MAX_BODY_BYTES", "7")]);
        let settings = settings.unwrap().settings;
        assert_eq!(settings.head_timeout.as_millis(), 500);
        assert_eq!((settings.max_body_bytes, settings.max_headers), (Some(7), 128));
        assert_eq!(settings.access_log_sample, 1000);
        assert_eq!(read(&[]).unwrap().settings.max_body_bytes, None);
    }

    #[test]
    fn bad_values_name_their_variable() {
        let cases = [
            ("TULLE_POD_NAME", " ", "it is not set; injection sets it from the pod's fields"),
            ("TULLE_POD_IPS", "10.0.0.1,x", "\"x\": invalid IP address syntax"),
            ("TULLE_WORKERS", "0", "\"0\": number would be zero for non-zero type"),
            ("TULLE_MAX_STREAMS", "0", "0 would refuse everything"),
            ("TULLE_MAX_HEAD_BYTES", "100", "100: at least 8192"),
            (
                "TULLE_HEAD_TIMEOUT",
                "-1",
                "-1: cannot convert float seconds to Duration: value is negative",
            ),
            ("TULLE_INBOUND_PORT", "70000", "\"70000\": number too large to fit in target type"),
            ("TULLE_DNS_PORT", "on", "\"on\": invalid digit found in string"),
            ("TULLE_DRAIN_TIME", "1m", "\"1m\": invalid digit found in string"),
            (
                "TULLE_CONTROL_PLANE",
                "fd00::1:15010",
                "\"fd00::1:15010\" is not HOST:PORT (an IPv6 address goes in brackets)",
            ),
            (
                "TULLE_PROBES",
                "[]]",
                "trailing characters at line 1 column 3; injection writes this variable: inject the pod again",
            ),
        ];
        for (variable, value, problem) in cases {
            let error = read(&[(variable, value)]).unwrap_err();
            assert_eq!(error, BadConfig { variable, problem: problem.to_owned() });
        }
    }

    #[test]
    fn an_address_of_either_version() {
        for (address, host) in [("[fd00::1]:1", "fd00::1"), ("10.0.0.1:1", "10.0.0.1")] {
            assert_eq!(split_address(address), Ok((host.to_owned(), 1)));
        }
    }
}
