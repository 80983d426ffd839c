//! Service addresses: given out, kept while the Service exists, honoured when asked for.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use sha2::{Digest as _, Sha256};

use super::Id;
use crate::local::network::Families;

/// Addresses given out so far.
#[derive(Debug, Default)]
pub(in crate::local) struct Allocator {
    taken: HashMap<IpAddr, Id>,
    /// The same the other way round.
    given: HashMap<(Id, Family), IpAddr>,
    mesh: Families,
}

/// An address that cannot be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::local) struct Refused {
    pub(in crate::local) service: Id,
    pub(in crate::local) reason: String,
}

impl Allocator {
    /// For a mesh with these IP versions.
    pub(in crate::local) fn new(mesh: Families) -> Self {
        Self { mesh, ..Self::default() }
    }

    /// The Services as the API server would store them: with addresses and families filled in.
    ///
    /// Services that are gone give their addresses back. The numbers follow from the name, so that a
    /// mesh has the same ones after each start.
    pub(in crate::local) fn fill<'a>(
        &mut self,
        services: impl Iterator<Item = (&'a Id, &'a Service)>,
    ) -> (BTreeMap<Id, Service>, Vec<Refused>) {
        let declared: BTreeMap<&Id, &Service> = services.collect();
        self.taken.retain(|_, owner| declared.contains_key(owner));
        self.given.retain(|(owner, _), _| declared.contains_key(owner));
        let mut refused = Vec::new();
        // Who asks for an address by name comes before who takes any.
        let (asking, others): (Vec<_>, Vec<_>) =
            declared.into_iter().partition(|(_, service)| !asked_for(service).is_empty());
        let filled = asking
            .into_iter()
            .chain(others)
            .map(|(id, service)| (id.clone(), self.fill_one(id, service, &mut refused)))
            .collect();
        (filled, refused)
    }

    fn fill_one(&mut self, id: &Id, service: &Service, refused: &mut Vec<Refused>) -> Service {
        let mut service = service.clone();
        let spec = service.spec.get_or_insert_default();
        service.metadata.namespace = Some(id.namespace.clone());
        if spec.type_.as_deref() == Some("ExternalName") {
            return service;
        }
        for port in spec.ports.iter_mut().flatten() {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
        let families = match families(spec, self.mesh) {
            Ok(families) => families,
            Err(reason) => {
                refused.push(Refused { service: id.clone(), reason });
                vec![self.mesh.primary()]
            }
        };
        spec.ip_family_policy.get_or_insert_with(|| {
            if families.len() == 2 { "RequireDualStack" } else { "SingleStack" }.to_owned()
        });
        if is_headless(spec) {
            spec.cluster_ips = Some(vec!["None".to_owned()]);
        } else {
            let mut addresses = Vec::new();
            for family in &families {
                match self.address(id, *family, spec) {
                    Ok(address) => addresses.push(address.to_string()),
                    Err(reason) => refused.push(Refused { service: id.clone(), reason }),
                }
            }
            spec.cluster_ip = addresses.first().cloned();
            spec.cluster_ips = Some(addresses);
        }
        spec.ip_families = Some(families.iter().map(|family| family.name().to_owned()).collect());
        service
    }

    fn address(&mut self, id: &Id, family: Family, spec: &ServiceSpec) -> Result<IpAddr, String> {
        let asked = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        let asked = asked.filter_map(|text| text.parse().ok()).find(|a| Family::of(a) == family);
        if let Some(address) = asked {
            return self.claim(id, address, family);
        }
        if let Some(address) = self.given.get(&(id.clone(), family)) {
            return Ok(*address);
        }
        let digest = Sha256::digest(id.to_string());
        let seed = digest.iter().take(8).fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let free = (0..u64::from(u16::MAX))
            .map(|step| family.nth(seed.wrapping_add(step)))
            .find(|address| !self.taken.contains_key(address))
            .ok_or("all service addresses are in use")?;
        self.give(id, free, family);
        Ok(free)
    }

    /// Instead of the one that the Service had.
    fn give(&mut self, id: &Id, address: IpAddr, family: Family) {
        if let Some(old) = self.given.insert((id.clone(), family), address) {
            self.taken.remove(&old);
        }
        self.taken.insert(address, id.clone());
    }

    fn claim(&mut self, id: &Id, address: IpAddr, family: Family) -> Result<IpAddr, String> {
        if !family.contains(&address) {
            return Err(format!(
                "spec.clusterIP {address} is not in the mesh's range {}",
                family.range()
            ));
        }
        match self.taken.get(&address) {
            Some(owner) if owner != id => {
                Err(format!("spec.clusterIP {address} belongs to Service {owner} already"))
            }
            _ => {
                self.give(id, address, family);
                Ok(address)
            }
        }
    }
}

/// Without an address of its own: found by DNS only.
pub(in crate::local) fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some("None")
}

/// The addresses of a filled Service.
pub(in crate::local) fn addresses(service: &Service) -> Vec<IpAddr> {
    let ips = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
    ips.filter_map(|ip| ip.parse().ok()).collect()
}

