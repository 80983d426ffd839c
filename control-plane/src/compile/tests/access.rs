//! AccessPolicies: which pods they are about, and what their proxies are told.

use tulle_xds::model::{AccessMode, Feature};

use super::{routes::yaml, *};
use crate::world::Subject;

fn policy(namespace: &str, name: &str, spec: &str) -> Object {
    let text = format!(
        "{{apiVersion: tulle.dev/v1alpha1, kind: AccessPolicy, \
         metadata: {{namespace: {namespace}, name: {name}}}, spec: {{{spec}}}}}"
    );
    yaml(&text).remove(0)
}

fn told(world: &World, pod: &str) -> Vec<String> {
    let Some(Resource::Workload(workload)) = get(world, Kind::Workload, pod) else {
        panic!("no workload {pod}")
    };
    let text = |access: &tulle_xds::model::Access| {
        let rule = |rule: &tulle_xds::model::AccessRule| {
            let from: Vec<_> = rule.from.iter().map(ToString::to_string).collect();
            format!(" {} {:?}", from.join(","), rule.ports)
        };
        let mode = if access.mode == AccessMode::Audit { " (audit)" } else { "" };
        let rules: String = access.rules.iter().map(rule).collect();
        format!("{}/{}{mode}{rules}", access.origin.namespace, access.origin.name)
    };
    workload.access.iter().map(text).collect()
}

fn pods() -> [Object; 2] {
    [pod("a", "web", 9), pod("b", "api", 10)].map(|pod| Object::Pod(Arc::new(pod)))
}

#[test]
fn access_is_told_the_most_specific_policy_first() {
    let world = world(pods().into_iter().chain([
        policy("tulle-system", "deny", ""),
        policy("shop", "audited", "mode: Audit, rules: [{from: [{peers: Authenticated}]}]"),
        policy(
            "shop",
            "web",
            "selector: {matchLabels: {app: web}}, rules: [{ports: [9090], from: [{namespace: far}, \
             {serviceAccount: cart}, {namespace: far, serviceAccount: cart}, {peers: All}, \
             {identity: 'spiffe://else.where/ns/a/sa/b'}]}]",
        ),
        policy("far", "other", ""),
        policy("tulle-system", "own", "selector: {matchLabels: {app: web}}"),
    ]));
    let all = ["shop/audited (audit) spiffe://cluster.local/* []", "tulle-system/deny"];
    assert_eq!(told(&world, "shop/b"), all);
    let web = "shop/web spiffe://cluster.local/ns/far/*,spiffe://cluster.local/ns/shop/sa/cart,\
               spiffe://cluster.local/ns/far/sa/cart,*,spiffe://else.where/ns/a/sa/b [9090]";
    assert_eq!(told(&world, "shop/a"), [&[web][..], &all].concat());
    // A port that only a policy names is one of the pod's.
    let Some(Resource::Workload(workload)) = get(&world, Kind::Workload, "shop/a") else {
        panic!("no workload")
    };
    assert_eq!(workload.ports.iter().map(|port| port.port).collect::<Vec<_>>(), [8080, 9090]);
}

#[test]
fn access_touches_the_pods_that_it_is_about_and_no_other() {
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
    let selected = policy("shop", "x", "selector: {matchLabels: {app: web}}");
    assert_eq!(touched(&mut world, Event::Apply(selected.clone())), ["shop/a"]);
    assert_eq!(touched(&mut world, Event::Apply(selected)), [""; 0]);
    // Those that it was about, too.
    let other = policy("shop", "x", "selector: {matchLabels: {app: api}}");
    assert_eq!(touched(&mut world, Event::Apply(other)), ["shop/a", "shop/b"]);
    let elsewhere = policy("far", "x", "");
    assert_eq!(touched(&mut world, Event::Apply(elsewhere)), [""; 0]);
    let name = Name::new("shop", "x");
    let gone = Event::Delete(ObjectRef { kind: objects::Kind::AccessPolicy, name });
    assert_eq!(touched(&mut world, gone), ["shop/b"]);
}

#[test]
fn access_names_pods_that_nobody_keeps_to_it() {
    let bare = |name: &str, last| Pod { meshed: false, ..pod(name, "web", last) };
    let object =
        |name: &str| ObjectRef { kind: objects::Kind::AccessPolicy, name: Name::new("shop", name) };
    let mut world = world(pods().into_iter().chain([
        policy("shop", "web", "selector: {matchLabels: {app: web}}"),
        policy("shop", "api", "selector: {matchLabels: {app: api}}"),
        policy("tulle-system", "all", ""),
    ]));
    let missed =
        |world: &World, name: &str| standing(world, &object(name)).unwrap().without_sidecar;
    let mut dirty = Dirty::new();
    world.apply(Event::Apply(Object::Pod(Arc::new(bare("c", 11)))), &mut dirty);
    assert!(dirty.contains(&Subject::Policy(object("web"))));
    assert!(!dirty.contains(&Subject::Policy(object("api"))));
    assert_eq!(missed(&world, "web"), [Name::new("shop", "c")]);
    assert_eq!(missed(&world, "api"), []);
    let all = ObjectRef { name: Name::new("tulle-system", "all"), ..object("") };
    assert_eq!(standing(&world, &all).unwrap().without_sidecar, []);
    let mut dirty = Dirty::new();
    world.apply(Event::Apply(Object::Pod(Arc::new(pod("c", "web", 11)))), &mut dirty);
    assert!(dirty.contains(&Subject::Policy(object("web"))));
    assert_eq!(missed(&world, "web"), []);
}

