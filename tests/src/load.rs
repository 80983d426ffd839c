//! Load on the mesh by programs that nobody here wrote (fortio, h2load, wrk), run in one of its pods as a user would
//! run them. What they count is read from what they print; all that they print is kept in the folder of
//! [`Mesh::raw`], the command line first.

mod answers;

use std::{collections::BTreeMap, fs, process::Output};

use serde::Deserialize;

pub use self::answers::{Answers, REVIEWS};
use crate::{
    mesh::{Mesh, Pod},
    scene::Failure,
};

/// By so many standard errors chance may make a share differ.
pub const OFF: f64 = 4.5;

/// Somewhere to call from: a container of a pod.
#[derive(Debug)]
pub struct Caller<'a> {
    mesh: &'a Mesh,
    pod: Pod,
    container: &'a str,
}

/// What a load generator counted.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Counted {
    /// Answers by their status, as the program names it: `200` (fortio), `2xx` (h2load, wrk), `SERVING` (fortio
    /// over gRPC). What got no answer is counted under the program's word for that.
    pub codes: BTreeMap<String, u64>,
    pub seconds: f64,
    /// Latency by percentile, in milliseconds; h2load has none.
    percentiles: Vec<(f64, f64)>,
    /// Milliseconds of those that went well, on average. As the next, from fortio only.
    pub mean_good: Option<f64>,
    /// Milliseconds of those that did not, the median.
    pub median_error: Option<f64>,
}

impl<'a> Caller<'a> {
    /// A container of the pod whose name begins with `pod`.
    pub async fn new(
        mesh: &'a Mesh,
        namespace: &str,
        pod: &str,
        container: &'a str,
    ) -> Result<Self, Failure> {
        Ok(Self::of(mesh, mesh.pod(namespace, pod).await?, container))
    }

    /// A container of this pod.
    pub fn of(mesh: &'a Mesh, pod: Pod, container: &'a str) -> Self {
        Self { mesh, pod, container }
    }

    /// The sample's pod to call from. It has curl, fortio, h2load, wrk, psql and python3.
    pub async fn client(mesh: &'a Mesh) -> Result<Self, Failure> {
        Self::new(mesh, "bookstore", "client", "client").await
    }

    /// The sample's pod outside of the mesh, with the same programs.
    pub async fn stranger(mesh: &'a Mesh) -> Result<Self, Failure> {
        Self::new(mesh, "outside", "stranger", "stranger").await
    }

    /// The pod.
    pub fn pod(&self) -> &Pod {
        &self.pod
    }

    /// `fortio load ARGS`; the options for JSON are added here. Note that fortio tries a request again on a
    /// connection that it knows and finds closed: `-keepalive=false` where that must not be.
    pub async fn fortio(&self, label: &str, args: &[&str]) -> Result<Counted, Failure> {
        let argv = [&["fortio", "load", "-quiet", "-json", "-", "-allow-initial-errors"], args];
        Counted::by_fortio(&self.run(label, &argv.concat()).await?)
    }

    /// `h2load ARGS`: HTTP/2, or with `--h1` HTTP/1.1.
    pub async fn h2load(&self, label: &str, args: &[&str]) -> Result<Counted, Failure> {
        Counted::by_h2load(&self.run(label, &[&["h2load"], args].concat()).await?)
    }

    /// `wrk --latency ARGS`; what else it, or its script, printed is there, too.
    pub async fn wrk(&self, label: &str, args: &[&str]) -> Result<(Counted, String), Failure> {
        let said = self.run(label, &[&["wrk", "--latency"], args].concat()).await?;
        Ok((Counted::by_wrk(&said)?, said))
    }

    /// Runs a command to its end. Its standard output; all of it is kept under `label`.
    pub async fn run(&self, label: &str, argv: &[&str]) -> Result<String, Failure> {
        let Output { status, stdout, stderr } =
            self.mesh.command(&self.pod, self.container, argv).output().await?;
        let (said, errors) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        let text = format!("$ {}\n{said}\n{errors}\n{status}\n", argv.join(" "));
        fs::write(self.mesh.raw().join(format!("{label}.txt")), text)?;
        if status.success() {
            return Ok(said.into_owned());
        }
        Err(Failure(format!("{}: {status}\n{errors}{said}", argv.join(" "))))
    }

    /// Lets a program that runs in this container end early: load generators then say what they have counted.
    pub async fn interrupt(&self, program: &str) -> Result<(), Failure> {
        let argv = ["pkill", "-INT", "-x", program];
        self.mesh.exec(&self.pod, self.container, &argv).await.map(drop)
    }

