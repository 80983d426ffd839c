use std::{collections::HashMap, sync::LazyLock};

use proptest::{prelude::*, sample::select};

use super::*;
use crate::ca::root::Material;

const MINUTE: Duration = Duration::minutes(1);
const TERMS: Terms = Terms { overlap: Duration::minutes(10), lifetime: Duration::hours(1) };

static MADE: LazyLock<Vec<Material>> =
    LazyLock::new(|| (0..4).map(|_| Root::generate("cluster.local").unwrap()).collect());

const SECRETS: [&str; 7] = ["a", "b", "c", "ab", "ba", "bc", "cab"];

/// Roots as letters: the first one signs, and all are in the Secret.
fn secret(letters: &str) -> Root {
    let made = |letter: u8| &MADE[usize::from(letter - b'a')];
    let Material { certificates, key, .. } = made(letters.as_bytes()[0]).clone();
    let roots = letters.bytes().map(|letter| made(letter).roots.as_str()).collect();
    Root::from_pem(&Material { certificates, key, roots }, "cluster.local").unwrap()
}

fn letters(trusted: &[&str]) -> String {
    let letter = |pem| MADE.iter().zip("abcd".chars()).find(|(m, _)| m.roots == pem).unwrap().1;
    trusted.iter().map(|pem| letter(*pem)).collect()
}

/// What is trusted by a record, in the order in which it is told: who signs comes first.
fn trusted(record: &Record) -> String {
    let pem = record.trusted_pem();
    letters(&pem.split_inclusive("-----END CERTIFICATE-----\n").collect::<Vec<_>>())
}

fn at(minutes: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::days(20_000) + MINUTE * i32::try_from(minutes).unwrap()
}

/// What is trusted at each of these minutes, where the Secret holds that.
fn told(steps: &[(i64, &str)]) -> Vec<String> {
    let mut record = Record::default();
    let each = steps.iter().map(|(minute, letters)| {
        record = record.next(&secret(letters), at(*minute), TERMS);
        trusted(&record)
    });
    each.collect()
}

/// Minute, the Secret, what is trusted then: who signs first.
type Step = (i64, &'static str, &'static str);

#[test]
fn one_root_takes_over_from_another() {
    let cases: [(&str, &[Step]); 7] = [
        ("the first signs at once", &[(0, "a", "a"), (1, "a", "a")]),
        (
            "in one step",
            &[
                (0, "a", "a"),
                (100, "b", "ab"),
                (109, "b", "ab"),
                (110, "b", "ba"),
                (179, "b", "ba"),
                (180, "b", "b"),
            ],
        ),
        (
            "nobody was there to see when it was due: what was signed meanwhile is trusted as long",
            &[(0, "a", "a"), (100, "b", "ab"), (500, "b", "ba"), (569, "b", "ba"), (570, "b", "b")],
        ),
        (
            "replaced again before it has signed: the first one signs on",
            &[
                (0, "a", "a"),
                (100, "b", "ab"),
                (105, "c", "abc"),
                (111, "c", "abc"),
                (115, "c", "cab"),
                (125, "c", "ca"),
                (185, "c", "c"),
            ],
        ),
        (
            "taken back: the old one has signed all the while",
            &[(0, "a", "a"), (100, "b", "ab"), (105, "a", "ab"), (115, "a", "a")],
        ),
        (
            "taken back once it signs: everybody still trusts the old one, which signs at once",
            &[(0, "a", "a"), (100, "b", "ab"), (110, "b", "ba"), (120, "a", "ab"), (190, "a", "a")],
        ),
        (
            "in three steps by hand",
            &[
                (0, "a", "a"),
                (100, "ab", "ab"),
                (120, "ba", "ba"),
                (300, "ba", "ba"),
                (301, "b", "ba"),
                (371, "b", "b"),
            ],
        ),
    ];
    for (what, steps) in cases {
        let given: Vec<_> = steps.iter().map(|(minute, secret, _)| (*minute, *secret)).collect();
        let expected: Vec<_> = steps.iter().map(|(_, _, trusted)| *trusted).collect();
        assert_eq!(told(&given), expected, "{what}");
    }
}

#[test]
fn certificates_that_were_made_for_longer_are_trusted_for_longer() {
    let record = Record::default().next(&secret("a"), at(0), TERMS);
    let terms = Terms { lifetime: MINUTE, ..TERMS };
    let record = record.next(&secret("b"), at(10), terms).next(&secret("b"), at(20), terms);
    assert_eq!(trusted(&record.next(&secret("b"), at(89), terms)), "ba");
    assert_eq!(trusted(&record.next(&secret("b"), at(90), terms)), "b");
}

