//! What a step of a release does beside dividing by share.

use http::HeaderName;
use tulle_api::StickBy;
use tulle_xds::model::{
    Feature, HeaderMatch, Match, PathMatch, QueryMatch, Regex, Rule, Stick, StringMatch,
};

use super::{
    super::routes::{policy_yaml, route_yaml, yaml},
    *,
};
use crate::release::Step;

fn beta() -> Match {
    let name = HeaderName::from_static("x-beta");
    let value = StringMatch::Exact("1".to_owned());
    Match { headers: vec![HeaderMatch { name, value }], ..Match::default() }
}

fn user() -> Match {
    let value = StringMatch::Regex(Regex::new("a.*").unwrap());
    Match { query: vec![QueryMatch { name: "u".to_owned(), value }], ..Match::default() }
}

fn step(matches: &[Match], mirror: u8) -> Step {
    Step { matches: matches.to_vec(), mirror, ..Step::default() }
}

/// In its second step; the first says nothing.
fn stepping(step: Step) -> Release {
    let course = Course { step: Some(1), ..course(Phase::Progressing, 0) };
    let steps = vec![Step::default(), step];
    Release { plan: Plan { steps, ..Plan::default() }, ..release(course) }
}

/// One that says all that steps can.
pub(super) fn anything() -> Release {
    let mut release = stepping(step(&[beta()], 10));
    release.plan.stick_by = Some(StickBy { source_ip: true, ..StickBy::default() });
    release
}

/// The [`shop`] with this in place of its release, a Service `api` that nobody divides, and more.
fn with(release: Release, more: &str) -> World {
    let mut world = shop(Course::default(), "http");
    let more = yaml(&more.replace("name: s0", "name: web"));
    let objects =
        [Object::Release(Arc::new(release)), Object::Service(Arc::new(service("api", "api", 101)))];
    for object in objects.into_iter().chain(more) {
        world.apply(Event::Apply(object), &mut Dirty::new());
    }
    world
}

fn rules(world: &World) -> Vec<Rule> {
    let Some(Resource::Route(route)) = get(world, Kind::Route, STABLE) else { panic!("no route") };
    let bytes = Resource::Route(route.clone()).encode();
    assert_eq!(Resource::decode(Kind::Route, STABLE, &bytes), Ok(Resource::Route(route.clone())));
    route.rules
}

/// Each rule: `GET /a x-beta u: canary/web 5 web 95, copies canary/web 9.5%`.
fn lines(world: &World) -> Vec<String> {
    let line = |rule: Rule| {
        let Match { path, method, headers, query } = rule.matches;
        let path = match path {
            PathMatch::Exact(path) => path,
            PathMatch::Prefix(path) => format!("{path}/"),
            PathMatch::Regex(regex) => regex.source().to_owned(),
        };
        let method = method.map(|method| method.to_string());
        let headers = headers.iter().map(|header| header.name.to_string());
        let query = query.iter().map(|query| query.name.clone());
        let matches: Vec<_> =
            method.into_iter().chain([path]).chain(headers).chain(query).collect();
        let short =
            |cluster: &str| cluster.replace("service/", "").replace("shop/", "").replace("/80", "");
        let action = match rule.action {
            Action::Forward(all) => {
                let sum: u64 = all.iter().map(|one| u64::from(one.weight)).sum();
                let shares = all.iter().map(|one| {
                    format!("{} {}", short(&one.cluster), u64::from(one.weight) * 100 / sum)
                });
                shares.collect::<Vec<_>>().join(" ")
            }
            other => format!("{other:?}"),
        };
        let copies = rule.mirrors.iter().map(|mirror| {
            format!(", copies {} {}%", short(&mirror.cluster), f64::from(mirror.millionths) / 1e4)
        });
        format!("{}: {action}{}", matches.join(" "), copies.collect::<String>())
    };
    rules(world).into_iter().map(line).collect()
}

