//! Proxies of other versions than the control plane's.

use tulle_xds::model::{Feature, Features, Kind, Knob, Resource};

use crate::{
    CLUSTER,
    mesh::{Mesh, Proxy},
};

/// A proxy of an older version gets what it understands, and the status says what it does not.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_proxy_gets_what_it_understands_and_the_status_says_what_not() {
    const POD: &str = "shop/reviews-abc-1";
    let mesh = Mesh::start().await;
    mesh.save(
        "policy.yaml",
        "apiVersion: tulle.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: default}\n\
         spec: {proxy: {maxStreams: 9, maxHeaders: 50}}\n---\n\
         apiVersion: tulle.dev/v1alpha1\nkind: TrafficPolicy\n\
         metadata: {name: few, namespace: shop}\nspec: {targetRefs: [{group: '', kind: Service, \
         name: reviews}], limits: {requests: 5}}\n",
    );
    let about = Feature::Knob(Knob::MaxHeaders);
    // By what the older proxy knows: which settings it is told, and who is too old for which field.
    let (streams, setters) = (Knob::MaxStreams, Features::from_iter([Feature::Setters]));
    for (features, knobs, named, too_old) in [
        (Features::default(), vec![streams, Knob::MaxHeaders], true, vec![]),
        (Features::NONE, vec![], false, vec!["spec.proxy.maxHeaders", "spec.proxy.maxStreams"]),
        (setters, vec![], true, vec!["spec.proxy.maxHeaders", "spec.proxy.maxStreams"]),
        (
            Features::from_iter([about]),
            vec![Knob::MaxHeaders],
            false,
            vec!["spec.proxy.maxStreams"],
        ),
    ] {
        let identity = mesh.enrol(&mesh.token("reviews-abc-1", "uid-1")).await.unwrap();
        let mut proxy = Proxy::with(mesh.endpoint(Some(identity)), POD, features);
        let told = |known: Option<&Resource>| {
            matches!(known, Some(Resource::Workload(workload))
                if workload.knobs.keys().copied().collect::<Vec<_>>()
                    == Knob::ALL.into_iter().filter(|k| knobs.contains(k)).collect::<Vec<_>>()
                    && workload.setters.is_empty() != named)
        };
        proxy.until(Kind::Workload, POD, told).await;
        let limited = |known: Option<&Resource>| {
            matches!(known, Some(Resource::Cluster(cluster))
                if cluster.limits.requests == Some(5) && cluster.setters.is_empty() != named)
        };
        proxy.until(Kind::Cluster, CLUSTER, limited).await;
        let said = || {
            let status = mesh.status("MeshConfig", "default");
            status.is_some_and(|status| {
                let lines = too_old.iter().map(|field| format!("1 proxy too old for {field}"));
                status["inForce"]["of"] == 1
                    && status["message"] == lines.collect::<Vec<_>>().join("; ")
            })
        };
        mesh.eventually("the status says who is too old", said).await;
        drop(proxy);
        let gone = || {
            let status = mesh.status("MeshConfig", "default");
            status.is_some_and(|status| status["inForce"]["of"] == 0 && status["message"] == "")
        };
        mesh.eventually("it has gone", gone).await;
    }
}
