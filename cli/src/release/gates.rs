//! What each gate says, as a table.
//!
//! ```text
//! GATE            CANARY  STABLE  RATIO     EVIDENCE  TO PROOF    STATE
//! errors          0.11 %  0.10 %    1.1  0.4 of 3000  ··········  green
//! latency >141ms  1.60 %  1.20 %    1.3   31 of 3000  ████▎·····  amber
//! ```

use tulle_control_plane::steer::{GateView, ReleaseView};
use tulle_xds::text::printable;

use super::canvas::{Canvas, share};
use crate::{
    observe::units::time,
    table::{Cell, Column, Table, Tone},
};

const COLUMNS: [Column; 7] = [
    Column::text("GATE", 0),
    Column::numbers("CANARY", 0),
    Column::numbers("STABLE", 1),
    Column::numbers("RATIO", 3),
    Column::numbers("EVIDENCE", 2),
    Column::text("TO PROOF", 4),
    Column::text("STATE", 0),
];
/// How long the bar is.
const BAR: usize = 10;

/// The table, and below it what those say who are asked.
pub(super) fn table(view: &ReleaseView, canvas: Canvas) -> String {
    let mut table = Table::within(&COLUMNS, Some(canvas.width), canvas.colored);
    for gate in &view.gates {
        table.push(row(gate, view.slower_than));
    }
    let mut text = table.to_string();
    for gate in view.gates.iter().filter(|gate| is_asked(gate) && !gate.why.is_empty()) {
        text += &canvas.text(&format!("{}: ", printable(&gate.gate)), &gate.why, Tone::Plain);
    }
    text
}

fn row(gate: &GateView, slower_than: Option<f64>) -> Vec<Cell> {
    let name = match slower_than.filter(|_| gate.gate == "latency") {
        Some(edge) => format!("latency >{}", time(Some(edge))),
        None => gate.gate.clone(),
    };
    let shares = [gate.canary, gate.stable].map(|of| of.map(share).unwrap_or_default());
    let [canary, stable] = match gate.gate.as_str() {
        "restarts" => [format!("{:.0}", gate.evidence), String::new()],
        _ => shares,
    };
    let evidence = format!("{} of {:.0}", number(gate.evidence), gate.proof);
    vec![
        name.into(),
        canary.into(),
        stable.into(),
        ratio(gate).unwrap_or_default().into(),
        evidence.into(),
        bar(gate).into(),
        Cell::new(&gate.state.to_lowercase(), tone(gate)),
    ]
}

/// What a gate's light looks like.
pub(super) fn tone(gate: &GateView) -> Tone {
    match gate.state.as_str() {
        "Red" => Tone::Bad,
        "Amber" => Tone::Doubtful,
        _ => Tone::Good,
    }
}

/// Whether it is judged by chance.
pub(super) fn is_judged(gate: &GateView) -> bool {
    matches!(gate.gate.as_str(), "errors" | "latency")
}

/// Whether somebody else says it: a Prometheus, a webhook.
fn is_asked(gate: &GateView) -> bool {
    !is_judged(gate) && gate.gate != "restarts"
}

/// How many times as often as of the stable version.
pub(super) fn ratio(gate: &GateView) -> Option<String> {
    match (gate.canary?, gate.stable?) {
        (0.0, 0.0) => None,
        (_, 0.0) => Some("∞".to_owned()),
        (canary, stable) if canary < 99.5 * stable => Some(format!("{:.1}", canary / stable)),
        (canary, stable) => Some(format!("{:.0}", canary / stable)),
    }
}

/// `0.4`, `31`, `2e12`.
pub(super) fn number(evidence: f64) -> String {
    match evidence {
        ..9.95 if evidence.fract() == 0.0 => format!("{evidence:.0}"),
        ..9.95 => format!("{evidence:.1}"),
        ..99_999.5 => format!("{evidence:.0}"),
        _ => format!("{evidence:.0e}"),
    }
}

/// How far it is to proof. Evidence multiplies, so that its logarithm grows as time goes by; what is counted does not.
fn bar(gate: &GateView) -> String {
    const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let part = match is_judged(gate) {
        true => gate.evidence.max(1.0).ln() / gate.proof.max(2.0).ln(),
        false => gate.evidence / gate.proof.max(1.0),
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 80")]
    let eighths = (part.clamp(0.0, 1.0) * 80.0).floor() as usize;
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(PARTS[eighths % 8]);
    }
    let rest = BAR.saturating_sub(bar.chars().count());
    bar + &"·".repeat(rest)
}
