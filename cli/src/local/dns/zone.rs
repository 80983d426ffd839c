//! The names of the cluster and the answers to questions about them (pure).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use hickory_proto::{
    op::{Edns, Message, Metadata, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, PTR, SOA, SRV},
    },
};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};

use super::{MAX_UDP, TTL};
use crate::local::controllers::{Id, endpoints::ByService, services};

/// All names of the cluster, lower case, without the last dot.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::local) struct Zone {
    /// Names with addresses.
    hosts: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Other names of names: Services of type ExternalName.
    aliases: BTreeMap<String, String>,
    /// `_port._protocol.service` names: port number and target.
    ports: BTreeMap<String, Targets>,
    /// Addresses with a name.
    reverse: BTreeMap<IpAddr, String>,
    /// Every name that has something at or below it: exists, though maybe without data.
    existing: BTreeSet<String>,
}

/// Port number and host of each server.
type Targets = BTreeSet<(u16, String)>;

impl Zone {
    /// The names of these Services.
    pub(in crate::local) fn of<'a>(
        services: impl Iterator<Item = (&'a Id, &'a Service)>,
        slices: &ByService<'_>,
    ) -> Self {
        let mut zone = Self::default();
        for (id, service) in services {
            let name = format!("{}.{}.svc.cluster.local", id.name, id.namespace).to_lowercase();
            let Some(spec) = &service.spec else { continue };
            if let Some(target) = spec
                .external_name
                .as_deref()
                .filter(|_| spec.type_.as_deref() == Some("ExternalName"))
            {
                zone.aliases.insert(name, target.trim_end_matches('.').to_lowercase());
                continue;
            }
            if services::is_headless(spec) {
                for slice in slices.of(id) {
                    zone.add_endpoints(&name, slice);
                }
                // A headless Service without endpoints does not exist by name.
                continue;
            }
            let addresses = services::addresses(service);
            for address in &addresses {
                zone.reverse.insert(*address, name.clone());
            }
            zone.hosts.insert(name.clone(), addresses.into_iter().collect());
            for port in spec.ports.iter().flatten() {
                let protocol = port.protocol.as_deref();
                zone.add_port(&name, port.name.as_deref(), protocol, port.port, &name);
            }
        }
        let all = zone.hosts.keys().chain(zone.ports.keys()).chain(zone.aliases.keys());
        zone.existing = all.flat_map(|name| parents(name)).map(str::to_owned).collect();
        zone
    }

    fn add_endpoints(&mut self, service: &str, slice: &EndpointSlice) {
        for endpoint in slice.endpoints.iter().flatten() {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            if !conditions.ready.unwrap_or(true) {
                continue;
            }
            for address in endpoint.addresses.iter().filter_map(|a| a.parse::<IpAddr>().ok()) {
                let host = endpoint.hostname.clone().unwrap_or_else(|| dashed(&address));
                let host = format!("{host}.{service}").to_lowercase();
                self.hosts.entry(service.to_owned()).or_default().insert(address);
                self.hosts.entry(host.clone()).or_default().insert(address);
                self.reverse.insert(address, host.clone());
                for port in slice.ports.iter().flatten() {
                    let number = port.port.unwrap_or_default();
                    let protocol = port.protocol.as_deref();
                    self.add_port(service, port.name.as_deref(), protocol, number, &host);
                }
            }
        }
    }

    /// Unnamed ports have no SRV record.
    fn add_port(
        &mut self,
        service: &str,
        name: Option<&str>,
        protocol: Option<&str>,
        number: i32,
        target: &str,
    ) {
        let (Some(name), Ok(number)) = (name.filter(|n| !n.is_empty()), u16::try_from(number))
        else {
            return;
        };
        let protocol = protocol.unwrap_or("TCP").to_lowercase();
        let key = format!("_{name}._{protocol}.{service}").to_lowercase();
        self.ports.entry(key).or_default().insert((number, target.to_owned()));
    }

    /// Answers a request; `limit` is how many bytes fit (UDP), 0 for no limit.
    pub(super) fn answer(&self, request: &Message, limit: usize) -> Message {
        let mut response = Message::response(request.metadata.id, request.metadata.op_code);
        response.metadata = Metadata::response_from_request(&request.metadata);
        response.metadata.authoritative = true;
        response.metadata.recursion_available = true;
        if request.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_UDP);
            response.set_edns(edns);
        }
        let [query] = request.queries.as_slice() else {
            response.metadata.response_code = ResponseCode::FormErr;
            return response;
        };
        response.add_query(query.clone());
        if request.metadata.op_code != OpCode::Query || query.query_class != DNSClass::IN {
            response.metadata.response_code = ResponseCode::NotImp;
            return response;
        }
        let (code, records, extra) = self.look_up(query);
        response.metadata.response_code = code;
        if records.is_empty() {
            // RFC 2308: how long "no" may be remembered.
            if let Some(soa) = start_of_authority() {
                response.add_authority(soa);
            }
        }
        response.add_answers(records);
        response.add_additionals(extra);
        let size = response.to_vec().map_or(usize::MAX, |bytes| bytes.len());
        if limit > 0 && size > limit {
            let mut short = response.truncate();
            short.metadata.truncation = true;
            return short;
        }
        response
    }

    fn look_up(&self, query: &Query) -> (ResponseCode, Vec<Record>, Vec<Record>) {
        let name = query.name.to_ascii().trim_end_matches('.').to_lowercase();
        let record = |data| Record::from_rdata(query.name.clone(), TTL, data);
        if self.aliases.contains_key(&name) {
            return self.alias(name, query.query_type);
        }
        match query.query_type {
            RecordType::A | RecordType::AAAA | RecordType::ANY => {
                if let Some(addresses) = self.hosts.get(&name) {
                    let data = addresses.iter().map(|address| address_data(*address));
                    let wanted = data.filter(|data| {
                        query.query_type == RecordType::ANY
                            || data.record_type() == query.query_type
                    });
                    return (ResponseCode::NoError, wanted.map(record).collect(), Vec::new());
                }
            }
            RecordType::SRV => {
                if let Some(ports) = self.ports.get(&name) {
                    return self.services(query, ports);
                }
            }
            RecordType::PTR => {
                let host = reverse_address(&query.name).and_then(|ip| self.reverse.get(&ip));
                if let Some(target) = host.and_then(|host| fqdn(host)) {
                    return (ResponseCode::NoError, vec![record(RData::PTR(PTR(target)))], vec![]);
                }
            }
            _ => {}
        }
        // There, but not with such a record (NODATA), or not there at all. A resolver that hears
        // NXDOMAIN for AAAA does not ask for A any more, so the difference matters.
        let code = if self.existing.contains(&name) {
            ResponseCode::NoError
        } else {
            ResponseCode::NXDomain
        };
        (code, Vec::new(), Vec::new())
    }

    /// An alias, what it stands for, and the addresses of that: clients ask nothing more. The code is that of
    /// the last name (RFC 6604).
    fn alias(
        &self,
        mut name: String,
        wanted: RecordType,
    ) -> (ResponseCode, Vec<Record>, Vec<Record>) {
        let mut records = Vec::new();
        let record = |name: &str, data| Some(Record::from_rdata(fqdn(name)?, TTL, data));
        while let Some(target) = self.aliases.get(&name).filter(|_| records.len() < MAX_ALIASES) {
            records.extend(fqdn(target).and_then(|data| record(&name, RData::CNAME(CNAME(data)))));
            name.clone_from(target);
        }
        let addresses = self.hosts.get(&name).into_iter().flatten();
        let data = addresses.map(|address| address_data(*address));
        let data = data.filter(|data| data.record_type() == wanted);
        records.extend(data.filter_map(|data| record(&name, data)));
        let there = wanted == RecordType::CNAME || self.existing.contains(&name);
        let code = if there { ResponseCode::NoError } else { ResponseCode::NXDomain };
        (code, records, Vec::new())
    }

    fn services(&self, query: &Query, ports: &Targets) -> (ResponseCode, Vec<Record>, Vec<Record>) {
        let (mut records, mut extra) = (Vec::new(), Vec::new());
        for (number, host) in ports {
            let Some(target) = fqdn(host) else { continue };
            let data = RData::SRV(SRV::new(0, 100, *number, target.clone()));
            records.push(Record::from_rdata(query.name.clone(), TTL, data));
            for address in self.hosts.get(host).into_iter().flatten() {
                extra.push(Record::from_rdata(target.clone(), TTL, address_data(*address)));
            }
        }
        (ResponseCode::NoError, records, extra)
    }
}

