"""The dashboards of deploy/grafana: what they ask, and what can be told of them without a Prometheus."""
import itertools, json, re
from pathlib import Path

import names

FOLDER = Path(__file__).resolve().parent.parent.parent / "deploy/grafana"
FILES = sorted(FOLDER.glob("*.json"))
# What Grafana itself puts in.
BUILT_IN = {"__rate_interval", "__url_time_range"}


def load(file):
    return json.loads(file.read_text())


def panels(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def variables(dashboard):
    """Those that are chosen among what there is: (name, selector, label, whether several)."""
    found = []
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()
            found.append((variable["name"], selector, label, variable["multi"]))
    return found


def filled(text, values):
    """Grafana's variables replaced by their values."""
    return re.sub(r"\$(\w+)", lambda found: values.get(found[1], found[0]), text)


def asked(dashboard):
    """Each question: (panel's title, expression, labels that legend, columns and links take from the answer)."""
    for panel in panels(dashboard):
        wanted = set(re.findall(r"__(?:field\.labels|data\.fields)\.(\w+)", json.dumps(panel["fieldConfig"])))
        for step in panel.get("transformations", []):
            if step["id"] == "organize":
                wanted |= {name for name in step["options"]["renameByName"] if not name.startswith("Value")}
        for target in panel["targets"]:
            legend = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
            yield panel["title"], target["expr"], wanted | legend


def rules(page):
    """Its questions as recording rules, so that promtool reads them."""
    values = {"__rate_interval": "5m"} | {name: "x" for name, *_ in variables(page)}
    every = [{"record": f"asked:{number}", "expr": filled(expression, values)} for number, (_, expression, _) in enumerate(asked(page))]
    return {"groups": [{"name": page["uid"], "rules": every}]}


def wrong(file, uids):
    """What a dashboard must not be, panel by panel. `uids` has the names of the variables of each."""
    page = load(file)
    found = [] if page["uid"] == f"tulle-{file.stem}" else [f"uid {page['uid']} is not tulle-{file.stem}"]
    for needed in ["title", "description", "tags"]:
        found += [] if page.get(needed) else [f"no {needed}"]
    for panel in panels(page):
        found += [f"{panel['title'] or panel['id']}: {what}" for what in wrong_panel(panel, uids)]
    found += wrong_variables(page) + overlapping(page)
    links = [url for panel in panels(page) for url in re.findall(r'"(/d/[^"]*)"', json.dumps(panel))]
    for url in links + [link["url"] for link in page["links"]]:
        uid, _, query = url.removeprefix("/d/").partition("?")
        unknown = {name for name in re.findall(r"var-(\w+)=", query)} - uids.get(uid, set())
        if uid not in uids or unknown or "${datasource:queryparam}" not in query:
            found.append(f"a link leads nowhere: {url}")
    return found


def wrong_panel(panel, uids):
    if not (panel["title"] and panel["description"]):
        yield "lacks title or description"
    defaults = panel["fieldConfig"]["defaults"]
    if not defaults.get("unit"):
        yield "lacks a unit"
    steps = [step["value"] for step in defaults["thresholds"]["steps"]]
    if steps[0] is not None or steps[1:] != sorted(steps[1:]):
        yield f"has thresholds out of order: {steps}"
    for one in [panel, *panel["targets"]]:
        if one["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
            yield f"has a data source of its own: {one['datasource']}"
    for target in panel["targets"]:
        expression = target["expr"]
        for length in re.findall(r"\[([^\]]*)\]", expression):
            if length != "$__rate_interval":
                yield f"has a rate over {length}, not $__rate_interval"
        for selectors, _ in [names.of_expression(expression)]:
            for metrics, matchers in selectors:
                if any(":" in metric for metric in metrics):
                    yield f"needs a recording rule: {metrics}"
                for label, operator, value in matchers:
                    own = label in ["namespace", "workload", "tulle_peer_namespace", "tulle_peer_workload", "server_address", "tulle_route", "pod", "instance"]
                    if own and value and not re.fullmatch(r"\$\w+", value):
                        yield f'names one that only some have: {label}{operator}"{value}"'
        if panel["type"] == "timeseries" and not target.get("legendFormat"):
            yield "lacks a legend"


def wrong_variables(page):
    """Each that is used is there, and each that is there is used."""
    there = {variable["name"] for variable in page["templating"]["list"]}
    text = json.dumps({key: value for key, value in page.items() if key != "templating"})
    text += json.dumps([variable.get("query") for variable in page["templating"]["list"]])
    text += json.dumps([variable.get("datasource") for variable in page["templating"]["list"]])
    used = set(re.findall(r"\$\{?(\w+)", text)) - BUILT_IN - {"__field", "__data"}
    found = [f"${name} is not there" for name in sorted(used - there)] + [f"${name} is not used" for name in sorted(there - used)]
    first = page["templating"]["list"][0]
    return found + ([] if (first["name"], first["type"]) == ("datasource", "datasource") else ["the data source is not chosen first"])


def overlapping(page):
    """Panels with the same number, outside of the grid, or one over the other."""
    found, taken = [], {}
    for panel in page["panels"]:
        at, name = panel["gridPos"], f"{panel['id']} {panel['title']}"
        if at["x"] + at["w"] > 24:
            found.append(f"{name} is wider than the page")
        for cell in itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])):
            other = taken.setdefault(cell, name)
            if other != name:
                found.append(f"{name} is over {other}")
                break
    numbers = [panel["id"] for panel in page["panels"]]
    return found + ([] if len(set(numbers)) == len(numbers) else ["two panels have one number"])


def runbooks(page):
    """Anchors of docs/prometheus.md that panels lead to."""
    return {link["url"].partition("${runbooks}/docs/prometheus.md#")[2] for panel in panels(page) for link in panel["links"]}
