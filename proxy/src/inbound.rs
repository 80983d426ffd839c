//! To the application: who calls, and what does it speak?

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tulle_runtime::{
    drain::{Drain, Stage},
    seldom::Seldom,
};
use tulle_xds::model::{MtlsMode, Protocol, Workload};

use crate::{
    context::{Context, Settings},
    error::{Error, Reason, chain},
    net::{
        detect::{self, First, Patience, Spoken},
        io::Prefixed,
        listen,
    },
    request::{Connection, Side, admit, serve},
    stream,
    telemetry::Handshake,
    tls::{self, Alpn},
};

/// Connections that nobody redirected here: each stranger can make some.
static STRAYS: Seldom = Seldom::new();

/// Serves connections to the application until the drain starts. To be called once per worker,
/// with the worker's own context and listener.
pub async fn serve(cx: Arc<Context>, listener: TcpListener, drain: Drain) {
    tokio::spawn(Arc::clone(&cx.pool).sweep());
    let limit = cx.connections.inbound.clone();
    let ending = drain.clone();
    let each = move |stream, client, place| {
        let (cx, drain) = (Arc::clone(&cx), ending.clone());
        async move {
            connection(cx, stream, client, &drain).await;
            drop(place);
        }
    };
    listen::accept(listener, &limit, drain, each).await;
}

/// What is told about the port that was called.
#[derive(Debug, Clone, Copy)]
struct Port {
    protocol: Protocol,
    mtls: MtlsMode,
}

/// One connection to the application.
async fn connection(cx: Arc<Context>, stream: TcpStream, client: SocketAddr, drain: &Drain) {
    let destination = match cx.settings().capture.find(&stream) {
        Ok(destination) => destination,
        Err(error) => {
            if let Some(unsaid) = STRAYS.now() {
                tracing::warn!(%client, %error, unsaid, "refusing a connection to the inbound port");
            }
            return listen::reset(stream);
        }
    };
    let workload = cx.store.current().workload.clone();
    let application = cx.locals.at(destination, &cx.settings());
    let side = Side::Inbound { peer: None, application, drain: drain.clone() };
    let connection = Connection { cx, client, destination, side };
    let Some(workload) = workload else {
        let detail = "the control plane has not said what this workload is";
        return stream::refuse(&connection, stream, &Error::new(Reason::ControlPlane, detail));
    };
    let port = Port::of(&workload, destination.port());
    let mut client = Prefixed::new(stream);
    let first = match first(&connection, &workload, &mut client, port).await {
        Ok(first) => first,
        Err(error) => return stream::refuse(&connection, client, &error),
    };
    let sidecar = matches!(&first, First::Client(spoken) if spoken.is_sidecar());
    connection.cx.callers.learn(connection.client.ip(), sidecar);
    if !matches!(&first, First::Client(Spoken::Tls(_))) {
        connection.cx.metrics.handshake(connection.direction(), Handshake::Plaintext);
    }
    match first {
        First::Client(spoken) if spoken.is_opaque_sidecar() && drain.stage() >= Stage::Refusing => {
            // Without a handshake the caller's sidecar knows that nothing was carried.
            stream::refuse(&connection, client, &admit::ending());
        }
        // A sidecar's, or that of gRPC without one.
        First::Client(Spoken::Tls(_)) => {
            Box::pin(meshed(connection, &workload, client, drain)).await;
        }
        First::Client(spoken) => serve::http(Arc::new(connection), &spoken, client, drain).await,
        First::Opaque(_, Ok(server)) => stream::carry(&connection, client, server).await,
        First::Opaque(_, Err(error)) => stream::refuse(&connection, client, &error),
    }
}

