"""One workload: who calls it, whom it calls, and its sidecars."""

from panels import *
from queries import *

OWN = 'namespace="$namespace", workload="$workload"'
CALLER = "{{tulle_peer_namespace}} {{tulle_peer_workload}}"


def dashboard():
    return page(
        "tulle-workload",
        "One workload: what those who call it get, what it gets from those whom it calls, and its sidecars.",
        [
            variable("namespace", "Namespace", "Of the workload.", "label_values(tulle_config_generation, namespace)"),
            variable(
                "workload",
                "Workload",
                "The Deployment, StatefulSet, … or bare pod.",
                'label_values(tulle_config_generation{namespace="$namespace"}, workload)',
            ),
        ],
        [
            stat("Requests", "HTTP and gRPC, that it gets.", "reqps", requests("called", OWN)),
            stat(
                "Errors",
                "Of these the share that was its fault.",
                "percentunit",
                error_share("called", OWN),
                ERRORS,
                ["TulleErrorBudgetBurn"],
            ),
            stat("p50", "Half of them took no longer, application and all.", "s", quantile(0.5, "called", OWN)),
            stat("p99", "All but a hundredth took no longer.", "s", quantile(0.99, "called", OWN)),
            stat("By mTLS", "The share of which the caller has proven who it is.", "percentunit", mtls_share(OWN), MTLS),
            stat("Sidecars", "Of its pods, that are scraped.", "short", f"count(tulle_config_generation{{{OWN}}})"),
        ],
        "Who calls it",
        [
            chart(
                "Requests by caller",
                "Without a namespace it is a class: outside of the mesh, or unknown.",
                "reqps",
                {CALLER: requests("called", OWN, "tulle_peer_namespace, tulle_peer_workload")},
                links=[PEER],
            ),
            chart(
                "Requests by answer",
                "HTTP's status, or gRPC's.",
                "reqps",
                {
                    "{{http_response_status_code}}{{rpc_status_code}}": requests(
                        "called", OWN, "http_response_status_code, rpc_status_code"
                    )
                },
                stacked=True,
            ),
            chart(
                "Errors by reason",
                "`error_type`: a reason of the sidecar's, a status of 5xx, or the name of gRPC's.",
                "reqps",
                {"{{error_type}}": requests("called", labels(OWN, FAULTS), "error_type")},
                stacked=True,
            ),
        ],
        [
            chart(
                "Duration",
                "From the sidecar's first byte of a request to the last of its answer.",
                "s",
                {f"p{q * 100:g}": quantile(q, "called", OWN) for q in [0.5, 0.9, 0.99]},
            ),
            chart(
                "At work",
                "Requests that the application is working on, by pod.",
                "short",
                {"{{pod}}": f"sum by (pod) (http_server_active_requests{{{OWN}}})"},
            ),
            chart(
                "Denials",
                "What policy forbade (`enforce`), or would have (`audit`), by policy and caller.",
                "cps",
                {
                    "{{tulle_policy}} {{tulle_mode}}: "
                    + CALLER: rate(
                        "tulle_denials_total",
                        labels(OWN, 'tulle_reporter="destination"'),
                        "tulle_policy, tulle_mode, tulle_peer_namespace, tulle_peer_workload",
                    )
                },
                PLAIN,
                ["TulleDenials"],
            ),
        ],
        [
            table(
                "Callers",
                "Now.",
                {"tulle_peer_workload": "Caller", "tulle_peer_namespace": "Namespace", "tulle_security": "Security"},
                {
                    "Requests": (
                        "reqps",
                        PLAIN,
                        requests("called", OWN, "tulle_peer_namespace, tulle_peer_workload, tulle_security"),
                    ),
                    "Errors": (
                        "percentunit",
                        ERRORS,
                        error_share("called", OWN, "tulle_peer_namespace, tulle_peer_workload, tulle_security"),
                    ),
                    "p99": ("s", PLAIN, quantile(0.99, "called", OWN, "tulle_peer_namespace, tulle_peer_workload, tulle_security")),
                },
                "Requests",
                [to("tulle-workload", namespace=of_row("tulle_peer_namespace"), workload=of_row("tulle_peer_workload"))],
            )
        ],
        "Whom it calls",
        [
            chart(
                "Requests by service",
                "Each is one, whatever retries it took.",
                "reqps",
                {"{{server_address}}": requests("caller", OWN, "server_address")},
                links=[SERVICE],
            ),
            chart(
                "Errors by service",
                "The share of requests that failed, as the application saw it.",
                "percentunit",
                {"{{server_address}}": error_share("caller", OWN, "server_address")},
                ERRORS,
                ["TulleServiceUnreachable"],
                links=[SERVICE],
            ),
            chart(
                "p99 by service",
                "All but a hundredth took no longer, retries and all.",
                "s",
                {"{{server_address}}": quantile(0.99, "caller", OWN, "server_address")},
                links=[SERVICE],
            ),
        ],
        [
            chart(
                "Attempts for each request",
                "1 where nothing is retried.",
                "none",
                {"{{server_address}}": attempts(OWN, "server_address")},
                ATTEMPTS,
                ["TulleRetriesAmplify"],
                links=[SERVICE],
            ),
            chart(
                "Endpoints left out",
                "Because they failed, now.",
                "short",
                {"{{server_address}}": f"sum by (server_address) (tulle_upstream_ejected{{{OWN}}})"},
                links=[SERVICE],
            ),
            chart(
                "Limits",
                "Requests and connections refused by a limit, and retries that were not made for want of budget.",
                "cps",
                {
                    "{{limit}}": rate("tulle_limit_rejected_total", OWN, "limit"),
                    "retry budget of {{server_address}}": rate("tulle_retry_budget_exhausted_total", OWN, "server_address"),
                },
                PLAIN,
                ["TulleLimitReached"],
            ),
        ],
        "Opaque connections",
        [
            chart(
                "Bytes",
                "When connections end. `destination`: it was called; `source`: it called.",
                "Bps",
                {
                    "{{tulle_reporter}} {{tulle_io_direction}}": rate(
                        "tulle_tcp_io_bytes_total", OWN, "tulle_reporter, tulle_io_direction"
                    )
                },
            ),
            chart(
                "Connections",
                "That are opened and closed, with what went wrong.",
                "cps",
                {
                    "{{tulle_reporter}} {{tulle_connection_state}} {{error_type}}": rate(
                        "tulle_tcp_connections_total", OWN, "tulle_reporter, tulle_connection_state, error_type"
                    )
                },
            ),
        ],
        "Its sidecars",
        [
            chart("Memory", "By pod.", "bytes", {"{{pod}}": f'process_resident_memory_bytes{{job="tulle-proxy", {OWN}}}'}),
            chart(
                "Processor time",
                "By pod; 1 is a core.",
                "none",
                {"{{pod}}": rate("process_cpu_seconds_total", f'job="tulle-proxy", {OWN}', "pod")},
            ),
            chart(
                "Connections",
                "From clients, that are open.",
                "short",
                {"{{direction}} {{pod}}": f"sum by (direction, pod) (tulle_connections_open{{{OWN}}})"},
                PLAIN,
                ["TulleConnectionsRefused"],
            ),
            chart(
                "Certificate",
                "The share of its life that is left. It is renewed at half.",
                "percentunit",
                {"{{pod}}": certificate_left(OWN)},
                CERTIFICATE,
                ["TulleCertificateEnds"],
                most=1,
            ),
        ],
    )


PEER = to("tulle-workload", namespace=of_label("tulle_peer_namespace"), workload=of_label("tulle_peer_workload"))
SERVICE = to("tulle-service", service=of_label("server_address"))
