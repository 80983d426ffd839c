//! What the process takes of the machine, by the names that Prometheus' own libraries have for it:
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.

use std::{
    fmt, fs,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use crate::pages;

/// Looks at each scrape.
#[derive(Debug)]
pub(super) struct Process {
    /// Seconds since 1970.
    started: f64,
}

impl Process {
    /// Of the process that calls, which has just started.
    pub(super) fn starting() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: since.as_secs_f64() }
    }
}

impl Collector for Process {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Processor time that the process has used";
        let unit = Some(&Unit::Seconds);
        let family = to.encode_descriptor("process_cpu", help, unit, MetricType::Counter)?;
        ConstCounter::new(pages::cpu_time().as_secs_f64()).encode(family)?;
        let help = "When the process started, since 1970";
        let family = to.encode_descriptor("process_start_time", help, unit, MetricType::Gauge)?;
        ConstGauge::new(self.started).encode(family)?;
        // Without `/proc` nothing is known, which is not 0.
        let Some(bytes) =
            fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident)
        else {
            return Ok(());
        };
        let help = "Memory that the process holds";
        let unit = Some(&Unit::Bytes);
        let family =
            to.encode_descriptor("process_resident_memory", help, unit, MetricType::Gauge)?;
        ConstGauge::new(bytes).encode(family)
    }
}

/// `VmRSS` of `/proc/PID/status` (proc(5)), in bytes.
fn resident(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Registry;

    #[test]
    fn memory_is_read_from_the_status_of_a_process() {
        assert_eq!(resident("Name:\tx\nVmHWM:\t  9000 kB\nVmRSS:\t    8192 kB\n"), Some(8 << 20));
        for bad in ["", "VmRSS:\n", "VmRSS: 1 MB\n", "VmRSS: 99999999999999999 kB\n"] {
            assert_eq!(resident(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_process_says_what_it_takes() {
        let text = Registry::of_process().render();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name}: {text}")).parse::<f64>().expect("a number")
        };
        let memory = value("process_resident_memory_bytes");
        assert!((1e5..1e11).contains(&memory), "{memory}");
        assert!(value("process_cpu_seconds_total") > 0.0, "{text}");
        let started = value("process_start_time_seconds");
        let now = Process::starting().started;
        assert!((now - 60.0..=now).contains(&started), "{started}, now {now}");
    }
}
