//! Telemetry: which pods it is about, and what their proxies are told.

use tulle_xds::model::{Feature, LogFormat, Telemetry, envoy};

use super::{routes::yaml, *};
use crate::world::Subject;

fn said(namespace: &str, name: &str, created: &str, spec: &str) -> Object {
    let text = format!(
        "{{apiVersion: tulle.dev/v1alpha1, kind: Telemetry, metadata: {{namespace: {namespace}, \
         name: {name}, creationTimestamp: '{created}'}}, spec: {{{spec}}}}}"
    );
    yaml(&text).remove(0)
}

/// What a pod tells, and who set what of it.
fn told(world: &World, pod: &str) -> (Telemetry, Vec<String>) {
    let Some(Resource::Workload(workload)) = get(world, Kind::Workload, pod) else {
        panic!("no workload {pod}")
    };
    let ours = workload.setters.iter().filter(|setter| setter.origin.kind == "Telemetry");
    let ours = ours.map(|s| format!("{} {}/{}", s.field, s.origin.namespace, s.origin.name));
    (*workload.telemetry, ours.collect())
}

fn pods() -> [Object; 2] {
    [pod("a", "web", 9), pod("b", "api", 10)].map(|pod| Object::Pod(Arc::new(pod)))
}

const DAY: &str = "2026-01-09T00:00:00Z";
const TAGS: &str = "tags: [{name: a, value: route}, {name: b, value: reason, maxValues: 3}]";
const COLLECTOR: &str = "destinations: [{endpoint: 'http://collector.far:4317'}]";

#[test]
fn telemetry_merges_field_by_field_and_names_who_set_what() {
    let objects = || {
        vec![
            said(
                "tulle-system",
                "mesh",
                "2026-01-01T00:00:00Z",
                &format!(
                    "traces: {{propagation: [B3], {COLLECTOR}}}, metrics: {{{COLLECTOR}, {TAGS}}}, \
                     logs: {{format: Envoy, fields: [{{name: a, value: route}}]}}"
                ),
            ),
            said(
                "shop",
                "all",
                "2026-01-02T00:00:00Z",
                "traces: {sampling: 5%}, logs: {filter: failed}",
            ),
            // Of the same level: younger, and by name.
            said(
                "shop",
                "also",
                "2026-01-03T00:00:00Z",
                "traces: {sampling: 9%}, logs: {fields: []}",
            ),
            said(
                "shop",
                "web",
                DAY,
                "selector: {matchLabels: {app: web}}, logs: {format: JSON}, traces: {disabled: true}",
            ),
            said("far", "other", DAY, "logs: {format: None}"),
        ]
    };
    // Whatever order they come in.
    for turn in 0..5 {
        let mut objects = objects();
        objects.rotate_left(turn);
        let world = world(pods().into_iter().chain(objects));
        let (api, setters) = told(&world, "shop/b");
        assert_eq!(
            setters,
            [
                "spec.logs.fields shop/also",
                "spec.logs.filter shop/all",
                "spec.logs.format tulle-system/mesh",
                "spec.metrics.destinations tulle-system/mesh",
                "spec.metrics.tags tulle-system/mesh",
                "spec.traces.destinations tulle-system/mesh",
                "spec.traces.propagation tulle-system/mesh",
                "spec.traces.sampling shop/all",
            ]
        );
        let traces = &api.traces;
        assert_eq!((traces.sampling_ppm, traces.b3, traces.destinations.len()), (50_000, true, 1));
        assert_eq!((api.logs.format, api.logs.filter.as_str()), (LogFormat::Envoy, "failed"));
        assert_eq!((api.logs.fields.len(), api.metrics.interval_ms), (0, 60_000));
        let tags = api.metrics.tags.iter().map(|tag| (tag.expression.as_str(), tag.max_values));
        assert_eq!(tags.collect::<Vec<_>>(), [("route", 10), ("reason", 3)]);
        let (web, setters) = told(&world, "shop/a");
        assert_eq!((web.traces.sampling_ppm, web.traces.destinations.len()), (0, 0));
        assert_eq!((web.logs.format, web.logs.filter.as_str()), (LogFormat::Json, "failed"));
        assert!(setters.contains(&"spec.logs.format shop/web".to_owned()), "{setters:?}");
    }
    let nothing = world(pods());
    assert_eq!(told(&nothing, "shop/a"), (Telemetry::default(), Vec::new()));
    let world = world(pods().into_iter().chain([said(
        "shop",
        "x",
        DAY,
        &format!("traces: {{{COLLECTOR}}}"),
    )]));
    assert_eq!(told(&world, "shop/a").0.traces.sampling_ppm, 10_000);
}

