//! Rules as a script for `nft -f`: one table, replaced in one transaction.

use std::fmt::{Display, Write};

use super::{Family, Options};

/// The whole script. Without `ipv6` it names nothing of that version, because a kernel without
/// IPv6 refuses even the table that could hold both.
pub(super) fn script(options: &Options, ipv6: bool) -> String {
    let table = if ipv6 { "inet tulle" } else { "ip tulle" };
    let families: &[Family] = if ipv6 { &[Family::V4, Family::V6] } else { &[Family::V4] };
    // Named before it is deleted: deleting what is not there would fail.
    format!(
        "table {table} {{}}\n\
         delete table {table}\n\
         table {table} {{\n\
         \tchain output {{\n\
         \t\ttype nat hook output priority -100; policy accept;\n\
         {}\
         \t}}\n\
         \tchain prerouting {{\n\
         \t\ttype nat hook prerouting priority -100; policy accept;\n\
         {}\
         \t}}\n\
         }}\n",
        indented(&output(options, families)),
        indented(&prerouting(options)),
    )
}

fn output(options: &Options, families: &[Family]) -> Vec<String> {
    let (proxy, inbound) = (options.proxy_uid, options.inbound_port);
    let mut rules = Vec::new();
    // A pod that calls itself. The destination's address stays: the inbound proxy listens there.
    for family in families {
        let (ip, loopback, source) = (family.keyword(), family.loopback(), family.source());
        let selected = selected_inbound(options);
        rules.push(format!(
            "meta skuid {proxy} oifname \"lo\" {ip} saddr != {source} {ip} daddr != {loopback} \
             {selected} dnat to :{inbound}"
        ));
    }
    rules.push(format!("meta skuid {} return", set(options.direct_uids())));
    // Loopback, and the pod's own addresses.
    rules.push("oifname \"lo\" return".to_owned());
    if !options.exclude_outbound_ports.is_empty() {
        rules.push(format!("tcp dport {} return", set(&options.exclude_outbound_ports)));
    }
    for family in families {
        let ip = family.keyword();
        for range in family.of(&options.exclude_outbound_cidrs) {
            rules.push(format!("{ip} daddr {range} return"));
        }
        // Before what is never touched: resolvers of a node have link-local addresses.
        for (port, resolver) in options.dns(*family) {
            for protocol in ["udp", "tcp"] {
                rules
                    .push(format!("{ip} daddr {resolver} {protocol} dport 53 redirect to :{port}"));
            }
        }
        rules.push(format!("{ip} daddr {} return", set(family.untouched())));
    }
    let outbound = options.outbound_port;
    if options.include_outbound_cidrs.is_empty() {
        rules.push(format!("meta l4proto tcp redirect to :{outbound}"));
    }
    for family in families {
        let ip = family.keyword();
        for range in family.of(&options.include_outbound_cidrs) {
            rules.push(format!("{ip} daddr {range} meta l4proto tcp redirect to :{outbound}"));
        }
    }
    rules
}

fn prerouting(options: &Options) -> Vec<String> {
    vec![
        "iifname \"lo\" return".to_owned(),
        // What a pod only forwards is not its own.
        "fib daddr type != local return".to_owned(),
        format!("{} dnat to :{}", selected_inbound(options), options.inbound_port),
    ]
}

/// The condition on an inbound port that is redirected.
fn selected_inbound(options: &Options) -> String {
    let direct = options.direct_inbound();
    if options.include_inbound_ports.is_empty() {
        return format!("tcp dport != {}", set(direct));
    }
    let chosen = options.include_inbound_ports.iter().filter(|port| !direct.contains(port));
    format!("tcp dport {}", set(chosen))
}

fn set<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    format!("{{ {} }}", items.join(", "))
}

fn indented(rules: &[String]) -> String {
    rules.iter().fold(String::new(), |mut text, rule| {
        writeln!(text, "\t\t{rule}").expect("writing to a String cannot fail");
        text
    })
}

impl Family {
    fn keyword(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }
}
