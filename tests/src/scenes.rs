//! The scenes, in order.

mod first_request;
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
];
