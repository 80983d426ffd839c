//! Mesh policy as Kubernetes custom resources, group `tulle.dev/v1alpha1`.
//!
//! ```text
//!  MeshConfig     one per cluster         settings of the mesh itself
//!  MeshTLS        mesh, namespace, pods   who must speak mutual TLS
//!  TrafficPolicy  targetRefs              retries, timeouts, limits, ejection, load balancing
//!  AccessPolicy   mesh, namespace, pods   who may connect
//!  Telemetry      mesh, namespace, pods   what is told of traffic, and to whom
//!  Lane           its own namespace       which requests take other versions, service by service
//! ```
//!
//! A kind is a file: its types carry the texts of `kubectl explain`, parse what has a form (a
//! duration, an address range, a status to retry), and refuse fields that they do not know. What
//! one value alone cannot tell (a maximum below its base, a target of the wrong kind) is found by
//! [`Validate::problems`]. What needs other objects is nothing that this crate can know.
//!
//! Policies of several levels merge field by field, the most specific wins; so every field is
//! optional, and absent means "as the next level says", in the end the default in its text.
//!
//! The CRDs in `deploy/crds/` are generated from these types: [`crd::all`].

mod access_policy;
mod cidr;
pub mod crd;
mod duration;
mod lane;
mod mesh_config;
mod mesh_tls;
mod percent;
mod policy_status;
mod proxy_settings;
mod release;
mod retry_on;
mod target;
mod telemetry;
mod traffic_policy;
mod validate;
pub mod yaml;

pub use access_policy::{AccessMode, AccessPolicy, AccessPolicySpec, AccessRule, Caller, Peers};
pub use cidr::{BadCidr, Cidr};
pub use duration::{BadDuration, Duration};
pub use lane::{Lane, LaneFallback, LaneSpec};
pub use mesh_config::{Dns, ExternalTraffic, MeshConfig, MeshConfigSpec};
pub use mesh_tls::{MeshTls, MeshTlsSpec, Mode, PodSelector, PortMode};
pub use percent::{BadPercent, Percent};
pub use policy_status::{Ancestor, AncestorRef, PolicyStatus};
pub use proxy_settings::{ForwardedClientCert, ProxySettings};
pub use release::{
    ErrorsGate, HowMatch, LatencyGate, LowTraffic, NoData, OnFail, OnLowTraffic, Promote,
    QueryGate, Release, ReleaseEvent, ReleaseGates, ReleaseMatch, ReleasePhase, ReleaseRevision,
    ReleaseSpec, ReleaseStatus, ReleaseStep, ReleaseTarget, ReleaseVerdict, StickBy,
    TargetWorkload, ValueMatch, WebhookGate, WorkloadRef,
};
pub use retry_on::{BadRetryOn, GrpcCode, RetryOn};
pub use target::{TargetKind, TargetRef};
pub use telemetry::{
    Destination, Header, LogFormat, Logs, MetricTag, Metrics, Propagation, Protocol, Tag,
    Telemetry, TelemetrySpec, Traces,
};
pub use traffic_policy::{
    Backoff, BalancePolicy, Ejection, Limits, LoadBalancing, Retries, RetryBudget, Timeouts,
    TrafficPolicy, TrafficPolicySpec,
};
pub use validate::{Problem, Validate};

/// The API group of all kinds.
pub const GROUP: &str = "tulle.dev";
/// The version of all kinds.
pub const VERSION: &str = "v1alpha1";
/// The usual namespace of the mesh itself, and of policies that hold everywhere.
pub const SYSTEM_NAMESPACE: &str = "tulle-system";