fn asked_for(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let texts = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// The families, first the one of `clusterIP`; `PreferDualStack` means as many as the mesh has.
fn families(spec: &ServiceSpec, mesh: Families) -> Result<Vec<Family>, String> {
    let asked = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let mut families: Vec<Family> = spec
        .ip_families
        .iter()
        .flatten()
        .map(|name| if name == "IPv6" { Family::V6 } else { Family::V4 })
        .chain(asked.filter_map(|text| text.parse().ok().map(|ip| Family::of(&ip))))
        .fold(Vec::new(), |mut families, family| {
            if !families.contains(&family) {
                families.push(family);
            }
            families
        });
    if families.is_empty() {
        families.push(mesh.primary());
    }
    if let Some(family) = families.iter().find(|family| !mesh.list().contains(family)) {
        let name = family.name();
        return Err(format!("spec.ipFamilies: the mesh has no {name}: see `up --ip-families`"));
    }
    let policy = spec.ip_family_policy.as_deref();
    let other = mesh.list().iter().find(|family| !families.contains(family));
    match (policy, other) {
        (Some("PreferDualStack" | "RequireDualStack"), Some(other)) => families.push(*other),
        (Some("RequireDualStack"), None) if families.len() == 1 => {
            let name = mesh.primary().name();
            return Err(format!(
                "spec.ipFamilyPolicy: the mesh has {name} alone: see `up --ip-families`"
            ));
        }
        _ => {}
    }
    Ok(families)
}

/// One of the two Internet protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::local) enum Family {
    V4,
    V6,
}

impl Family {
    pub(in crate::local) fn of(address: &IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// As Kubernetes spells it.
    pub(in crate::local) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// Service addresses of a mesh.
    pub(in crate::local) fn range(self) -> &'static str {
        match self {
            Self::V4 => "10.96.0.0/16",
            Self::V6 => "fd00:10:96::/112",
        }
    }

    fn contains(self, address: &IpAddr) -> bool {
        match (self, address) {
            (Self::V4, IpAddr::V4(v4)) => v4.octets().starts_with(&[10, 96]),
            (Self::V6, IpAddr::V6(v6)) => {
                v6.segments().starts_with(&[0xfd00, 0x10, 0x96, 0, 0, 0, 0])
            }
            _ => false,
        }
    }

    /// An address for any number. The lowest 256 are kept for who asks by name, and the last is the
    /// broadcast address.
    fn nth(self, seed: u64) -> IpAddr {
        let host = u16::try_from(256 + seed % u64::from(u16::MAX - 256)).unwrap_or(256);
        let [high, low] = host.to_be_bytes();
        match self {
            Self::V4 => Ipv4Addr::new(10, 96, high, low).into(),
            Self::V6 => Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, host).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(yaml: &str) -> Service {
        let spec = serde_yaml_ng::from_str(yaml).unwrap();
        Service { spec: Some(spec), ..Service::default() }
    }

    fn fill(
        allocator: &mut Allocator,
        services: &[(&str, &str)],
    ) -> (Vec<Vec<String>>, Vec<Refused>) {
        let services: Vec<(Id, Service)> =
            services.iter().map(|(n, yaml)| (Id::new("ns", *n), service(yaml))).collect();
        let (filled, refused) = allocator.fill(services.iter().map(|(id, s)| (id, s)));
        let ips = filled.into_values().map(|s| s.spec.unwrap().cluster_ips.unwrap_or_default());
        (ips.collect(), refused)
    }

    #[test]
    fn an_address_stays_while_the_service_exists() {
        let mut allocator = Allocator::default();
        let first = fill(&mut allocator, &[("a", "{}"), ("b", "{}")]).0;
        assert_ne!(first[0], first[1]);
        assert_eq!(fill(&mut allocator, &[("a", "{}"), ("b", "{}")]).0, first);
        assert_eq!(fill(&mut allocator, &[("b", "{}")]).0[0], first[1]);
        assert_eq!(fill(&mut Allocator::default(), &[("a", "{}")]).0[0], first[0]);
    }

    #[test]
    fn families_and_given_addresses() {
        let mut allocator = Allocator::default();
        let (ips, refused) = fill(
            &mut allocator,
            &[
                ("dual", "{ipFamilyPolicy: PreferDualStack}"),
                ("given", "{clusterIP: 10.96.0.77}"),
                ("headless", "{clusterIP: None}"),
                ("six", "{ipFamilies: [IPv6]}"),
                ("twice", "{clusterIP: 10.96.0.77}"),
                ("wrong", "{clusterIP: 10.1.2.3}"),
            ],
        );
        assert_eq!(ips[0].len(), 2);
        assert!(ips[0][0].starts_with("10.96.") && ips[0][1].starts_with("fd00:10:96::"));
        assert_eq!(ips[1], ["10.96.0.77"]);
        assert_eq!(ips[2], ["None"]);
        assert!(ips[3][0].starts_with("fd00:10:96::"));
        let refused: Vec<_> = refused.iter().map(|r| r.service.name.as_str()).collect();
        assert_eq!(refused, ["twice", "wrong"]);
    }

    #[test]
    fn a_mesh_of_one_family_has_services_of_one() {
        let mut allocator = Allocator::new(Families::V6);
        let (ips, refused) = fill(
            &mut allocator,
            &[
                ("default", "{}"),
                ("four", "{ipFamilies: [IPv4]}"),
                ("prefers", "{ipFamilyPolicy: PreferDualStack}"),
                ("requires", "{ipFamilyPolicy: RequireDualStack}"),
            ],
        );
        assert!(ips.iter().all(|ips| ips.len() == 1 && ips[0].starts_with("fd00:10:96::")));
        let refused: Vec<_> = refused.iter().map(|r| r.service.name.as_str()).collect();
        assert_eq!(refused, ["four", "requires"]);
        let six_first = fill(&mut Allocator::new(Families::V6V4), &[("default", "{}")]).0;
        assert!(six_first[0][0].starts_with("fd00:"));
    }
}
