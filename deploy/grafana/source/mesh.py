"""Is the mesh well, and if not, where? The page to begin with."""

from panels import *
from queries import *

INSIDE = 'namespace=~"$namespace"'
PROXIES = f"tulle_config_generation{{{INSIDE}}}"


def dashboard():
    return page(
        "tulle-mesh",
        "Is the mesh well, and if not, where? Traffic as those who are called see it, security, and the sidecars themselves.",
        [
            variable(
                "namespace",
                "Namespace",
                "Of the workloads that are called.",
                "label_values(tulle_config_generation, namespace)",
                several=True,
            )
        ],
        [
            stat("Requests", "HTTP and gRPC, that workloads get.", "reqps", requests("called", INSIDE)),
            stat(
                "Errors", "Of these the share that was the workload's fault.", "percentunit", error_share("called", INSIDE), ERRORS
            ),
            stat("By mTLS", "The share of which the caller has proven who it is.", "percentunit", mtls_share(INSIDE), MTLS),
            stat(
                "Denials",
                "What policy forbade, in a second.",
                "cps",
                at_least_none(rate("tulle_denials_total", labels('tulle_mode="enforce"', INSIDE)), PROXIES),
            ),
            stat("Sidecars", "That are scraped.", "short", f"count({PROXIES})"),
            stat(
                "Cut off",
                "Sidecars without a stream to the control plane.",
                "short",
                f"count(tulle_control_plane_connected{{{INSIDE}}} == 0)\nor 0 * count(tulle_control_plane_connected{{{INSIDE}}})",
                ANY_IS_BAD,
                ["TulleNoProxies", "TulleProxyDisconnected"],
            ),
            stat(
                "Certificates",
                "Of the one that ends first: the share of its life that is left.",
                "percentunit",
                certificate_left(INSIDE, ""),
                CERTIFICATE,
            ),
        ],
        [
            chart(
                "Requests by namespace",
                "HTTP and gRPC, that workloads get.",
                "reqps",
                {"{{namespace}}": requests("called", INSIDE, "namespace")},
                stacked=True,
            ),
            chart(
                "Errors by workload",
                "The ten that fail most: the share of requests that was their fault.",
                "percentunit",
                {"{{namespace}}/{{workload}}": top(10, f"{error_share('called', INSIDE, 'namespace, workload')} > 0")},
                ERRORS,
                ["TulleErrorBudgetBurn"],
                links=[WORKLOAD],
            ),
        ],
        [
            chart(
                "Errors by reason",
                "`error_type`: a reason of the sidecar's, a status of 5xx, or the name of gRPC's.",
                "reqps",
                {"{{error_type}}": requests("called", labels(INSIDE, FAULTS), "error_type")},
                stacked=True,
            ),
            chart(
                "Slowest workloads",
                "The ten whose slowest hundredth takes longest.",
                "s",
                {"{{namespace}}/{{workload}}": top(10, f"({quantile(0.99, 'called', INSIDE, 'namespace, workload')})")},
                links=[WORKLOAD],
            ),
        ],
        [
            table(
                "Workloads",
                "That get requests, now.",
                {"workload": "Workload", "namespace": "Namespace"},
                {
                    "Requests": ("reqps", PLAIN, requests("called", INSIDE, "namespace, workload")),
                    "Errors": ("percentunit", ERRORS, error_share("called", INSIDE, "namespace, workload")),
                    "p99": ("s", PLAIN, quantile(0.99, "called", INSIDE, "namespace, workload")),
                    "By mTLS": ("percentunit", MTLS, mtls_share(INSIDE, "namespace, workload")),
                },
                "Errors",
                [to("tulle-workload", namespace=of_row("namespace"), workload=of_row("workload"))],
            ),
            table(
                "Services that are not reached",
                "Requests that came to no endpoint, by who calls. No sidecar of the called counts them.",
                {"workload": "Caller", "namespace": "Namespace", "server_address": "Service", "error_type": "Reason"},
                {
                    "Requests": (
                        "reqps",
                        ANY_IS_BAD,
                        f"({requests('caller', labels(INSIDE, UNREACHED), 'namespace, workload, server_address, error_type')}) > 0",
                    )
                },
                "Requests",
                [to("tulle-service", service=of_row("server_address"))],
                ["TulleServiceUnreachable"],
            ),
        ],
        [
            table(
                "Alerts",
                "That fire, of deploy/prometheus/rules, where these are loaded.",
                {"alertname": "Alert", "severity": "Severity", "namespace": "Namespace", "workload": "Workload"},
                {"Firing": ("short", PLAIN, 'ALERTS{alertname=~"Tulle.*", alertstate="firing"}')},
                "Severity",
            )
        ],
        "Security",
        [
            chart(
                "Requests by mTLS",
                "The share of which the caller has proven who it is.",
                "percentunit",
                {"{{namespace}}": mtls_share(INSIDE, "namespace")},
                MTLS,
                most=1,
            ),
            chart(
                "In plaintext",
                "The ten workloads that get most requests without mTLS, and from whom.",
                "reqps",
                {
                    "{{namespace}}/{{workload}} from {{tulle_peer_workload}}": top(
                        10,
                        requests(
                            "called", labels(INSIDE, 'tulle_security="plaintext"'), "namespace, workload, tulle_peer_workload"
                        ),
                    )
                },
                links=[WORKLOAD],
            ),
            chart(
                "Denials",
                "What policy forbade (`enforce`), or would have (`audit`), by policy: the ten that do most.",
                "cps",
                {"{{tulle_policy}} {{tulle_mode}}": top(10, rate("tulle_denials_total", INSIDE, "tulle_policy, tulle_mode"))},
                PLAIN,
                ["TulleDenials"],
            ),
            chart(
                "Failed handshakes",
                "The share of mTLS handshakes with others of the mesh that fail.",
                "percentunit",
                {"{{namespace}}/{{workload}}": share(f"{FAILED_HANDSHAKES}\nor 0 * {HANDSHAKES}", HANDSHAKES)},
                [(None, "green"), (0.05, "red")],
                ["TulleHandshakesFail"],
            ),
        ],
        "Opaque connections",
        [
            chart(
                "Bytes",
                "Of opaque connections, when they end; as those who are called see them.",
                "Bps",
                {
                    "{{namespace}} {{tulle_io_direction}}": rate(
                        "tulle_tcp_io_bytes_total", labels('tulle_reporter="destination"', INSIDE), "namespace, tulle_io_direction"
                    )
                },
            ),
            chart(
                "Connections",
                "That are opened.",
                "cps",
                {
                    "{{namespace}}": rate(
                        "tulle_tcp_connections_total",
                        labels('tulle_reporter="destination"', 'tulle_connection_state="opened"', INSIDE),
                        "namespace",
                    )
                },
            ),
            chart(
                "Connections that fail",
                "By caller's namespace and reason.",
                "cps",
                {
                    "{{namespace}} {{error_type}}": rate(
                        "tulle_tcp_connections_total",
                        labels('tulle_reporter="source"', 'tulle_connection_state="closed"', 'error_type!=""', INSIDE),
                        "namespace, error_type",
                    )
                },
            ),
        ],
        "Sidecars",
        [
            chart(
                "Cut off",
                "Sidecars without a stream to the control plane. They serve by what they were told last.",
                "short",
                {
                    "{{namespace}}": f"count by (namespace) (tulle_control_plane_connected{{{INSIDE}}} == 0)\nor 0 * count by (namespace) (tulle_control_plane_connected{{{INSIDE}}})"
                },
                ANY_IS_BAD,
            ),
            chart(
                "Behind",
                "Responses with configuration that a sidecar has neither accepted nor rejected, and changes that were not everywhere within 5 s. Sidecars' own generations are no measure: each counts from its own start what concerns it.",
                "short",
                {
                    "Unanswered, {{pod}}": "tulle_push_pending",
                    "Stalled in a second, {{pod}}": rate("tulle_control_plane_changes_stalled_total", by="pod"),
                },
                ANY_IS_BAD,
                ["TullePushesPending", "TulleChangesStall"],
            ),
            chart(
                "Changes in force",
                "Changes of configuration that sidecars put in force, in a second, all together.",
                "cps",
                {"{{namespace}}": f"sum by (namespace) (rate({PROXIES}{RATE}))"},
            ),
            chart(
                "Rejected configuration",
                "Resources that sidecars did not understand.",
                "cps",
                {"{{namespace}}/{{pod}} {{kind}}": rate("tulle_config_rejected_total", INSIDE, "namespace, pod, kind")},
                ANY_IS_BAD,
                ["TulleConfigurationRejected"],
            ),
        ],
        [
            chart(
                "Certificates",
                "The ten that end first: the share of life that is left. They are renewed at half.",
                "percentunit",
                {"{{namespace}}/{{pod}}": f"bottomk(10, {certificate_left(INSIDE)})"},
                CERTIFICATE,
                ["TulleCertificateEnds"],
                most=1,
            ),
            chart(
                "Memory",
                "The ten sidecars that hold most.",
                "bytes",
                {"{{namespace}}/{{pod}}": top(10, f'process_resident_memory_bytes{{job="tulle-proxy", {INSIDE}}}')},
            ),
            chart(
                "Full",
                "Connections that sidecars refused because too many were open, and pauses for want of file descriptors or memory.",
                "cps",
                {
                    "{{namespace}}/{{pod}} {{direction}}": f"{rate('tulle_connections_refused_total', INSIDE, 'namespace, pod, direction')}\nor {rate('tulle_accept_pauses_total', INSIDE, 'namespace, pod')}"
                },
                ANY_IS_BAD,
                ["TulleConnectionsRefused"],
            ),
            chart(
                "Lost telemetry",
                "Series that are counted as `other`, lines of logs that nobody read, and what OTLP's destinations did not get, in a second.",
                "cps",
                {
                    "series, {{namespace}}/{{workload}}": rate(
                        "tulle_telemetry_dropped_series_total", INSIDE, "namespace, workload"
                    ),
                    "log lines, {{namespace}}/{{workload}}": f"{rate('tulle_log_lines_dropped_total', INSIDE, 'namespace, workload')} + {rate('tulle_diagnostics_dropped_total', INSIDE, 'namespace, workload')}",
                    "{{signal}}, {{namespace}}/{{workload}}": f"{rate('tulle_telemetry_dropped_total', INSIDE, 'namespace, workload, signal')} + {rate('tulle_telemetry_refused_total', INSIDE, 'namespace, workload, signal')}",
                },
                PLAIN,
                ["TulleSeriesDropped", "TulleLogLinesDropped"],
            ),
        ],
    )


WORKLOAD = to("tulle-workload", namespace=of_label("namespace"), workload=of_label("workload"))
UNREACHED = 'error_type=~"connect|no_endpoint|tls|control_plane|invalid_backend"'
HANDSHAKES, FAILED_HANDSHAKES = (
    rate("tulle_tls_handshakes_total", labels('tulle_peer="mesh"', INSIDE, only), "namespace, workload")
    for only in ["", 'tls_established="false"']
)
