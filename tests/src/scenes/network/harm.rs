//! Do no harm: what gRPC's own client and server, and curl, see of each other through two sidecars is what they see
//! on one machine, but for a listed set of header fields. (More of HTTP, byte by byte: `proxy/src/tests/no_harm.rs`.)

use tulle_tests::{
    load::{Caller, float},
    scene::{Failure, Figures, Stage, prove},
};

const PROGRAM: &str = include_str!("harm.py");
const YAML: &str = include_str!("harm.yaml");
/// What may be there, or be missing: who called, and what concerns one connection alone.
const MAY_DIFFER: [&str; 4] = [
    "server saw x-forwarded-client-cert:",
    "client got connection:",
    "client got keep-alive:",
    "client got transfer-encoding:",
];

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let upload = stage.upload;
    let mib = upload.to_string();
    let indented: String = PROGRAM.lines().map(|line| format!("    {line}\n")).collect();
    let mesh = stage.mesh_of(&YAML.replace("@HARM@\n", &indented), &[]).await?;
    let ask = async |pod: &str, address: &str| {
        let caller = Caller::new(mesh, "shop", pod, "app").await?;
        let argv = ["python3", "/harm/harm.py", "ask", address, &mib];
        let said = caller.run(&format!("harm-{pod}"), &argv).await?;
        let mut lines: Vec<String> =
            said.lines().filter(|line| counts(line)).map(str::to_owned).collect();
        lines.sort();
        Ok::<_, Failure>(lines)
    };
    let direct = ask("server", "127.0.0.1").await?;
    let through = ask("client", "harm.shop").await?;
    let only = |here: &[String], there: &[String], where_to: &str| {
        let only = here.iter().filter(|line| !there.contains(line));
        only.map(|line| format!("{where_to} {line}")).collect::<Vec<_>>()
    };
    let differ =
        [only(&direct, &through, "only directly:  "), only(&through, &direct, "only by sidecars:")];
    prove(direct == through, || differ.concat().join("\n"))?;
    let all = direct.join("\n");
    for seen in [
        "Fail 5: ended with FAILED_PRECONDITION",
        "Both 1000000 gzip: server saw x-raw-bin: 00",
        "Down 5: client got at the end x-trailing: t",
        "/events: came 4, late 0",
        &format!("/upload: client got {} bytes, ", u64::from(upload) << 20),
    ] {
        prove(all.contains(seen), || format!("nobody saw {seen:?}:\n{all}"))?;
    }
    let client = mesh.pod("shop", "client").await?;
    for path in ["/harm.Harm/Both", "/upload"] {
        let crossed = |line: &serde_json::Value| line["path"] == path && line["tls"] == true;
        mesh.logged(&client, "tulle-proxy", crossed).await?;
    }
    Ok(Figures::from([("compared", float(u64::try_from(direct.len()).unwrap_or(u64::MAX)))]))
}

/// Whether a line must be the same in both.
fn counts(line: &str) -> bool {
    let (_, seen) = line.split_once(": ").unwrap_or_default();
    let seen = seen.to_lowercase();
    !MAY_DIFFER.iter().any(|may| seen.starts_with(may))
}