#[test]
fn ports_past_the_sidecar_are_named() {
    let redirected = |only: &[u16], except: &[u16]| Redirected {
        only: only.into(),
        except: except.into(),
        own: vec![15021],
    };
    let pod = |name: &str, app: &str, last, redirected| {
        Object::Pod(Arc::new(Pod { redirected, ..pod(name, app, last) }))
    };
    let tls = |namespace: &str, name: &str, spec: &str| {
        let text = format!(
            "{{apiVersion: tulle.dev/v1alpha1, kind: MeshTLS, \
             metadata: {{namespace: {namespace}, name: {name}}}, spec: {{{spec}}}}}"
        );
        yaml(&text).remove(0)
    };
    let mut world = world([
        pod("a", "web", 9, redirected(&[], &[9090, 22])),
        pod("b", "web", 10, redirected(&[9000], &[])),
        pod("c", "api", 11, redirected(&[], &[])),
        Object::Pod(Arc::new(Pod { meshed: false, ..super::pod("d", "web", 12) })),
        policy(
            "shop",
            "web",
            "selector: {matchLabels: {app: web}}, rules: [{ports: [80], from: [{peers: Authenticated}]}]",
        ),
        policy("tulle-system", "all", ""),
        policy("far", "other", ""),
        tls("tulle-system", "strict", "mode: Strict"),
        tls("far", "strict", "mode: Strict"),
    ]);
    let named = |world: &World, kind, namespace: &str, name: &str| {
        let object = ObjectRef { kind, name: Name::new(namespace, name) };
        let bypassed = standing(world, &object).unwrap().bypassed.into_iter();
        bypassed.map(|(pod, ports)| format!("{pod} {ports:?}")).collect::<Vec<_>>().join("; ")
    };
    use objects::Kind::{AccessPolicy, MeshTls};
    let web = "shop/a [22, 9090]; shop/b [80, 8080]";
    assert_eq!(named(&world, AccessPolicy, "shop", "web"), web);
    let all = "shop/a [22, 9090]; shop/b [8080]";
    assert_eq!(named(&world, AccessPolicy, "tulle-system", "all"), all);
    assert_eq!(named(&world, MeshTls, "tulle-system", "strict"), all);
    for kind in [AccessPolicy, MeshTls] {
        let name = if kind == MeshTls { "strict" } else { "other" };
        assert_eq!(named(&world, kind, "far", name), "");
    }
    // Where everybody may come in anyway it is no matter; the others' statuses are worked out anew.
    let mut dirty = Dirty::new();
    let open = policy("shop", "open", "rules: [{ports: [9090], from: [{peers: All}]}]");
    world.apply(Event::Apply(open), &mut dirty);
    world
        .apply(Event::Apply(tls("shop", "x", "ports: [{port: 22, mode: Permissive}]")), &mut dirty);
    let status_of = |kind, namespace: &str, name: &str| {
        Subject::Policy(ObjectRef { kind, name: Name::new(namespace, name) })
    };
    for (kind, name) in [(AccessPolicy, "all"), (MeshTls, "strict")] {
        assert!(dirty.contains(&status_of(kind, "tulle-system", name)), "{name}");
    }
    assert_eq!(named(&world, AccessPolicy, "shop", "web"), "shop/a [22]; shop/b [80, 8080]");
    assert_eq!(named(&world, MeshTls, "tulle-system", "strict"), "shop/a [9090]; shop/b [8080]");
    // A more specific one takes over, and is the one to say it.
    world.apply(Event::Apply(tls("shop", "y", "mode: Strict")), &mut Dirty::new());
    assert_eq!(named(&world, MeshTls, "tulle-system", "strict"), "");
    assert_eq!(named(&world, MeshTls, "shop", "y"), "shop/a [9090]; shop/b [8080]");
    world.apply(Event::Apply(tls("shop", "y", "mode: Permissive")), &mut Dirty::new());
    assert_eq!(named(&world, MeshTls, "shop", "y"), "");
    // A pod whose ports lead elsewhere now.
    let mut dirty = Dirty::new();
    world.apply(Event::Apply(pod("a", "web", 9, redirected(&[], &[]))), &mut dirty);
    assert!(dirty.contains(&status_of(AccessPolicy, "shop", "web")));
    assert!(dirty.contains(&status_of(MeshTls, "tulle-system", "strict")));
    assert_eq!(named(&world, AccessPolicy, "shop", "web"), "shop/b [80, 8080]");
}

#[test]
fn access_is_in_force_where_it_is_understood() {
    let world = world(pods().into_iter().chain([policy("shop", "x", "")]));
    let from = contributors(&world, Kind::Workload, "shop/a").remove(0).1;
    let object = ObjectRef { kind: objects::Kind::AccessPolicy, name: Name::new("shop", "x") };
    assert!(from.all.contains(&object));
    let needs: Vec<_> = from.needs.iter().map(|need| (need.feature, &need.object)).collect();
    assert_eq!(needs, [(Feature::Access, &object)]);
    assert!(standing(&world, &object).is_some());
    // Stock Envoy has it in its own listener.
    let from = contributors(&world, Kind::Listener, "inbound/shop/a").remove(0).1;
    assert!(from.all.contains(&object));
}
