//! What was found, for people and for programs.

use serde_json::{Value, json};
use tulle_xds::text::printable;

use crate::install::VERSION;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// It does not work.
    Problem,
    /// Somebody has chosen it; here is what it means.
    Note,
    /// It could not be looked at.
    Unchecked,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Problem => "problem",
            Self::Note => "note",
            Self::Unchecked => "unchecked",
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Problem => "✗",
            Self::Note => "•",
            Self::Unchecked => "?",
        }
    }
}

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// What kind of finding: stable, scripts go by it.
    pub(super) code: &'static str,
    pub(super) severity: Severity,
    /// Which object, `Kind namespace/name`.
    pub(super) object: String,
    /// What is wrong with it.
    pub(super) problem: String,
    /// What to do: a command, if one does it.
    pub(super) remedy: String,
}

/// Everything that was looked at.
#[derive(Debug, Default)]
pub(super) struct Report {
    areas: Vec<Area>,
}

#[derive(Debug)]
struct Area {
    name: &'static str,
    /// What can be said if there is no finding.
    good: String,
    findings: Vec<Finding>,
}

impl Report {
    /// From here on findings belong to this area.
    pub(super) fn area(&mut self, name: &'static str, good: impl Into<String>) {
        self.areas.push(Area { name, good: good.into(), findings: Vec::new() });
    }

    /// Something does not work.
    pub(super) fn problem(
        &mut self,
        code: &'static str,
        object: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Severity::Problem, code, (object.into(), problem.into(), remedy.into()));
    }

    /// Something was chosen.
    pub(super) fn note(
        &mut self,
        code: &'static str,
        object: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Severity::Note, code, (object.into(), problem.into(), remedy.into()));
    }

    /// Something could not be looked at.
    pub(super) fn unchecked(&mut self, object: impl Into<String>, reason: impl Into<String>) {
        let remedy = "ask somebody who may look at it, or for the right to";
        self.add(Severity::Unchecked, "unchecked", (object.into(), reason.into(), remedy.into()));
    }

    fn add(&mut self, severity: Severity, code: &'static str, said: (String, String, String)) {
        let (object, problem, remedy) = said;
        let finding = Finding { code, severity, object, problem, remedy };
        if let Some(area) = self.areas.last_mut()
            && !area.findings.contains(&finding)
        {
            area.findings.push(finding);
        }
    }

    pub(super) fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.areas.iter().flat_map(|area| &area.findings)
    }

    /// Whether one of these was found, from which others follow.
    pub(super) fn has(&self, codes: &[&str]) -> bool {
        self.findings().any(|finding| codes.contains(&finding.code))
    }

    pub(super) fn healthy(&self) -> bool {
        !self.findings().any(|finding| finding.severity == Severity::Problem)
    }

    /// For programs; [`Args`](super::Args) says what is in it.
    pub(super) fn json(&self) -> Value {
        let of = |area: &Area, finding: &Finding| {
            json!({
                "area": area.name, "code": finding.code, "severity": finding.severity.as_str(),
                "object": finding.object, "problem": finding.problem, "remedy": finding.remedy,
            })
        };
        let findings: Vec<_> = self
            .areas
            .iter()
            .flat_map(|area| area.findings.iter().map(move |finding| of(area, finding)))
            .collect();
        json!({"healthy": self.healthy(), "version": VERSION, "findings": findings})
    }

    /// For people; with colours on a terminal.
    pub(super) fn text(&self, colours: bool) -> String {
        let paint = |code: &str, text: &str| match colours {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        };
        let mut out = String::new();
        for area in &self.areas {
            let name = area.name;
            if area.findings.is_empty() {
                out.push_str(&format!(
                    "{} {name:<14} {}\n",
                    paint("32", "✓"),
                    printable(&area.good)
                ));
                continue;
            }
            for finding in &area.findings {
                let colour = if finding.severity == Severity::Problem { "31" } else { "33" };
                let sign = paint(colour, finding.severity.sign());
                let (object, problem) = (printable(&finding.object), printable(&finding.problem));
                out.push_str(&format!("{sign} {name:<14} {}: {problem}\n", paint("1", &object)));
                out.push_str(&format!("{:17}→ {}\n", "", printable(&finding.remedy)));
            }
        }
        let count = |severity| self.findings().filter(|f| f.severity == severity).count();
        let said = [
            (count(Severity::Problem), "problem", "problems"),
            (count(Severity::Note), "note", "notes"),
            (count(Severity::Unchecked), "thing not checked", "things not checked"),
        ];
        let said = said.into_iter().filter(|(count, ..)| *count > 0);
        let said: Vec<String> =
            said.map(|(n, one, many)| format!("{n} {}", if n == 1 { one } else { many })).collect();
        let all = if said.is_empty() { "all is well".to_owned() } else { said.join(", ") };
        out.push_str(&format!("\n{all}\n"));
        out
    }
}
