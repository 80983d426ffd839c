use std::net::IpAddr;

use bytes::Bytes;
use ipnet::IpNet;
use prost::Message as _;
use serde::Serialize;
use tulle_proto::xds::v1 as ours;

use super::{
    Access, Invalid, Knobs, Lane, Protocol, Setter, SpiffeId, Telemetry, knob,
    wire::{self, At as _, bad},
};

/// What a proxy is told about itself: one per proxy, named `NAMESPACE/POD`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// `NAMESPACE/POD`.
    pub name: String,
    /// Uid of the pod.
    pub uid: String,
    /// The identity that this workload has.
    pub identity: SpiffeId,
    /// Kind of the owner: `Deployment`, `StatefulSet`, …, `Pod`.
    pub owner_kind: String,
    /// Name of the owner.
    pub owner_name: String,
    /// `pod-template-hash`; empty if there is none.
    pub revision: String,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// Ports that Services or containers declare, by number.
    pub ports: Vec<InboundPort>,
    /// For ports that are not listed.
    pub default_mtls: MtlsMode,
    /// Address ranges of pods and Services: unknown addresses inside fail closed. Without any, those of
    /// private networks are asked for, and what nobody has there is outside.
    pub mesh_ranges: Vec<IpNet>,
    /// What happens to addresses outside.
    pub external_traffic: ExternalTraffic,
    /// Why the proxy shall not be ready; empty is ready.
    pub hold: String,
    /// Trust domains whose peers are accepted, the workload's own among them.
    pub trust_domains: Vec<String>,
    /// Suffix of the host names that [`Host`](super::Host) resources have; empty if the proxy shall
    /// ask for none.
    pub cluster_domain: String,
    /// Settings of the proxy's own data path.
    pub knobs: Knobs,
    /// Who set them, and the modes of mTLS, by field.
    pub setters: Vec<Setter>,
    /// Who may connect, the most specific policy first. None: everybody.
    pub access: Vec<Access>,
    /// The node that it runs on; empty when unknown.
    pub node: String,
    /// That node's zone; empty when unknown.
    pub zone: String,
    /// What it tells of its traffic, and to whom.
    pub telemetry: Box<Telemetry>,
    /// It is of a version that is being released, or that is being replaced: what came of requests to it is reported each
    /// second.
    pub counted: bool,
    /// The lanes of its namespace, by name.
    pub lanes: Vec<Lane>,
}

/// A port that the pod serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InboundPort {
    /// Container port.
    pub port: u16,
    /// What is declared for it.
    pub protocol: Protocol,
    /// Whether plaintext is accepted.
    pub mtls: MtlsMode,
    /// `NAMESPACE/SERVICE` that target it.
    pub services: Vec<String>,
}

/// The field of a [`Setter`] that says how plaintext is met at ports of which nothing else is said.
pub const MTLS_MODE: &str = "spec.mode";
/// That says from which trust domains peers are accepted.
pub const TRUST_DOMAINS: &str = "spec.trustDomains";

/// The field that says how plaintext is met at this port.
pub fn mtls_port(port: u16) -> String {
    format!("spec.ports[{port}].mode")
}

/// Whether plaintext is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum MtlsMode {
    /// Plaintext from outside of the mesh is accepted, and counted.
    #[default]
    Permissive,
    /// mTLS only.
    Strict,
}

/// What happens to traffic that leaves the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum ExternalTraffic {
    /// It goes where it was going.
    #[default]
    Pass,
    /// It is refused.
    Refuse,
}

impl Workload {
    /// The settings of an inbound port, listed or not.
    pub fn port(&self, port: u16) -> Option<&InboundPort> {
        self.ports.iter().find(|p| p.port == port)
    }

    /// Whether `address` belongs to the mesh's ranges.
    pub fn in_mesh(&self, address: IpAddr) -> bool {
        self.mesh_ranges.iter().any(|range| range.contains(&address))
    }

    /// The bytes of our message, the same for equal workloads.
    pub fn encode(&self) -> Bytes {
        self.message().encode_to_vec().into()
    }