#[test]
fn each_replica_signs_by_the_root_that_the_record_says_or_not_at_all() {
    let before = Record::default().next(&secret("a"), at(0), TERMS);
    let during = before.next(&secret("b"), at(100), TERMS);
    let after = during.next(&secret("b"), at(110), TERMS);
    let (none, now) = (Record::default(), OffsetDateTime::now_utc());
    // record, what was in force, the Secret: what is, who signs, and whether for workloads
    let cases = [
        ("nothing is written yet", &none, "a", "a", "a", "a", true),
        ("the record was deleted", &none, "a", "b", "b", "b", true),
        ("as ever", &before, "a", "a", "a", "a", true),
        ("the Secret is known before the record", &before, "a", "b", "ab", "a", true),
        ("overlap", &during, "a", "b", "ab", "a", true),
        ("overlap, without the old key", &during, "b", "b", "ab", "b", false),
        ("the new root signs", &after, "a", "b", "ba", "b", true),
        ("the record is known before the Secret", &after, "a", "a", "ba", "a", false),
    ];
    for (what, record, last, wanted, trusted, signs, issues) in cases {
        let root = record.in_force(&secret(last), &secret(wanted), now);
        let pem = |der: &[u8]| pem("CERTIFICATE", der);
        let told: Vec<_> = root.trusted().iter().map(|root| pem(root)).collect();
        let told: Vec<_> = told.iter().map(String::as_str).collect();
        assert_eq!(letters(&told), trusted, "{what}");
        assert_eq!(letters(&[&*pem(root.anchor())]), signs, "{what}");
        assert_eq!(root.issues(), issues, "{what}");
    }
    // An old one that has expired signs nothing of use.
    let late = secret("a").not_after();
    assert!(!during.in_force(&secret("a"), &secret("b"), late).issues());
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let record = Record::default().next(&secret("a"), at(0), TERMS);
    let record = record.next(&secret("b"), at(1), TERMS).next(&secret("b"), at(11), TERMS);
    assert_eq!(Record::read(&record.text()), Ok(record.clone()));
    assert!(!record.text().contains("PRIVATE"));
    let refused =
        |from: &str, to: &str| Record::read(&record.text().replace(from, to)).unwrap_err();
    assert!(refused("CERTIFICATE", "SECRET").contains("root 1: has no certificate"));
    assert!(refused("2024-10", "soon").contains("the 'year' component could not be parsed"));
    assert!(refused("since", "when").contains("unknown field `when`"));
    let both = format!("{}{}", MADE[0].roots, MADE[1].roots).replace('\n', "\\n");
    let one = MADE[0].roots.replace('\n', "\\n");
    assert_eq!(refused(&one, &both), "root 1: holds 2 certificates");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the Secret holds when: who signs is trusted, and was for `overlap`; what was signed is trusted to its end.
    #[test]
    fn nothing_that_is_in_use_is_ever_distrusted(
        steps in proptest::collection::vec((1..20_i64, select(&SECRETS)), 1..12)
    ) {
        let secrets: HashMap<&str, Root> = SECRETS.into_iter().map(|it| (it, secret(it))).collect();
        let mut record = Record::default();
        let mut now = 0;
        let mut told: Vec<(i64, String)> = Vec::new();
        let mut signed: Vec<(i64, char)> = Vec::new();
        for (minutes, letters) in steps {
            // As the leader does it, if not as often.
            for _ in 0..minutes {
                now += 2;
                let next = record.next(&secrets[letters], at(now), TERMS);
                prop_assert_eq!(&next.next(&secrets[letters], at(now), TERMS), &next);
                record = next;
                let trusted = trusted(&record);
                let signs = trusted.chars().next().unwrap();
                prop_assert!(letters.chars().all(|letter| trusted.contains(letter)));
                prop_assert_eq!(record.roots.iter().filter(|known| known.signs).count(), 1);
                let first = signed.first().is_none_or(|(_, first)| *first == signs);
                let all_along = told.iter().rev().take_while(|(then, _)| now - then < 10);
                prop_assert!(first || all_along.into_iter().all(|(_, told)| told.contains(signs)));
                let valid = signed.iter().rev().take_while(|(then, _)| now - then < 60);
                prop_assert!(valid.into_iter().all(|(_, signed)| trusted.contains(*signed)));
                told.push((now, trusted));
                signed.push((now, signs));
            }
        }
    }
}