fn http(rules: &str) -> String {
    route_yaml("HTTPRoute", "r", &format!("rules: [{rules}]"))
}

#[test]
fn what_matches_goes_to_the_canary_and_of_others_there_are_copies() {
    let whole = "canary/web 100 web 0";
    let none = "canary/web 0 web 100";
    let to_web = "backendRefs: [{name: web, port: 80}]";
    let get = |base: &str| {
        ["GET", "HEAD", "OPTIONS"]
            .map(|method| format!("{method} {base}: {none}, copies canary/web 10%"))
    };
    check([
        (step(&[], 0), String::new(), vec![format!("/: {none}")]),
        (
            step(&[beta(), user()], 0),
            String::new(),
            vec![format!("/ x-beta: {whole}"), format!("/ u: {whole}"), format!("/: {none}")],
        ),
        (
            step(&[beta()], 10),
            String::new(),
            [vec![format!("/ x-beta: {whole}")], get("/").to_vec(), vec![format!("/: {none}")]]
                .concat(),
        ),
        // Each before the one that it comes of, whatever stands before that.
        (
            step(&[beta()], 0),
            http(&format!(
                "{{matches: [{{path: {{value: /}}}}, {{path: {{value: /a}}, headers: [{{name: x-b, value: c}}]}}], {to_web}}}, \
                 {{matches: [{{path: {{value: /a}}}}], backendRefs: [{{name: api, port: 80}}]}}"
            )),
            vec![
                format!("/a/ x-b x-beta: {whole}"),
                format!("/a/ x-b: {none}"),
                "/a/: api 100".to_owned(),
                format!("/ x-beta: {whole}"),
                format!("/: {none}"),
            ],
        ),
        // A rule's own method; and what it says itself is not said twice.
        (
            step(&[beta()], 10),
            http(&format!(
                "{{matches: [{{method: POST}}, {{method: GET, headers: [{{name: x-beta, value: '1'}}]}}], {to_web}}}"
            )),
            vec![
                format!("GET / x-beta: {whole}"),
                format!("GET / x-beta: {none}, copies canary/web 10%"),
                format!("POST / x-beta: {whole}"),
                format!("POST /: {none}"),
            ],
        ),
    ]);
}

#[test]
fn other_backends_and_calls_of_grpc_are_left_alone() {
    let to_web = "backendRefs: [{name: web, port: 80}]";
    let half = "{backendRefs: [{name: web, port: 80}, {name: api, port: 80}]}";
    check([
        // Another backend keeps what it has, and its requests have no copies.
        (
            step(&[beta()], 10),
            http(half),
            vec![
                "/ x-beta: canary/web 50 web 0 api 50".to_owned(),
                "GET /: canary/web 0 web 50 api 50, copies canary/web 5%".to_owned(),
                "HEAD /: canary/web 0 web 50 api 50, copies canary/web 5%".to_owned(),
                "OPTIONS /: canary/web 0 web 50 api 50, copies canary/web 5%".to_owned(),
                "/: canary/web 0 web 50 api 50".to_owned(),
            ],
        ),
        (
            step(&[beta()], 10),
            http("{backendRefs: [{name: api, port: 80}]}"),
            vec!["/: api 100".to_owned()],
        ),
        (
            step(&[beta()], 10),
            http(&format!(
                "{{filters: [{{type: RequestRedirect, requestRedirect: {{port: 81}}}}]}}, \
                 {{matches: [{{path: {{value: /a}}}}], {}}}",
                to_web.replace("port: 80", "port: 80, weight: 0")
            )),
            vec!["/a/: Fail(500)".to_owned(), "/: Redirect".to_owned()],
        ),
        // Calls of gRPC have no copies.
        (
            step(&[beta()], 10),
            route_yaml("GRPCRoute", "r", &format!("rules: [{{{to_web}}}]")),
            vec!["/ x-beta: canary/web 100 web 0", "/: canary/web 0 web 100"]
                .into_iter()
                .map(str::to_owned)
                .collect(),
        ),
    ]);
}

