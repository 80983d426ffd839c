//! The scenes, in order.

mod bad_yaml;
mod consumer;
mod control_plane_down;
mod crash;
mod ejection;
mod envoy;
mod first_request;
mod lane;
mod limits;
mod look;
mod network;
mod orders;
mod protocols;
mod release;
mod retries;
mod rollout;
mod see;
mod split;
mod stock;
mod wire;

use tulle_tests::scene::{Part, SIDECARS, Scene, Without};

pub(crate) use network::ALL as NETWORK;

/// All of them.
pub(crate) const ALL: &[Scene] = &[
    Scene {
        number: 1,
        name: "first request",
        does: "From nothing but YAML to the first answer that came through two sidecars.",
        part: Part { symptom: "has no container `tulle-proxy`", ..SIDECARS },
        run: |s| Box::pin(first_request::run(s)),
    },
    Scene {
        number: 2,
        name: "on the wire",
        does: "Captures what goes over the wire between two pods, and looks for what was sent; then allows \
               mTLS only.",
        part: Part {
            name: "mTLS between the two pods",
            without: Without::Text(
                "      labels: {app: reviews, version: v1}",
                "      labels: {app: reviews, version: v1, tulle.dev/inject: disabled}",
            ),
            symptom: "the request is readable on the wire",
        },
        run: |s| Box::pin(wire::run(s)),
    },
    Scene {
        number: 3,
        name: "split",
        does: "An HTTPRoute sends a tenth of all requests to reviews-v2; under load, its YAML is edited to a half. \
               Callers of another namespace have a rule of their own.",
        part: Part {
            name: "weights",
            without: Without::Text("weight:", "# weight:"),
            symptom: "are from v2, which is too far from 10 %",
        },
        run: |s| Box::pin(split::run(s)),
    },
    Scene {
        number: 4,
        name: "retries",
        does: "v2 takes half of the requests and fails every fifth; then everything fails. GETs are tried again, POSTs \
               are not.",
        part: Part {
            name: "retries",
            without: Without::Kind("TrafficPolicy"),
            symptom: "callers see failures: 5xx",
        },
        run: |s| Box::pin(retries::run(s)),
    },
    Scene {
        number: 5,
        name: "ejection",
        does: "One endpoint of three fails for a while: it is left out, twice, and comes back when it is well.",
        part: Part {
            name: "ejection",
            without: Without::Kind("TrafficPolicy"),
            symptom: "v2's endpoint is not left out",
        },
        run: |s| Box::pin(ejection::run(s)),
    },
    Scene {
        number: 6,
        name: "limits",
        does: "A caller overruns the limit of a service that somebody else calls, too.",
        part: Part {
            name: "the limit",
            without: Without::Kind("TrafficPolicy"),
            symptom: "0 overflowed",
        },
        run: |s| Box::pin(limits::run(s)),
    },
    Scene {
        number: 7,
        name: "protocols",
        does: "SMTP, PostgreSQL, WebSocket, gRPC, and HTTP on a port that nobody listed: how long the first answer \
               takes.",
        part: Part {
            name: "redirection at the caller",
            without: Without::Text(
                "      labels: {app: client}",
                "      labels: {app: client}
      annotations: {tulle.dev/exclude-outbound-cidrs: 0.0.0.0/0}",
            ),
            symptom: "no such line in client",
        },
        run: |s| Box::pin(protocols::run(s)),
    },
    Scene {
        number: 8,
        name: "rollout",
        does: "Rolls a Deployment twice under POSTs and gRPC streams. Its application closes its ports at once \
               on SIGTERM.",
        part: Part {
            name: "the sidecars of the Deployment and of who calls it",
            without: Without::Text(
                "tulle.dev/inject: \"enabled\"",
                "tulle.dev/inject: \"disabled\"",
            ),
            symptom: "failed requests",
        },
        run: |s| Box::pin(rollout::run(s)),
    },
    Scene {
        number: 9,
        name: "no control plane",
        does: "Kills the control plane with -9 for some time under load; an application restarts, a pod and \
               an edit come.",
        part: Part {
            name: "what sidecars know",
            without: Without::Scene("they are killed with the control plane"),
            symptom: "callers are not served",
        },
        run: |s| Box::pin(control_plane_down::run(s)),
    },
    Scene {
        number: 10,
        name: "bad YAML",
        does: "Ten mistakes are saved under load. `tulle local status` must name each by file, line, field and reason; \
               in a cluster the API server, or the object's status.",
        part: Part {
            name: "statuses",
            without: Without::Scene("the control plane is stopped before the mistakes"),
            symptom: "not named",
        },
        run: |s| Box::pin(bad_yaml::run(s)),
    },
    Scene {
        number: 11,
        name: "see",
        does: "`tulle stat` counts what a load generator sends, to the request. Then five mistakes: of a request that meets one \
               `tulle tap` says why it ended so, and which object wants that.",
        part: Part {
            name: "timeouts, limits and ejection",
            without: Without::Kind("TrafficPolicy"),
            symptom: "does not name",
        },
        run: |s| Box::pin(see::run(s)),
    },
    Scene {
        number: 12,
        name: "look",
        does: "Under load, the dashboard of this mesh is opened in chromium by the address that `tulle dashboard` prints: each page has \
               figures, and a picture is taken of it in both themes, wide and narrow.",
        part: Part { symptom: "figures of the load", ..SIDECARS },
        run: |s| Box::pin(look::run(s)),
    },
    Scene {
        number: 13,
        name: "release",
        does: "Under load a Deployment gets a good version, which goes through by steps and fails no request; a bad one and a slow one, which are rolled back by themselves before many notice; one that somebody rolls back; and one for those alone who ask for it.",
        part: Part {
            name: "the Release",
            without: Without::Kind("Release"),
            symptom: "there is no Release",
        },
        run: |s| Box::pin(release::run(s)),
    },
    Scene {
        number: 14,
        name: "lane",
        does: "Requests of a lane take its pods of the first and the last of three services that forward no more than `traceparent`, and \
               nobody else's do; one that forwards nothing is named by `tulle lane check`.",
        part: Part {
            name: "the Lane",
            without: Without::Kind("Lane"),
            symptom: "requests of the lane take its pods",
        },
        run: |s| Box::pin(lane::run(s)),
    },
];

/// With stock Envoy in place of our own sidecar: for the tests, not for the demo.
pub(crate) const ENVOY: &[Scene] = &[Scene {
    number: 1,
    name: "stock Envoy",
    does: "Envoy's sidecars beside our own: a split and its edit under load, mTLS between both and from both, \
           strangers refused, pods' own addresses, a Service and pods that go and come back, a route that Envoy refuses.",
    part: SIDECARS,
    run: |s| Box::pin(envoy::run(s)),
}];

/// What happens to the runtime itself: for the tests, not for the demo.
pub(crate) const CRASH: &[Scene] = &[Scene {
    number: 1,
    name: "crash",
    does: "Two meshes of one machine; one is killed with -9 and brought up again, under load in the other.",
    part: SIDECARS,
    run: |s| Box::pin(crash::run(s)),
}];
