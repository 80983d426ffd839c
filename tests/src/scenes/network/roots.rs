//! Certificates are renewed, and one root takes over from another, while requests go on.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{process::Command, time::Instant};
use tulle_tests::{
    load::{Caller, float},
    mesh::{Pod, binaries, save},
    scene::{Failure, Figures, Stage, prove, until},
};

use super::{Shop, ip};

/// How long a step may take until it is everywhere: the control plane looks at its files every two seconds,
/// sidecars every five.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where the agent keeps the certificate of the pod without sidecar.
const FILES: &str = "/var/run/tulle-grpc/certificates";

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let shop = Shop::both(stage).await?;
    let begun = Instant::now();
    let caller = Caller::of(shop.mesh, shop.client.clone(), "app");
    let load = ["-c", "4", "-qps", "50", "-t", "300s", "-keepalive=false", "http://web:80/"];
    let load = caller.fortio("roots", &load);
    let mut connections = 0;
    let meanwhile = async {
        let outcome = tokio::select! {
            outcome = takes_over(&shop) => outcome,
            // Each is a handshake of its own between the sidecars.
            outcome = connects(&shop, &mut connections) => outcome,
        };
        caller.interrupt("fortio").await.and(outcome)
    };
    let (counted, outcome) = tokio::join!(load, meanwhile);
    outcome?;
    let counted = counted?;
    let bad = counted.but(&["200"]);
    prove(bad.is_empty(), || format!("requests were told {}", bad.join("; ")))?;
    Ok(Figures::from([
        ("requests", float(counted.all())),
        ("handshakes", f64::from(connections)),
        ("taken_over_after_s", begun.elapsed().as_secs_f64()),
    ]))
}

/// Opens opaque connections, for ever; ends with what failed.
async fn connects(shop: &Shop<'_>, count: &mut u32) -> Result<(), Failure> {
    let calls: Vec<_> =
        (0..8).map(|_| ("tcp://others:7000".to_owned(), "raw 169.254.41.1 -")).collect();
    loop {
        shop.told(&shop.client, &calls).await?;
        *count += 8;
    }
}

async fn takes_over(shop: &Shop<'_>) -> Result<(), Failure> {
    renewed(shop).await?;
    let first = roots(shop, &shop.web).await?.swap_remove(0);
    let everybody = async |by_old: bool, roots: &[&str]| trusted(shop, &first, by_old, roots).await;
    let ca = shop.mesh.state().join("ca");
    let old = fs::read_to_string(ca.join("root.pem"))?;
    let (other, new) = another_root().await?;
    save(&ca.join("root.pem"), &format!("{old}{new}"))?;
    everybody(true, &[&old, &new]).await?;
    // Of the old root, and fresh enough to outlive it.
    let proxyless = shop.mesh.pod("shop", "proxyless").await?;
    let copy = ["sh", "-c", &format!("cp -rL {FILES} /tmp/old")];
    shop.mesh.exec(&proxyless, "app", &copy).await?;
    prove(served(shop, &proxyless, "/tmp/old").await?, || "the certificate is no use".into())?;

    save(&ca.join("root.key"), &fs::read_to_string(other.path().join("root.key"))?)?;
    save(&ca.join("root.pem"), &format!("{new}{old}"))?;
    everybody(false, &[&new, &old]).await?;
    prove(served(shop, &proxyless, "/tmp/old").await?, || {
        "its root is trusted, and it is not".into()
    })?;

    save(&ca.join("root.pem"), &new)?;
    everybody(false, &[&new]).await?;
    prove(!served(shop, &proxyless, "/tmp/old").await?, || {
        "its root is gone, and it is served".into()
    })?;
    // Because of its signature, and not of its age. (Both roots have one name.)
    let forged = |line: &serde_json::Value| {
        let detail = line["detail"].as_str().unwrap_or_default();
        line["reason"] == "tls"
            && ["UnknownIssuer", "BadSignature"].iter().any(|it| detail.contains(it))
    };
    shop.mesh.logged(&shop.web, "tulle-proxy", forged).await?;
    prove(served(shop, &proxyless, FILES).await?, || "the new certificate is not served".into())
}

