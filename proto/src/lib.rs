//! Tulle's own messages, and gRPC's health check. Generated from `proto/**`; no logic lives here.
//!
//! After a change of a `.proto` file: `TULLE_REGENERATE=1 cargo test -p tulle-proto --test fresh`.

#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    clippy::too_many_lines,
    reason = "generated"
)]

/// How a workload gets its certificate.
pub mod ca {
    /// Version 1.
    pub mod v1 {
        include!("generated/tulle.ca.v1.rs");
    }
}

/// How the replicas of a control plane speak to each other.
pub mod replica {
    /// Version 1.
    pub mod v1 {
        include!("generated/tulle.replica.v1.rs");
    }
}

/// What proxies have counted of their traffic.
pub mod telemetry {
    /// Version 1.
    pub mod v1 {
        include!("generated/tulle.telemetry.v1.rs");
    }
}

/// What Envoy's API cannot say.
pub mod xds {
    /// Version 1.
    pub mod v1 {
        include!("generated/tulle.xds.v1.rs");
    }
}

/// gRPC's health check, which the kubelet's gRPC probes use.
pub mod health {
    /// Version 1.
    pub mod v1 {
        include!("generated/grpc.health.v1.rs");
    }
}
