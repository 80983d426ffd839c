use bytes::Bytes;
use envoy_types::pb::envoy::{
    config::listener::v3::{self as pb},
    extensions::filters::network::{
        http_connection_manager::v3::{
            Rds,
            http_connection_manager::{CodecType, RouteSpecifier},
        },
        tcp_proxy::v3::tcp_proxy::ClusterSpecifier,
    },
};
use prost::Message as _;

use super::{http, log::Direction, tls};
use crate::model::{Listener, Protocol, listener, wire};

/// What an address stands for, in Envoy's words: found by the original destination, as
/// [`outbound`](super::outbound()) hands it over.
pub fn listener(listener: &Listener) -> Bytes {
    let mut message = listener.message();
    message.metadata = super::origin(&listener.origin, &listener.setters);
    message.filter_chains = chains(listener);
    // What the application opens is not drained with what comes to it.
    message.drain_type = pb::listener::DrainType::ModifyOnly.into();
    message.encode_to_vec().into()
}

fn chains(listener: &Listener) -> Vec<pb::FilterChain> {
    let (name, protocol) = (&listener.name, listener.protocol);
    let mut chains = Vec::new();
    if protocol != Protocol::Tcp {
        let routes = RouteSpecifier::Rds(Rds {
            config_source: wire::ads(),
            route_config_name: listener.route.clone().unwrap_or_default(),
        });
        let manager = http::manager(name, Direction::Outbound, CodecType::Auto, routes);
        let detected = (protocol == Protocol::Detect).then(|| pb::FilterChainMatch {
            application_protocols: http::http_versions(),
            ..pb::FilterChainMatch::default()
        });
        chains.push(pb::FilterChain {
            filter_chain_match: detected,
            filters: vec![http::http_filter(&manager)],
            ..pb::FilterChain::default()
        });
    }
    let opaque = |backends| {
        let to = ClusterSpecifier::WeightedClusters(listener::weighted(backends));
        pb::FilterChain {
            filters: vec![
                http::says(tls::TCP),
                http::tcp_filter(name, Direction::Outbound, to, listener.idle),
            ],
            ..pb::FilterChain::default()
        }
    };
    // Envoy refuses what no chain is for.
    if !protocol.is_http() && !listener.only_named {
        chains.push(opaque(&listener.backends));
    }
    chains.extend(listener.by_name.iter().map(|by_name| pb::FilterChain {
        filter_chain_match: Some(listener::named(&by_name.names)),
        ..opaque(&by_name.backends)
    }));
    chains
}
