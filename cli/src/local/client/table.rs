//! `status` for people.

use crate::local::{overview::Overview, progress::gathered};

/// Pods, services, and everything that is not as it should be.
pub(super) fn table(overview: &Overview) -> String {
    let mut text = format!("Mesh {} of {}\n\n", overview.name, overview.directory);
    let pods = overview.pods.iter().map(|pod| {
        let (ready, all) = pod.ready_of();
        let state = if pod.terminating { "Terminating".to_owned() } else { pod.phase.clone() };
        [
            pod.namespace.clone(),
            pod.name.clone(),
            format!("{ready}/{all}"),
            state,
            pod.restarts().to_string(),
            pod.ip.clone(),
            pod.waiting.join("; "),
        ]
    });
    let head = ["NAMESPACE", "POD", "READY", "STATUS", "RESTARTS", "IP", ""].map(str::to_owned);
    text.push_str(&columns(std::iter::once(head).chain(pods).collect()));
    let services = overview.services.iter().map(|service| {
        let ports: Vec<String> = service.ports.iter().map(ToString::to_string).collect();
        let addresses = service.addresses.join(", ");
        [
            service.namespace.clone(),
            service.name.clone(),
            if addresses.is_empty() { "headless".to_owned() } else { addresses },
            ports.join(", "),
            service.ready_endpoints.to_string(),
        ]
    });
    let head = ["NAMESPACE", "SERVICE", "ADDRESS", "PORTS", "ENDPOINTS"].map(str::to_owned);
    text.push('\n');
    text.push_str(&columns(std::iter::once(head).chain(services).collect()));
    let problems = overview.problems.iter().map(|problem| format!("  {problem}\n"));
    section(&mut text, "Problems", problems.collect());
    let notes = gathered(&overview.not_honoured).into_iter().map(|note| format!("  {note}\n"));
    section(&mut text, "Not honoured", notes.collect());
    section(&mut text, "Remarks", overview.remarks.iter().map(|r| format!("  {r}\n")).collect());
    text
}

fn section(text: &mut String, title: &str, content: String) {
    if !content.is_empty() {
        text.push_str(&format!("\n{title}:\n{content}"));
    }
}

fn columns<const N: usize>(rows: Vec<[String; N]>) -> String {
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: [String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_straight_columns() {
        let rows = vec![["A".to_owned(), "B".to_owned()], ["long".to_owned(), String::new()]];
        assert_eq!(columns(rows), "A     B\nlong\n");
    }
}
