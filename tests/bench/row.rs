//! One figure, with its runs, and the table of all.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::json;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Subject {
    /// Our proxies, or our control plane.
    Tulle,
    /// Stock Envoy in their place, by the same YAML.
    Envoy,
    /// No proxy at all.
    Direct,
}

/// A figure.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    scenario: String,
    subject: Subject,
    metric: &'static str,
    unit: &'static str,
    /// The median of `runs`.
    value: f64,
    runs: Vec<f64>,
    /// At most this much is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<f64>,
    /// At least this much is.
    #[serde(skip_serializing_if = "Option::is_none")]
    least: Option<f64>,
}

impl Subject {
    /// Its name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Tulle => "tulle",
            Self::Envoy => "envoy",
            Self::Direct => "direct",
        }
    }
}

impl Row {
    /// The median of `runs`, of which there is one at least.
    pub(crate) fn new(
        scenario: &'static str,
        subject: Subject,
        (metric, unit): (&'static str, &'static str),
        runs: Vec<f64>,
    ) -> Self {
        let (scenario, value) = (scenario.to_owned(), median(&runs));
        Self { scenario, subject, metric, unit, value, runs, target: None, least: None }
    }

    /// With the client that it was measured by.
    pub(crate) fn by(mut self, client: &str) -> Self {
        self.scenario = format!("{}/{client}", self.scenario);
        self
    }

    /// With the most that is wanted.
    pub(crate) fn at_most(mut self, target: f64) -> Self {
        self.target = Some(target);
        self
    }

    /// With the least that is wanted.
    pub(crate) fn at_least(mut self, least: f64) -> Self {
        self.least = Some(least);
        self
    }

    /// Whether it is as it is wanted.
    pub(crate) fn holds(&self) -> bool {
        self.target.is_none_or(|most| self.value <= most)
            && self.least.is_none_or(|least| self.value >= least)
    }

    /// What is wanted of it, and whether it is so; nothing if nothing is.
    fn verdict(&self) -> String {
        let said = |otherwise| if self.holds() { "ok" } else { otherwise };
        match (self.target, self.least) {
            (Some(most), _) => format!("≤ {most} {}", said("OVER")),
            (None, Some(least)) => format!("≥ {least} {}", said("UNDER")),
            (None, None) => String::new(),
        }
    }
}

/// The middle value; of an even number, the lower one of the two.
pub(crate) fn median(runs: &[f64]) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// All rows, for a person.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "   {:<20} {:<38} {:>8} {:>10} {:<10} {:>10}   runs\n",
        "scenario", "metric", "subject", "median", "unit", "target"
    );
    for row in rows {
        let subject = row.subject.as_str();
        let target = row.verdict();
        let runs: Vec<_> = row.runs.iter().map(|run| number(*run)).collect();
        let Row { scenario, metric, unit, .. } = row;
        let value = number(row.value);
        let runs = runs.join(" ");
        let start = format!("   {scenario:<20} {metric:<38} {subject:>8} {value:>10} {unit:<10}");
        writeln!(text, "{start} {target:>10}   {runs}").expect("a String takes all text");
    }
    text
}

/// Four digits or so.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// All rows as `{"rows": […]}`.
pub(crate) fn json(rows: &[Row]) -> String {
    format!("{:#}\n", json!({ "rows": rows }))
}
