use super::*;
use crate::release::Webhook;

const EVERY: u64 = 30;

/// `q` may be 0.5 to 10 and be bad twice, the webhook `w` once.
fn gates() -> Gates {
    let every = Duration::from_secs(EVERY);
    let query = Query {
        name: "q".to_owned(),
        promql: "up".to_owned(),
        max: Some(10.0),
        min: Some(0.5),
        every,
        failures: 3,
    };
    let webhook = Webhook { name: "w".to_owned(), url: "http://w".to_owned(), every, failures: 2 };
    Gates { queries: vec![query], webhooks: vec![webhook], ..Gates::default() }
}

fn q() -> Gate {
    Gate::Query("q".to_owned())
}

fn w() -> Gate {
    Gate::Webhook("w".to_owned())
}

fn open(said: &str) -> Answer {
    Answer::Open(said.to_owned())
}

/// What a gate says after one answer each [`EVERY`] seconds, and so many seconds more.
fn after(gate: &Gate, answers: &[Answer], more: u64) -> (Light, String) {
    let (gates, mut asked) = (gates(), Asked::default());
    let mut now = 1000;
    for answer in answers {
        now += EVERY;
        asked.take((&gates, None), &[(gate.clone(), answer.clone())], now);
    }
    asked.take((&gates, None), &[], now + more);
    let text = serde_json::to_string(&asked).unwrap();
    assert_eq!(serde_json::from_str::<Asked>(&text).unwrap(), asked);
    let found = asked.verdicts(&gates).into_iter().find(|one| one.gate == *gate).unwrap();
    (found.light, found.said)
}

/// Answers, how many seconds ago the last one came, and what that means.
type Row<'a> = (Vec<Answer>, u64, Light, &'a str);

fn check(gate: &Gate, rows: Vec<Row<'_>>) {
    for (answers, more, light, said) in rows {
        let found = after(gate, &answers, more);
        assert_eq!(found, (light, said.to_owned()), "{answers:?}, {more}");
    }
}

#[test]
fn what_a_query_comes_to() {
    use Answer::Number;
    let none = || open("no value");
    check(
        &q(),
        vec![
            (vec![], 0, Light::Amber, "nobody has answered yet"),
            (vec![Number(0.25 + 0.5)], 0, Light::Green, "0.75"),
            (vec![Number(10.0)], 0, Light::Green, "10"),
            (vec![Number(0.5)], 90, Light::Green, "0.5"),
            (vec![Number(0.5)], 91, Light::Amber, "0.5, 91 s ago"),
            (
                vec![Number(12.5)],
                0,
                Light::Amber,
                "12.5 is more than 10: bad 1 of 3 times in a row",
            ),
            (
                vec![Number(0.0), Number(-3.0)],
                0,
                Light::Amber,
                "-3 is less than 0.5: bad 2 of 3 times in a row",
            ),
            (
                vec![Number(11.0), Number(0.1), Number(11.0)],
                0,
                Light::Red,
                "11 is more than 10: bad 3 of 3 times in a row",
            ),
            // Also when nobody has said anything for long.
            (
                vec![Number(11.0), Number(0.1), Number(11.0)],
                1000,
                Light::Red,
                "11 is more than 10: bad 3 of 3 times in a row",
            ),
            // One good answer, and it is not in a row.
            (
                vec![Number(11.0), Number(11.0), Number(5.0), Number(11.0)],
                0,
                Light::Amber,
                "11 is more than 10: bad 1 of 3 times in a row",
            ),
            (vec![Number(11.0), Number(11.0), Number(5.0)], 0, Light::Green, "5"),
            // No data is no success and no failure.
            (vec![none()], 0, Light::Amber, "no value"),
            (vec![none(); 9], 0, Light::Amber, "no value"),
            (vec![Number(5.0), none()], 0, Light::Amber, "no value"),
            (
                vec![Number(11.0), none(), Number(11.0), none()],
                0,
                Light::Amber,
                "no value: bad 2 of 3 times in a row",
            ),
            (
                vec![Number(11.0), none(), Number(11.0), none(), Number(11.0)],
                0,
                Light::Red,
                "11 is more than 10: bad 3 of 3 times in a row",
            ),
            (vec![Number(f64::NAN)], 0, Light::Amber, "NaN is no number"),
            (vec![Number(f64::INFINITY); 3], 0, Light::Amber, "inf is no number"),
        ],
    );
}

