//! The same on Kubernetes: what one object can tell, the API server refuses; the rest its status says, and `tulle check`.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use serde_json::Value;
use tokio::{process::Command, time::Instant};

use super::{Mistake, PATIENCE, count, damages, mistakes};
use tulle_tests::{
    load,
    mesh::{Mesh, binaries, output_of},
    scene::{Failure, prove, say, until},
};

/// Mistakes that the API server or kubectl refuses, by what they say.
const REFUSED: [(&str, &str); 4] = [
    ("unknown-field", "unknown field \"spec.rules[0].backendRefs[0].wieght\""),
    ("good", "\"good\" already exists"),
    ("weight-overflow", "spec.rules[0].backendRefs[0].weight: Invalid value: 1000001"),
    ("wrong-kind", "no matches for kind \"TrafficPolcy\""),
];
/// What kubectl says of a file that is no YAML.
const NO_YAML: &str = "yaml: ";

/// Makes all mistakes, and waits until each is named. How many, and how long the slowest took.
pub(super) async fn mischief(mesh: &Mesh, control: bool) -> Result<(f64, Duration), Failure> {
    let stranger = mesh.pod("outside", "stranger").await?;
    let away = if control { Some(mesh.take_control_plane(&stranger).await?) } else { None };
    let mistakes = mistakes()?;
    let (done, accepted) = make(mesh, &mistakes).await;
    for file in accepted {
        let file = mesh.path(&file).display().to_string();
        mesh.kubectl(&["delete", "--ignore-not-found", "-f", &file]).await?;
    }
    if let Some(away) = away {
        mesh.give_control_plane(away).await?;
    }
    let mut slowest = done?;
    for (damage, what) in damages().into_iter().zip(["half of a file", "no text"]) {
        let file = mesh.path("damaged.yaml");
        fs::write(&file, damage)?;
        let since = Instant::now();
        refused(mesh, "apply", &file, NO_YAML, what).await?;
        slowest = slowest.max(since.elapsed());
        fs::remove_file(&file)?;
    }
    Ok((count(mistakes.len() + damages().len()), slowest))
}

/// How long the slowest took to be named, and the files of what was accepted.
async fn make(mesh: &Mesh, mistakes: &[Mistake]) -> (Result<Duration, Failure>, Vec<String>) {
    let since = Instant::now();
    let mut accepted = Vec::new();
    let done = async {
        for mistake in mistakes {
            let file = mesh.path(&mistake.file);
            fs::write(&file, &mistake.text)?;
            let refusal = REFUSED.into_iter().find(|(name, _)| *name == mistake.name());
            if let Some((name, why)) = refusal {
                refused(mesh, "create", &file, why, name).await?;
            } else {
                mesh.kubectl(&["create", "-f", &file.display().to_string()]).await?;
                accepted.push(mistake.file.clone());
            }
        }
        let waiting = mistakes.iter().filter(|mistake| accepted.contains(&mistake.file));
        let waiting: Vec<&Mistake> = waiting.collect();
        for mistake in &waiting {
            let what = format!("{}: not named: {}", mistake.name(), mistake.reason);
            until(&what, PATIENCE, async || in_status(mesh, mistake).await).await?;
        }
        let slowest = since.elapsed();
        let named = checked().await?;
        let forgotten = waiting.iter().find(|m| !named.iter().any(|o| o.ends_with(m.name())));
        prove(forgotten.is_none(), || {
            format!("tulle check does not name {forgotten:?}: {named:?}")
        })?;
        Ok(slowest)
    };
    let done = done.await;
    (done, accepted)
}

/// It is refused, and told why.
async fn refused(
    mesh: &Mesh,
    how: &str,
    file: &Path,
    why: &str,
    what: &str,
) -> Result<(), Failure> {
    match mesh.kubectl(&[how, "-f", &file.display().to_string()]).await {
        Ok(said) => Err(Failure(format!("{what}: it was taken: {said}"))),
        Err(Failure(said)) => {
            prove(said.contains(why), || format!("{what}: not named: {said}"))?;
            say(said.lines().rfind(|line| line.contains(why)).unwrap_or_default());
            Ok(())
        }
    }
}

/// Whether a condition of its object is False for that reason, and says so.
async fn in_status(mesh: &Mesh, mistake: &Mistake) -> Result<bool, Failure> {
    let file = mesh.path(&mistake.file).display().to_string();
    let object: Value = load::json(&mesh.kubectl(&["get", "-f", &file, "-o", "json"]).await?)?;
    let found = bad_conditions(&object["status"]).into_iter().find(|condition| {
        condition["message"].as_str().is_some_and(|message| message.contains(&mistake.reason))
    });
    if let Some(condition) = &found {
        let text = |field: &str| condition[field].as_str().unwrap_or_default();
        say(format!("{}: {} is False: {}", mistake.name(), text("type"), text("message")));
    }
    Ok(found.is_some())
}

/// Wherever a kind has its conditions.
fn bad_conditions(status: &Value) -> Vec<&Value> {
    match status {
        Value::Object(fields) if fields.get("status").is_some_and(|holds| holds == "False") => {
            vec![status]
        }
        Value::Object(fields) => fields.values().flat_map(bad_conditions).collect(),
        Value::Array(items) => items.iter().flat_map(bad_conditions).collect(),
        _ => Vec::new(),
    }
}

/// The objects that `tulle check` finds something wrong with.
async fn checked() -> Result<BTreeSet<String>, Failure> {
    let mut check = Command::new(binaries().join("tulle"));
    // It fails if it finds something.
    check.args(["check", "-o", "json"]);
    let said = match output_of(check).await {
        Ok(said) | Err(Failure(said)) => said,
    };
    let json = said.find('{').and_then(|at| said.get(at..)).unwrap_or_default();
    let report: Value = load::json(json)?;
    let findings = report["findings"].as_array().into_iter().flatten();
    Ok(findings.filter_map(|finding| finding["object"].as_str().map(str::to_owned)).collect())
}