/// Steps, routes, and the rules that come of both.
fn check(table: impl IntoIterator<Item = (Step, String, Vec<String>)>) {
    for (step, routes, expected) in table {
        let found = lines(&with(stepping(step), &routes)).into_iter();
        let found = found.map(|line| match line.split_once("Redirect(") {
            Some((before, _)) => format!("{before}Redirect"),
            None => line,
        });
        assert_eq!(found.collect::<Vec<_>>(), expected, "{routes}");
    }
}

#[test]
fn the_step_counts_while_it_is_in_progress_or_takes_over_and_the_canary_serves() {
    let matched = |course: Course, serves: bool| {
        let release = Release { course: Some(Arc::new(course)), ..stepping(step(&[beta()], 10)) };
        let mut world = with(release, "");
        if !serves {
            let mut pod = versioned("new-5", "new", 5);
            pod.life.serving = false;
            world.apply(Event::Apply(Object::Pod(Arc::new(pod))), &mut Dirty::new());
        }
        lines(&world).len() == 5
    };
    let at = |phase, at, lifted| Course { step: Some(at), lifted, ..course(phase, 5) };
    for (course, expected) in [
        (at(Phase::Progressing, 1, false), true),
        (at(Phase::Paused, 1, false), true),
        (at(Phase::Progressing, 0, false), false),
        (at(Phase::Progressing, 2, false), false),
        (course(Phase::Waiting, 0), false),
        (course(Phase::Paused, 0), false),
        (at(Phase::Promoting, 1, true), true),
        (at(Phase::Paused, 1, true), true),
        (at(Phase::Held, 1, false), false),
    ] {
        assert_eq!(matched(course.clone(), true), expected, "{course:?}");
        assert!(!matched(course.clone(), false), "{course:?}, and nobody serves");
    }
}

#[test]
fn a_service_without_endpoints_of_the_canary_sends_it_nothing() {
    let course = Course { step: Some(1), ..course(Phase::Progressing, 5) };
    let release = Release { course: Some(Arc::new(course)), ..stepping(step(&[beta()], 10)) };
    let mut world = with(release, &http("{backendRefs: [{name: web, port: 80}]}"));
    assert_eq!(lines(&world).len(), 5);
    let pods: Vec<_> = (1..=4).map(|last| versioned(&format!("old-{last}"), "old", last)).collect();
    let mut stable = slice("web-1", "web", &pods[0]);
    stable.endpoints = pods.iter().map(|pod| slice("", "", pod).endpoints.remove(0)).collect();
    let mut dirty = Dirty::new();
    world.apply(Event::Apply(Object::EndpointSlice(Arc::new(stable))), &mut dirty);
    assert_eq!(lines(&world), ["/: canary/web 0 web 100"]);
    assert!(dirty.contains(&subject(Kind::Route, STABLE).unwrap()));
    // Nor where another Service of the same release has some.
    let both = vec!["web".to_owned(), "api".to_owned()];
    let release = Release { services: both, ..stepping(step(&[beta()], 0)) };
    let world =
        with(release, &http("{backendRefs: [{name: web, port: 80}, {name: api, port: 80}]}"));
    let expected = "/ x-beta: canary/web 50 web 0 canary/api 0 api 50";
    assert_eq!(lines(&world)[0], expected);
}

#[test]
fn copies_are_of_what_the_stable_version_gets() {
    let copied = |weight: u8| {
        let course = Course { step: Some(1), ..course(Phase::Progressing, weight) };
        let release = Release { course: Some(Arc::new(course)), ..stepping(step(&[], 50)) };
        // A limit of the route's is not about copies.
        let rest = http("{backendRefs: [{name: web, port: 80}]}");
        let limits = policy_yaml("p", "kind: HTTPRoute, name: r", "limits: {requests: 1}");
        lines(&with(release, &(rest + &limits))).remove(0)
    };
    let via = "/HTTPRoute/r";
    let shares = |new: u8| format!("GET /: canary/web{via} {new} web{via} {}", 100 - new);
    assert_eq!(copied(0), format!("{}, copies canary/web 50%", shares(0)));
    assert_eq!(copied(20), format!("{}, copies canary/web 40%", shares(20)));
}

