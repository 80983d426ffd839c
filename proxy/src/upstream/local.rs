//! The application behind this proxy, as clusters of one endpoint.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tulle_xds::model::{
    Balance, Cluster as Settings, Endpoint, Endpoints, Limits, Origin, Protocol, UpstreamProtocol,
};

use super::Cluster;
use crate::{context, run::Load};

/// One cluster for each address at which the application was called.
#[derive(Debug, Default)]
pub struct LocalClusters {
    clusters: Mutex<HashMap<SocketAddr, Arc<Cluster>>>,
    arrived: AtomicU64,
}

impl LocalClusters {
    /// Strangers may call any port, served or not: beyond so many addresses those that are not in
    /// use are forgotten.
    const MOST: usize = 256;

    /// The application at `address`.
    pub fn at(&self, address: SocketAddr, settings: &context::Settings) -> Arc<Cluster> {
        let mut clusters = self.clusters.lock();
        if clusters.len() >= Self::MOST && !clusters.contains_key(&address) {
            clusters.retain(|_, cluster| Arc::strong_count(cluster) > 1);
        }
        let cluster = clusters.entry(address).or_insert_with(|| Arc::new(at(address, settings)));
        Arc::clone(cluster)
    }

    /// One more request or opaque connection is for the application.
    pub fn arrived(&self) {
        self.arrived.fetch_add(1, Ordering::Relaxed);
    }

    /// What the application has to do.
    pub fn load(&self) -> Load {
        let clusters = self.clusters.lock();
        let endpoints = clusters.values().map(|cluster| cluster.endpoints());
        let in_flight = endpoints
            .map(|set| {
                set.all().iter().map(|e| usize::try_from(e.active()).unwrap_or(0)).sum::<usize>()
            })
            .sum();
        Load { arrived: self.arrived.load(Ordering::Relaxed), in_flight }
    }
}

fn at(address: SocketAddr, settings: &context::Settings) -> Cluster {
    let name = format!("local/{address}");
    let cluster = Settings {
        name: name.clone(),
        service: None,
        protocol: Protocol::Detect,
        upstream_protocol: UpstreamProtocol::Same,
        balance: Balance::Random,
        limits: Limits::default(),
        ejection: None,
        connect_timeout: settings.application_connect_timeout,
        origin: Origin::default(),
        setters: Vec::new(),
        released: Default::default(),
    };
    let endpoint = Endpoint::new(address);
    // Sidecars reach a pod of both IP versions by one of them, and the application may listen on the
    // other alone.
    let other = settings.other_version(address.ip()).map(|ip| {
        let there = SocketAddr::new(ip, address.port());
        (there, settings.source_for(ip))
    });
    Cluster::new(cluster, Endpoints { name, endpoints: vec![endpoint] })
        .dialled_from(settings.source_for(address.ip()))
        .or_at(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_ip_version_is_the_pods_own() {
        let [v4, v6] = ["10.244.0.7", "fd00::7"].map(|ip| ip.parse().unwrap());
        let settings =
            context::Settings { addresses: vec![v4, v6], ..context::Settings::default() };
        let other = |ip| at(SocketAddr::new(ip, 80), &settings).other();
        assert_eq!(other(v4), Some((SocketAddr::new(v6, 80), settings.source_for(v6))));
        assert_eq!(other(v6), Some((SocketAddr::new(v4, 80), settings.source_for(v4))));
        // Never loopback's application for whoever called something else, nor the other way round.
        assert_eq!(other([127, 0, 0, 1].into()), None);
    }
}
