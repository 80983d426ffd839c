"""What is asked of Prometheus, in PromQL.

Each question about requests is asked twice: of classic histograms, or, where a Prometheus has none, of native ones
(docs/prometheus.md, Native histograms). Nothing here needs the recording rules. An answer is never NaN: without requests there
is none."""

RATE = "[$__rate_interval]"
# How each end of a request sees it: its name in `tulle_reporter`, and HTTP's and gRPC's metric.
ENDS = {
    "called": ("destination", ["http_server_request_duration_seconds", "rpc_server_call_duration_seconds"]),
    "caller": ("source", ["http_client_request_duration_seconds", "rpc_client_call_duration_seconds"]),
}
# Not the called one's fault: what was refused (4xx, `denied`), or given up by the caller. As in deploy/prometheus/rules.
FAULTS = 'error_type!~"|canceled|denied", http_response_status_code!~"4.."'


def labels(*some):
    """Matchers and names of labels, as one list."""
    return ", ".join(one for one in some if one)


def summed(by, expression):
    return f"sum by ({by}) ({expression})" if by else f"sum({expression})"


def rate(metric, where="", by=""):
    """What a counter grows by in a second."""
    return summed(by, f"rate({metric}{{{where}}}{RATE})" if where else f"rate({metric}{RATE})")


def durations(end, part, where):
    reporter, metrics = ENDS[end]
    names = "|".join(metric + part for metric in metrics)
    return "rate({" + labels(f'__name__=~"{names}"', f'tulle_reporter="{reporter}"', where) + "}" + RATE + ")"


def known(end, *others, where=""):
    """A selector of the series of requests, and of others: for what there is to choose."""
    reporter, metrics = ENDS[end]
    every = [metric + part for part in ["_count", ""] for metric in metrics] + list(others)
    return "{" + labels(f'__name__=~"{"|".join(every)}"', f'tulle_reporter="{reporter}"', where) + "}"


def requests(end, where="", by=""):
    """Requests in a second, HTTP and gRPC together."""
    return f"{summed(by, durations(end, '_count', where))}\nor histogram_count({summed(by, durations(end, '', where))})"


def errors(end, where="", by=""):
    """Those that were the called one's fault; 0 where there are requests, and none of them."""
    return f"{requests(end, labels(where, FAULTS), by)}\nor 0 * ({requests(end, where, by)})"


def share(part, whole):
    return f"({part})\n/ ({whole} > 0)"


def error_share(end, where="", by=""):
    return share(errors(end, where, by), f"({requests(end, where, by)})")


def mtls_share(where="", by=""):
    """Of the requests that workloads got, those of callers that had proven who they are."""
    every, proven = (requests("called", labels(where, only), by) for only in ["", 'tulle_security="mtls"'])
    return share(f"{proven}\nor 0 * ({every})", f"({every})")


def quantile(q, end, where="", by=""):
    """Seconds within which the share `q` of requests ended."""
    classic = f"histogram_quantile({q}, {summed(labels(by, 'le'), durations(end, '_bucket', where))}) >= 0"
    return f"{classic}\nor histogram_quantile({q}, {summed(by, durations(end, '', where))}) >= 0"


def attempts(where="", by=""):
    """Attempts for each request: 1 where nothing is retried."""
    every = rate("tulle_client_attempts_total", labels('tulle_reporter="source"', where), by)
    return share(every, f"({requests('caller', where, by)})")


def at_least_none(expression, there):
    """0 rather than nothing, as long as what would say it (the series `there`) is scraped."""
    return f"{expression}\nor 0 * count({there})"


def top(number, expression):
    return f"topk({number}, {expression})"


def certificate_left(where="", by="namespace, pod"):
    """The share of a certificate's life that is left."""
    where = f"{{{where}}}" if where else ""
    left = f"(tulle_cert_not_after_seconds{where} - time())"
    life = f"(tulle_cert_not_after_seconds{where} - tulle_cert_not_before_seconds{where} > 0)"
    return f"min by ({by}) ({left} / {life})" if by else f"min({left} / {life})"
