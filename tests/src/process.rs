//! What a process has used so far, as the kernel counts it.

use std::fs;
use std::time::Duration;

/// What one process has used since it began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time on a CPU, user and system, all threads that still live.
    pub cpu: Duration,
    /// The most memory it has held, in bytes.
    pub peak_rss: u64,
    /// The memory it holds, in bytes.
    pub rss: u64,
    /// Open file descriptors.
    pub descriptors: usize,
}

impl Usage {
    /// The usage of the process `pid`; zero when it has ended.
    pub fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kib = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or_default()
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        Self { cpu: cpu(pid), peak_rss: kib("VmHWM:") * 1024, rss: kib("VmRSS:") * 1024, descriptors }
    }
}

/// The first field of `schedstat` is the time on a CPU in ns.
fn cpu(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let spent = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(spent.sum())
}

/// The process `pid` and all its descendants that still live.
pub fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(&parent) = all.get(next) {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        next += 1;
    }
    all
}
