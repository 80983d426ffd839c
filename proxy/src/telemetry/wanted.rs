//! What the workload wants told of its traffic, made ready: expressions are read when a configuration comes, never per
//! request.

use http::{HeaderMap, HeaderName};
use tracing::warn;
use tulle_expression::{Bad, Expression, Side};
use tulle_xds::{
    model::{LogFormat, Tag, Telemetry},
    text::bounded,
};

use super::tags::Label;

/// Bytes of a header field's value that are kept.
const MAX_VALUE: usize = 1 << 10;

/// See the [module](self). The default is what is told where nobody says anything.
#[derive(Debug, Default, PartialEq)]
pub struct Wanted {
    pub(super) format: LogFormat,
    /// Somebody else gets the lines, too.
    pub(super) logs_sent: bool,
    /// There are no series of edges.
    pub(super) uncounted: bool,
    /// Which lines there are; `None`: failures, and the sample.
    pub(super) filter: Option<Expression>,
    /// More fields of a line.
    pub(super) fields: Vec<Extra>,
    /// More attributes of a span.
    pub(super) attributes: Vec<Extra>,
    /// More labels of series, by their names.
    pub(super) labels: Vec<Labelled>,
    /// Names of header fields that an expression or the format asks for.
    headers: Vec<(Side, HeaderName)>,
}

/// Something more that is said of each request.
#[derive(Debug, PartialEq)]
pub(super) struct Extra {
    pub(super) name: String,
    pub(super) value: Expression,
}

/// A label more.
#[derive(Debug, PartialEq)]
pub(super) struct Labelled {
    pub(super) label: Label,
    pub(super) value: Expression,
}

/// Header fields that were kept of a request and its answer.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<(Side, HeaderName, String)>);

impl Wanted {
    /// What the control plane says. An expression that this version cannot read is left out, as if nobody had
    /// written it: what is told of traffic never stands in its way.
    pub fn of(telemetry: &Telemetry) -> Self {
        let logs = &telemetry.logs;
        let filter = Some(logs.filter.as_str()).filter(|filter| !filter.is_empty());
        let filter = filter.and_then(|text| read("logs.filter", text, Expression::filter));
        let fields = extras("logs.fields", &logs.fields);
        let attributes = extras("traces.tags", &telemetry.traces.tags);
        let mut wanted = Self {
            format: logs.format,
            logs_sent: !logs.destinations.is_empty(),
            uncounted: telemetry.metrics.off,
            filter,
            fields,
            attributes,
            labels: labels("metrics.tags", &telemetry.metrics.tags),
            headers: Vec::new(),
        };
        wanted.headers = wanted.asked();
        wanted
    }

    fn asked(&self) -> Vec<(Side, HeaderName)> {
        let extras = self.fields.iter().chain(&self.attributes).map(|extra| &extra.value);
        let labels = self.labels.iter().map(|label| &label.value);
        let expressions = self.filter.iter().chain(extras).chain(labels);
        let by_name = |side, name: &str| Some((side, name.parse().ok()?));
        let mut all: Vec<(Side, HeaderName)> = expressions
            .flat_map(|expression| [Side::Request, Side::Response].map(|side| (side, expression)))
            .flat_map(|(side, expression)| expression.headers(side).map(move |name| (side, name)))
            .filter_map(|(side, name)| by_name(side, name))
            .collect();
        if self.format == LogFormat::Envoy {
            let names = super::record::ENVOY_HEADERS.map(HeaderName::from_static);
            all.extend(names.map(|name| (Side::Request, name)));
        }
        all.sort_by(|one, other| (one.0, one.1.as_str()).cmp(&(other.0, other.1.as_str())));
        all.dedup();
        all
    }

    /// Whether nobody reads a line, whatever it says.
    pub(super) fn no_lines(&self) -> bool {
        self.format == LogFormat::Off && !self.logs_sent
    }
}

impl Kept {
    /// Keeps what is wanted of a head. Of a field that is there several times, the first is kept.
    pub(super) fn keep(&mut self, wanted: &Wanted, side: Side, headers: &HeaderMap) {
        for (_, name) in wanted.headers.iter().filter(|(of, _)| *of == side) {
            if let Some(value) = headers.get(name) {
                let value = String::from_utf8_lossy(value.as_bytes());
                self.0.push((side, name.clone(), bounded(&value, MAX_VALUE).to_owned()));
            }
        }
    }

