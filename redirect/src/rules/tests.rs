use super::*;

fn options(flags: &str) -> Options {
    Options::parse(flags).unwrap()
}

#[test]
fn nft_default() {
    assert_eq!(
        nft::script(&options(""), true),
        r#"table inet tulle {}
delete table inet tulle
table inet tulle {
	chain output {
		type nat hook output priority -100; policy accept;
		meta skuid 5050 oifname "lo" ip saddr != 169.254.41.1 ip daddr != 127.0.0.0/8 tcp dport != { 15006, 15020, 15021 } dnat to :15006
		meta skuid 5050 oifname "lo" ip6 saddr != fd00:7475:6c6c:65::1 ip6 daddr != ::1 tcp dport != { 15006, 15020, 15021 } dnat to :15006
		meta skuid { 5050 } return
		oifname "lo" return
		ip daddr { 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/4, 255.255.255.255 } return
		ip6 daddr { ::1, fe80::/10, ff00::/8 } return
		meta l4proto tcp redirect to :15001
	}
	chain prerouting {
		type nat hook prerouting priority -100; policy accept;
		iifname "lo" return
		fib daddr type != local return
		tcp dport != { 15006, 15020, 15021 } dnat to :15006
	}
}
"#
    );
}

#[test]
fn nft_with_everything_and_without_ipv6() {
    let all = "--exclude-inbound-ports 22 --exclude-outbound-ports 25,465 \
               --exclude-outbound-cidrs 192.0.2.0/24,2001:db8::/32 \
               --include-outbound-cidrs 10.0.0.0/8,fd00::/8 --exclude-uids 1000,5050 --dns 15053 --resolvers 10.96.0.10,fd00::a,169.254.20.10";
    assert_eq!(
        nft::script(&options(all), false),
        r#"table ip tulle {}
delete table ip tulle
table ip tulle {
	chain output {
		type nat hook output priority -100; policy accept;
		meta skuid 5050 oifname "lo" ip saddr != 169.254.41.1 ip daddr != 127.0.0.0/8 tcp dport != { 22, 15006, 15020, 15021 } dnat to :15006
		meta skuid { 5050, 1000 } return
		oifname "lo" return
		tcp dport { 25, 465 } return
		ip daddr 192.0.2.0/24 return
		ip daddr 10.96.0.10 udp dport 53 redirect to :15053
		ip daddr 10.96.0.10 tcp dport 53 redirect to :15053
		ip daddr 169.254.20.10 udp dport 53 redirect to :15055
		ip daddr 169.254.20.10 tcp dport 53 redirect to :15055
		ip daddr { 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/4, 255.255.255.255 } return
		ip daddr 10.0.0.0/8 meta l4proto tcp redirect to :15001
	}
	chain prerouting {
		type nat hook prerouting priority -100; policy accept;
		iifname "lo" return
		fib daddr type != local return
		tcp dport != { 22, 15006, 15020, 15021 } dnat to :15006
	}
}
"#
    );
}

#[test]
fn only_included_inbound_ports() {
    let script = nft::script(&options("--include-inbound-ports 8080,15021"), true);
    assert!(script.contains("\t\ttcp dport { 8080 } dnat to :15006\n"), "{script}");
}

#[test]
fn iptables_default() {
    assert_eq!(
        iptables::script(&options("--exclude-uids 1000"), Family::V6),
        "*nat
:TULLE_OUTPUT - [0:0]
:TULLE_PREROUTING - [0:0]
-A OUTPUT -j TULLE_OUTPUT
-A PREROUTING -j TULLE_PREROUTING
-A TULLE_OUTPUT -o lo -m owner --uid-owner 5050 ! -s fd00:7475:6c6c:65::1 ! -d ::1 -p tcp --dport 15006 -j RETURN
-A TULLE_OUTPUT -o lo -m owner --uid-owner 5050 ! -s fd00:7475:6c6c:65::1 ! -d ::1 -p tcp --dport 15020 -j RETURN
-A TULLE_OUTPUT -o lo -m owner --uid-owner 5050 ! -s fd00:7475:6c6c:65::1 ! -d ::1 -p tcp --dport 15021 -j RETURN
-A TULLE_OUTPUT -o lo -m owner --uid-owner 5050 ! -s fd00:7475:6c6c:65::1 ! -d ::1 -p tcp -j DNAT --to-destination :15006
-A TULLE_OUTPUT -m owner --uid-owner 5050 -j RETURN
-A TULLE_OUTPUT -m owner --uid-owner 1000 -j RETURN
-A TULLE_OUTPUT -o lo -j RETURN
-A TULLE_OUTPUT -d ::1 -j RETURN
-A TULLE_OUTPUT -d fe80::/10 -j RETURN
-A TULLE_OUTPUT -d ff00::/8 -j RETURN
-A TULLE_OUTPUT -p tcp -j REDIRECT --to-ports 15001
-A TULLE_PREROUTING -i lo -j RETURN
-A TULLE_PREROUTING -m addrtype ! --dst-type LOCAL -j RETURN
-A TULLE_PREROUTING -p tcp --dport 15006 -j RETURN
-A TULLE_PREROUTING -p tcp --dport 15020 -j RETURN
-A TULLE_PREROUTING -p tcp --dport 15021 -j RETURN
-A TULLE_PREROUTING -p tcp -j DNAT --to-destination :15006
COMMIT
"
    );
}

#[test]
fn flags_that_make_no_sense() {
    for (flags, wrong) in [
        ("--exclude-outbound-cidrs 10.0.0.1/33", "invalid value '10.0.0.1/33'"),
        ("--exclude-inbound-ports 70000", "invalid value '70000'"),
        ("--exclude-inbound-port 7", "unexpected argument '--exclude-inbound-port'"),
        ("more", "unexpected argument 'more'"),
        ("--help", "unexpected argument '--help'"),
    ] {
        let said = Options::parse(flags).unwrap_err();
        assert!(said.starts_with(wrong), "{flags}: {said}");
    }
}

/// Loads every script into a network namespace of its own, twice. Needs root.
#[test]
fn the_kernel_takes_the_rules_twice() {
    let inside = |tool: &str, script: &str| {
        let run = [tool, "<<'EOF' &&", tool, "<<'EOF'"];
        let [first, here, second, there] = run;
        let shell = format!("{first} {here} {second} {there}\n{script}EOF\n{script}EOF\n");
        let done = Tools { path: None }.pipe("unshare", &["-n", "sh", "-c", &shell], "");
        assert!(done.is_ok(), "{} (root is needed)\n{script}", done.unwrap_err());
    };
    let cases = [
        "",
        "--include-inbound-ports 8080",
        "--exclude-inbound-ports 22 --exclude-outbound-ports 25 --exclude-uids 7 --dns 15053 --resolvers 10.96.0.10,fd00::a \
         --exclude-outbound-cidrs 192.0.2.0/24,2001:db8::/32 --include-outbound-cidrs 10.0.0.0/8,fd00::/8",
    ];
    for flags in cases {
        let options = options(flags);
        for ipv6 in [true, false] {
            inside("nft -f -", &nft::script(&options, ipv6));
        }
        inside("iptables-restore --noflush", &iptables::script(&options, Family::V4));
        inside("ip6tables-restore --noflush", &iptables::script(&options, Family::V6));
    }
}
