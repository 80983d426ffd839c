//! What replicas ask and answer each other about versions, as messages.

use std::collections::{BTreeSet, HashMap};

use tulle_proto::replica::v1 as proto;

use super::{Arm, Target, Teller, Tolds, Version};
use crate::{
    telemetry::{Hub, took::Took},
    world::objects::Name,
};

/// Targets of one question.
const MOST: usize = 1000;

/// What another replica is asked.
pub(crate) fn question(targets: &[Target]) -> proto::VersionsRequest {
    let targets = targets.iter().cloned();
    let targets = targets.map(|(namespace, workload)| proto::Target { namespace, workload });
    proto::VersionsRequest { targets: targets.collect() }
}

/// What it has said, of each of the targets. What makes no sense, because the other is of another version, is left out.
pub(crate) fn answer(
    targets: &[Target],
    message: proto::VersionsResponse,
) -> HashMap<Target, Tolds> {
    let fresh = message.fresh.iter().filter_map(|pod| pod.split_once('/'));
    let fresh: Vec<_> = fresh.map(|(namespace, pod)| Name::new(namespace, pod)).collect();
    let process = message.process;
    let nothing = || Tolds { process, fresh: fresh.clone(), ..Tolds::default() };
    let mut all: HashMap<_, _> = targets.iter().map(|target| (target.clone(), nothing())).collect();
    for told in message.arms {
        let Some(tolds) = all.get_mut(&(told.namespace.clone(), told.workload.clone())) else {
            continue;
        };
        let took = Took::read(told.took.as_ref()).unwrap_or_default().histogram;
        let arm = Arm { all: told.all, bad: told.bad, took };
        let (namespace, workload, revision) = (told.namespace, told.workload, told.revision);
        let version = Version { namespace, workload, revision };
        let (namespace, name, inbound) = (told.teller_namespace, told.teller, told.inbound);
        let teller = Teller { namespace, name, inbound };
        if told.lately && !inbound {
            tolds.callers.push(teller.peer());
        }
        tolds.arms.push((version, teller, arm));
    }
    for tolds in all.values_mut() {
        tolds.callers.sort();
        tolds.callers.dedup();
    }
    all
}

impl Hub {
    /// What another replica asks for.
    pub(crate) fn tell_versions(
        &self,
        question: proto::VersionsRequest,
    ) -> proto::VersionsResponse {
        let targets =
            question.targets.into_iter().map(|target| (target.namespace, target.workload));
        let targets: BTreeSet<Target> = targets.take(MOST).collect();
        let mut said = proto::VersionsResponse::default();
        for (namespace, workload) in targets {
            let Tolds { process, arms, callers, fresh } = self.versions(&namespace, &workload);
            said.process = process;
            said.fresh = fresh.iter().map(Name::to_string).collect();
            said.arms.extend(arms.into_iter().map(|(version, teller, arm)| {
                let lately = !teller.inbound && callers.contains(&teller.peer());
                message(version, teller, arm, lately)
            }));
        }
        said
    }
}

fn message(version: Version, teller: Teller, arm: Arm, lately: bool) -> proto::Arm {
    let took = Took { histogram: arm.took, nanoseconds: 0 };
    proto::Arm {
        namespace: version.namespace,
        workload: version.workload,
        revision: version.revision,
        teller_namespace: teller.namespace,
        teller: teller.name,
        inbound: teller.inbound,
        all: arm.all,
        bad: arm.bad,
        took: took.message(),
        lately,
    }
}
