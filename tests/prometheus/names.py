"""The names of metrics and labels in PromQL, in Prometheus' text, and in docs/metrics.md."""
import re

GROUPING = r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^()]*)\)"
WORDS = {"and", "or", "unless", "offset", "bool", "inf", "nan"}


def of_expression(expression):
    """What it selects: (names, [(label, operator, value)]) of each selector; and the labels that it groups or joins by."""
    grouped = {label.strip() for labels in re.findall(GROUPING, expression) for label in labels.split(",")} - {""}
    rest = re.sub(GROUPING, " ", expression)
    selectors = []
    for name, braces in re.findall(r"([a-zA-Z_:][\w:]*)?\s*\{([^{}]*)\}", rest):
        matchers = re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', braces)
        named = [value for label, _, value in matchers if label == "__name__"]
        names = [name] if name else named[0].split("|")
        selectors.append((names, [matcher for matcher in matchers if matcher[0] != "__name__"]))
    rest = re.sub(r"([a-zA-Z_:][\w:]*)?\s*\{[^{}]*\}", " ", rest)
    rest = re.sub(r"\[[^\]]*\]", " ", rest)
    for name, call in re.findall(r"(?<![\w.])([a-zA-Z_:][\w:]*)\s*(\()?", rest):
        if not call and name not in WORDS:
            selectors.append(([name], []))
    return selectors, grouped


def of_text(text):
    """Families of Prometheus' older text, with their types."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))


def series(text):
    """Each sample of it: name, labels, value."""
    found = []
    for name, labels, value in re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$", text, re.M):
        found.append((name, dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)), float(value)))
    return found


def of_documents(text):
    """What docs/metrics.md lists, with types: of tables whose first column is headed `metric`; and every word that it says in code."""
    families, inside = {}, False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        inside = bool(cells) and (inside or cells[0] == "metric")
        if inside:
            for name in re.findall(r"`([a-z][\w]*)`", cells[0]):
                families[name] = cells[1]
    return families, set(re.findall(r"`(\w+)`", text))


def anchors(text):
    """What a link can point to in a page of Markdown."""
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