/// A Service with a release of its own, of two workloads with a pod each.
fn second(matches: &[Match]) -> Vec<Object> {
    let pod = Pod { labels: labels("second"), ..versioned("second-9", "new", 9) };
    let pod = Pod { owner: Some(("StatefulSet".to_owned(), "second2".to_owned())), ..pod };
    let workload = |name: &str| ("StatefulSet".to_owned(), name.to_owned());
    let course = Course {
        step: Some(1),
        stable: "second".to_owned(),
        canary: "second2".to_owned(),
        ..course(Phase::Progressing, 0)
    };
    let release = Release {
        name: Name::new("shop", "second"),
        target: Target::Two { stable: workload("second"), canary: workload("second2") },
        course: Some(Arc::new(course)),
        ..stepping(step(matches, 0))
    };
    let stable = Pod {
        name: Name::new("shop", "second-8"),
        uid: "8".to_owned(),
        ips: vec![ip(8)],
        ..pod.clone()
    };
    let stable = Pod { owner: Some(workload("second")), ..stable };
    let slice = |pod: &Pod| slice(&pod.name.name, "second", pod);
    vec![
        Object::EndpointSlice(Arc::new(slice(&pod))),
        Object::EndpointSlice(Arc::new(slice(&stable))),
        Object::Service(Arc::new(service("second", "second", 102))),
        Object::Pod(Arc::new(pod)),
        Object::Pod(Arc::new(stable)),
        Object::Release(Arc::new(release)),
    ]
}

#[test]
fn of_two_releases_in_a_rule_each_has_its_conditions() {
    let both = http("{backendRefs: [{name: web, port: 80}, {name: second, port: 80}]}");
    let mut world = with(stepping(step(&[beta()], 10)), &both);
    for object in second(&[user()]) {
        world.apply(Event::Apply(object), &mut Dirty::new());
    }
    let copies = ", copies canary/web 5%";
    let safe = |base: &str, rest: &str| {
        ["GET", "HEAD", "OPTIONS"].map(|method| format!("{method} {base}: {rest}{copies}"))
    };
    let expected = [
        vec!["/ x-beta u: canary/web 50 web 0 canary/second 50 second 0".to_owned()],
        vec!["/ x-beta: canary/web 50 web 0 canary/second 0 second 50".to_owned()],
        safe("/ u", "canary/web 0 web 50 canary/second 50 second 0").to_vec(),
        vec!["/ u: canary/web 0 web 50 canary/second 50 second 0".to_owned()],
        safe("/", "canary/web 0 web 50 canary/second 0 second 50").to_vec(),
        vec!["/: canary/web 0 web 50 canary/second 0 second 50".to_owned()],
    ];
    assert_eq!(lines(&world), expected.concat());
}

fn reference() -> ObjectRef {
    ObjectRef { kind: objects::Kind::Release, name: Name::new("shop", "web") }
}

fn said(world: &World) -> Vec<String> {
    let said = complaints(world, &reference()).into_iter();
    said.map(|complaint| complaint.to_string()).collect()
}

