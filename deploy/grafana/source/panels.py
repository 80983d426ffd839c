"""Panels, variables and links, as Grafana's JSON has them: @grafana/schema, type Dashboard."""

import re
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parent.parent.parent.parent / "docs/prometheus.md"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# Title and uid of each dashboard. A uid is for ever: links and bookmarks name it.
PAGES = {
    "tulle-mesh": "Tulle / Mesh",
    "tulle-workload": "Tulle / Workload",
    "tulle-service": "Tulle / Service",
    "tulle-route": "Tulle / Route",
    "tulle-release": "Tulle / Release",
    "tulle-control-plane": "Tulle / Control plane",
}


def page(uid, description, variables, *lines):
    """A dashboard of lines: each a heading, or panels that share the width."""
    panels, y = [], 0
    for line in lines:
        if isinstance(line, str):
            panels.append({"type": "row", "title": line, "collapsed": False, "panels": [], "gridPos": grid(1, 24, 0, y)})
            y += 1
            continue
        height = 4 if all(panel["type"] == "stat" for panel in line) else 8
        for at, panel in enumerate(line):
            start, end = at * 24 // len(line), (at + 1) * 24 // len(line)
            panels.append(panel | {"gridPos": grid(height, end - start, start, y)})
        y += height
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    others = [jump(other, title) for other, title in PAGES.items() if other != uid]
    return {
        "uid": uid,
        "title": PAGES[uid],
        "description": description,
        "tags": ["tulle"],
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": 42,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "1m",
        "timezone": "browser",
        "annotations": {"list": []},
        "links": others,
        "templating": {"list": [datasource(), *variables, runbooks()]},
        "panels": panels,
    }


def grid(h, w, x, y):
    return {"h": h, "w": w, "x": x, "y": y}


def datasource():
    about = {"description": "The Prometheus that scrapes the mesh.", "query": "prometheus"}
    return {"name": "datasource", "label": "Data source", "type": "datasource", "hide": 0, **about}


def runbooks():
    about = "What stands before the paths of runbooks: where your copy of Tulle's repository is read, without a slash at the end."
    return {"name": "runbooks", "type": "constant", "hide": 2, "description": about, "query": ""}


def variable(name, label, about, query, several=False):
    """One that is chosen among what there is."""
    found = {
        "name": name,
        "label": label,
        "description": about,
        "type": "query",
        "hide": 0,
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
    }
    everything = {"allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}}
    return found | everything if several else found


def jump(uid, title):
    url = f"/d/{uid}?${{datasource:queryparam}}"
    return link(title.removeprefix("Tulle / "), url) | {"keepTime": True}


def link(title, url):
    return {
        "type": "link",
        "title": title,
        "url": url,
        "icon": "external link",
        "tooltip": "",
        "tags": [],
        "asDropdown": False,
        "includeVars": False,
        "keepTime": False,
        "targetBlank": False,
    }


def to(uid, **variables):
    """A link from what was clicked: the variables of that dashboard, by the labels that say them."""
    given = "".join(f"&var-{name}={value}" for name, value in variables.items())
    return {
        "title": PAGES[uid].removeprefix("Tulle / "),
        "url": f"/d/{uid}?${{datasource:queryparam}}{given}&${{__url_time_range}}",
    }


def of_label(name):
    return f"${{__field.labels.{name}:percentencode}}"


def of_row(name):
    return f"${{__data.fields.{name}:percentencode}}"


def what_to_do(alert):
    """The runbook's own words: the paragraph that begins with `Do:`, without its links."""
    section = re.search(rf"^### {alert}\n(.*?)(?=^#|\Z)", DOCUMENT.read_text(), re.M | re.S).group(1)
    advice = " ".join(re.search(r"\bDo: (.*?)(?:\n\n|\Z)", section, re.S).group(1).split())
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", advice).rstrip(":.") + "."


def panel(kind, title, about, targets, unit, steps, alerts, defaults, options):
    for alert in alerts:
        about += f"\n\n**{alert}**: {what_to_do(alert)}"
    runbook = lambda alert: f"${{runbooks}}/docs/prometheus.md#{alert.lower()}"
    colors = [{"color": color, "value": value} for value, color in steps]
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": SOURCE,
        "targets": targets,
        "links": [link(f"What to do: {alert}", runbook(alert)) | {"targetBlank": True} for alert in alerts],
        "fieldConfig": {
            "defaults": {"unit": unit, "thresholds": {"mode": "absolute", "steps": colors}, **defaults},
            "overrides": [],
        },
        "options": options,
    }


