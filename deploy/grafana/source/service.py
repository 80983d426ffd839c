"""One Service, as those who call it see it."""

from panels import *
from queries import *

SERVICE = 'server_address="$service"'
OF = labels(SERVICE, 'namespace=~"$namespace"')
BY_CALLERS = 'tulle_reporter="source"'


def dashboard():
    called = lambda where="": known("caller", "tulle_tcp_connections_total", where=where)
    return page(
        "tulle-service",
        "One Service, as those who call it see it: also what never reached it.",
        [
            variable("service", "Service", "By its full name.", f"label_values({called()}, server_address)"),
            variable(
                "namespace",
                "Callers' namespace",
                "Of those who call it.",
                f"label_values({called(SERVICE)}, namespace)",
                several=True,
            ),
        ],
        [
            stat("Requests", "Each is one, whatever retries it took.", "reqps", requests("caller", OF)),
            stat(
                "Errors",
                "The share that failed, as applications saw it.",
                "percentunit",
                error_share("caller", OF),
                ERRORS,
                ["TulleServiceUnreachable"],
            ),
            stat("p50", "Half of them took no longer.", "s", quantile(0.5, "caller", OF)),
            stat("p99", "All but a hundredth took no longer, retries and all.", "s", quantile(0.99, "caller", OF)),
            stat(
                "Attempts for each request", "1 where nothing is retried.", "none", attempts(OF), ATTEMPTS, ["TulleRetriesAmplify"]
            ),
        ],
        [
            chart(
                "Requests by caller",
                "Each is one, whatever retries it took.",
                "reqps",
                {"{{namespace}}/{{workload}}": requests("caller", OF, "namespace, workload")},
                links=[CALLER],
            ),
            chart(
                "Requests by who answered",
                "The workloads behind it. `unknown`: nobody was reached.",
                "reqps",
                {
                    "{{tulle_peer_namespace}} {{tulle_peer_workload}}": requests(
                        "caller", OF, "tulle_peer_namespace, tulle_peer_workload"
                    )
                },
                stacked=True,
                links=[PEER],
            ),
            chart(
                "Errors by reason",
                "`error_type`: a reason of the caller's sidecar, a status of 5xx, or the name of gRPC's.",
                "reqps",
                {"{{error_type}}": requests("caller", labels(OF, FAULTS), "error_type")},
                stacked=True,
            ),
        ],
        [
            chart(
                "Duration",
                "As applications saw it, retries and all.",
                "s",
                {f"p{q * 100:g}": quantile(q, "caller", OF) for q in [0.5, 0.9, 0.99]},
            ),
            chart(
                "Attempts by outcome",
                "`ok`: the answer was given; `retried`: another attempt followed; else why it failed.",
                "cps",
                {"{{outcome}}": rate("tulle_client_attempts_total", labels(BY_CALLERS, OF), "outcome")},
                stacked=True,
            ),
            chart(
                "Connections",
                "For HTTP, that callers hold to its endpoints.",
                "short",
                {"{{http_connection_state}}": f"sum by (http_connection_state) (http_client_open_connections{{{OF}}})"},
                stacked=True,
            ),
        ],
        [
            table(
                "Callers",
                "Now.",
                {"workload": "Caller", "namespace": "Namespace"},
                {
                    "Requests": ("reqps", PLAIN, requests("caller", OF, "namespace, workload")),
                    "Errors": ("percentunit", ERRORS, error_share("caller", OF, "namespace, workload")),
                    "p99": ("s", PLAIN, quantile(0.99, "caller", OF, "namespace, workload")),
                    "Attempts": ("none", ATTEMPTS, attempts(OF, "namespace, workload")),
                },
                "Requests",
                [to("tulle-workload", namespace=of_row("namespace"), workload=of_row("workload"))],
            ),
            table(
                "Rules",
                "By which its requests go, now. `Service/…`: no route is about it.",
                {"tulle_route": "Rule"},
                {
                    "Requests": ("reqps", PLAIN, requests("caller", OF, "tulle_route")),
                    "Errors": ("percentunit", ERRORS, error_share("caller", OF, "tulle_route")),
                    "p99": ("s", PLAIN, quantile(0.99, "caller", OF, "tulle_route")),
                },
                "Requests",
                [to("tulle-route", route=of_row("tulle_route"))],
            ),
        ],
        "What policy does",
        [
            chart(
                "Endpoints left out",
                "Because they failed: now, by caller.",
                "short",
                {"{{namespace}}/{{workload}}": f"max by (namespace, workload) (tulle_upstream_ejected{{{OF}}})"},
            ),
            chart("Ejections", "By cause.", "cps", {"{{cause}}": rate("tulle_upstream_ejections_total", OF, "cause")}),
            chart(
                "Retries that were not made",
                "For want of budget.",
                "cps",
                {"{{namespace}}/{{workload}}": rate("tulle_retry_budget_exhausted_total", OF, "namespace, workload")},
            ),
            chart(
                "Copies",
                "For mirrors, sent to it; with what went wrong.",
                "cps",
                {"sent {{error_type}}": rate("tulle_mirrored_requests_total", OF, "error_type")},
            ),
        ],
        "Opaque connections",
        [
            chart(
                "Bytes",
                "When connections end.",
                "Bps",
                {"{{tulle_io_direction}}": rate("tulle_tcp_io_bytes_total", labels(BY_CALLERS, OF), "tulle_io_direction")},
            ),
            chart(
                "Connections",
                "That are opened.",
                "cps",
                {
                    "{{namespace}}/{{workload}}": rate(
                        "tulle_tcp_connections_total",
                        labels(BY_CALLERS, OF, 'tulle_connection_state="opened"'),
                        "namespace, workload",
                    )
                },
            ),
        ],
    )


CALLER = to("tulle-workload", namespace=of_label("namespace"), workload=of_label("workload"))
PEER = to("tulle-workload", namespace=of_label("tulle_peer_namespace"), workload=of_label("tulle_peer_workload"))
