//! What the types of [`Values`] do not say.

use ipnet::IpNet;
use tulle_api::Duration;
use tulle_control_plane::{release::AllowedHost, telemetry::Prometheus};

use super::values::Values;

impl Values {
    /// The first value that cannot be: which, and what would be right.
    pub(super) fn check(&self) -> Result<(), String> {
        let control_plane = &self.control_plane;
        if control_plane.replicas == 0 {
            return Err("controlPlane.replicas: it must be 1 or more".to_owned());
        }
        control_plane
            .certificate_lifetime
            .parse::<Duration>()
            .map_err(|error| format!("controlPlane.certificateLifetime: {error}"))?;
        if !control_plane.prometheus.is_empty() {
            let parsed = control_plane.prometheus.parse::<Prometheus>();
            parsed.map_err(|error| format!("controlPlane.prometheus: {error}"))?;
        } else if !control_plane.prometheus_secret.is_empty() {
            return Err("controlPlane.prometheusSecret: it is of the Prometheus that controlPlane.prometheus says, and there is none".to_owned());
        }
        for host in &control_plane.release_hosts {
            let parsed = host.parse::<AllowedHost>();
            parsed.map_err(|error| format!("controlPlane.releaseHosts: {error}"))?;
        }
        if control_plane.release_hosts.is_empty() && !control_plane.release_authorities.is_empty() {
            return Err("controlPlane.releaseAuthorities: they are of the hosts that controlPlane.releaseHosts says, and there is none".to_owned());
        }
        for (field, name) in
            [("trustDomain", &self.trust_domain), ("clusterDomain", &self.cluster_domain)]
        {
            let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
            if name.is_empty() || !name.bytes().all(good) {
                return Err(format!(
                    "{field}: {name:?}: use lower case letters, digits, '.', '-' and '_', as in \
                     cluster.local"
                ));
            }
        }
        for range in &self.mesh_ranges {
            let net: IpNet = range
                .parse()
                .map_err(|_error| format!("meshRanges: {range:?} is no address range"))?;
            if net.trunc() != net {
                return Err(format!("meshRanges: {range:?}: write {}", net.trunc()));
            }
        }
        let digests = &self.image.digests;
        for (field, digest) in [
            ("controlPlane", &digests.control_plane),
            ("proxy", &digests.proxy),
            ("redirect", &digests.redirect),
        ] {
            if !(digest.is_empty() || is_digest(digest)) {
                return Err(format!("image.digests.{field}: {digest:?} is no digest, sha256:…"));
            }
        }
        // Where it is does not matter for what can be wrong with it.
        self.injection("tulle-system").check().map_err(|reason| format!("injection: {reason}"))
    }
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}
