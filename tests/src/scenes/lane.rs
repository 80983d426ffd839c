//! A lane through three services of which it has the first and the last, and which forward no more than `traceparent`: its requests
//! take its pods, and nobody else's do. Then through one that forwards nothing, which `tulle lane check` names.

use std::time::Duration;

use tulle_tests::{
    load::{Caller, float},
    mesh::{Edit, Mesh},
    scene::{Failure, Figures, Stage, prove, say, until},
};

const YAML: &str = include_str!("lane/lane.yaml");
const DEPLOYMENT: &str = include_str!("lane/deployment.yaml");
const ASK: &str = include_str!("lane/ask.py");
/// Where the program is that asks.
const PROGRAM: &str = "/tmp/ask.py";
/// Those of the lane are named after it.
const HOPS: [Hop; 6] = [
    ("front", "front", "", "traceparent"),
    ("front-pr-1234", "front", "", "traceparent"),
    ("middle", "middle", "back", "traceparent"),
    ("deaf", "deaf", "back", ""),
    ("back", "back", "", ""),
    ("back-pr-1234", "back", "", ""),
];
/// Name, Service, whom it calls and what it forwards.
type Hop = (&'static str, &'static str, &'static str, &'static str);
/// How long pods may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the Lane may take to be in force.
const FORCE: Duration = Duration::from_secs(10);
/// Requests, of which every third is not of the lane; of a small run; and through the one that loses it.
const ENOUGH: u64 = 3000;
const FEW: u64 = 600;
const LOST: u64 = 60;

/// Answers: whether they were asked for in the lane, who gave them, how many.
type Answers = Vec<(String, String, u64)>;

pub(crate) async fn run(stage: &mut Stage) -> Result<Figures, Failure> {
    let number = if stage.small { FEW } else { ENOUGH };
    let mesh = stage.mesh().await?;
    let client = Caller::client(mesh).await?;
    let _yaml = deploy(mesh)?;
    until("all pods of the services serve", PATIENCE, async || {
        let all = mesh.status().await?.pods;
        let ready = |name: &str| {
            let mut own = all.iter().filter(|pod| is_of(&pod.name, name));
            own.next().is_some_and(|pod| pod.ready)
        };
        Ok(HOPS.iter().all(|(name, ..)| ready(name)))
    })
    .await?;
    client.file(PROGRAM, ASK).await?;
    until("requests of the lane take its pods", FORCE, async || {
        let (_, answers) = ask(&client, "14-begin", ("/middle", 4, 0)).await?;
        Ok(answers.iter().all(|(_, said, _)| said.starts_with("200 front-pr-1234")))
    })
    .await?;

    let (all, answers) = ask(&client, "14-mixed", ("/middle", number, 3)).await?;
    for (way, said, times) in &answers {
        let expected = match way.as_str() {
            "in" => "200 front-pr-1234 middle back-pr-1234",
            _ => "200 front middle back",
        };
        prove(said == expected, || format!("{times} requests {way} the lane got: {said}"))?;
    }
    let within: u64 = answers.iter().filter(|(way, ..)| way == "in").map(|(.., n)| n).sum();
    prove(answers.len() == 2 && all == number, || format!("not both kinds: {answers:?}"))?;
    say(format!(
        "all {within} requests of the lane took its pods of the first and the last service, none of {} others did",
        all - within
    ));
    let said = mesh.ask(&["lane", "check", "pr-1234", "-n", "bookstore"]).await?;
    prove(said.contains("no hop loses it"), || format!("it stays in its lane: {said}"))?;

    let (_, answers) = ask(&client, "14-deaf", ("/deaf", LOST, 0)).await?;
    let left = [("in".to_owned(), "200 front-pr-1234 deaf back".to_owned(), LOST)];
    prove(answers == left, || format!("the one that forwards nothing: {answers:?}"))?;
    // It says by its exit code that a hop loses it.
    let said = match mesh.ask(&["lane", "check", "pr-1234", "-n", "bookstore"]).await {
        Ok(said) => return Err(Failure(format!("no hop is said to lose it: {said}"))),
        Err(Failure(said)) => said,
    };
    let named = "LOST: bookstore/deaf loses it on the way to bookstore/back";
    let lost: Vec<_> = said.lines().filter(|line| line.starts_with("LOST")).collect();
    let code = said.contains("exit status: 3");
    prove(code && lost.len() == 1 && lost[0].starts_with(named), || said.clone())?;
    say(lost.concat());
    let listed = mesh.ask(&["lane", "list", "-n", "bookstore"]).await?;
    prove(listed.contains("back 1/1, front 1/1"), || format!("its pods are not said: {listed}"))?;
    Ok(Figures::from([
        ("in_the_lane", float(within)),
        ("others", float(all - within)),
        ("lost_where_it_is_said", float(LOST)),
    ]))
}

/// Whether a pod is of the Deployment of this name.
fn is_of(pod: &str, deployment: &str) -> bool {
    let hashes = pod.strip_prefix(deployment).and_then(|rest| rest.strip_prefix('-'));
    hashes.is_some_and(|hashes| !hashes.starts_with("pr-") && !hashes.is_empty())
}

fn deploy(mesh: &Mesh) -> Result<Edit, Failure> {
    let deployments = HOPS.map(|(name, app, next, forwards)| {
        let lane = if name == app { "" } else { ", tulle.dev/lane: pr-1234" };
        let told = [("NAME", name), ("APP", app), ("LANE", lane), ("NEXT", next)];
        let told = told.into_iter().chain([("FORWARDS", forwards)]);
        told.fold(DEPLOYMENT.to_owned(), |yaml, (key, value)| {
            yaml.replace(&format!("@{key}@"), value)
        })
    });
    mesh.edit("lane.yaml", &YAML.replace("@DEPLOYMENTS@\n", &deployments.concat()))
}

/// Asks `front` so often, every so many-th time not in the lane.
async fn ask(
    client: &Caller<'_>,
    label: &str,
    (path, number, others): (&str, u64, u64),
) -> Result<(u64, Answers), Failure> {
    let [number, others] = [number, others].map(|number| number.to_string());
    let said = client.run(label, &["python3", PROGRAM, path, &number, &others]).await?;
    let answers: Answers =
        serde_json::from_str(&said).map_err(|error| Failure(format!("{error}: {said}")))?;
    Ok((answers.iter().map(|(.., times)| times).sum(), answers))
}