    /// Puts a small file into the container.
    pub async fn file(&self, path: &str, text: &str) -> Result<(), Failure> {
        let argv = ["sh", "-c", "printf %s \"$1\" > \"$2\"", "sh", text, path];
        self.mesh.exec(&self.pod, self.container, &argv).await.map(drop)
    }
}

impl Counted {
    /// How many answers had one of these statuses.
    pub fn of(&self, codes: &[&str]) -> u64 {
        codes.iter().filter_map(|code| self.codes.get(*code)).sum()
    }

    /// How many requests were made.
    pub fn all(&self) -> u64 {
        self.codes.values().sum()
    }

    /// What came, other than these: `503, 7 times`.
    pub fn but(&self, good: &[&str]) -> Vec<String> {
        let bad = self.codes.iter().filter(|(code, n)| **n > 0 && !good.contains(&code.as_str()));
        bad.map(|(code, count)| format!("{code}, {count} times")).collect()
    }

    /// Requests a second.
    pub fn rate(&self) -> f64 {
        float(self.all()) / self.seconds
    }

    /// A latency in milliseconds: of 50, 75, 90 or 99 percent of the requests.
    pub fn latency(&self, percent: f64) -> Option<f64> {
        let found = self.percentiles.iter().find(|(at, _)| (at - percent).abs() < 0.01);
        found.map(|(_, milliseconds)| *milliseconds)
    }

    fn by_fortio(text: &str) -> Result<Self, Failure> {
        let Fortio {
            ret_codes,
            actual_duration,
            duration_histogram: all,
            errors_duration_histogram,
        } = json(text)?;
        let errors = errors_duration_histogram.unwrap_or_default();
        let good = all.count - errors.count;
        let median_error =
            errors.percentiles().find(|(percentile, _)| (percentile - 50.0).abs() < 0.01);
        Ok(Self {
            codes: ret_codes,
            seconds: actual_duration / 1e9,
            percentiles: all.percentiles().collect(),
            mean_good: (good > 0.0).then(|| (all.sum - errors.sum) * 1e3 / good),
            median_error: median_error.map(|(_, milliseconds)| milliseconds),
        })
    }

    fn by_h2load(text: &str) -> Result<Self, Failure> {
        let line = |head: &str| find_line(text, head);
        let seconds = seconds(line("finished in ")?.split(',').next().unwrap_or_default());
        let mut codes = BTreeMap::new();
        // `status codes: 20000 2xx, 0 3xx, 0 4xx, 0 5xx`, `requests: 1 total, …, 0 errored, 0 timeout`. What is
        // `failed` is 4xx, 5xx or errored.
        for part in line("status codes: ")?.split(", ").chain(line("requests: ")?.split(", ")) {
            let Some((count, what)) = part.split_once(' ') else { continue };
            if what.ends_with("xx") || ["errored", "timeout"].contains(&what) {
                codes.insert(what.to_owned(), count.parse().unwrap_or(0));
            }
        }
        Ok(Self { codes, seconds: seconds?, ..Self::default() })
    }

    fn by_wrk(text: &str) -> Result<Self, Failure> {
        // `  26130 requests in 2.00s, 5.18MB read`
        let line = text.lines().find(|line| line.contains(" requests in "));
        let line = line.ok_or_else(|| Failure(format!("wrk does not say how many:\n{text}")))?;
        let (all, rest) = line.trim().split_once(" requests in ").unwrap_or_default();
        let all: u64 = all.parse().map_err(|error| Failure(format!("{line:?}: {error}")))?;
        let taken = seconds(rest.split(',').next().unwrap_or_default())?;
        let other = find_line(text, "Non-2xx or 3xx responses: ").ok();
        let other: u64 = other.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
        let mut codes = BTreeMap::from([("2xx".to_owned(), all - other)]);
        if other > 0 {
            codes.insert("other".to_owned(), other);
        }
        // `Socket errors: connect 0, read 0, write 0, timeout 3`
        for part in find_line(text, "Socket errors: ").unwrap_or_default().split(", ") {
            if let Some((what, count)) = part.trim().split_once(' ') {
                codes.insert(what.to_owned(), count.parse().unwrap_or(0));
            }
        }
        let percentiles = text.lines().filter_map(|line| {
            let (percent, value) = line.trim().split_once("% ")?;
            Some((percent.parse().ok()?, seconds(value.trim()).ok()? * 1e3))
        });
        Ok(Self { codes, seconds: taken, percentiles: percentiles.collect(), ..Self::default() })
    }
}

