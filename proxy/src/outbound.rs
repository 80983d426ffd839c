//! From the application: where is it going, and what does it speak?

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tulle_runtime::{drain::Drain, seldom::Seldom};
use tulle_xds::model::Protocol;

use crate::{
    context::Context,
    mesh::{Destination, Resolution},
    net::{
        detect::{self, First, Patience, Spoken},
        io::Prefixed,
        listen,
    },
    request::{Connection, Side, serve, target},
    stream,
};

/// Connections that nobody redirected here.
static STRAYS: Seldom = Seldom::new();

/// Serves the application's connections until the drain starts. To be called once per worker, with
/// the worker's own context and listener.
pub async fn serve(cx: Arc<Context>, listener: TcpListener, drain: Drain) {
    tokio::spawn(Arc::clone(&cx.pool).sweep());
    let limit = cx.connections.outbound.clone();
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

/// One connection of the application.
async fn connection(cx: Arc<Context>, stream: TcpStream, client: SocketAddr, drain: &Drain) {
    let destination = match cx.settings().capture.find(&stream) {
        Ok(destination) => destination,
        Err(error) => {
            if let Some(unsaid) = STRAYS.now() {
                tracing::warn!(%client, %error, unsaid, "refusing a connection to the outbound port");
            }
            return listen::reset(stream);
        }
    };
    let resolution = cx.store.resolve(destination).await;
    let connection = Arc::new(Connection { cx, client, destination, side: Side::Outbound });
    match resolution {
        Resolution::Mesh(to) => Box::pin(mesh(connection, &to, stream, drain)).await,
        Resolution::External => Box::pin(stream::external(&connection, stream)).await,
        Resolution::Refused(reason) => {
            let error = target::unresolved(&connection, reason);
            stream::refuse(&connection, stream, &error);
        }
    }
}

/// A connection to somewhere in the mesh.
async fn mesh(connection: Arc<Connection>, to: &Destination, stream: TcpStream, drain: &Drain) {
    let settings = connection.cx.settings();
    let mut client = Prefixed::new(stream);
    let dial = || stream::dial_backend(&connection, to, None);
    let first = match to.listener.protocol {
        Protocol::Tcp if to.names.is_empty() => {
            First::Opaque(None, dial().await.map(Prefixed::new))
        }
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
            return serve::declared(connection, client, drain).await;
        }
        Protocol::Detect | Protocol::Tcp => {
            let within = settings.detect_timeout;
            // A connection to the server would be for nothing: for sure; most likely, as the client was
            // the first to speak last time; not that we know.
            let grace = match connection.cx.seen.client_at(connection.destination) {
                _ if to.listener.only_named => within,
                true => Duration::from_millis(100),
                false => Duration::ZERO,
            };
            let patience = Patience { grace, within };
            let accepted = Instant::now();
            let takes = |spoken: &Spoken| to.takes(spoken);
            match detect::first_to_speak(&mut client, dial(), takes, patience).await {
                Ok(first) => {
                    let (way, took) = (connection.direction(), accepted.elapsed());
                    connection.cx.metrics.detected(way, first.protocol(), took);
                    first
                }
                Err(error) => {
                    return stream::refuse(&connection, client, &serve::said_nothing(&error));
                }
            }
        }
    };
    let client_first = matches!(first, First::Client(_));
    connection.cx.seen.learn(connection.destination, client_first);
    let server = match first {
        First::Client(spoken) if spoken.is_http() => {
            return serve::http(connection, &spoken, client, drain).await;
        }
        First::Client(spoken) => {
            stream::dial_backend(&connection, to, Some(&spoken)).await.map(Prefixed::new)
        }
        First::Opaque(_, server) => server,
    };
    match server {
        Ok(server) => stream::carry(&connection, client, server).await,
        Err(error) => stream::refuse(&connection, client, &error),
    }
}
