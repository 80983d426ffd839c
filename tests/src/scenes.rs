//! The scenes, in order.

mod control_plane_down;
mod first_request;
mod orders;
mod rollout;
mod wire;

use crate::scene::Scene;

/// All of them.
pub(crate) const ALL: &[Scene] = &[
    Scene {
        number: 1,
        name: "first request through two sidecars",
        run: |s| Box::pin(first_request::run(s)),
    },
    Scene { number: 2, name: "on the wire", run: |s| Box::pin(wire::run(s)) },
    Scene {
        number: 8,
        name: "rollout under load, with a rude application",
        run: |s| Box::pin(rollout::run(s)),
    },
    Scene {
        number: 9,
        name: "control plane killed under load",
        run: |s| Box::pin(control_plane_down::run(s)),
    },
];