/// `fortio load -json -`, as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Fortio {
    ret_codes: BTreeMap<String, u64>,
    /// Nanoseconds.
    actual_duration: f64,
    duration_histogram: Histogram,
    /// Of answers that are no success.
    errors_duration_histogram: Option<Histogram>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Histogram {
    count: f64,
    /// Seconds.
    sum: f64,
    percentiles: Option<Vec<Percentile>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Percentile {
    percentile: f64,
    value: f64,
}

impl Histogram {
    /// In milliseconds.
    fn percentiles(&self) -> impl Iterator<Item = (f64, f64)> {
        let all = self.percentiles.iter().flatten();
        all.map(|p| (p.percentile, p.value * 1e3))
    }
}

/// Reads what a program printed as JSON.
pub fn json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| Failure(format!("{error} in {text}")))
}

/// A count as a figure. Counts of requests are far below 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "see above")]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// By how many standard errors `part` of `all` is off a share in percent, which is neither 0 nor 100.
pub fn off(part: u64, all: u64, percent: f64) -> f64 {
    let (n, p) = (float(all), percent / 100.0);
    (float(part) - n * p) / (n * p * (1.0 - p)).sqrt()
}

/// What follows `head` on the line that begins with it.
fn find_line<'a>(text: &'a str, head: &str) -> Result<&'a str, Failure> {
    let found = text.lines().find_map(|line| line.trim().strip_prefix(head));
    found.ok_or_else(|| Failure(format!("there is no line {head:?} in:\n{text}")))
}

/// `1.5ms`, `2.00s`, `800us`, `1.01m` in seconds.
fn seconds(text: &str) -> Result<f64, Failure> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.strip_prefix(digits).unwrap_or_default() {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(Failure(format!("{text:?} is no duration"))),
    };
    let number: f64 = digits.parse().map_err(|error| Failure(format!("{text:?}: {error}")))?;
    Ok(number * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says() {
        let said = "Running 2s test @ http://reviews:9080/\n  1 threads and 8 connections\n  Latency Distribution\n     \
                    50%  601.00us\n     99%    1.50ms\n  26130 requests in 2.00s, 5.18MB read\n  Socket errors: \
                    connect 0, read 3, write 0, timeout 0\n  Non-2xx or 3xx responses: 30\nRequests/sec:  13060.6\n";
        let counted = Counted::by_wrk(said).unwrap();
        assert_eq!((counted.all(), counted.of(&["2xx"])), (26_133, 26_100));
        assert_eq!(counted.but(&["2xx"]), ["other, 30 times", "read, 3 times"]);
        assert_eq!((counted.latency(50.0), counted.latency(90.0)), (Some(0.601), None));
        assert!((counted.rate() - 13_066.5).abs() < 1.0);
    }

    #[test]
    fn what_h2load_says() {
        let said = "finished in 520.50ms, 9606.15 req/s, 1.25MB/s\nrequests: 5000 total, 5000 started, 5000 done, \
                    4990 succeeded, 10 failed, 2 errored, 0 timeout\nstatus codes: 4990 2xx, 0 3xx, 0 4xx, 8 5xx\n";
        let counted = Counted::by_h2load(said).unwrap();
        assert_eq!((counted.all(), counted.of(&["2xx"])), (5000, 4990));
        assert_eq!(counted.but(&["2xx"]), ["5xx, 8 times", "errored, 2 times"]);
        assert!((counted.seconds - 0.5205).abs() < 1e-9);
    }

    #[test]
    fn what_fortio_says() {
        let said = r#"{"RetCodes": {"200": 90, "503": 10}, "ActualDuration": 2000000000, "Labels": "",
            "DurationHistogram": {"Count": 100, "Sum": 0.23, "Percentiles": [{"Percentile": 99, "Value": 0.004}]},
            "ErrorsDurationHistogram": {"Count": 10, "Sum": 0.05, "Percentiles": [{"Percentile": 50, "Value": 0.005}]}}"#;
        let counted = Counted::by_fortio(said).unwrap();
        assert_eq!((counted.all(), counted.seconds, counted.latency(99.0)), (100, 2.0, Some(4.0)));
        assert_eq!(counted.but(&["200"]), ["503, 10 times"]);
        assert_eq!(counted.mean_good.map(f64::round), Some(2.0));
        assert_eq!(counted.median_error, Some(5.0));
    }
}
