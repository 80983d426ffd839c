//! Files that every container finds: `/etc/resolv.conf`, `/etc/hosts`, `/etc/hostname` (pure).

use k8s_openapi::api::core::v1::Pod;

use crate::local::{controllers::services::Family, dns};

/// Name of the machine inside of the pod; a host name has at most 63 characters.
pub(super) fn hostname(pod: &Pod) -> String {
    let given = pod.spec.as_ref().and_then(|spec| spec.hostname.clone());
    let name = given.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    name.chars().take(63).collect()
}

/// `ClusterFirst` (also for `Default`: a mesh has no other resolver), or what `dnsConfig` says alone
/// with the policy `None`, or both together.
pub(super) fn resolv_conf(pod: &Pod) -> String {
    let spec = pod.spec.clone().unwrap_or_default();
    let config = spec.dns_config.unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let (mut servers, mut searches, mut options) = (Vec::new(), Vec::new(), Vec::new());
    if spec.dns_policy.as_deref() != Some("None") {
        servers.push(dns::address(primary(pod)).to_string());
        let suffixes =
            [format!("{namespace}."), String::new()].map(|n| format!("{n}svc.cluster.local"));
        searches.extend(suffixes);
        searches.push("cluster.local".to_owned());
        options.push(("ndots".to_owned(), Some("5".to_owned())));
    }
    servers.extend(config.nameservers.into_iter().flatten());
    searches.extend(config.searches.into_iter().flatten());
    for option in config.options.into_iter().flatten() {
        let Some(name) = option.name else { continue };
        options.retain(|(known, _)| *known != name);
        options.push((name, option.value));
    }
    let mut text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    if !searches.is_empty() {
        text.push_str(&format!("search {}\n", searches.join(" ")));
    }
    if !options.is_empty() {
        let options = options.into_iter().map(|(name, value)| match value {
            Some(value) => format!("{name}:{value}"),
            None => name,
        });
        text.push_str(&format!("options {}\n", options.collect::<Vec<_>>().join(" ")));
    }
    text
}

/// The IP version of the pod's first address.
fn primary(pod: &Pod) -> Family {
    let mut ips = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten());
    let first = ips.next().and_then(|ip| ip.ip.parse().ok());
    first.map_or(Family::V4, |ip| Family::of(&ip))
}

/// The pod itself, loopback and `hostAliases`.
pub(super) fn hosts(pod: &Pod) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    let name = hostname(pod);
    let spec = pod.spec.as_ref();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let names = match spec.and_then(|spec| spec.subdomain.as_deref()) {
        Some(sub) => format!("{name}.{sub}.{namespace}.svc.cluster.local\t{name}"),
        None => name,
    };
    let status = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten());
    for ip in status {
        text.push_str(&format!("{}\t{names}\n", ip.ip));
    }
    for alias in spec.iter().flat_map(|spec| spec.host_aliases.iter().flatten()) {
        let names = alias.hostnames.iter().flatten().cloned().collect::<Vec<_>>();
        text.push_str(&format!("{}\t{}\n", alias.ip, names.join("\t")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        let mut pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "shop"},
            "status": {"podIPs": [{"ip": "10.244.0.2"}]},
        }))
        .unwrap();
        pod.spec = Some(serde_json::from_value(spec).unwrap());
        pod
    }

    #[test]
    fn resolver_of_the_cluster_and_by_hand() {
        assert_eq!(
            resolv_conf(&pod(serde_json::json!({"containers": []}))),
            "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\n\
             options ndots:5\n"
        );
        let by_hand = serde_json::json!({
            "containers": [], "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["1.2.3.4"], "options": [{"name": "ndots", "value": "1"}, {"name": "edns0"}]},
        });
        assert_eq!(resolv_conf(&pod(by_hand)), "nameserver 1.2.3.4\noptions ndots:1 edns0\n");
    }

    #[test]
    fn hosts_name_the_pod() {
        let spec = serde_json::json!({"containers": [], "hostname": "h", "subdomain": "db"});
        assert!(hosts(&pod(spec)).ends_with("10.244.0.2\th.db.shop.svc.cluster.local\th\n"));
    }
}
