//! Pods' own addresses as destinations: also those of a headless Service, and of a pod without sidecar.

use std::process::Stdio;

use tulle_tests::{
    mesh::{Mesh, Pod},
    scene::{Failure, prove},
};

use super::{get, until};

const HEADLESS: &str = "\
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: bookstore}
spec:
  clusterIP: None
  selector: {app: reviews}
  ports: [{name: http, port: 9080}]
";
/// Where the pod without sidecar answers.
const PORT: &str = "8099";

/// From an Envoy. Only mTLS may be allowed meanwhile: then it is proven that it is that.
pub(super) async fn reached(mesh: &Mesh, envoy: &Pod, stranger: &Pod) -> Result<(), Failure> {
    let _headless = mesh.edit("headless.yaml", HEADLESS)?;
    let versions = ["reviews-v1", "reviews-v2"];
    for version in versions {
        let pod = mesh.pod("bookstore", version).await?;
        let url = format!("http://{}:9080/reviews/1", address(&pod)?);
        get(mesh, envoy, &url).await?;
        let plain = get(mesh, stranger, &url).await;
        prove(plain.is_err(), || format!("{version} took plaintext at its own address"))?;
    }
    // A port that nobody declares.
    let details = mesh.pod("bookstore", "details").await?;
    get(mesh, envoy, &format!("http://{}:8081/", address(&details)?)).await?;
    until(mesh, envoy, "http://headless.bookstore:9080/reviews/1", true).await?;

    let argv = ["python3", "-m", "http.server", PORT];
    let mut server = mesh.command(stranger, "stranger", &argv);
    let server = server.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
    let there = until(mesh, envoy, &format!("http://{}:{PORT}/", address(stranger)?), true).await;
    mesh.exec(stranger, "stranger", &["pkill", "-f", "http.server"]).await?;
    drop(server);
    there?;
    // An address of the mesh that nobody has.
    let nobody = get(mesh, envoy, "http://10.244.200.200:80/").await;
    prove(nobody.is_err(), || "an address that nobody has answers".into())
}

fn address(pod: &Pod) -> Result<&str, Failure> {
    pod.ip.as_deref().ok_or_else(|| Failure(format!("{} has no address", pod.name)))
}
