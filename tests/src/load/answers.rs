//! Who answered, under which rule: by wrk, whose script reads it from each answer.

use std::time::Duration;

use super::{Caller, OFF, float, off};
use crate::scene::{Failure, prove, until};

/// What is asked for reviews.
pub const REVIEWS: &str = "http://reviews.bookstore:9080/reviews/1";

const SCRIPT: (&str, &str) = ("/tmp/answers.lua", include_str!("answers.lua"));

/// How long a change may take here. Milliseconds are usual.
const PATIENCE: Duration = Duration::from_secs(40);

/// Answers of one version of the reviews under one rule.
#[derive(Debug, PartialEq)]
pub struct Answers {
    /// What header `x-rule` says; a route sets it. `none` if nobody does.
    pub rule: String,
    /// What the answer says, or `status 404` and the like.
    pub version: String,
    pub count: u64,
    /// When the first and the last came, in seconds since 1970.
    pub first: f64,
    pub last: f64,
}

impl Caller<'_> {
    /// Asks for reviews for `time` (`4s`), on 16 connections as fast as they answer; fails if one request got none,
    /// or an error.
    pub async fn reviews(&self, label: &str, time: &str) -> Result<Vec<Answers>, Failure> {
        self.file(SCRIPT.0, SCRIPT.1).await?;
        let args = ["-t", "1", "-c", "16", "-d", time, "-s", SCRIPT.0, REVIEWS];
        let (counted, said) = self.wrk(label, &args).await?;
        let bad = counted.but(&["2xx"]);
        prove(bad.is_empty(), || format!("failed requests: {}", bad.join("; ")))?;
        let answers: Vec<Answers> = said.lines().filter_map(Answers::read).collect();
        prove(!answers.is_empty(), || format!("nothing was counted:\n{said}"))?;
        Ok(answers)
    }

    /// Waits until an answer comes under this rule.
    pub async fn meets(&self, url: &str, rule: &str) -> Result<(), Failure> {
        let what = format!("{} gets answers of {url} under the rule {rule}", self.pod.name);
        until(&what, PATIENCE, async || Ok(self.rule(url).await.is_ok_and(|met| met == rule))).await
    }

    /// The rule under which it gets an answer.
    pub async fn rule(&self, url: &str) -> Result<String, Failure> {
        let argv = ["curl", "-sS", "-f", "-m", "5", "-D", "-", "-o", "/dev/null", url];
        let head = self.mesh.exec(&self.pod, self.container, &argv).await?;
        let rule = head.lines().find_map(|line| line.strip_prefix("x-rule: "));
        Ok(rule.unwrap_or_default().trim().to_owned())
    }
}

impl Answers {
    /// How many there are of all kinds.
    pub fn total(all: &[Self]) -> u64 {
        all.iter().map(|answers| answers.count).sum()
    }

    /// How many are of this version, and all.
    pub fn counted(all: &[Self], version: &str) -> (u64, u64) {
        let of = all.iter().filter(|answers| answers.version == version);
        (of.map(|answers| answers.count).sum(), Self::total(all))
    }

    /// Which share is of this version, in percent, and of how many; fails unless chance explains how far it is from `wanted`.
    pub fn share(all: &[Self], version: &str, wanted: f64) -> Result<(f64, u64), Failure> {
        let (part, all) = Self::counted(all, version);
        let found = 100.0 * float(part) / float(all);
        prove(off(part, all, wanted).abs() <= OFF, || {
            format!(
                "{found:.2} % of {all} answers are from {version}, which is too far from {wanted} %"
            )
        })?;
        Ok((found, all))
    }

    /// A line of the script.
    fn read(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("answers ")?.splitn(4, ' ');
        let count = words.next()?.parse().ok()?;
        let mut time = || words.next()?.parse().ok();
        let (first, last) = (time()?, time()?);
        let (rule, version) = words.next()?.rsplit_once('/')?;
        Some(Self { rule: rule.to_owned(), version: version.to_owned(), count, first, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_script() {
        let read = Answers::read("answers 12 1.500000 2.750000 a/b/status 404").unwrap();
        assert_eq!((read.rule.as_str(), read.version.as_str()), ("a/b", "status 404"));
        assert_eq!((read.count, read.first, read.last), (12, 1.5, 2.75));
        assert_eq!(Answers::read("Requests/sec:  10.0"), None);
    }
}
