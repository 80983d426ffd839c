use tulle_control_plane::telemetry::view::{End, HeaderView, RecordView};

use super::*;

fn end(namespace: &str, name: &str) -> End {
    End { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn record() -> RecordView {
    let text = str::to_owned;
    RecordView {
        time: text("2026-11-27T19:03:41.220113Z"),
        duration_seconds: 0.0021,
        direction: text("inbound"),
        pod: text("shop/pay-1"),
        caller: end("shop", "web"),
        workload: end("shop", "pay"),
        protocol: text("http/2"),
        method: text("GET"),
        path: text("/charge"),
        status: Some(200),
        ..RecordView::default()
    }
}

fn timeout() -> RecordView {
    let text = str::to_owned;
    RecordView {
        time: text("2026-11-27T19:03:42Z"),
        duration_seconds: 2.004,
        direction: text("outbound"),
        workload: end("", "unknown"),
        service: text("pay.bank.svc.cluster.local:80"),
        status: Some(504),
        failed: true,
        reason: text("timeout"),
        why: text("no answer within 2s, set by TrafficPolicy shop/slow spec.timeouts.request"),
        route: text("HTTPRoute/shop/pay#0"),
        attempts: 2,
        headers: vec![HeaderView { name: text("x-t"), value: text("a\u{1b}[2J"), response: false }],
        ..record()
    }
}

const PLAIN: Style = Style { wide: false, colored: false };

fn lines(records: &[RecordView], style: Style, width: Option<usize>) -> Vec<String> {
    let text = Lines::new("shop", style, width).of(records);
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_record_is_a_line_and_below_it_why() {
    let expected = [
        "19:03:41.220  in   web → pay       GET /charge  200  2.1ms",
        "19:03:42.000  out  web → bank/pay  GET /charge  504  2.0s  timeout",
        "    why: no answer within 2s, set by TrafficPolicy shop/slow spec.timeouts.request",
        "    > x-t: a\\u{1b}[2J",
    ];
    assert_eq!(lines(&[record(), timeout()], PLAIN, None), expected);
    let wide = lines(&[timeout()], Style { wide: true, ..PLAIN }, None);
    assert!(wide[3].contains("route=HTTPRoute/shop/pay#0  attempts=2"), "{wide:?}");
}

#[test]
fn nothing_that_strangers_sent_is_obeyed_by_a_terminal() {
    let bad = "\u{1b}]0;x\u{7}\u{9b}31m\r\n\u{202e}".to_owned();
    let evil = RecordView {
        time: bad.clone(),
        direction: bad.clone(),
        caller: End { namespace: bad.clone(), name: bad.clone() },
        workload: End { namespace: String::new(), name: bad.clone() },
        service: bad.clone(),
        method: bad.clone(),
        path: bad.clone(),
        grpc_status: bad.clone(),
        reason: bad.clone(),
        why: bad.clone(),
        pod: bad.clone(),
        route: bad.clone(),
        policy: bad.clone(),
        peer_id: bad.clone(),
        trace_id: bad.clone(),
        headers: vec![HeaderView { name: bad.clone(), value: bad, response: true }],
        ..record()
    };
    let mut of = Lines::new("shop", Style { wide: true, ..PLAIN }, Some(80));
    let text = of.of(&[evil]);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    assert_eq!(text.lines().count(), 4, "{text:?}");
}

#[test]
fn a_narrow_terminal_loses_the_end_of_paths_first() {
    let long = RecordView { path: format!("/{}", "x".repeat(200)), ..timeout() };
    for width in [60, 80, 120] {
        let line = lines(std::slice::from_ref(&long), PLAIN, Some(width))[0].clone();
        assert!(line.chars().count() <= width && line.contains('…'), "{width}: {line}");
        let end = if width < 72 { "504  2.0s" } else { "504  2.0s  timeout" };
        assert!(line.ends_with(end), "{line}");
    }
    let least = lines(&[long], Style { colored: true, ..PLAIN }, Some(20))[0].clone();
    assert!(least.contains("GET /xxxxxx…  \u{1b}[31m504\u{1b}[0m  2.0s"), "{least}");
}

#[test]
fn what_is_asked_is_in_the_url() {
    let read = |words: &[&str]| {
        let args = Args::try_parse_from([&["tap", "-n", "shop"], words].concat());
        args.map_err(|error| error.to_string())
            .and_then(|args| args.query().map_err(|error| error.to_string()))
    };
    for (words, query) in [
        (&[][..], "namespace=shop&most=200"),
        (&["pay"], "namespace=shop&name=pay&most=200"),
        (
            &["svc/pay", "--outbound"],
            "namespace=shop&kind=Service&name=pay&direction=outbound&most=200",
        ),
        (
            &["deploy/pay", "--status", "5xx", "--slower", "200ms", "--since", "1m", "--failed"],
            "namespace=shop&kind=Deployment&name=pay&status=5xx&slower=0.2&since=60&failed=true&most=200",
        ),
        (
            &["--header", "X-A=b c", "--show-header", "x-d", "--path", "/a&b", "--most", "7"],
            "namespace=shop&path=/a%26b&most=7&header=X-A%3Db%20c&show=x-d",
        ),
    ] {
        assert_eq!(read(words), Ok(query.to_owned()), "{words:?}");
        // As the control plane reads it.
        tulle_control_plane::telemetry::tap::Question::read(query).unwrap();
    }
    for (words, problem) in [
        (&["shop/pay"][..], "behind -n"),
        (&["--slower", "fast"], "200ms, 2s or 1m"),
        (&["--header", "Authorization=Bearer x"], "is masked"),
        (&["--most", "0"], "1..=1000"),
        (&["--inbound", "--outbound"], "cannot be used with"),
    ] {
        let said = read(words).unwrap_err();
        assert!(said.contains(problem), "{words:?}: {said}");
    }
}

#[test]
fn what_is_missing_is_said() {
    let page = TapView {
        records: Vec::new(),
        cursor: String::new(),
        missed: 3,
        left_out: 4,
        unheard: vec!["tulle-system/b".to_owned()],
        silent: ["a", "b", "c", "d", "e"].map(|pod| format!("shop/{pod}")).into(),
        asked: 6,
        not_asked: 9,
    };
    let said = doubts(&page).join("\n");
    for part in [
        "shop/a, shop/b, shop/c and 2 more",
        "tulle-system/b",
        "6 of 15 pods",
        "4 earlier",
        "3 requests",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let none =
        TapView { asked: 5, missed: 0, left_out: 0, not_asked: 0, unheard: Vec::new(), ..page };
    let said = doubts(&none);
    assert!(said.len() == 1 && said[0].contains("pods without one see nothing"), "{said:?}");
}