/// Aliases may name each other.
const MAX_ALIASES: usize = 8;

fn fqdn(name: &str) -> Option<Name> {
    Name::from_ascii(format!("{name}.")).ok()
}

fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}

fn start_of_authority() -> Option<Record> {
    let zone = fqdn("cluster.local")?;
    let (server, contact) = (fqdn("ns.dns.cluster.local")?, fqdn("hostmaster.cluster.local")?);
    let data = SOA::new(server, contact, 1, 7200, 1800, 86400, TTL);
    Some(Record::from_rdata(zone, TTL, RData::SOA(data)))
}

/// How a headless endpoint without a host name is called.
fn dashed(address: &IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// `a.b.c` → `a.b.c`, `b.c`, `c`.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, rest)| rest))
}

/// The address of a reverse name (RFC 1035, 3.5; RFC 3596, 2.5).
fn reverse_address(name: &Name) -> Option<IpAddr> {
    let net = name.parse_arpa_name().ok()?;
    // The name of a whole network is not the name of an address.
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Zone {
        let services: Vec<(Id, Service)> = [
            (
                "web",
                "spec: {clusterIP: 10.96.1.1, clusterIPs: [10.96.1.1], ports: [{name: http, port: 80}]}",
            ),
            ("db", "spec: {clusterIP: None, ports: [{name: sql, port: 5432}]}"),
            ("front", "spec: {type: ExternalName, externalName: Web.shop.svc.cluster.local.}"),
            ("far", "spec: {type: ExternalName, externalName: www.example.com}"),
            ("round", "spec: {type: ExternalName, externalName: round.shop.svc.cluster.local}"),
        ]
        .map(|(name, yaml)| (Id::new("shop", name), serde_yaml_ng::from_str(yaml).unwrap()))
        .into();
        let slice: EndpointSlice = serde_json::from_value(serde_json::json!({
            "addressType": "IPv4",
            "metadata": {"namespace": "shop", "labels": {"kubernetes.io/service-name": "db"}},
            "ports": [{"name": "sql", "port": 5432}],
            "endpoints": [
                {"addresses": ["10.244.0.7"], "hostname": "db-0"},
                {"addresses": ["10.244.0.8"]},
                {"addresses": ["10.244.0.9"], "conditions": {"ready": false}},
            ],
        }))
        .unwrap();
        Zone::of(services.iter().map(|(id, s)| (id, s)), &std::iter::once(&slice).collect())
    }

    fn ask(
        zone: &Zone,
        name: &str,
        kind: RecordType,
        limit: usize,
    ) -> (ResponseCode, Vec<String>, bool) {
        let mut request = Message::query();
        request.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let response = zone.answer(&request, limit);
        let answers = response.answers.iter().map(|record| record.data.to_string()).collect();
        (response.metadata.response_code, answers, response.metadata.truncation)
    }

    #[test]
    fn services_endpoints_and_ports_have_names() {
        let zone = zone();
        let found = |name: &str, kind| ask(&zone, name, kind, 0).1;
        assert_eq!(found("web.shop.svc.cluster.local.", RecordType::A), ["10.96.1.1"]);
        assert_eq!(found("WEB.Shop.svc.cluster.local.", RecordType::A), ["10.96.1.1"]);
        assert_eq!(
            found("db.shop.svc.cluster.local.", RecordType::A),
            ["10.244.0.7", "10.244.0.8"]
        );
        assert_eq!(found("db-0.db.shop.svc.cluster.local.", RecordType::A), ["10.244.0.7"]);
        assert_eq!(found("10-244-0-8.db.shop.svc.cluster.local.", RecordType::A), ["10.244.0.8"]);
        assert_eq!(
            found("_http._tcp.web.shop.svc.cluster.local.", RecordType::SRV),
            ["0 100 80 web.shop.svc.cluster.local."]
        );
        assert_eq!(found("_sql._tcp.db.shop.svc.cluster.local.", RecordType::SRV).len(), 2);
        assert_eq!(
            found("1.1.96.10.in-addr.arpa.", RecordType::PTR),
            ["web.shop.svc.cluster.local."]
        );
    }

    #[test]
    fn an_alias_brings_the_addresses_of_its_target() {
        let zone = zone();
        let asked =
            |name: &str, kind| ask(&zone, &format!("{name}.shop.svc.cluster.local."), kind, 0);
        let (alias, web) = ("web.shop.svc.cluster.local.".to_owned(), "10.96.1.1".to_owned());
        let both = (ResponseCode::NoError, vec![alias.clone(), web], false);
        assert_eq!(asked("front", RecordType::A), both);
        let none = (ResponseCode::NoError, vec![alias], false);
        assert_eq!(asked("front", RecordType::AAAA), none);
        assert_eq!(asked("front", RecordType::CNAME), none);
        let nowhere = (ResponseCode::NXDomain, vec!["www.example.com.".to_owned()], false);
        assert_eq!(asked("far", RecordType::A), nowhere);
        assert_eq!(asked("round", RecordType::A).1.len(), MAX_ALIASES);
    }

    #[test]
    fn nodata_is_not_nxdomain() {
        let zone = zone();
        for (name, kind, code) in [
            ("web.shop.svc.cluster.local.", RecordType::AAAA, ResponseCode::NoError),
            ("shop.svc.cluster.local.", RecordType::A, ResponseCode::NoError),
            ("none.shop.svc.cluster.local.", RecordType::A, ResponseCode::NXDomain),
            (
                "web.shop.svc.cluster.local.shop.svc.cluster.local.",
                RecordType::A,
                ResponseCode::NXDomain,
            ),
            ("example.org.", RecordType::A, ResponseCode::NXDomain),
        ] {
            assert_eq!(ask(&zone, name, kind, 0), (code, vec![], false), "{name}");
        }
    }

    #[test]
    fn what_does_not_fit_is_marked_as_cut() {
        let mut zone = zone();
        let many = (0..200).map(|i| IpAddr::from([10, 244, 1, i]));
        zone.hosts.insert("db.shop.svc.cluster.local".into(), many.collect());
        let (_, answers, cut) = ask(&zone, "db.shop.svc.cluster.local.", RecordType::A, 512);
        assert!(cut && answers.is_empty());
        assert_eq!(ask(&zone, "db.shop.svc.cluster.local.", RecordType::A, 0).1.len(), 200);
    }

    proptest::proptest! {
        #[test]
        fn any_request_gets_some_answer(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            if let Ok(request) = Message::from_vec(&bytes) {
                let zone = zone();
                proptest::prop_assert_eq!(zone.answer(&request, 512).metadata.id, request.metadata.id);
            }
        }
    }
}
