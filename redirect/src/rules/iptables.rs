//! The same rules for `iptables-restore --noflush`, one family at a time.
//!
//! Our rules are in chains of our own, emptied first; only the jumps to them live in the kernel's
//! chains. Nothing in a script can say "delete if it is there", so those of an earlier run are
//! deleted by scripts of their own, which fail when there are none.

use super::{Family, Options};

const OUTPUT: &str = "TULLE_OUTPUT";
const PREROUTING: &str = "TULLE_PREROUTING";

/// From the kernel's chains to ours.
const JUMPS: [(&str, &str); 2] = [("OUTPUT", OUTPUT), ("PREROUTING", PREROUTING)];

/// Scripts that each delete one jump of an earlier run, and fail if it is not there.
pub(super) fn removals() -> [String; 2] {
    JUMPS.map(|(chain, ours)| format!("*nat\n-D {chain} -j {ours}\nCOMMIT\n"))
}

/// The whole script for one family.
pub(super) fn script(options: &Options, family: Family) -> String {
    let mut lines = vec!["*nat".to_owned()];
    lines.extend(JUMPS.map(|(_, ours)| format!(":{ours} - [0:0]")));
    lines.extend(JUMPS.map(|(chain, ours)| format!("-A {chain} -j {ours}")));
    lines.extend(output(options, family).into_iter().map(|rule| format!("-A {OUTPUT} {rule}")));
    lines.extend(prerouting(options).into_iter().map(|rule| format!("-A {PREROUTING} {rule}")));
    lines.push("COMMIT".to_owned());
    lines.join("\n") + "\n"
}

fn output(options: &Options, family: Family) -> Vec<String> {
    let (proxy, source, loopback) = (options.proxy_uid, family.source(), family.loopback());
    let itself = format!("-o lo -m owner --uid-owner {proxy} ! -s {source} ! -d {loopback} -p tcp");
    let mut rules = inbound(options, &itself);
    for uid in options.direct_uids() {
        rules.push(format!("-m owner --uid-owner {uid} -j RETURN"));
    }
    rules.push("-o lo -j RETURN".to_owned());
    for port in &options.exclude_outbound_ports {
        rules.push(format!("-p tcp --dport {port} -j RETURN"));
    }
    for range in family.of(&options.exclude_outbound_cidrs) {
        rules.push(format!("-d {range} -j RETURN"));
    }
    for (port, resolver) in options.dns(family) {
        for protocol in ["udp", "tcp"] {
            let asked = format!("-d {resolver} -p {protocol} --dport 53");
            rules.push(format!("{asked} -j REDIRECT --to-ports {port}"));
        }
    }
    for range in family.untouched() {
        rules.push(format!("-d {range} -j RETURN"));
    }
    let outbound = options.outbound_port;
    if options.include_outbound_cidrs.is_empty() {
        rules.push(format!("-p tcp -j REDIRECT --to-ports {outbound}"));
    }
    for range in family.of(&options.include_outbound_cidrs) {
        rules.push(format!("-d {range} -p tcp -j REDIRECT --to-ports {outbound}"));
    }
    rules
}

fn prerouting(options: &Options) -> Vec<String> {
    let mut rules =
        vec!["-i lo -j RETURN".to_owned(), "-m addrtype ! --dst-type LOCAL -j RETURN".to_owned()];
    rules.extend(inbound(options, "-p tcp"));
    rules
}

/// Rules that send what `condition` selects to the inbound port, unless the port is excluded. A
/// rule for each port: `multiport` would end at fifteen.
fn inbound(options: &Options, condition: &str) -> Vec<String> {
    let direct = options.direct_inbound();
    let target = format!("-j DNAT --to-destination :{}", options.inbound_port);
    if options.include_inbound_ports.is_empty() {
        let excluded = direct.iter().map(|port| format!("{condition} --dport {port} -j RETURN"));
        return excluded.chain([format!("{condition} {target}")]).collect();
    }
    let chosen = options.include_inbound_ports.iter().filter(|port| !direct.contains(port));
    chosen.map(|port| format!("{condition} --dport {port} {target}")).collect()
}
