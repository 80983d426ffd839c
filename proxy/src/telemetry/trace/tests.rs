//! The cases of W3C's own suite (<https://github.com/w3c/trace-context/tree/main/test>) as a table, those of OpenTelemetry's
//! specification, and what holds for any bytes.

use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

use super::*;

const TRACE: &str = "12345678901234567890123456789012";
const CALLER: &str = "1234567890123456";

/// All that there is, and every trace that begins here recorded.
fn all() -> Tracing {
    Tracing { threshold: Threshold::of_ppm(1_000_000), b3: false, spans: true }
}

/// Of traces that begin here none.
fn none() -> Tracing {
    Tracing { threshold: None, ..all() }
}

fn headers(of: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in of {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

/// What goes on to an application, and where the request is.
fn enters(of: &[(&str, &str)], tracing: &Tracing) -> (HeaderMap, Option<Position>) {
    let mut headers = headers(of);
    let entered =
        enter(&mut headers, tracing, Way::FromStranger, &mut StdRng::seed_from_u64(7), || true);
    (headers, origin(entered).map(|origin| origin.position))
}

fn origin(entered: Entered) -> Option<Origin> {
    match entered {
        Entered::Nowhere => None,
        Entered::Undrawn => panic!("an application would get it"),
        Entered::At(origin) => Some(origin),
    }
}

/// What goes on from this application by its sidecar.
fn leaves(of: &[(&str, &str)], tracing: &Tracing) -> (HeaderMap, Entered) {
    let mut headers = headers(of);
    let entered =
        enter(&mut headers, tracing, Way::FromApplication, &mut StdRng::seed_from_u64(7), || true);
    (headers, entered)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn the_suite_of_w3c_traceparent() {
    let same = format!("00-{TRACE}-{CALLER}-01");
    let kept = [
        same.clone(),
        format!("cc-{TRACE}-{CALLER}-01"),
        format!("cc-{TRACE}-{CALLER}-01-what-the-future-will-be-like"),
        format!(" {same}"),
        format!("\t{same}"),
        format!("{same} "),
        format!("{same}\t"),
        format!("\t {same} \t"),
    ];
    for value in &kept {
        for name in ["traceparent", "TraceParent", "TrAcEpArEnT", "TRACEPARENT"] {
            let (headers, position) = enters(&[(name, value)], &all());
            let sent = text(&headers, "traceparent").unwrap();
            assert!(sent.starts_with(&format!("00-{TRACE}-")), "{value:?}: {sent}");
            assert!(
                !sent.contains(&format!("-{CALLER}-")) && sent.ends_with("-01"),
                "{value:?}: {sent}"
            );
            assert_eq!(position.unwrap().parent.unwrap().to_string(), CALLER);
        }
    }
    let restarted = [
        format!("{same}."),
        format!("{same}-what-the-future-will-be-like"),
        format!("cc-{TRACE}-{CALLER}-01.what-the-future-will-be-like"),
        format!("ff-{TRACE}-{CALLER}-01"),
        format!(".0-{TRACE}-{CALLER}-01"),
        format!("0.-{TRACE}-{CALLER}-01"),
        format!("000-{TRACE}-{CALLER}-01"),
        format!("0000-{TRACE}-{CALLER}-01"),
        format!("0-{TRACE}-{CALLER}-01"),
        format!("00-{}-{CALLER}-01", "0".repeat(32)),
        format!("00-.2345678901234567890123456789012-{CALLER}-01"),
        format!("00-1234567890123456789012345678901.-{CALLER}-01"),
        format!("00-123456789012345678901234567890123-{CALLER}-01"),
        format!("00-1234567890123456789012345678901-{CALLER}-01"),
        format!("00-{TRACE}-0000000000000000-01"),
        format!("00-{TRACE}-.234567890123456-01"),
        format!("00-{TRACE}-123456789012345.-01"),
        format!("00-{TRACE}-12345678901234567-01"),
        format!("00-{TRACE}-123456789012345-01"),
        format!("00-{TRACE}-{CALLER}-.0"),
        format!("00-{TRACE}-{CALLER}-0."),
        format!("00-{TRACE}-{CALLER}-001"),
        format!("00-{TRACE}-{CALLER}-1"),
        format!("00-{}-{CALLER}-01", TRACE.replace('1', "A")),
        String::new(),
    ];
    for value in &restarted {
        let (headers, position) =
            enters(&[("traceparent", value), ("tracestate", "foo=1")], &all());
        let sent = text(&headers, "traceparent").unwrap();
        assert!(!sent.contains("234567890123456789012") && !sent.contains(&"0".repeat(32)));
        assert_eq!(text(&headers, "tracestate"), Some("ot=th:0"), "{value:?}");
        assert_eq!((position.unwrap().parent, sent.ends_with("-03")), (None, true), "{value:?}");
        // As good as none, so that where none begins there is none.
        let (headers, position) =
            enters(&[("traceparent", value), ("tracestate", "foo=1")], &none());
        assert_eq!((headers.len(), position), (0, None), "{value:?}");
    }
    let twice = [("traceparent", &*same), ("traceparent", &*same)];
    let (headers, _) = enters(&twice, &all());
    assert_eq!(headers.get_all("traceparent").iter().count(), 1);
    assert!(!text(&headers, "traceparent").unwrap().contains(TRACE));
    for name in ["trace-parent", "trace.parent"] {
        let (headers, _) = enters(&[(name, &same)], &all());
        assert!(!text(&headers, "traceparent").unwrap().contains(TRACE));
    }
}

#[test]
fn each_request_that_is_recorded_has_a_span_of_its_own() {
    let same = format!("00-{TRACE}-{CALLER}-01");
    let (mut sent, mut rng) = (Vec::new(), StdRng::seed_from_u64(1));
    for value in [&*same, "", "00-00-00-00"] {
        for _ in 0..3 {
            let mut headers = headers(&[("traceparent", value)]);
            let entered = enter(&mut headers, &all(), Way::FromStranger, &mut rng, || true);
            sent.push(origin(entered).unwrap().position.span.to_string());
        }
    }
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(sent.len(), 9);
}

#[test]
fn the_suite_of_w3c_tracestate() {
    let numbered = |from: u32, to: u32| {
        (from..=to).map(|n| format!("bar{n:02}={n:02}")).collect::<Vec<_>>().join(",")
    };
    let (ten, twenty, thirty) = (numbered(1, 10), numbered(11, 20), numbered(21, 30));
    let (last, more) = (numbered(31, 32), numbered(31, 33));
    let (long, longer) = (format!("{}=1", "z".repeat(256)), format!("{}=1", "z".repeat(257)));
    let tenant = format!("{}@{}=1", "t".repeat(241), "v".repeat(14));
    let (tenant_long, system_long) =
        (format!("{}@v=1", "t".repeat(242)), format!("t@{}=1", "v".repeat(15)));
    let letters = "abcdefghijklmnopqrstuvwxyz0123456789_-*/";
    let printable: String = (' '..='~').filter(|c| !matches!(c, ',' | '=')).collect();
    let (every, with_vendor) =
        (format!("{letters}={printable}"), format!("{letters}@a-z0-9_-*/={printable}"));
    let all_of_them = [&*ten, &*twenty, &*thirty, &*last].join(",");
    let (foo_long, foo_tenant) = (format!("foo=1,{long}"), format!("foo=1,{tenant}"));
    type Case<'a> = (&'a [&'a str], Option<&'a str>);
    let cases: &[Case<'_>] = &[
        (&["foo=1,bar=2"], Some("foo=1,bar=2")),
        (&[""], None),
        (&[" , ,"], None),
        (&["foo=1", ""], Some("foo=1")),
        (&["", "foo=1"], Some("foo=1")),
        (&["foo=1,bar=2", "rojo=1,congo=2", "baz=3"], Some("foo=1,bar=2,rojo=1,congo=2,baz=3")),
        (&["foo=1,foo=1"], None),
        (&["foo=1,foo=2"], None),
        (&["foo=1", "foo=1"], None),
        (&["foo=1", "foo=2"], None),
        (&[&every], Some(&every)),
        (&[&with_vendor], Some(&with_vendor)),
        (&["foo=1 \t , \t bar=2, \t baz=3"], Some("foo=1 \t , \t bar=2, \t baz=3")),
        (&["foo=1\t \t,\t \tbar=2,\t \tbaz=3"], Some("foo=1\t \t,\t \tbar=2,\t \tbaz=3")),
        (&["\t foo=1 \t"], Some("\t foo=1 \t")),
        (&["foo =1"], None),
        (&["FOO=1"], None),
        (&["foo.bar=1"], None),
        (&["foo@=1,bar=2"], None),
        (&["@foo=1,bar=2"], None),
        (&["foo@@bar=1,bar=2"], None),
        (&["foo@bar@baz=1,bar=2"], None),
        (&[&ten, &twenty, &thirty, &last], Some(&all_of_them)),
        (&[&ten, &twenty, &thirty, &more], None),
        (&["foo=1", &long], Some(&foo_long)),
        (&["foo=1", &longer], None),
        (&["foo=1", &tenant], Some(&foo_tenant)),
        (&["foo=1", &tenant_long], None),
        (&["foo=1", &system_long], None),
        (&["foo=bar=baz"], None),
        (&["foo=,bar=3"], None),
        (&["foo"], None),
        (&["ot=th:c;rv:1234,foo=1"], Some("ot=th:c;rv:1234,foo=1")),
    ];
    let parent = format!("00-{TRACE}-{CALLER}-00");
    for (values, expected) in cases {
        let mut all_headers = vec![("traceparent", &*parent)];
        all_headers.extend(values.iter().map(|value| ("TraceState", *value)));
        let (headers, position) = enters(&all_headers, &all());
        assert_eq!(position.unwrap().trace.to_string(), TRACE);
        assert_eq!(text(&headers, "tracestate"), *expected, "{values:?}");
        assert!(headers.get_all("tracestate").iter().count() <= 1, "{values:?}");
        // Without a parent it is nobody's.
        let (headers, _) = enters(&all_headers[1..], &all());
        assert_eq!(text(&headers, "tracestate"), Some("ot=th:0"), "{values:?}");
    }
    for name in ["trace-state", "trace.state"] {
        let (headers, _) = enters(&[("traceparent", &parent), (name, "foo=1")], &all());
        assert_eq!(text(&headers, "tracestate"), None);
    }
}

#[test]
fn known_flags_are_kept_and_unknown_ones_are_not_sent() {
    for (flags, sent) in
        [("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("ff", "03"), ("fc", "00")]
    {
        for tracing in [all(), none()] {
            let (headers, position) =
                enters(&[("traceparent", &format!("00-{TRACE}-{CALLER}-{flags}"))], &tracing);
            assert!(
                text(&headers, "traceparent").unwrap().ends_with(&format!("-{sent}")),
                "{flags}"
            );
            assert_eq!(position.unwrap().is_sampled(), sent.ends_with(['1', '3']));
        }
    }
}

#[test]
fn without_tracing_headers_pass_and_none_come() {
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let brought: &[(&str, &str)] =
        &[("traceparent", &parent), ("tracestate", ","), ("b3", "0"), ("grpc-trace-bin", "AAA")];
    let off = Tracing { b3: true, ..Tracing::default() };
    assert_eq!(enters(brought, &off), (headers(brought), None));
    assert_eq!(enters(&[], &off), (headers(&[]), None));
    assert_eq!(enters(&[], &none()), (headers(&[]), None), "spans of others' traces alone");
}

#[test]
fn what_is_not_admitted_goes_on_as_it_came() {
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let brought = headers(&[("traceparent", &parent), ("tracestate", "foo=1")]);
    let mut rng = StdRng::seed_from_u64(17);
    let mut sent = brought.clone();
    let entered = enter(&mut sent, &all(), Way::FromStranger, &mut rng, || false);
    assert_eq!((entered, sent), (Entered::Nowhere, brought));
    // Nobody asks where nobody wants it.
    for parent in [&[][..], &[("traceparent", &*parent.replace("-01", "-00"))]] {
        let mut sent = headers(parent);
        let asked = || -> bool { panic!("asked") };
        enter(&mut sent, &all(), Way::FromStranger, &mut rng, asked);
    }
}

#[test]
fn what_is_not_recorded_goes_on_as_it_came() {
    for (version, flags, kept) in
        [("00", "00", true), ("00", "02", true), ("00", "04", false), ("cc", "00", false)]
    {
        let parent = format!("{version}-{TRACE}-{CALLER}-{flags}");
        let brought = [("traceparent", &*parent), ("tracestate", "foo=1")];
        let (sent, position) = enters(&brought, &all());
        assert_eq!(sent == headers(&brought), kept, "{parent}");
        assert_eq!(position.unwrap().parent.is_none(), kept, "{parent}");
        assert!(sent["traceparent"].is_sensitive(), "HPACK's tables do not see it");
        // Zipkin's headers name the parent, so that a span between is said.
        let (sent, _) = enters(&brought, &Tracing { b3: true, ..all() });
        assert_ne!(sent["traceparent"], *parent);
    }
}

#[test]
fn what_is_not_drawn_is_the_same_for_all_between_sidecars_and_in_a_trace_of_its_own_elsewhere() {
    let few = Tracing { threshold: Threshold::of_ppm(1), ..all() };
    let stale = [("tracestate", "foo=1")];
    for brought in [&[][..], &stale, &[("traceparent", UNDRAWN.to_str().unwrap())]] {
        let (sent, entered) = leaves(brought, &few);
        assert_eq!((sent.len(), &sent["traceparent"]), (1, &UNDRAWN), "{brought:?}");
        assert!(entered == Entered::Undrawn && !sent["traceparent"].is_sensitive());
    }
    assert!(matches!(leaves(&[], &all()).1, Entered::At(_)), "it is drawn");
    assert_eq!(leaves(&[], &none()), (HeaderMap::new(), Entered::Nowhere), "none begins");
    let (sent, entered) = leaves(&[], &Tracing { b3: true, ..few });
    assert!(entered != Entered::Undrawn && sent["x-b3-sampled"] == "0");

    // What a sidecar said holds even where each would be drawn, and where none has spans.
    let mut rng = StdRng::seed_from_u64(11);
    let off = Tracing::default();
    let mut traces = Vec::new();
    for tracing in [all(), none(), few, off, Tracing { b3: true, ..all() }] {
        let (mut headers, _) = leaves(&[], &few);
        let entered = enter(&mut headers, &tracing, Way::FromSidecar, &mut rng, || true);
        let read = parent::read(headers["traceparent"].as_bytes()).unwrap();
        assert_eq!(read.flags, RANDOM, "{tracing:?}");
        let position = origin(entered).map(|origin| origin.position);
        assert_eq!(
            position.map(|at| (at.trace, at.span)),
            tracing.spans.then_some((read.trace, read.span))
        );
        // Its application passes it on, and nobody draws again.
        let passed = headers.clone();
        let entered = enter(
            &mut headers,
            &Tracing { b3: false, ..tracing },
            Way::FromApplication,
            &mut rng,
            || true,
        );
        assert_eq!(headers, passed);
        assert!(origin(entered).is_none_or(|origin| !origin.position.is_sampled()));
        traces.push(read.trace.to_string());
    }
    traces.dedup();
    assert_eq!(traces.len(), 5, "{traces:?}");
    // From anybody else it is as good as none.
    let (sent, position) = enters(&[("traceparent", UNDRAWN.to_str().unwrap())], &all());
    assert!(position.unwrap().is_sampled() && sent["traceparent"] != UNDRAWN);
}

#[test]
fn ids_are_made_where_somebody_else_than_a_sidecar_gets_it() {
    let mut rng = StdRng::seed_from_u64(13);
    let few = Tracing { threshold: Threshold::of_ppm(1), ..all() };
    let position = begin_undrawn(&mut rng);
    let (mut sent, _) = leaves(&[], &few);
    resend(&mut sent, &position, &few);
    assert_eq!(sent["traceparent"], format!("00-{}-{}-02", position.trace, position.span));
    // Filters have said something else, or nothing.
    for mut filtered in [headers(&[("traceparent", "mine")]), headers(&[])] {
        let before = filtered.clone();
        resend(&mut filtered, &position, &few);
        assert_eq!(filtered, before);
    }
}

/// Cases of the specification's section on thresholds, and its ends.
#[test]
fn a_threshold_is_what_is_rejected_of_all_56_bits() {
    let third = Threshold::of_ppm(333_333).unwrap();
    for (ppm, expected) in [
        (1_000_000, "ot=th:0"),
        (2_000_000, "ot=th:0"),
        (500_000, "ot=th:8"),
        (250_000, "ot=th:c"),
        (10_000, "ot=th:fd70a3d70a3d70"),
        (1, "ot=th:ffffef39085f4a"),
    ] {
        assert_eq!(
            Threshold::of_ppm(ppm).unwrap().state().to_str().unwrap().trim_end_matches('0'),
            expected.trim_end_matches('0'),
            "{ppm}"
        );
    }
    assert_eq!(Threshold::of_ppm(0), None);
    assert!(third.draws(TraceId(u128::MAX)) && !third.draws(TraceId(u128::MAX << 56)));
    let half = Threshold::of_ppm(500_000).unwrap();
    assert!(half.draws(TraceId(0x80_0000_0000_0000)) && !half.draws(TraceId(0x7f_ffff_ffff_ffff)));
}

#[test]
fn a_root_says_how_it_was_drawn_and_one_that_was_not_says_nothing() {
    let half = Tracing { threshold: Threshold::of_ppm(500_000), ..all() };
    let mut rng = StdRng::seed_from_u64(3);
    let mut drawn = 0;
    for _ in 0..2000 {
        let mut headers = HeaderMap::new();
        let position = origin(enter(&mut headers, &half, Way::FromStranger, &mut rng, || true))
            .unwrap()
            .position;
        let (flags, state) =
            if position.is_sampled() { ("-03", Some("ot=th:8")) } else { ("-02", None) };
        assert!(text(&headers, "traceparent").unwrap().ends_with(flags));
        assert_eq!(text(&headers, "tracestate"), state);
        assert_eq!(position.is_sampled(), position.trace.randomness() >= 1 << 55);
        drawn += u32::from(position.is_sampled());
    }
    assert!((900..1100).contains(&drawn), "{drawn}");
}

#[test]
fn b3_is_read_and_written_in_the_form_in_which_it_came() {
    let b3 = Tracing { b3: true, ..none() };
    let single = format!("{TRACE}-{CALLER}-1");
    let (headers, position) = enters(&[("b3", &single)], &b3);
    let position = position.unwrap();
    assert_eq!(
        (position.trace.to_string(), position.parent.unwrap().to_string()),
        (TRACE.into(), CALLER.into())
    );
    assert_eq!(text(&headers, "b3").unwrap(), format!("{TRACE}-{}-1-{CALLER}", position.span));
    assert_eq!(text(&headers, "traceparent").unwrap(), format!("00-{TRACE}-{}-01", position.span));
    assert!(!headers.contains_key("x-b3-traceid"));

    let short = [("X-B3-TraceId", CALLER), ("X-B3-SpanId", CALLER), ("X-B3-Flags", "1")];
    let (headers, position) = enters(&short, &b3);
    let position = position.unwrap();
    assert!(position.is_sampled(), "debug is more than sampled");
    assert_eq!(text(&headers, "x-b3-traceid").unwrap(), format!("{}{CALLER}", "0".repeat(16)));
    assert_eq!(text(&headers, "x-b3-spanid").unwrap(), position.span.to_string());
    assert_eq!(
        (text(&headers, "x-b3-sampled"), text(&headers, "x-b3-parentspanid")),
        (Some("1"), Some(CALLER))
    );
    assert!(!headers.contains_key("b3"));

    // Where only the decision came, it is that of a new trace; who has not decided leaves it to us.
    for (value, tracing, expected) in [
        ("0", all(), Some(false)),
        ("0", none(), None),
        ("1", none(), Some(true)),
        ("d", none(), Some(true)),
        (&format!("{TRACE}-{CALLER}"), all(), Some(true)),
        (&format!("{TRACE}-{CALLER}"), none(), Some(false)),
        (&format!("{TRACE}-{CALLER}-0"), all(), Some(false)),
        ("what", none(), None),
        (&format!("{TRACE}-{CALLER}-x"), none(), None),
    ] {
        let (_, position) = enters(&[("b3", value)], &Tracing { b3: true, ..tracing });
        assert_eq!(position.map(|position| position.is_sampled()), expected, "{value}");
    }
    // W3C's header is asked first, and B3 only if it is on.
    let parent = format!("00-{TRACE}-{CALLER}-00");
    let (_, position) = enters(&[("traceparent", &parent), ("b3", "1")], &b3);
    assert!(!position.unwrap().is_sampled());
    let (headers, _) = enters(&[("b3", &single)], &all());
    assert_eq!(text(&headers, "b3"), Some(&*single));
    assert!(!text(&headers, "traceparent").unwrap().contains(TRACE));
}

#[test]
fn another_attempt_is_said_where_the_first_still_was() {
    let mut rng = StdRng::seed_from_u64(5);
    let mut sent = HeaderMap::new();
    let first =
        origin(enter(&mut sent, &all(), Way::FromStranger, &mut rng, || true)).unwrap().position;
    let second = first.beside(&mut rng);
    resend(&mut sent, &second, &all());
    assert!(text(&sent, "traceparent").unwrap().contains(&second.span.to_string()));
    let mut removed = HeaderMap::new();
    resend(&mut removed, &second, &all());
    assert!(removed.is_empty());
    let below = second.below(&mut rng);
    assert_eq!((below.parent, below.trace), (Some(second.span), first.trace));
}

proptest! {
    /// Any bytes: no panic, and what goes on is well formed and goes on as it is.
    #[test]
    fn what_goes_on_can_be_read(
        values in prop::collection::vec("\\PC{0,80}|[0-9a-f-]{50,60}|00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", 0..3),
        states in prop::collection::vec("[ -~\t]{0,60}|([a-z]{1,3}=[!-+]{1,3},?){0,4}", 0..3),
        b3 in "[0-9a-f-]{0,60}", on: bool, ppm in 0..1_000_001_u32,
    ) {
        let mut brought = HeaderMap::new();
        let names = [("traceparent", values), ("tracestate", states), ("b3", vec![b3])];
        for (name, values) in names {
            for value in values {
                if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                    brought.append(name, value);
                }
            }
        }
        let tracing = Tracing { threshold: Threshold::of_ppm(ppm), b3: on, spans: true };
        let mut rng = StdRng::seed_from_u64(u64::from(ppm));
        let mut first = brought.clone();
        let entered = origin(enter(&mut first, &tracing, Way::FromStranger, &mut rng, || true));
        let sampled = brought.get_all("traceparent").iter().count() == 1
            && parent::read(brought["traceparent"].as_bytes().trim_ascii()).is_some_and(|p| p.flags & SAMPLED != 0);
        match entered {
            None => prop_assert!(ppm == 0 && !first.contains_key("traceparent")),
            Some(Origin { position, state }) => {
                prop_assert!(!sampled || position.is_sampled(), "a sampled trace stays sampled");
                let sent = parent::read(first["traceparent"].as_bytes()).unwrap();
                prop_assert_eq!((sent.trace, sent.span, sent.flags), (position.trace, position.span, position.flags));
                prop_assert_eq!(first.get("tracestate"), state.as_ref());
                let mut next = first.clone();
                let second = origin(enter(&mut next, &tracing, Way::FromStranger, &mut rng, || true)).unwrap().position;
                let left_alone = !position.is_sampled() && !on;
                prop_assert_eq!(second.parent, (!left_alone).then_some(position.span));
                prop_assert!(!left_alone || next == first);
                prop_assert_eq!((second.trace, second.flags), (position.trace, position.flags));
                prop_assert_eq!(next.get("tracestate"), first.get("tracestate"));
            }
        }
    }

    /// Who samples more has all that who samples less has.
    #[test]
    fn draws_are_consistent(trace: u128, less in 1..1_000_001_u32, more in 1..1_000_001_u32) {
        let (less, more) = (less.min(more), less.max(more));
        let of = |ppm| Threshold::of_ppm(ppm).unwrap().draws(TraceId(trace));
        prop_assert!(!of(less) || of(more));
    }
}
