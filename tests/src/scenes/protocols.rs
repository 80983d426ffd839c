//! Five protocols, two of them with a server that speaks first, two on ports of which nothing is said; by clients and
//! servers that nobody here wrote. How long the first answer takes: in the server's own pod, through two sidecars, and
//! from a pod without one.

use std::collections::BTreeMap;

use serde::Deserialize;

use tulle_tests::{
    load::{self, Caller},
    scene::{Failure, Figures, Stage, prove, say},
};

const SPEAK: &str = include_str!("protocols/speak.py");
/// What a sidecar that waits for nobody costs, in milliseconds: here the least of all times counts, as whoever waits
/// for a time to pass does so each time, however idle the machine. One or two are usual.
const MOST: f64 = 50.0;

/// A conversation: where it is had through the mesh, and where in the server's own pod.
struct Conversation {
    /// As `speak.py` calls it.
    protocol: &'static str,
    /// The server's pod, container and port there.
    pod: &'static str,
    port: u16,
    /// Where others find it; `None` is the pod's own address.
    service: Option<&'static str>,
    /// What its median cost through the mesh is called.
    figure: &'static str,
}

const ALL: [Conversation; 5] = [
    Conversation {
        protocol: "SMTP",
        pod: "mail",
        port: 2525,
        service: Some("mail.bookstore:25"),
        figure: "smtp_costs_ms",
    },
    Conversation {
        protocol: "PostgreSQL",
        pod: "database",
        port: 5432,
        service: Some("database.bookstore:5432"),
        figure: "postgresql_costs_ms",
    },
    Conversation {
        protocol: "WebSocket",
        pod: "chat",
        port: 8765,
        service: Some("chat.bookstore:80"),
        figure: "websocket_costs_ms",
    },
    Conversation {
        protocol: "gRPC",
        pod: "ratings",
        port: 9090,
        service: Some("ratings.bookstore.svc.cluster.local:9090"),
        figure: "grpc_costs_ms",
    },
    Conversation {
        protocol: "HTTP, unlisted port",
        pod: "details",
        port: 8081,
        service: None,
        figure: "http_on_unlisted_port_costs_ms",
    },
];

/// What `speak.py` says, by protocol.
type Times = BTreeMap<String, Took>;

#[derive(Debug, Deserialize)]
struct Took {
    first: f64,
    median: f64,
    least: f64,
}

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let mesh = stage.mesh().await?;
    let mut direct = Times::new();
    let mut through = Vec::new();
    for Conversation { protocol, pod, port, service, .. } in ALL {
        let server = Caller::new(mesh, "bookstore", pod, pod).await?;
        direct.extend(speak(&server, pod, &[format!("{protocol}=127.0.0.1:{port}")]).await?);
        let address = mesh.pod("bookstore", pod).await?.ip.unwrap_or_default();
        let place = service.map_or_else(|| format!("{address}:{port}"), str::to_owned);
        through.push(format!("{protocol}={place}"));
    }
    let client = Caller::client(mesh).await?;
    let stranger = Caller::stranger(mesh).await?;
    let meshed = speak(&client, "meshed", &through).await?;
    let outside = speak(&stranger, "outside", &through).await?;
    for caller in [&client, &stranger] {
        let ask = ["psql", "-h", "database.bookstore", "-U", "postgres", "-Atc", QUERY];
        let stars = caller.run("7-psql", &ask).await?;
        prove(stars.trim() == "A.|5", || format!("psql says {stars:?}"))?;
    }

    say("median time to the first answer (the first time of all in brackets), ms:");
    say(format!("{:22}{:>16}{:>20}{:>20}", "", "in its own pod", "two sidecars", "from outside"));
    let mut figures = Figures::new();
    for Conversation { protocol, pod, figure, .. } in ALL {
        let [direct, meshed, outside] = [&direct, &meshed, &outside].map(|times| &times[protocol]);
        let [own, two, one] =
            [direct, meshed, outside].map(|t| format!("{:.2} ({:.2})", t.median, t.first));
        say(format!("{protocol:22}{own:>16}{two:>20}{one:>20}"));
        figures.insert(figure, meshed.median - direct.median);
        let cost = meshed.least.max(outside.least) - direct.least;
        prove(cost < MOST, || format!("{protocol} costs {cost:.1} ms: who is waited for?"))?;
        let peer = format!("spiffe://cluster.local/ns/bookstore/sa/{pod}");
        let encrypted =
            |line: &serde_json::Value| line["peer"] == peer.as_str() && line["tls"] == true;
        mesh.logged(client.pod(), "tulle-proxy", encrypted).await?;
    }
    Ok(figures)
}

const QUERY: &str = "SELECT reader, stars FROM ratings WHERE book = 1 ORDER BY stars DESC LIMIT 1";

async fn speak(caller: &Caller<'_>, label: &str, where_to: &[String]) -> Result<Times, Failure> {
    let mut argv = vec!["python3", "-c", SPEAK];
    argv.extend(where_to.iter().map(String::as_str));
    load::json(&caller.run(&format!("7-{label}"), &argv).await?)
}