#[test]
fn what_a_webhook_says() {
    let yes = || Answer::Yes("200 OK".to_owned());
    let no = || Answer::No("409: frozen".to_owned());
    let wait = || open("202: wait");
    check(
        &w(),
        vec![
            (vec![], 0, Light::Amber, "nobody has answered yet"),
            (vec![yes()], 0, Light::Green, "200 OK"),
            (vec![yes()], 91, Light::Amber, "200 OK, 91 s ago"),
            (vec![no()], 0, Light::Amber, "409: frozen: bad 1 of 2 times in a row"),
            (vec![no(), no()], 0, Light::Red, "409: frozen: bad 2 of 2 times in a row"),
            (vec![no(), yes(), no()], 0, Light::Amber, "409: frozen: bad 1 of 2 times in a row"),
            (vec![wait(); 20], 0, Light::Amber, "202: wait"),
            (vec![no(), wait(), no()], 0, Light::Red, "409: frozen: bad 2 of 2 times in a row"),
            (vec![open(&"long\n".repeat(200))], 0, Light::Amber, &"long".repeat(50)),
        ],
    );
}

#[test]
fn another_step_wants_another_answer_and_keeps_what_was_bad() {
    let (gates, mut asked) = (gates(), Asked::default());
    let verdicts = |asked: &Asked| -> Vec<_> {
        asked.verdicts(&gates).into_iter().map(|one| (one.light, one.said)).collect()
    };
    let amber = |said: &str| (Light::Amber, said.to_owned());
    let bad = || (w(), Answer::No("no".to_owned()));
    asked.take((&gates, None), &[(q(), Answer::Number(1.0)), bad()], 7);
    asked.begin_step();
    let [query, webhook] =
        ["1, before this step", "no, before this step: bad 1 of 2 times in a row"];
    assert_eq!(verdicts(&asked), [amber(query), amber(webhook)]);
    asked.take((&gates, None), &[(q(), Answer::Number(2.0)), bad()], 7);
    let lights: Vec<_> = verdicts(&asked).into_iter().map(|(light, _)| light).collect();
    assert_eq!(lights, [Light::Green, Light::Red]);
    // Somebody takes it as it is.
    asked.forgive();
    assert_eq!(verdicts(&asked), vec![amber("nobody has answered yet"); 2]);
}

#[test]
fn who_is_not_asked_any_more_is_forgotten() {
    let (all, mut asked) = (gates(), Asked::default());
    let bad = [(q(), Answer::Number(99.0)), (Gate::Step(1), Answer::Yes("yes".to_owned()))];
    for _ in 0..3 {
        asked.take((&all, Some(1)), &bad, 7);
    }
    assert_eq!((asked.verdicts(&all)[0].light, asked.may_begin(1)), (Light::Red, Light::Green));
    assert_eq!(asked.may_begin(0), Light::Amber);
    asked.take((&Gates::default(), None), &bad, 8);
    assert_eq!(asked, Asked::default());
}

#[test]
fn numbers_are_written_as_people_write_them() {
    for (value, text) in [
        (0.0, "0"),
        (0.1 + 0.2, "0.3"),
        (1250.0, "1250"),
        (0.0412, "0.0412"),
        (0.000_012_5, "1.250e-5"),
        (-3e12, "-3.000e12"),
        (100.0, "100"),
    ] {
        assert_eq!(number(value), text);
    }
}
