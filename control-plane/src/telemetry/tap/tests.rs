use std::collections::BTreeSet;

use super::*;

fn name(pod: &str) -> Name {
    Name::new("shop", pod)
}

fn records(number: u64, count: usize) -> proto::Records {
    proto::Records { number, records: vec![proto::Record::default(); count], ..Default::default() }
}

/// Answers the next question.
async fn answer(line: &mut Line, count: usize) -> proto::Question {
    let question = line.question().await.unwrap();
    line.heard(records(question.number, count)).unwrap();
    question
}

#[tokio::test(start_paused = true)]
async fn each_pod_is_asked_on_its_newest_stream_and_those_that_say_nothing_are_late() {
    let hub = Hub::default();
    let mut old = hub.0.lines.open(&name("a"));
    let mut new = hub.0.lines.open(&name("a"));
    let _silent = hub.0.lines.open(&name("b"));
    // An old one that ends takes nothing away.
    let question = proto::Question { most: 2, ..Default::default() };
    let ask = |pods: &[&str]| {
        let all = pods.iter().map(|pod| (name(pod), question.clone())).collect();
        let hub = hub.clone();
        async move { hub.tap(all).await }
    };
    let (heard, question) = tokio::join!(ask(&["a", "b", "c"]), async {
        assert_eq!(old.question().await, None, "it is not the newest");
        answer(&mut new, 5).await
    });
    assert_eq!(question.number, 1);
    let all: BTreeSet<_> = heard.iter().map(|(pod, _)| pod.name.to_string()).collect();
    assert_eq!(all, ["a", "b"].map(str::to_owned).into(), "c has no stream");
    for (pod, records) in heard {
        // No more than was asked for, whatever it says.
        let expected = (&*pod.name == "a").then_some(2);
        assert_eq!(records.map(|records| records.records.len()), expected, "{pod}");
    }
    drop(old);
    let (heard, _) = tokio::join!(ask(&["a"]), answer(&mut new, 1));
    assert!(heard[0].1.is_some());
    drop(new);
    assert_eq!(ask(&["a"]).await, []);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asked_for_is_an_error_and_debts_are_bounded() {
    let hub = Hub::default();
    let mut line = hub.0.lines.open(&name("a"));
    assert_eq!(line.heard(records(0, 1)), Err(Unasked));
    assert_eq!(line.heard(records(1, 1)), Err(Unasked));
    // It takes questions, as an older version does, and never answers.
    let mut taken = 0;
    for _ in 0..40 {
        let asked = hub.tap(vec![(name("a"), proto::Question::default())]);
        let (heard, took) =
            tokio::join!(asked, async { timeout(PATIENCE / 2, line.question()).await.is_ok() });
        assert_eq!(heard[0].1, None);
        taken += u32::from(took);
    }
    assert_eq!(taken, 16);
    // A late answer is taken, and pays what came before it.
    line.heard(records(3, 1)).unwrap();
    assert_eq!(line.heard(records(2, 1)), Err(Unasked));
    let (heard, _) = tokio::join!(
        hub.tap(vec![(name("a"), proto::Question { most: 9, ..Default::default() })]),
        answer(&mut line, 1)
    );
    assert!(heard[0].1.is_some());
}