/// Waits until it is known what a connection wants. The application is dialled meanwhile where
/// plaintext is allowed and it may be the one who speaks first.
async fn first(
    connection: &Connection,
    workload: &Workload,
    client: &mut Prefixed<TcpStream>,
    port: Port,
) -> Result<First<stream::Server, Error>, Error> {
    let Settings { detect_timeout: within, head_timeout, client_idle_timeout, .. } =
        *connection.cx.settings();
    // Why plaintext is refused, if it is.
    let closed = admit::caller(workload, connection.destination.port(), None).err();
    if closed.is_some() || port.protocol.is_http() {
        // A sidecar begins its handshake at once; HTTP clients open connections ahead of need.
        let silence = if closed.is_some() { head_timeout } else { client_idle_timeout };
        let spoken = detect::speaking_client(client, silence, within).await;
        let spoken = spoken.map_err(|error| serve::said_nothing(&error))?;
        return match (spoken, closed) {
            (Some(spoken), _) if spoken.is_sidecar() => Ok(First::Client(spoken)),
            // Where HTTP is declared the application has no TLS of its own: whoever begins it wants
            // this workload, and must prove who he is as a sidecar must. gRPC without a proxy has
            // no other way to be told apart, as its clients choose neither server name nor ALPN.
            (Some(spoken), _) if port.protocol.is_http() && spoken.offers_http2() => {
                Ok(First::Client(spoken))
            }
            // Whom MeshTLS would take is told in the language that it speaks.
            (Some(spoken), Some(_))
                if port.mtls == MtlsMode::Permissive
                    && port.protocol != Protocol::Tcp
                    && spoken.is_http() =>
            {
                Ok(First::Client(spoken))
            }
            (Some(_), Some(closed)) => Err(closed),
            // What may be bad HTTP is told so.
            (Some(spoken), None) if spoken.is_http() || spoken == Spoken::Opaque => {
                Ok(First::Client(spoken))
            }
            (spoken, _) => Err(serve::not_http(spoken.as_ref())),
        };
    }
    let takes = |spoken: &Spoken| {
        spoken.is_sidecar() || (port.protocol == Protocol::Detect && spoken.is_http())
    };
    // An HTTP client's first bytes come with the connection; what waits is most likely a client whose
    // server speaks first.
    let http = connection.cx.seen.client_at(connection.destination);
    let grace = Duration::from_millis(if http { 100 } else { 0 });
    let grace = grace.max(connection.cx.callers.grace(connection.client.ip()));
    let Side::Inbound { application, .. } = &connection.side else {
        return Err(Error::new(Reason::Protocol, "not an inbound connection"));
    };
    connection.cx.locals.arrived();
    let dial = stream::dial_cluster(connection, Arc::clone(application));
    let patience = Patience { grace, within };
    let accepted = Instant::now();
    let first = detect::first_to_speak(client, dial, takes, patience).await;
    let first = first.map_err(|error| serve::said_nothing(&error))?;
    connection.cx.metrics.detected(connection.direction(), first.protocol(), accepted.elapsed());
    let is_sidecar = matches!(&first, First::Client(spoken) if spoken.is_sidecar());
    if !is_sidecar {
        let http = matches!(first, First::Client(_));
        connection.cx.seen.learn(connection.destination, http);
    }
    Ok(first)
}

/// A connection from another sidecar, or from gRPC without one: it proves who it is, and says what is inside.
async fn meshed(
    mut connection: Connection,
    workload: &Workload,
    client: Prefixed<TcpStream>,
    drain: &Drain,
) {
    let cx = Arc::clone(&connection.cx);
    let sidecar = detect::of(client.seen()).is_some_and(|spoken| spoken.is_sidecar());
    let accepting = tls::server::accept(&cx.certs, client, &workload.trust_domains);
    let accepted = match timeout(cx.settings().head_timeout, accepting).await {
        Ok(accepted) => accepted.map_err(|error| chain(&error)),
        Err(_elapsed) => Err("the handshake took too long".to_owned()),
    };
    let handshake = if accepted.is_ok() { Handshake::Established } else { Handshake::Failed };
    cx.metrics.handshake(connection.direction(), handshake);
    let (client, peer, alpn) = match accepted {
        Ok(accepted) => accepted,
        Err(mut detail) => {
            if !sidecar {
                detail.push_str(
                    "; it is no sidecar: if its TLS is the application's own, declare the port \
                     `https` or `tcp`",
                );
            }
            connection.record().fail(&Error::new(Reason::Tls, detail));
            return;
        }
    };
    let application = cx.locals.at(connection.destination, &cx.settings());
    connection.side = Side::Inbound {
        peer: Some(Arc::new(peer)),
        application: Arc::clone(&application),
        drain: drain.clone(),
    };
    let port = Port::of(workload, connection.destination.port());
    match alpn {
        Alpn::H2 => Box::pin(serve::http2(Arc::new(connection), client, drain)).await,
        Alpn::Http1 => Box::pin(serve::http1(Arc::new(connection), client, drain)).await,
        // The caller's Service may declare nothing where our port declares HTTP.
        Alpn::TcpReady | Alpn::Tcp if port.protocol.is_http() => match ready(alpn, client).await {
            Ok(client) => {
                serve::declared(Arc::new(connection), Prefixed::new(client), drain).await;
            }
            Err(error) => connection.record().fail(&error),
        },
        Alpn::TcpReady | Alpn::Tcp => {
            // The application hears nothing of whom it would not get to know.
            if let Err(error) = admit::open(&connection) {
                return stream::refuse(&connection, client, &error);
            }
            cx.locals.arrived();
            let server = match stream::dial_cluster(&connection, application).await {
                Ok(server) => server,
                Err(error) => return stream::refuse(&connection, client, &error),
            };
            match ready(alpn, client).await {
                Ok(client) => stream::carry(&connection, client, Prefixed::new(server)).await,
                Err(error) => connection.record().fail(&error),
            }
        }
    }
}

/// Tells a caller that wants to know it that there is an application.
async fn ready<C: AsyncWrite + Unpin>(alpn: Alpn, mut client: C) -> Result<C, Error> {
    if alpn == Alpn::TcpReady {
        let said = async {
            client.write_u8(1).await?;
            client.flush().await
        };
        let gone = |error| Error::new(Reason::Canceled, format!("the client broke off: {error}"));
        said.await.map_err(gone)?;
    }
    Ok(client)
}

impl Port {
    fn of(workload: &Workload, number: u16) -> Self {
        match workload.port(number) {
            Some(port) => Self { protocol: port.protocol, mtls: port.mtls },
            None => Self { protocol: Protocol::Detect, mtls: workload.default_mtls },
        }
    }
}