#[test]
fn what_is_said_of_a_pod_first_says_whether_its_proxy_counts() {
    let off = |namespace, name, spec: &str| said(namespace, name, DAY, spec);
    let world = world(pods().into_iter().chain([
        off("tulle-system", "mesh", "metrics: {disabled: false}"),
        off("shop", "quiet", "metrics: {disabled: true}"),
        off("shop", "web", "selector: {matchLabels: {app: web}}, logs: {format: JSON}"),
        off("shop", "api", "selector: {matchLabels: {app: api}}, metrics: {disabled: false}"),
    ]));
    let by = |pod: &str| {
        let pod = world.pod(&Name::new("shop", pod)).unwrap();
        world.uncounted_by(pod).map(ToString::to_string)
    };
    assert_eq!((by("a"), by("b")), (Some("shop/quiet".to_owned()), None));
}

#[test]
fn telemetry_touches_the_pods_that_it_is_about_and_no_other() {
    let mut world = world(pods());
    let touched = |world: &mut World, event: Event| -> Vec<String> {
        let mut dirty = Dirty::new();
        world.apply(event, &mut dirty);
        let pods = dirty.into_iter().map(|subject| match subject {
            Subject::Pod(name) => name.to_string(),
            other => panic!("{other:?}"),
        });
        pods.collect()
    };
    let web = said("shop", "x", DAY, "selector: {matchLabels: {app: web}}");
    assert_eq!(touched(&mut world, Event::Apply(web.clone())), ["shop/a"]);
    assert_eq!(touched(&mut world, Event::Apply(web)), [""; 0]);
    let all = said("shop", "x", DAY, "logs: {format: None}");
    assert_eq!(touched(&mut world, Event::Apply(all)), ["shop/a", "shop/b"]);
    assert_eq!(touched(&mut world, Event::Apply(said("far", "x", DAY, ""))), [""; 0]);
    let mesh = said("tulle-system", "x", DAY, "");
    assert_eq!(touched(&mut world, Event::Apply(mesh)), ["shop/a", "shop/b"]);
    let name = Name::new("shop", "x");
    let gone = Event::Delete(ObjectRef { kind: objects::Kind::Telemetry, name });
    assert_eq!(touched(&mut world, gone), ["shop/a", "shop/b"]);
}

#[test]
fn telemetry_has_a_status_and_older_proxies_lack_it() {
    let world = world(pods().into_iter().chain([said("shop", "x", DAY, "logs: {format: None}")]));
    let object = ObjectRef { kind: objects::Kind::Telemetry, name: Name::new("shop", "x") };
    assert_eq!(standing(&world, &object), Some(Default::default()));
    let [(None, behind)] = &contributors(&world, Kind::Workload, "shop/a")[..] else {
        panic!("one, for everybody")
    };
    assert!(behind.all.contains(&object));
    let needs: Vec<_> =
        behind.needs.iter().map(|n| (n.feature, n.object.clone(), n.field.as_str())).collect();
    assert_eq!(needs, [(Feature::Telemetry, object.clone(), "spec")]);
    // Stock Envoy does nothing of it.
    for name in ["inbound/shop/a", "outbound/shop/a"] {
        assert!(envoy::own_listener(name).is_some());
        let behind = contributors(&world, Kind::Listener, name);
        assert!(behind.iter().all(|(_, behind)| !behind.all.contains(&object)), "{behind:?}");
    }
}
