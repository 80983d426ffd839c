//! What processes leave behind becomes a child of the first process of its namespace, which is ours: if
//! nobody waited for it, a container's namespace could never end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use rustix::process::{Pid, WaitOptions, waitpid};

/// Children that have ended, and how often they were seen. Those that we started ourselves are waited for
/// as soon as the machine lets whoever did; what is there three times is nobody's.
#[derive(Debug, Default)]
pub(super) struct Orphans(BTreeMap<i32, u32>);

impl Orphans {
    /// To be called about once a second, and never several times at once after a pause: what was to be
    /// waited for meanwhile would seem to be nobody's.
    pub(super) fn bury(&mut self) {
        self.bury_of(&ended());
    }

    fn bury_of(&mut self, ended: &BTreeSet<i32>) {
        self.0 =
            ended.iter().map(|pid| (*pid, self.0.get(pid).map_or(1, |seen| seen + 1))).collect();
        let nobodys = self.0.iter().filter(|(_, seen)| **seen >= 3);
        for pid in nobodys.filter_map(|(pid, _)| Pid::from_raw(*pid)) {
            if let Err(error) = waitpid(Some(pid), WaitOptions::NOHANG) {
                tracing::debug!(?pid, %error, "an orphan stays");
            }
        }
    }
}

/// Our children that have ended and for which nobody has waited yet.
fn ended() -> BTreeSet<i32> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let children = threads.filter_map(|t| fs::read_to_string(t.path().join("children")).ok());
    let pids: Vec<String> =
        children.flat_map(|c| c.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect();
    pids.iter().filter(|pid| is_zombie(pid)).filter_map(|pid| pid.parse().ok()).collect()
}

/// The state follows the name, which stands in parentheses and may hold anything (proc(5)).
fn is_zombie(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_nobody_waits_for_is_buried_the_third_time() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        while !ended().contains(&pid) {
            std::thread::yield_now();
        }
        let mut orphans = Orphans::default();
        for _ in 0..2 {
            orphans.bury_of(&BTreeSet::from([pid]));
            assert!(is_zombie(&pid.to_string()));
        }
        orphans.bury_of(&BTreeSet::from([pid]));
        assert!(!is_zombie(&pid.to_string()));
        assert!(child.wait().is_err(), "it is gone");
    }
}