# Below the first value, and from each on: its color.
PLAIN = [(None, "green")]
ANY_IS_BAD = [(None, "green"), (1e-9, "red")]
# Of requests: beyond the objective of deploy/prometheus/rules/slo.rules.yaml, and where its critical alert begins.
ERRORS = [(None, "green"), (0.001, "yellow"), (0.0144, "red")]
# Where its alerts begin: mesh.rules.yaml.
CERTIFICATE = [(None, "red"), (0.1, "yellow"), (0.25, "green")]
ATTEMPTS = [(None, "green"), (1.1, "yellow"), (1.5, "red")]
MTLS = [(None, "red"), (0.9, "yellow"), (1, "green")]


def stat(title, about, unit, expression, steps=PLAIN, alerts=()):
    """One figure, of now."""
    targets = [{"refId": "A", "datasource": SOURCE, "expr": expression, "instant": True, "range": False}]
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "auto",
        "textMode": "auto",
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
        "wideLayout": True,
    }
    return panel("stat", title, about, targets, unit, steps, alerts, {"color": {"mode": "thresholds"}, "noValue": "–"}, options)


def chart(title, about, unit, series, steps=PLAIN, alerts=(), stacked=False, links=(), most=None):
    """Lines over time: {legend: expression}."""
    targets = [
        {
            "refId": chr(ord("A") + at),
            "datasource": SOURCE,
            "expr": expression,
            "legendFormat": legend,
            "range": True,
            "instant": False,
        }
        for at, (legend, expression) in enumerate(series.items())
    ]
    if unit == "s":
        # Where Prometheus keeps exemplars each dot leads to a trace.
        targets = [target | {"exemplar": True} for target in targets]
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 30 if stacked else 0,
        "showPoints": "auto",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if len(steps) > 1 and steps is not ANY_IS_BAD else "off"},
    }
    defaults = {"color": {"mode": "palette-classic"}, "custom": custom, "min": 0, "links": list(links)}
    options = {
        "legend": {
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": True,
            "calcs": ["lastNotNull", "max"],
            "sortBy": "Last *",
            "sortDesc": True,
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel("timeseries", title, about, targets, unit, steps, alerts, defaults | ({"max": most} if most else {}), options)


def table(title, about, rows, columns, first, links=(), alerts=()):
    """Of now. `rows` are labels and their headings, `columns` are headings with unit, thresholds and expression; by `first` it is sorted."""
    targets, names, overrides = [], dict(rows), []
    for at, (heading, (unit, steps, expression)) in enumerate(columns.items()):
        number = chr(ord("A") + at)
        targets.append(
            {"refId": number, "datasource": SOURCE, "expr": expression, "format": "table", "instant": True, "range": False}
        )
        # Of a single query Grafana does not name the letter.
        names["Value" if len(columns) == 1 else f"Value #{number}"] = heading
        shown = {
            "unit": unit,
            "thresholds": {"mode": "absolute", "steps": [{"color": color, "value": value} for value, color in steps]},
        }
        if len(steps) > 1:
            shown["custom.cellOptions"] = {"type": "color-text"}
        overrides.append(
            {
                "matcher": {"id": "byName", "options": heading},
                "properties": [{"id": key, "value": value} for key, value in shown.items()],
            }
        )
    if links:
        leads = next(iter(rows.values()))
        overrides.append({"matcher": {"id": "byName", "options": leads}, "properties": [{"id": "links", "value": list(links)}]})
    made = panel(
        "table",
        title,
        about,
        targets,
        "short",
        PLAIN,
        alerts,
        {"custom": {"align": "auto", "inspect": False}},
        {"showHeader": True, "cellHeight": "sm", "frameIndex": 0, "sortBy": [{"displayName": first, "desc": True}]},
    )
    made["fieldConfig"]["overrides"] = overrides
    made["transformations"] = [
        {"id": "merge", "options": {}},
        {"id": "filterFieldsByName", "options": {"include": {"names": list(names)}}},
        {
            "id": "organize",
            "options": {"excludeByName": {}, "indexByName": {name: at for at, name in enumerate(names)}, "renameByName": names},
        },
    ]
    return made
