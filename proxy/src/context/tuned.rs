//! The data path's bounds as they are now: those of the process, and what the workload says over
//! them.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tulle_xds::model::{ClientCert, Knob, Knobs, Workload};

use super::{Connections, Settings};
use crate::{
    mesh::Store,
    request::lane::Lanes,
    telemetry::{Wanted, trace::Tracing},
};

/// See the [module](self). Worked out when it is asked for, and again when another workload has come.
pub struct Tuned {
    of_process: Settings,
    store: Store,
    connections: Connections,
    now: ArcSwap<Now>,
}

struct Now {
    told: Option<Arc<Workload>>,
    settings: Arc<Settings>,
}

impl Tuned {
    /// Those of the process, until the store has a workload.
    pub(super) fn new(of_process: Settings, store: Store, connections: Connections) -> Self {
        let now = Now { told: None, settings: Arc::new(of_process.clone()) };
        Self { of_process, store, connections, now: ArcSwap::from_pointee(now) }
    }

    /// What holds for what begins now.
    pub fn now(&self) -> Arc<Settings> {
        let mesh = self.store.current();
        let now = self.now.load();
        // It keeps its workload, so that no other one can be at the same place in memory.
        let of = |told: &Option<Arc<Workload>>| told.as_ref().map(Arc::as_ptr);
        if of(&now.told) == of(&mesh.workload) {
            return Arc::clone(&now.settings);
        }
        let told = mesh.workload.clone();
        // Expressions are read when a Telemetry has changed, not whenever anything else of the workload has.
        let read = |workload: &Workload| {
            let before = now.told.as_ref().filter(|before| before.telemetry == workload.telemetry);
            match before {
                Some(_same) => Arc::clone(&now.settings.wanted),
                None => Arc::new(Wanted::of(&workload.telemetry)),
            }
        };
        let settings = told.as_deref().map_or_else(
            || self.of_process.clone(),
            |workload| Settings {
                wanted: read(workload),
                counted: workload.counted,
                tracing: Tracing::of(&workload.telemetry.traces),
                lanes: Lanes::of(&workload.lanes),
                ..self.of_process.told(&workload.knobs)
            },
        );
        let settings = Arc::new(settings);
        self.connections.bound(settings.max_connections);
        self.now.store(Arc::new(Now { told, settings: Arc::clone(&settings) }));
        settings
    }
}

impl Settings {
    /// These, but for what the control plane says.
    fn told(&self, knobs: &Knobs) -> Self {
        let mut settings = self.clone();
        for (knob, value) in knobs {
            let (count, time) =
                (usize::try_from(*value).unwrap_or(usize::MAX), Duration::from_millis(*value));
            match knob {
                Knob::MaxConnections => settings.max_connections = count,
                Knob::DetectTimeout => settings.detect_timeout = time,
                Knob::HeadTimeout => settings.head_timeout = time,
                Knob::ClientIdleTimeout => settings.client_idle_timeout = time,
                Knob::MaxHeadBytes => settings.max_head_bytes = count,
                Knob::MaxUriBytes => settings.max_uri_bytes = count,
                Knob::MaxHeaders => settings.max_headers = count,
                Knob::MaxBodyBytes => {
                    settings.max_body_bytes = Some(*value).filter(|most| *most > 0);
                }
                Knob::MaxStreams => {
                    settings.max_streams = u32::try_from(*value).unwrap_or(u32::MAX);
                }
                Knob::PreserveHeaderCase => settings.preserve_header_case = *value == 1,
                Knob::ForwardedClientCert => settings.client_cert = ClientCert::of(*value),
                Knob::AccessLogSample => {
                    settings.access_log_sample = u32::try_from(*value).unwrap_or(u32::MAX);
                }
            }
        }
        settings
    }
}

impl fmt::Debug for Tuned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tuned").field(&self.now.load().settings).finish()
    }
}

#[cfg(test)]
mod tests {
    use tulle_xds::model::MtlsMode;

    use super::*;
    use crate::{mesh::Mesh, tests::harness::workload};

    #[test]
    fn what_is_told_holds_from_then_on_and_the_rest_is_the_process_s() {
        let (store, publisher, _questions) = Store::new();
        let of_process = Settings { max_headers: 50, ..Settings::default() };
        let connections = Connections::new(of_process.max_connections);
        let tuned = Tuned::new(of_process, store, connections.clone());
        assert_eq!((tuned.now().max_streams, tuned.now().max_headers), (256, 50));
        let publish = |knobs: Knobs| {
            let id = "spiffe://cluster.local/ns/shop/sa/cart";
            let workload = Workload { knobs, ..workload(id, Vec::new(), MtlsMode::Permissive) };
            publisher.publish(Mesh { workload: Some(Arc::new(workload)), ..Mesh::default() });
        };
        publish([(Knob::MaxStreams, 3), (Knob::HeadTimeout, 1500), (Knob::MaxBodyBytes, 0)].into());
        let now = tuned.now();
        assert_eq!((now.max_streams, now.max_headers, now.max_body_bytes), (3, 50, None));
        assert_eq!(now.head_timeout, Duration::from_millis(1500));
        assert!(Arc::ptr_eq(&now, &tuned.now()), "worked out once");
        let wanted = Arc::clone(&now.wanted);
        publish([(Knob::MaxConnections, 1)].into());
        assert!(Arc::ptr_eq(&wanted, &tuned.now().wanted), "the same Telemetry is read once");
        assert_eq!((tuned.now().max_streams, tuned.now().max_connections), (256, 1));
        assert_eq!((connections.inbound.most(), connections.outbound.most()), (1, 1));
    }
}