/// Waits until each sidecar has had two certificates of the same root.
async fn renewed(shop: &Shop<'_>) -> Result<(), Failure> {
    for pod in sidecars(shop) {
        until(&format!("{} renews its certificate", pod.name), PATIENCE, async || {
            let log = shop.mesh.logs(pod, "tulle-proxy").await?;
            Ok(log.matches("certificate installed").count() >= 2)
        })
        .await?;
    }
    Ok(())
}

/// Waits until everybody trusts these roots, and has a certificate of the first of them: of the `old` root, or not.
async fn trusted(shop: &Shop<'_>, old: &str, by_old: bool, all: &[&str]) -> Result<(), Failure> {
    for pod in sidecars(shop) {
        until(&format!("{} trusts {} roots", pod.name, all.len()), PATIENCE, async || {
            let told = roots(shop, pod).await?;
            Ok(told.len() == all.len()
                && (told.first().is_some_and(|first| first == old) == by_old))
        })
        .await?;
    }
    let proxyless = shop.mesh.pod("shop", "proxyless").await?;
    let wanted = squeezed(&all.concat());
    until("the agent trusts them", PATIENCE, async || {
        let path = format!("{FILES}/roots.pem");
        let told = shop.mesh.exec(&proxyless, "app", &["cat", &path]).await?;
        Ok(squeezed(&told) == wanted)
    })
    .await
}

/// Digests of the roots that a sidecar trusts; that of the one that signed its certificate first.
async fn roots(shop: &Shop<'_>, pod: &Pod) -> Result<Vec<String>, Failure> {
    let config = shop.mesh.config(pod).await?;
    let roots = config["certificate"]["roots"].as_array().cloned().unwrap_or_default();
    let digests = roots.iter().filter_map(|root| root["sha256"].as_str().map(str::to_owned));
    let digests: Vec<_> = digests.collect();
    prove(!digests.is_empty(), || format!("{} trusts nobody: {config}", pod.name))?;
    Ok(digests)
}

fn sidecars<'a>(shop: &'a Shop<'_>) -> [&'a Pod; 4] {
    [&shop.web, &shop.client, &shop.loner, &shop.picky]
}

/// Whether `web` lets in whoever has the certificate in this folder. Its application speaks no HTTP/2, which
/// callers without sidecar do: that its sidecar says so is enough.
async fn served(shop: &Shop<'_>, from: &Pod, folder: &str) -> Result<bool, Failure> {
    let (certificate, key) = (format!("{folder}/certificate.pem"), format!("{folder}/key.pem"));
    let url = format!("https://{}:8080/", ip(&shop.web));
    let mut argv =
        vec!["curl", "-s", "-k", "-m", "5", "--http2", "-w", "%{http_code}", "-o", "/dev/null"];
    argv.extend(["--cert", &certificate, "--key", &key, &url]);
    Ok(shop.mesh.exec(from, "app", &argv).await.is_ok_and(|status| status != "000"))
}

/// A root that a control plane of its own makes; where its key is, and the certificate.
async fn another_root() -> Result<(TempDir, String), Failure> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let (yaml, keys) = (path("yaml"), path("keys.json"));
    fs::create_dir(&yaml)?;
    fs::write(&keys, r#"{"keys": []}"#)?;
    let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
    let mut makes = Command::new(binaries().join("tulle-control-plane"))
        .args([option("directory", &yaml), option("ca-directory", folder.path())])
        .args([option("token-keys", &keys)])
        .args(["--listen=127.0.0.1:0", "--status=127.0.0.1:0", "--log=error"])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let files: [PathBuf; 2] = ["root.pem", "root.key"].map(path);
    until("another root", PATIENCE, async || Ok(files.iter().all(|file| file.exists()))).await?;
    makes.kill().await?;
    let root = fs::read_to_string(&files[0])?;
    Ok((folder, root))
}

fn squeezed(pem: &str) -> String {
    pem.split_whitespace().collect()
}
