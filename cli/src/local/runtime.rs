//! The hidden half of `tulle local`: what runs inside of the mesh's namespaces.
//!
//! One task owns everything that is wanted and known ([`cluster::Cluster`]); directories, pods and
//! commands bring it news, and after each it does what is to be done.

mod cluster;
mod publish;

use std::{fs, future, io, net::SocketAddr, path::PathBuf, sync::Arc};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::sleep_until,
};

use self::cluster::Cluster;
use super::{
    control, directory,
    dns::{self, Zone},
    network::{self, GATEWAY},
    overview::Overview,
    pod::{ConfigMaps, Context},
    state::{Launch, State, write_atomically},
    system,
    token::{SignError, Signer},
    verdict,
};

/// Why the runtime ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeError {
    /// The state directory.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Bridge, addresses or rules.
    #[error(transparent)]
    Network(#[from] network::NetworkError),
    /// No key for tokens.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The directory cannot be watched.
    #[error("cannot watch the directory: {0}")]
    Watch(#[from] notify::Error),
    /// The log filter.
    #[error("cannot log: {0}")]
    Log(String),
}

/// Runs the mesh `name` until it is told to end.
///
/// # Errors
/// What keeps the mesh as a whole from starting; a single pod never does.
pub(in crate::local) async fn run(name: &str) -> Result<(), RuntimeError> {
    tulle_runtime::log::init("info").map_err(|error| RuntimeError::Log(error.to_string()))?;
    let state = State::of(name);
    let launch = read_launch(&state)?;
    network::prepare(&launch.programs).await?;
    let signer = Signer::generate()?;
    write(state.token_keys(), signer.jwks().as_bytes())?;

    let (zone, zones) = watch::channel(Arc::new(Zone::default()));
    for address in [GATEWAY.0.into(), GATEWAY.1.into()] {
        let zones = zones.clone();
        tokio::spawn(async move {
            if let Err(error) = dns::serve(SocketAddr::new(address, 53), zones).await {
                tracing::error!(%address, %error, "no cluster DNS");
            }
        });
    }
    let mut declared = directory::watch(vec![launch.directory.clone()])?;
    let mut produced = directory::watch(vec![state.control_plane()])?;
    let verdict = verdict::watch(&state.control_plane())?;
    let mut verdicts = verdict.clone();
    let (overview, overviews) = watch::channel(Arc::new(Overview::default()));
    let (commands, mut commanded) = mpsc::channel(16);
    tokio::spawn(end_on_signal(commands.clone()));
    let served = control::serve(&state.socket(), overviews, commands);
    served.map_err(|source| RuntimeError::Io { path: state.socket(), source })?;

    let (config_maps, maps) = watch::channel(Arc::new(ConfigMaps::new()));
    let news = Arc::new(Notify::new());
    let cx = Arc::new(Context {
        programs: launch.programs.clone(),
        signer,
        config_maps: maps,
        news: Arc::clone(&news),
        state,
    });
    let system = system::documents(&cx.state, &launch);
    let out = publish::Outlets { config_maps, zone, overview };
    let publisher = publish::Publisher::new(Arc::clone(&cx), out, verdict);
    let mut cluster = Cluster::new(cx, &launch, system, publisher);
    let mut due = None;
    loop {
        let timer = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            biased;
            command = commanded.recv() => if let Some(control::Command::Down) = command {
                cluster.end();
            },
            Some(content) = declared.recv() => cluster.declared(content),
            Some(content) = produced.recv() => cluster.produced(&content),
            Ok(()) = verdicts.changed() => {}
            () = news.notified() => {}
            () = timer => {}
        }
        due = cluster.reconcile().await;
        if cluster.has_ended() {
            tracing::info!("the mesh has ended");
            return Ok(());
        }
    }
}

/// SIGTERM does what `down` does.
async fn end_on_signal(commands: mpsc::Sender<control::Command>) {
    match tulle_runtime::signal::terminate().await {
        // If nobody listens, the mesh is ending already.
        Ok(()) => drop(commands.send(control::Command::Down).await),
        Err(error) => tracing::error!(%error, "signals have no effect"),
    }
}

fn read_launch(state: &State) -> Result<Launch, RuntimeError> {
    let path = state.launch();
    let read = fs::read(&path).and_then(|text| Ok(serde_json::from_slice(&text)?));
    read.map_err(|source| RuntimeError::Io { path, source })
}

fn write(path: PathBuf, content: &[u8]) -> Result<(), RuntimeError> {
    write_atomically(&path, content).map_err(|source| RuntimeError::Io { path, source })
}