    /// Reads our message.
    ///
    /// # Errors
    /// [`Invalid`] if the bytes are no such message, it has another name, or it says something that
    /// this type cannot.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Self, Invalid> {
        wire::decode(name, bytes, |message| Self::read(name, message), |value, _| value.message())
    }

    fn message(&self) -> ours::Workload {
        ours::Workload {
            name: self.name.clone(),
            uid: self.uid.clone(),
            identity: self.identity.as_str().to_owned(),
            service_account: self.identity.account().to_owned(),
            owner_kind: self.owner_kind.clone(),
            owner_name: self.owner_name.clone(),
            revision: self.revision.clone(),
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
            ports: self.ports.iter().map(InboundPort::message).collect(),
            default_mtls: self.default_mtls.number(),
            mesh_ranges: self.mesh_ranges.iter().map(ToString::to_string).collect(),
            external_traffic: self.external_traffic.number(),
            hold: self.hold.clone(),
            trust_domains: self.trust_domains.clone(),
            cluster_domain: self.cluster_domain.clone(),
            knobs: knob::message(&self.knobs),
            setters: wire::setters(&self.setters),
            access: self.access.iter().map(Access::message).collect(),
            node: self.node.clone(),
            zone: self.zone.clone(),
            telemetry: (*self.telemetry != Telemetry::default()).then(|| self.telemetry.message()),
            counted: self.counted,
            lanes: self.lanes.iter().map(Lane::message).collect(),
        }
    }

    fn read(announced: &str, message: &ours::Workload) -> wire::Result<Self> {
        let message = message.clone();
        let ports = message.ports.into_iter().enumerate();
        let access = message.access.into_iter().enumerate();
        let lanes = message.lanes.into_iter().enumerate();
        Ok(Self {
            name: wire::same_name(announced, &message.name)?,
            uid: message.uid,
            identity: message.identity.parse().map_err(wire::not_an_id).at("identity")?,
            owner_kind: message.owner_kind,
            owner_name: message.owner_name,
            revision: message.revision,
            addresses: wire::read_list("addresses", &message.addresses)?,
            ports: ports
                .map(|(i, port)| InboundPort::read(port).at_index("ports", i))
                .collect::<wire::Result<_>>()?,
            default_mtls: MtlsMode::read(message.default_mtls).at("default_mtls")?,
            mesh_ranges: wire::read_list("mesh_ranges", &message.mesh_ranges)?,
            external_traffic: ExternalTraffic::read(message.external_traffic)
                .at("external_traffic")?,
            hold: message.hold,
            trust_domains: message.trust_domains,
            cluster_domain: message.cluster_domain,
            knobs: knob::read(message.knobs)?,
            setters: wire::read_setters(message.setters),
            access: access
                .map(|(i, policy)| Access::read(policy).at_index("access", i))
                .collect::<wire::Result<_>>()?,
            node: message.node,
            zone: message.zone,
            telemetry: Telemetry::read(message.telemetry.unwrap_or_default())
                .at("telemetry")?
                .into(),
            counted: message.counted,
            lanes: lanes
                .map(|(i, lane)| Lane::read(lane).at_index("lanes", i))
                .collect::<wire::Result<_>>()?,
        })
    }
}

impl InboundPort {
    fn message(&self) -> ours::InboundPort {
        ours::InboundPort {
            port: self.port.into(),
            protocol: wire::protocol(self.protocol),
            mtls: self.mtls.number(),
            services: self.services.clone(),
        }
    }

    fn read(message: ours::InboundPort) -> wire::Result<Self> {
        Ok(Self {
            port: wire::read_port(message.port).at("port")?,
            protocol: wire::read_protocol(message.protocol).at("protocol")?,
            mtls: MtlsMode::read(message.mtls).at("mtls")?,
            services: message.services,
        })
    }
}

impl MtlsMode {
    fn number(self) -> i32 {
        match self {
            Self::Permissive => ours::MtlsMode::Permissive.into(),
            Self::Strict => ours::MtlsMode::Strict.into(),
        }
    }

    fn read(number: i32) -> wire::Result<Self> {
        match ours::MtlsMode::try_from(number) {
            Ok(ours::MtlsMode::Permissive) => Ok(Self::Permissive),
            Ok(ours::MtlsMode::Strict) => Ok(Self::Strict),
            Err(_) => Err(bad(format!("{number} is no mode that this version knows"))),
        }
    }
}

impl ExternalTraffic {
    fn number(self) -> i32 {
        match self {
            Self::Pass => ours::ExternalTraffic::Pass.into(),
            Self::Refuse => ours::ExternalTraffic::Refuse.into(),
        }
    }

    fn read(number: i32) -> wire::Result<Self> {
        match ours::ExternalTraffic::try_from(number) {
            Ok(ours::ExternalTraffic::Pass) => Ok(Self::Pass),
            Ok(ours::ExternalTraffic::Refuse) => Ok(Self::Refuse),
            Err(_) => Err(bad(format!("{number} is no choice that this version knows"))),
        }
    }
}
