//! Where objects come from, where what follows from them is written to, and who steers what is between.

use std::sync::Arc;

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tulle_runtime::{drain::Drain, ready::Readiness};

use super::StartError;
use crate::{
    admin::Question,
    ca::{overlap::Terms, roots::Roots},
    config::Config,
    files, inject,
    k8s::{Bare, Book, Cluster, Elected},
    output::{self, Directory, Report},
    release::Asker,
    replicas::{Replica, Surveyor},
    source::Batch,
    steer::{self, Desk, Gauges, Keep, Memory, Releases, Requests, Steer},
    world::objects::Name,
};

/// Where objects come from, and where what follows from them is written to.
pub(super) struct Ends {
    pub(super) statuses: watch::Receiver<Report>,
    pub(super) roots: (Roots, Terms),
    pub(super) webhook: Option<inject::Webhook>,
    pub(super) readiness: Readiness,
    pub(super) drain: Drain,
}

/// What begins with the ends.
pub(super) struct Begun {
    batches: mpsc::Receiver<Batch>,
    /// Where it is written down where releases are.
    keep: Arc<dyn Keep>,
    /// Whether this replica does that.
    leads: watch::Receiver<bool>,
    /// Which one does, where there can be several.
    leader: Option<watch::Receiver<Option<Name>>>,
}

/// What whoever steers releases looks at, and where it is shown.
type Looks = (mpsc::Sender<Question>, watch::Receiver<Report>, Surveyor, Option<Replica>, Gauges);

impl Begun {
    /// Steers releases, if this replica shall; also yields where people's wishes go.
    pub(super) fn steer(
        self,
        config: &Config,
        (world, report, surveyor, replica, gauges): Looks,
        (releases, wishes): (Releases, Requests),
        tasks: &mut JoinSet<()>,
    ) -> (mpsc::Receiver<Batch>, Desk) {
        let Self { batches, keep, leads, leader } = self;
        let others = replica.clone().zip(leader);
        let others = others.map(|(replica, leader)| steer::Others { replica, leader });
        let asker = Asker::of(config);
        let sources = steer::Sources { world, report, surveyor, replica, keep, asker, gauges };
        tasks.spawn(Steer::new(sources, wishes, leads).run());
        (batches, Desk { releases, others })
    }
}

impl Ends {
    pub(super) fn begin(
        self,
        config: &Config,
        cluster: Option<(Cluster, Replica)>,
        tasks: &mut JoinSet<()>,
    ) -> Result<Begun, StartError> {
        match cluster {
            Some((cluster, replica)) => self.of_cluster(cluster, replica, tasks),
            None => self.of_directories(config, tasks),
        }
    }

    fn of_cluster(
        self,
        cluster: Cluster,
        replica: Replica,
        tasks: &mut JoinSet<()>,
    ) -> Result<Begun, StartError> {
        let Self { statuses, roots, webhook, readiness, drain } = self;
        let noted = (Book::default(), Bare::default());
        let batches = cluster.source(noted.clone(), readiness)?;
        let leader = replica.start(replica.surveyor.told.clone(), tasks);
        let (knows, leads) = watch::channel(false);
        let begun = Begun {
            batches,
            keep: Arc::new(cluster.statuses(noted.0.clone())),
            leads,
            leader: Some(leader.subscribe()),
        };
        let elected = Elected { leader, replica, knows };
        tasks.spawn(cluster.write((statuses, webhook), roots, noted, elected, drain));
        Ok(begun)
    }

    fn of_directories(self, config: &Config, tasks: &mut JoinSet<()>) -> Result<Begun, StartError> {
        let Self { statuses, roots: (roots, _), .. } = self;
        if let Some(path) = config.output.clone() {
            let directory = Directory::new(path, roots.watch());
            tasks.spawn(output::run(statuses, roots.watch(), directory));
        }
        tasks.spawn(roots.follow(config.ca_directory.clone().unwrap_or_default()));
        let files = files::watch(&config.directory, config.output.as_deref())?;
        let (drawer, memory) = Memory::new(config.output.clone());
        let (passed_on, batches) = mpsc::channel(16);
        tasks.spawn(memory.run(files, passed_on));
        let (_, leads) = watch::channel(true);
        Ok(Begun { batches, keep: Arc::new(drawer), leads, leader: None })
    }
}
