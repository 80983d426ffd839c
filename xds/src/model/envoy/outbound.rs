use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use envoy_types::pb::envoy::{
    config::{
        core::v3::{CidrRange, TrafficDirection},
        listener::v3::{self as pb, AdditionalAddress, listener::DrainType},
    },
    extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier,
};
use prost::Message as _;

use super::{OUTBOUND, PASSTHROUGH, REFUSED, http, log::Direction};
use crate::model::{ExternalTraffic, Workload, wire};

/// Where the redirection sends what the application opens.
const PORT: u16 = 15001;

/// Takes every connection of the application and hands it to the listener of its destination. What
/// has none goes, inside of the mesh's ranges, to a cluster with the name of its destination: the
/// control plane is asked for it then, because nobody can hold one for each port of each pod, and says
/// who must answer there, or that there is nobody. Outside of them it goes as told.
pub fn outbound(workload: &Workload) -> Bytes {
    let v6 = workload.addresses.iter().any(IpAddr::is_ipv6);
    let loopback = |ip: IpAddr| wire::address(SocketAddr::new(ip, PORT));
    let also = AdditionalAddress {
        address: loopback(Ipv6Addr::LOCALHOST.into()),
        ..AdditionalAddress::default()
    };
    let ranges = workload.mesh_ranges.iter().map(|range| CidrRange {
        address_prefix: range.network().to_string(),
        prefix_len: wire::uint(range.prefix_len().into()),
    });
    let mesh =
        pb::FilterChainMatch { prefix_ranges: ranges.collect(), ..pb::FilterChainMatch::default() };
    let outside = match workload.external_traffic {
        ExternalTraffic::Pass => PASSTHROUGH,
        ExternalTraffic::Refuse => REFUSED,
    };
    let message = pb::Listener {
        name: format!("{OUTBOUND}{}", workload.name),
        address: loopback(Ipv4Addr::LOCALHOST.into()),
        additional_addresses: v6.then_some(also).into_iter().collect(),
        use_original_dst: wire::boolean(true),
        traffic_direction: TrafficDirection::Outbound.into(),
        drain_type: DrainType::ModifyOnly.into(),
        // Without ranges a chain would match everything.
        filter_chains: (!mesh.prefix_ranges.is_empty())
            .then(|| pb::FilterChain {
                filter_chain_match: Some(mesh),
                filters: http::by_address().into(),
                ..pb::FilterChain::default()
            })
            .into_iter()
            .collect(),
        default_filter_chain: Some(to(outside)),
        ..pb::Listener::default()
    };
    message.encode_to_vec().into()
}

fn to(cluster: &str) -> pb::FilterChain {
    pb::FilterChain {
        filters: vec![http::tcp_filter(
            cluster,
            Direction::Outbound,
            ClusterSpecifier::Cluster(cluster.to_owned()),
            None,
        )],
        ..pb::FilterChain::default()
    }
}