#[test]
fn more_rules_than_there_may_be_are_said_and_not_made() {
    // With eight conditions each match makes eight rules more, and three more with copies.
    let conditions: Vec<_> = (0..8)
        .map(|n| {
            let mut one = beta();
            one.headers[0].value = StringMatch::Exact(n.to_string());
            one
        })
        .collect();
    let many = |each: usize| {
        let paths = (0..each).map(|n| format!("{{path: {{value: /{n}}}}}")).collect::<Vec<_>>();
        let rule =
            format!("{{matches: [{}], backendRefs: [{{name: web, port: 80}}]}}", paths.join(", "));
        http(&[rule.as_str(), &rule, &rule, &rule].join(", "))
    };
    for (mirror, each, expected) in [(0, 64, 256 * 9), (1, 46, 184 * 12), (1, 47, 188)] {
        let world = with(stepping(step(&conditions, mirror)), &many(each));
        assert_eq!(rules(&world).len(), expected, "{each}");
        let more = "spec.steps[1]: HTTPRoute shop/r would have 2068 more rules by it, and 2048 are \
                    possible: there it is its weight alone that counts";
        let all = if expected == 188 { vec![more] } else { Vec::new() };
        assert_eq!(said(&world), all, "{each}");
    }
}

#[test]
fn who_stays_with_a_version_is_what_the_release_says() {
    let cookie = StickBy { cookie: Some("sid".to_owned()), ..StickBy::default() };
    let header = StickBy { header: Some("x-user".to_owned()), ..StickBy::default() };
    let rule = |told: &str| http(&format!("{{backendRefs: [{{name: {told}, port: 80}}]}}"));
    for (stick_by, routes, expected) in [
        (None, String::new(), None),
        (Some(cookie.clone()), String::new(), Some(Stick::Cookie("sid".to_owned()))),
        (Some(cookie.clone()), rule("web"), Some(Stick::Cookie("sid".to_owned()))),
        (Some(header), rule("web"), Some(Stick::Header(HeaderName::from_static("x-user")))),
        (
            Some(StickBy { source_ip: true, ..StickBy::default() }),
            String::new(),
            Some(Stick::SourceIp),
        ),
        (Some(cookie.clone()), rule("api"), None),
        (Some(cookie), rule("gone"), None),
    ] {
        let mut release = stepping(step(&[beta()], 10));
        release.plan.stick_by = stick_by;
        let world = with(release, &routes);
        for rule in rules(&world) {
            assert_eq!(rule.stick, expected, "{routes}");
        }
        let needs = &contributors(&world, Kind::Route, STABLE)[0].1.needs;
        let sticky = needs
            .iter()
            .any(|need| need.feature == Feature::Sticky && need.field == "spec.stickBy");
        assert_eq!(sticky, expected.is_some(), "{routes}");
    }
}

#[test]
fn what_grpc_does_not_do_of_it_is_said() {
    let mut world = with(anything(), "");
    let beyond = standing(&world, &reference()).unwrap().beyond_grpc;
    assert_eq!(beyond, ["spec.stickBy", "spec.steps[1].mirror"]);
    assert_eq!(said(&world), [""; 0]);
    let complaint = |at: &str| {
        format!(
            "spec.steps[1].mirror: no call of gRPC is copied, so none at {at}: each is a POST, which may change something"
        )
    };
    // Whatever makes it so touches the release.
    let route = route_yaml("GRPCRoute", "r", "rules: [{backendRefs: [{name: web, port: 80}]}]");
    let mut calls = service("web", "web", 100);
    calls.ports[0].name = "grpc".to_owned();
    let calls = Object::Service(Arc::new(calls));
    for (object, at) in
        [(yaml(&route).remove(0), "GRPCRoute shop/r"), (calls, "port 80 of Service shop/web")]
    {
        let mut dirty = Dirty::new();
        world.apply(Event::Apply(object), &mut dirty);
        assert_eq!(said(&world), [complaint(at)]);
        assert!(dirty.contains(&Subject::Policy(reference())), "{at}");
    }
    // It has none of the rules that no call could match.
    assert_eq!(lines(&world).len(), 2);
    let key = Key { dialect: Dialect::Grpc, ..Key::new(Kind::Route, STABLE) };
    let bytes = contents(&world, &settings(), &key).shared.unwrap();
    assert!(bytes.windows(6).any(|part| part == b"x-beta"));
}
