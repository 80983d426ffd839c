//! Names of resources, and what they are about.

use std::net::SocketAddr;

use tulle_xds::model::{Kind, envoy};

use crate::world::{
    Subject,
    objects::{Kind as ObjectKind, Name, ObjectRef},
};

/// What a cluster, its route and its endpoints stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// What goes to a port of a Service, or a part of it.
    Service(Part),
    /// A port of a pod.
    Pod(Name, u16),
}

/// What goes to a port of a Service, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The Service.
    pub(super) service: Name,
    /// The Service's port.
    pub(super) port: u16,
    /// Only what comes by this route.
    pub(super) via: Option<Via>,
    /// Only what a release gives to the canary; else what it does not.
    pub(super) canary: bool,
    /// Only what the lane of this name takes, and then no canary's; else what no lane does.
    pub(super) lane: Option<String>,
}

impl Part {
    /// All of it, but for what is a canary's or a lane's.
    pub(super) fn whole(service: &Name, port: u16) -> Self {
        Self { service: service.clone(), port, via: None, canary: false, lane: None }
    }
}

/// A route, or one of its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Via {
    /// The route.
    pub(super) route: ObjectRef,
    /// Name of the rule; `None` is the whole route.
    pub(super) rule: Option<String>,
}

impl Target {
    /// Reads `service/NAMESPACE/NAME/PORT`, `canary/NAMESPACE/NAME/PORT` or `lane/NAMESPACE/NAME/PORT/LANE`, which
    /// `/KIND/NAMESPACE/NAME` of a route and the name of its rule may follow, or `pod/NAMESPACE/NAME/PORT`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let lane = text.starts_with("lane/");
        let mut parts = text.splitn(if lane { 9 } else { 8 }, '/');
        let kind = parts.next()?;
        let name = Name::new(parts.next()?, parts.next()?);
        let port = parts.next()?.parse().ok()?;
        let target = match kind {
            "service" | "canary" | "lane" => {
                let lane = match lane {
                    true => Some(parts.next().filter(|name| !name.is_empty())?.to_owned()),
                    false => None,
                };
                let via = match parts.next() {
                    None => None,
                    Some(kind) => {
                        let routes = [ObjectKind::HttpRoute, ObjectKind::GrpcRoute];
                        let kind = routes.into_iter().find(|route| route.as_str() == kind)?;
                        let name = Name::new(parts.next()?, parts.next()?);
                        let rule = parts.next().map(str::to_owned);
                        Some(Via { route: ObjectRef { kind, name }, rule })
                    }
                };
                Self::Service(Part { service: name, port, via, canary: kind == "canary", lane })
            }
            "pod" => Self::Pod(name, port),
            _ => return None,
        };
        // One name per resource: what reads the same but is written otherwise (`080`) is no name.
        (target.to_string() == text).then_some(target)
    }

    fn subject(self) -> Subject {
        match self {
            Self::Service(part) => Subject::Service(part.service),
            Self::Pod(name, _) => Subject::Pod(name),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(Part { service, port, via, canary, lane }) => {
                let kind = match (lane, canary) {
                    (Some(_), _) => "lane",
                    (None, true) => "canary",
                    (None, false) => "service",
                };
                write!(f, "{kind}/{}/{}/{port}", service.namespace, service.name)?;
                lane.iter().try_for_each(|lane| write!(f, "/{lane}"))?;
                let Some(Via { route, rule }) = via else { return Ok(()) };
                let (kind, at) = (route.kind.as_str(), &route.name);
                write!(f, "/{kind}/{}/{}", at.namespace, at.name)?;
                rule.iter().try_for_each(|rule| write!(f, "/{rule}"))
            }
            Self::Pod(name, port) => write!(f, "pod/{}/{}/{port}", name.namespace, name.name),
        }
    }
}

/// `NAMESPACE/POD`.
pub(super) fn pod(text: &str) -> Option<Name> {
    let (namespace, name) = text.split_once('/')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains('/'))
        .then(|| Name::new(namespace, name))
}

/// A host name of the cluster.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DnsName<'a> {
    /// The name of one of a headless Service's endpoints.
    pub(super) endpoint: Option<&'a str>,
    /// The Service.
    pub(super) service: Name,
    /// What comes after `svc`.
    pub(super) domain: &'a str,
}

/// `SERVICE.NAMESPACE.svc.DOMAIN`, or with an endpoint's name before; lower case, no dot at the end.
pub(super) fn dns_name(text: &str) -> Option<DnsName<'_>> {
    let (first, rest) = text.split_once('.')?;
    let (second, rest) = rest.split_once('.')?;
    let well_formed = |labels: &[&str], domain: &str| {
        labels.iter().all(|label| !label.is_empty())
            && !domain.is_empty()
            && !domain.ends_with('.')
            && !text.bytes().any(|byte| byte.is_ascii_uppercase())
    };
    if let Some(domain) = rest.strip_prefix("svc.") {
        let service = Name::new(second, first);
        return well_formed(&[first, second], domain).then_some(DnsName {
            endpoint: None,
            service,
            domain,
        });
    }
    let (third, rest) = rest.split_once('.')?;
    let domain = rest.strip_prefix("svc.")?;
    let service = Name::new(third, second);
    well_formed(&[first, second, third], domain).then_some(DnsName {
        endpoint: Some(first),
        service,
        domain,
    })
}

/// `10.96.0.7:9080`, `[fd00::7]:9080`, in the one way that [`SocketAddr`] writes it.
pub(super) fn address(text: &str) -> Option<SocketAddr> {
    text.parse::<SocketAddr>().ok().filter(|address| address.to_string() == text)
}

