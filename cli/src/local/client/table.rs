//! `status` for people.

use tulle_xds::text::printable;

use crate::local::{
    overview::{ObjectLine, Overview, PodLine, ServiceLine},
    progress::gathered,
};

/// Pods, services, routes and policies, and everything that is not as it should be. What does not fit
/// into `width` goes on in the next line.
pub(super) fn table(overview: &Overview, width: Option<usize>) -> String {
    let mut text = format!("Mesh {} of {}\n\n", overview.name, overview.directory);
    let head = ["POD", "READY", "STATUS", "RESTARTS", "IP"];
    text.push_str(&rows(head, overview.pods.iter().map(pod).collect(), width));
    let head = ["SERVICE", "ADDRESS", "PORTS", "ENDPOINTS"];
    text.push('\n');
    text.push_str(&rows(head, overview.services.iter().map(service).collect(), width));
    if !overview.objects.is_empty() {
        let head = ["OBJECT", "ACCEPTED", "IN FORCE"];
        text.push('\n');
        text.push_str(&rows(head, overview.objects.iter().map(object).collect(), width));
    }
    let problems = overview.problems.iter().map(ToString::to_string);
    section(&mut text, "Problems", problems, width);
    section(&mut text, "Not honoured", gathered(&overview.not_honoured).into_iter(), width);
    section(&mut text, "Remarks", overview.remarks.iter().cloned(), width);
    text
}

/// The cells of a row, and what is to be said below it.
type Row<const N: usize> = ([String; N], Vec<String>);

fn pod(pod: &PodLine) -> Row<5> {
    let (ready, all) = pod.ready_of();
    let state = if pod.terminating { "Terminating".to_owned() } else { pod.phase.clone() };
    let name = format!("{}/{}", pod.namespace, pod.name);
    let cells = [name, format!("{ready}/{all}"), state, pod.restarts().to_string(), pod.ip.clone()];
    (cells, pod.waiting.clone())
}

fn service(service: &ServiceLine) -> Row<4> {
    let ports: Vec<String> = service.ports.iter().map(ToString::to_string).collect();
    let addresses = service.addresses.join(", ");
    let cells = [
        format!("{}/{}", service.namespace, service.name),
        if addresses.is_empty() { "headless".to_owned() } else { addresses },
        ports.join(", "),
        service.ready_endpoints.to_string(),
    ];
    (cells, Vec::new())
}

fn object(object: &ObjectLine) -> Row<3> {
    let slash = if object.namespace.is_empty() { "" } else { "/" };
    let force = &object.in_force;
    let cells = [
        format!("{} {}{slash}{}", object.kind, object.namespace, object.name),
        if object.accepted { "yes".to_owned() } else { format!("no: {}", object.reason) },
        match force.of {
            0 => "not in use".to_owned(),
            of => format!("{}/{of}", force.on),
        },
    ];
    let message = Some(object.message.clone()).filter(|message| !message.is_empty());
    let rejections = force.rejections.iter();
    let rejections =
        rejections.map(|r| format!("{} rejects {}: {}", r.proxy, r.resource, r.reason));
    (cells, message.into_iter().chain(rejections).collect())
}

fn section(
    text: &mut String,
    title: &str,
    content: impl Iterator<Item = String>,
    width: Option<usize>,
) {
    let lines: String = content.map(|line| wrapped(&line, 2, width)).collect();
    if !lines.is_empty() {
        text.push_str(&format!("\n{title}:\n{lines}"));
    }
}

fn rows<const N: usize>(head: [&str; N], rows: Vec<Row<N>>, width: Option<usize>) -> String {
    let printed = |(cells, notes): Row<N>| (cells.map(|cell| printable(&cell)), notes);
    let rows: Vec<Row<N>> = rows.into_iter().map(printed).collect();
    let mut widths = head.map(str::len);
    for (cells, _) in &rows {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [String; N]| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    let mut text = line(head.map(str::to_owned));
    for (cells, notes) in rows {
        text.push_str(&line(cells));
        text.extend(notes.iter().map(|note| wrapped(note, 4, width)));
    }
    text
}

/// A line that begins after `indent` spaces, and goes on two further in. Breaks between words only: a
/// path that is too long stays one to copy.
fn wrapped(line: &str, indent: usize, width: Option<usize>) -> String {
    let line = printable(line);
    let mut text = " ".repeat(indent);
    let (mut column, mut first) = (indent, true);
    for word in line.split(' ') {
        let length = word.chars().count();
        if !first && width.is_some_and(|width| column + 1 + length > width) {
            text.push_str(&format!("\n{}", " ".repeat(indent + 2)));
            column = indent + 2;
        } else if !first {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        (column, first) = (column + length, false);
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::overview::{ForceLine, RejectionLine};

    #[test]
    fn what_a_proxy_or_a_file_says_cannot_command_the_terminal() {
        let evil = "\u{1b}]0;x\u{7}";
        let rejection = RejectionLine { reason: evil.into(), ..RejectionLine::default() };
        let overview = Overview {
            pods: vec![PodLine {
                phase: evil.into(),
                waiting: vec![evil.into()],
                ..PodLine::default()
            }],
            objects: vec![ObjectLine {
                message: evil.into(),
                in_force: ForceLine { rejections: vec![rejection], ..ForceLine::default() },
                ..ObjectLine::default()
            }],
            remarks: vec![evil.into()],
            ..Overview::default()
        };
        let text = table(&overview, Some(80));
        assert_eq!(text.matches(r"\u{1b}]0;x\u{7}").count(), 5, "{text}");
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }

    #[test]
    fn eighty_columns_are_enough() {
        let overview = Overview {
            name: "default".into(),
            directory: "deploy/samples/bookstore".into(),
            pods: vec![PodLine {
                namespace: "bookstore".into(),
                name: "productpage-7b9d8f6c9d-abcde".into(),
                phase: "Running".into(),
                ip: "10.244.0.123".into(),
                waiting: vec!["tulle-proxy: not ready: no configuration from the control plane yet; is it running?".into()],
                ..PodLine::default()
            }],
            objects: vec![
                ObjectLine {
                    kind: "HTTPRoute".into(),
                    namespace: "bookstore".into(),
                    name: "reviews".into(),
                    accepted: true,
                    in_force: ForceLine {
                        on: 1,
                        of: 2,
                        rejections: vec![RejectionLine {
                            proxy: "bookstore/client-1".into(),
                            resource: "service/bookstore/reviews/9080".into(),
                            reason: "virtual_hosts[0].routes[1].decorator: unknown".into(),
                        }],
                    },
                    ..ObjectLine::default()
                },
                ObjectLine {
                    kind: "MeshConfig".into(),
                    name: "default".into(),
                    reason: "Invalid".into(),
                    ..ObjectLine::default()
                },
            ],
            remarks: vec!["word ".repeat(40).trim_end().into()],
            ..Overview::default()
        };
        let text = table(&overview, Some(80));
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        let objects: Vec<_> =
            text.lines().skip_while(|l| !l.starts_with("OBJECT")).take(5).collect();
        assert_eq!(
            objects,
            [
                "OBJECT                       ACCEPTED     IN FORCE",
                "HTTPRoute bookstore/reviews  yes          1/2",
                "    bookstore/client-1 rejects service/bookstore/reviews/9080:",
                "      virtual_hosts[0].routes[1].decorator: unknown",
                "MeshConfig default           no: Invalid  not in use",
            ]
        );
        let unbroken = table(&overview, None);
        assert!(unbroken.lines().any(|line| line.len() > 150), "{unbroken}");
    }
}