    pub(super) fn get(&self, side: Side, name: &str) -> Option<&str> {
        let mut all = self.0.iter();
        all.find(|(of, known, _)| *of == side && known == name).map(|(_, _, value)| value.as_str())
    }
}

/// Reads what shall be said; the control plane has read it before.
fn extras(field: &str, tags: &[Tag]) -> Vec<Extra> {
    let one = |tag: &Tag| {
        let value = read(field, &tag.expression, Expression::parse)?;
        Some(Extra { name: tag.name.clone(), value })
    };
    tags.iter().filter_map(one).collect()
}

/// The same of labels. One that is there twice as Prometheus has them counts once.
fn labels(field: &str, tags: &[Tag]) -> Vec<Labelled> {
    let one = |tag: &Tag| {
        let value = read(field, &tag.expression, Expression::parse)?;
        Some(Labelled { label: Label::of(tag), value })
    };
    let mut all: Vec<_> = tags.iter().filter_map(one).collect();
    all.sort_by(|one, other| one.label.name.cmp(&other.label.name));
    all.dedup_by(|one, other| one.label.name == other.label.name);
    all
}

fn read(
    field: &str,
    text: &str,
    how: impl FnOnce(&str) -> Result<Expression, Bad>,
) -> Option<Expression> {
    match how(text) {
        Ok(read) => Some(read),
        Err(bad) => {
            warn!(field, %bad, "an expression of Telemetry is left out: this version cannot read it");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use tulle_xds::model::Logs;

    use super::*;

    fn wanted(filter: &str, fields: &[(&str, &str)], format: LogFormat) -> Wanted {
        let tag = |(name, expression): &(&str, &str)| Tag {
            name: (*name).to_owned(),
            expression: (*expression).to_owned(),
            max_values: 0,
        };
        let fields = fields.iter().map(tag).collect();
        let logs = Logs { format, filter: filter.to_owned(), fields, destinations: Vec::new() };
        Wanted::of(&Telemetry { logs, ..Telemetry::default() })
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let read =
            wanted("md5(reason) == 'x'", &[("a", "route"), ("b", "nonsense")], LogFormat::Json);
        assert_eq!(read.filter, None);
        let names: Vec<_> = read.fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["a"]);
        assert_eq!(wanted("response.code", &[], LogFormat::Json).filter, None, "no filter");
        assert_eq!(Wanted::of(&Telemetry::default()), Wanted::default());
    }

    #[test]
    fn header_fields_are_kept_if_something_asks_for_them() {
        let fields = [("t", "request.headers['x-tenant']"), ("u", "response.headers['X-Tenant']")];
        let read = wanted("'x-tenant' in request.headers", &fields, LogFormat::Json);
        let mut head = HeaderMap::new();
        for (name, value) in [("x-tenant", "blue"), ("x-tenant", "red"), ("cookie", "secret")] {
            head.append(name, value.parse().unwrap());
        }
        let mut kept = Kept::default();
        kept.keep(&read, Side::Request, &head);
        assert_eq!(kept.0.len(), 1);
        assert_eq!(kept.get(Side::Request, "x-tenant"), Some("blue"));
        assert_eq!(kept.get(Side::Response, "x-tenant"), None);
        kept.keep(&read, Side::Response, &head);
        assert_eq!(kept.get(Side::Response, "x-tenant"), Some("blue"));
        let mut none = Kept::default();
        none.keep(&Wanted::default(), Side::Request, &head);
        assert!(none.0.is_empty());
        let envoy = wanted("", &[], LogFormat::Envoy);
        assert_eq!(envoy.headers.len(), super::super::record::ENVOY_HEADERS.len());
    }

    #[test]
    fn a_long_value_is_cut() {
        let read = wanted("'a' in request.headers", &[], LogFormat::Json);
        let mut head = HeaderMap::new();
        head.insert("a", "x".repeat(5000).parse().unwrap());
        let mut kept = Kept::default();
        kept.keep(&read, Side::Request, &head);
        assert!(kept.get(Side::Request, "a").unwrap().len() <= MAX_VALUE);
    }
}
