"""One rule of a route, as those whose requests it takes see it."""

from panels import *
from queries import *

OF = 'tulle_route="$route"'
BACKEND = "{{tulle_peer_namespace}} {{tulle_peer_workload}}"


def dashboard():
    backends = requests("caller", OF, "tulle_peer_namespace, tulle_peer_workload")
    of_all = f"({backends})\n/ on () group_left () (({requests('caller', OF)}) > 0)"
    return page(
        "tulle-route",
        "One rule of a route: how its requests are split, how they fare, and what retries make of them.",
        [
            variable(
                "route",
                "Rule",
                "As KIND/NAMESPACE/NAME#RULE; `Service/…` where no route is about the Service.",
                f"label_values({known('caller')}, tulle_route)",
            )
        ],
        [
            stat("Requests", "That it takes.", "reqps", requests("caller", OF)),
            stat("Errors", "The share that failed, as applications saw it.", "percentunit", error_share("caller", OF), ERRORS),
            stat("p50", "Half of them took no longer.", "s", quantile(0.5, "caller", OF)),
            stat("p99", "All but a hundredth took no longer, retries and all.", "s", quantile(0.99, "caller", OF)),
            stat(
                "Attempts for each request", "1 where nothing is retried.", "none", attempts(OF), ATTEMPTS, ["TulleRetriesAmplify"]
            ),
        ],
        [
            chart(
                "Split",
                "Of its requests, which share each workload answered. `unknown`: nobody was reached.",
                "percentunit",
                {BACKEND: of_all},
                stacked=True,
                links=[PEER],
                most=1,
            ),
            chart(
                "Errors by workload",
                "Of the requests that each workload answered, the share that failed: a new version beside the old.",
                "percentunit",
                {BACKEND: error_share("caller", OF, "tulle_peer_namespace, tulle_peer_workload")},
                ERRORS,
                links=[PEER],
            ),
            chart(
                "p99 by workload",
                "All but a hundredth of what each answered took no longer.",
                "s",
                {BACKEND: quantile(0.99, "caller", OF, "tulle_peer_namespace, tulle_peer_workload")},
                links=[PEER],
            ),
        ],
        [
            chart(
                "Requests by caller and service",
                "Each is one, whatever retries it took.",
                "reqps",
                {"{{namespace}}/{{workload}} to {{server_address}}": requests("caller", OF, "namespace, workload, server_address")},
                links=[CALLER, SERVICE],
            ),
            chart(
                "Requests by answer",
                "HTTP's status, or gRPC's.",
                "reqps",
                {
                    "{{http_response_status_code}}{{rpc_status_code}}": requests(
                        "caller", OF, "http_response_status_code, rpc_status_code"
                    )
                },
                stacked=True,
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
                "Attempts by outcome",
                "`ok`: the answer was given; `retried`: another attempt followed; else why it failed.",
                "cps",
                {"{{outcome}}": rate("tulle_client_attempts_total", OF, "outcome")},
                stacked=True,
            )
        ],
    )


CALLER = to("tulle-workload", namespace=of_label("namespace"), workload=of_label("workload"))
PEER = to("tulle-workload", namespace=of_label("tulle_peer_namespace"), workload=of_label("tulle_peer_workload"))
SERVICE = to("tulle-service", service=of_label("server_address"))