/// Before the name of endpoints that have sidecars, where they stand apart from the others. No
/// cluster's name begins so, whatever its route and rule are called.
pub(super) const MTLS: &str = "mtls/";

/// `SERVICE.NAMESPACE:PORT`, `SERVICE.NAMESPACE.svc:PORT`, `SERVICE.NAMESPACE.svc.DOMAIN:PORT`, as
/// gRPC calls a Service: who it is, what follows after its namespace, and the port.
pub(super) fn host(text: &str) -> Option<(Name, &str, u16)> {
    let (host, digits) = text.rsplit_once(':')?;
    let port: u16 = digits.parse().ok().filter(|port: &u16| port.to_string() == digits)?;
    let mut parts = host.splitn(3, '.');
    let (service, namespace, domain) = (parts.next()?, parts.next()?, parts.next());
    let label = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let known = domain.is_none_or(|domain| domain == "svc" || domain.starts_with("svc."));
    let domain = domain.unwrap_or_default();
    (label(service) && label(namespace) && known)
        .then(|| (Name::new(namespace, service), domain, port))
}

/// What must change for the resource of this kind and name to change; `None` if there can be no
/// such resource.
pub fn subject(kind: Kind, name: &str) -> Option<Subject> {
    match kind {
        Kind::Workload => pod(name).map(Subject::Pod),
        Kind::Listener => {
            if let Some((_, name)) = envoy::own_listener(name) {
                return pod(name).map(Subject::Pod);
            }
            match address(name) {
                Some(address) => Some(Subject::Address(address.ip())),
                None => host(name).map(|(service, ..)| Subject::Service(service)),
            }
        }
        Kind::Route => Target::parse(name).map(Target::subject),
        Kind::Cluster => match address(name) {
            Some(address) => Some(Subject::Address(address.ip())),
            None => Target::parse(name).map(Target::subject),
        },
        Kind::Endpoints => {
            Target::parse(name.strip_prefix(MTLS).unwrap_or(name)).map(Target::subject)
        }
        Kind::Host => dns_name(name).map(|host| Subject::Service(host.service)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_one_way_only() {
        let service = Subject::Service(Name::new("shop", "reviews"));
        assert_eq!(subject(Kind::Cluster, "service/shop/reviews/80"), Some(service.clone()));
        for via in ["HTTPRoute/shop/slow", "GRPCRoute/far/slow/rule"] {
            let name = format!("service/shop/reviews/80/{via}");
            assert_eq!(subject(Kind::Cluster, &name), Some(service.clone()), "{via}");
        }
        for via in ["", "/HTTPRoute/shop/slow", "/GRPCRoute/far/slow/rule"] {
            let name = format!("canary/shop/reviews/80{via}");
            assert_eq!(subject(Kind::Endpoints, &name), Some(service.clone()), "{name}");
        }
        for via in ["", "/HTTPRoute/shop/slow", "/GRPCRoute/far/slow/rule"] {
            let name = format!("lane/shop/reviews/80/pr-1{via}");
            assert_eq!(subject(Kind::Cluster, &name), Some(service.clone()), "{name}");
        }
        for name in
            ["lane/shop/reviews/80", "lane/shop/reviews/80/", "service/shop/reviews/80/pr-1"]
        {
            assert_eq!(subject(Kind::Cluster, name), None, "{name}");
        }
        for via in ["", "HTTPRoute", "HTTPRoute/shop", "Service/shop/slow", "httproute/shop/slow"] {
            assert_eq!(subject(Kind::Cluster, &format!("service/shop/reviews/80/{via}")), None);
        }
        assert_eq!(subject(Kind::Cluster, "service/shop/reviews/080"), None);
        assert_eq!(subject(Kind::Cluster, "service/shop/reviews/80/x"), None);
        assert_eq!(subject(Kind::Cluster, "job/shop/reviews/80"), None);
        assert_eq!(subject(Kind::Listener, "10.0.0.1:0080"), None);
        let service = Subject::Service(Name::new("shop", "reviews"));
        for host in ["reviews.shop", "reviews.shop.svc", "reviews.shop.svc.cluster.local"] {
            let name = format!("{host}:80");
            assert_eq!(subject(Kind::Listener, &name), Some(service.clone()), "{name}");
        }
        for name in ["reviews:80", "reviews.shop", "reviews.shop:080", "reviews.shop.com:80"] {
            assert_eq!(subject(Kind::Listener, name), None, "{name}");
        }
        let endpoints = "mtls/service/shop/reviews/80";
        assert_eq!(subject(Kind::Endpoints, endpoints), Some(service));
        assert_eq!(subject(Kind::Cluster, endpoints), None);
        assert_eq!(subject(Kind::Endpoints, "mtls/mtls/service/shop/reviews/80"), None);
        let address = Subject::Address([10, 0, 0, 1].into());
        assert_eq!(subject(Kind::Listener, "10.0.0.1:80"), Some(address));
        assert_eq!(subject(Kind::Workload, "shop/a/b"), None);
        let service = Some(Subject::Service(Name::new("shop", "db")));
        assert_eq!(subject(Kind::Host, "db.shop.svc.cluster.local"), service);
        assert_eq!(subject(Kind::Host, "db-0.db.shop.svc.cluster.local"), service);
        for other in [
            "db.shop.svc.",
            "db.shop.svc",
            "db..svc.cluster.local",
            "DB.shop.svc.cluster.local",
            "db.shop.svc.cluster.local.",
            "a.b.c.d.svc.cluster.local",
            "example.com",
        ] {
            assert_eq!(subject(Kind::Host, other), None, "{other}");
        }
    }
}
