"""The control plane: what it is told, what it sends, and what that takes."""

from panels import *
from queries import *

REPLICAS = "tulle_control_plane_generation"
OWN = 'job="tulle-control-plane"'


def dashboard():
    pushed = lambda q: f"histogram_quantile({q}, {rate('tulle_push_duration_seconds_bucket', by='le')}) >= 0"
    return page(
        "tulle-control-plane",
        "The control plane: what it is told, what it sends, and what that takes.",
        [],
        [
            stat(
                "Replicas",
                "That are scraped.",
                "short",
                f"count({REPLICAS})",
                [(None, "red"), (1, "green")],
                ["TulleControlPlaneAbsent"],
            ),
            stat(
                "Streams",
                "Of proxies, that are open.",
                "short",
                at_least_none("sum(tulle_xds_streams)", REPLICAS),
                [(None, "red"), (1, "green")],
                ["TulleNoProxies"],
            ),
            stat(
                "Unanswered",
                "Responses that proxies have neither accepted nor rejected.",
                "short",
                "sum(tulle_push_pending)",
                PLAIN,
                ["TullePushesPending"],
            ),
            stat(
                "Rejected",
                "Resources that a proxy has rejected and not taken since.",
                "short",
                at_least_none("sum(tulle_control_plane_rejected_resources)", REPLICAS),
                ANY_IS_BAD,
                ["TulleConfigurationRejected"],
            ),
            stat(
                "Problems",
                "With what somebody wrote.",
                "short",
                "max(tulle_control_plane_problems)",
                [(None, "green"), (1, "yellow")],
                ["TulleProblems"],
            ),
        ],
        "Configuration",
        [
            chart(
                "In force within",
                "From a change of a route or policy to its being in force on every proxy that holds something of it.",
                "s",
                {"p50": pushed(0.5), "p99": pushed(0.99)},
                [(None, "green"), (5, "red")],
                ["TulleChangesStall"],
            ),
            chart(
                "Stalled",
                "Changes that were not in force everywhere within 5 s.",
                "cps",
                {"{{pod}}": rate("tulle_control_plane_changes_stalled_total", by="pod")},
                ANY_IS_BAD,
            ),
            chart(
                "Unanswered",
                "Responses that proxies have neither accepted nor rejected, by replica.",
                "short",
                {"{{pod}}": "tulle_push_pending"},
            ),
        ],
        [
            chart(
                "Sent",
                "Bytes of configuration, by replica.",
                "Bps",
                {"{{pod}}": rate("tulle_push_bytes_total", by="pod")},
                stacked=True,
            ),
            chart(
                "Streams",
                "By what the proxies understand.",
                "short",
                {"{{dialect}}": "sum by (dialect) (tulle_xds_streams)"},
                stacked=True,
            ),
            chart(
                "Rejected",
                "Resources that a proxy has rejected and not taken since, by kind.",
                "short",
                {"{{kind}}": "sum by (kind) (tulle_control_plane_rejected_resources)"},
                ANY_IS_BAD,
            ),
        ],
        [
            chart(
                "Changes",
                "What it is told, what it compiles for that, and of what it compiles what is new; by replica.",
                "cps",
                {
                    "told, {{pod}}": rate("tulle_control_plane_events_total", by="pod"),
                    "compiled, {{pod}}": rate("tulle_control_plane_compiled_total", by="pod"),
                    "new, {{pod}}": rate("tulle_control_plane_published_total", by="pod"),
                },
            ),
            chart("Objects", "That it knows, by kind.", "short", {"{{kind}}": "max by (kind) (tulle_control_plane_objects) > 0"}),
            chart("Problems", "With what somebody wrote.", "short", {"{{pod}}": "tulle_control_plane_problems"}),
        ],
        "Identity and injection",
        [
            chart(
                "Certificates",
                "By what became of the request.",
                "cps",
                {"{{outcome}}": rate("tulle_control_plane_certificates_total", by="outcome")},
                PLAIN,
                ["TulleCertificatesRefused"],
            ),
            chart(
                "Pods",
                "That the API server asked about, by what was decided.",
                "cps",
                {"{{outcome}}": rate("tulle_control_plane_admissions_total", by="outcome")},
            ),
            chart(
                "Connections that came to nothing",
                "TLS handshakes that failed, and connections that were too many.",
                "cps",
                {
                    "handshakes, {{pod}}": rate("tulle_control_plane_handshake_failures_total", by="pod"),
                    "too many, {{pod}}": rate("tulle_control_plane_connections_refused_total", by="pod"),
                },
            ),
        ],
        "What it takes",
        [
            chart(
                "Memory",
                "By replica; its limit is `controlPlane.resources`.",
                "bytes",
                {"{{pod}}": f"process_resident_memory_bytes{{{OWN}}}"},
            ),
            chart(
                "Remembered traffic",
                "Memory of what `tulle stat` reads: a part of the former.",
                "bytes",
                {"{{pod}}": "tulle_store_size_bytes"},
            ),
            chart(
                "Remembered",
                "Edges, their rules, and proxies that report, by replica.",
                "short",
                {
                    "edges, {{pod}}": "tulle_store_edges",
                    "rules, {{pod}}": "tulle_store_routes",
                    "proxies, {{pod}}": "tulle_store_proxies",
                },
            ),
        ],
        [
            chart("Processor time", "By replica; 1 is a core.", "none", {"{{pod}}": rate("process_cpu_seconds_total", OWN, "pod")}),
            chart(
                "Running since",
                "A line that falls is a replica that started anew.",
                "s",
                {"{{pod}}": f"time() - process_start_time_seconds{{{OWN}}}"},
            ),
        ],
    )
