//! `tulle local` is killed with -9 beside another mesh of this machine, which must not notice.

use std::{process::Command, time::Duration};

use tokio::time::{Instant, sleep};
use tulle_tests::{
    load::{self, Caller},
    mesh::{DataPlane, Mesh},
    scene::{Failure, Figures, Stage, prove},
};

/// A caller, and a server that is its own readiness probe.
const YAML: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {tulle.dev/inject: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: python:3.13-slim
    command: [python3, -m, http.server, \"8080\"]
    readinessProbe: {httpGet: {port: 8080, path: /}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: client, image: debian:12, command: [sleep, infinity]}]
";
const URL: &str = "http://web.shop/";

pub(crate) async fn run(stage: &Stage) -> Result<Figures, Failure> {
    let bystander = Mesh::of("bystander", YAML, DataPlane::Tulle, &[], stage.raw()).await?;
    let victim = Mesh::of("victim", YAML, DataPlane::Tulle, &[], stage.raw()).await?;
    let result = play(&bystander, &victim).await;
    victim.down().await?;
    bystander.down().await?;
    result
}

async fn play(bystander: &Mesh, victim: &Mesh) -> Result<Figures, Failure> {
    for mesh in [bystander, victim] {
        mesh.ready().await?;
        get(mesh).await?;
    }
    let caller = Caller::new(bystander, "shop", "client", "client").await?;
    let load = caller.fortio("bystander", &["-c", "2", "-qps", "50", "-t", "5m", URL]);
    let crash = async {
        let result = crash(victim).await;
        caller.interrupt("fortio").await?;
        result
    };
    let (counted, figures) = tokio::join!(load, crash);
    let (counted, mut figures) = (counted?, figures?);
    let lost = counted.but(&["200"]);
    prove(lost.is_empty(), || format!("the mesh beside it lost {}", lost.join(", ")))?;
    figures.insert("requests_in_the_mesh_beside_it", load::float(counted.all()));
    Ok(figures)
}

async fn crash(mesh: &Mesh) -> Result<Figures, Failure> {
    // What a person sees and kills is the process outside; its own first process is inside.
    let outside = mesh.pids()?.pop().unwrap_or_default();
    let killed = Command::new("kill").args(["-9", &outside]).status()?;
    prove(killed.success(), || format!("there is no process {outside}"))?;
    let start = Instant::now();
    mesh.start(DataPlane::Tulle, &[]).await?;
    mesh.ready().await?;
    while get(mesh).await.is_err() {
        prove(start.elapsed().as_secs() < 30, || "no answer within 30 s of the new `up`".into())?;
        sleep(Duration::from_millis(20)).await;
    }
    Ok(Figures::from([("up_again_to_an_answer_s", start.elapsed().as_secs_f64())]))
}

async fn get(mesh: &Mesh) -> Result<(), Failure> {
    let client = mesh.pod("shop", "client").await?;
    mesh.exec(&client, "client", &["curl", "-sSf", "-m", "5", "-o", "/dev/null", URL]).await?;
    Ok(())
}
