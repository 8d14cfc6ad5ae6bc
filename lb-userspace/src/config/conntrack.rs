//! The kernel's connection tracking, set as kube-proxy sets it. Sluice's own flows do not need it; plain connections of
//! the node do, and clusters rely on these values.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

const FOLDER: &str = "/proc/sys/net/netfilter";
const HASH_SIZE: &str = "/sys/module/nf_conntrack/parameters/hashsize";
const PROCESSORS: &str = "/sys/devices/system/cpu/online";
const MAX: &str = "nf_conntrack_max";
/// Entries that the number of processors may lead to, and no more.
const MAX_BY_PROCESSORS: u64 = 1 << 20;
/// Connection tracking that the kernel has not loaded yet is looked for again.
const RETRY: Duration = Duration::from_secs(10);
/// Entries to a bucket of the hash table.
const PER_BUCKET: u64 = 4;

/// What to set; none, or zero, leaves the kernel's value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conntrack {
    /// Entries per processor.
    pub max_per_core: Option<u32>,
    /// Entries at least, where `max_per_core` is given.
    pub min: Option<u32>,
    /// Idle established TCP.
    pub tcp_established: Option<Duration>,
    /// TCP in `CLOSE_WAIT`.
    pub tcp_close_wait: Option<Duration>,
    /// Leave out-of-window packets alone.
    pub tcp_be_liberal: bool,
    /// UDP without a reply.
    pub udp: Option<Duration>,
    /// UDP with one.
    pub udp_stream: Option<Duration>,
}

impl Conntrack {
    /// Values by the names below `/proc/sys/net/netfilter`.
    fn values(&self, processors: u64) -> Vec<(&'static str, u64)> {
        let mut values = Vec::new();
        if let Some(per_core) = self.max_per_core.filter(|max| *max > 0) {
            let by_processors = u64::from(per_core) * processors;
            let max = by_processors.max(u64::from(self.min.unwrap_or(0)));
            let max = if by_processors > MAX_BY_PROCESSORS { MAX_BY_PROCESSORS } else { max };
            values.push((MAX, max));
        }
        let timeouts = [
            ("nf_conntrack_tcp_timeout_established", self.tcp_established),
            ("nf_conntrack_tcp_timeout_close_wait", self.tcp_close_wait),
            ("nf_conntrack_udp_timeout", self.udp),
            ("nf_conntrack_udp_timeout_stream", self.udp_stream),
        ];
        let given = timeouts.into_iter().filter_map(|(name, value)| Some((name, value?.as_secs())));
        values.extend(given.filter(|(_, secs)| *secs > 0));
        if self.tcp_be_liberal {
            values.push(("nf_conntrack_tcp_be_liberal", 1));
        }
        values
    }

    /// Sets everything in this network namespace, as soon as the kernel has connection tracking: nothing may have needed
    /// it yet. What cannot be set is logged and left.
    pub async fn apply(self) {
        let folder = Path::new(FOLDER);
        let values = self.values(processors());
        if values.is_empty() {
            return;
        }
        if !folder.join(MAX).exists() {
            tracing::info!("the kernel has no connection tracking yet: its values are set when it has");
            while !folder.join(MAX).exists() {
                tokio::time::sleep(RETRY).await;
            }
        }
        for (name, value) in values {
            match set(&folder.join(name), value) {
                Ok(true) => tracing::info!(name, value, "set a value of connection tracking"),
                Ok(false) => {}
                Err(error) => tracing::warn!(name, value, %error, "a value of connection tracking cannot be set"),
            }
            if name == MAX {
                grow_table(value);
            }
        }
    }
}

/// Processors of the machine, also where this process may use some of them only.
fn processors() -> u64 {
    let online = fs::read_to_string(PROCESSORS).ok().and_then(|text| count(text.trim()));
    online.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| u64::try_from(n.get()).unwrap_or(1)))
}

/// How many numbers there are in a list such as `0-3,8`.
fn count(list: &str) -> Option<u64> {
    let ranges = list.split(',').map(|range| {
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let (low, high): (u64, u64) = (low.parse().ok()?, high.parse().ok()?);
        (high.checked_sub(low)? + 1).into()
    });
    ranges.sum()
}

/// Whether the value had to be set. The number of entries is only ever raised.
fn set(path: &Path, value: u64) -> io::Result<bool> {
    let current = fs::read_to_string(path)?.trim().parse::<u64>().ok();
    let enough = |current| if path.ends_with(MAX) { current >= value } else { current == value };
    if current.is_some_and(enough) {
        return Ok(false);
    }
    fs::write(path, value.to_string()).map(|()| true)
}

/// The hash table belongs to the whole machine: it is only made larger, and only from where that is allowed.
fn grow_table(max: u64) {
    let size = fs::read_to_string(HASH_SIZE).ok().and_then(|text| text.trim().parse::<u64>().ok());
    if size.is_some_and(|size| size < max / PER_BUCKET)
        && let Err(error) = fs::write(HASH_SIZE, (max / PER_BUCKET).to_string())
    {
        tracing::debug!(%error, "the hash table of connection tracking stays as it is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sized_per_processor_with_a_minimum() {
        let of = |max_per_core, min| Conntrack { max_per_core, min, ..Conntrack::default() }.values(4);
        assert_eq!(of(Some(32_768), Some(131_072)), [("nf_conntrack_max", 131_072)]);
        assert_eq!(of(Some(65_536), Some(131_072)), [("nf_conntrack_max", 262_144)]);
        assert_eq!(of(Some(1 << 20), Some(131_072)), [("nf_conntrack_max", 1 << 20)]);
        assert_eq!(of(Some(0), Some(131_072)), []);
        assert_eq!(of(None, None), []);
    }

    #[test]
    fn processors_are_counted_from_the_kernels_list() {
        assert_eq!((count("0"), count("0-3"), count("0-3,8,10-11")), (Some(1), Some(4), Some(7)));
        assert_eq!((count(""), count("3-1")), (None, None));
    }

    #[test]
    fn the_number_of_entries_is_raised_and_never_lowered() {
        let folder = tempfile::tempdir().unwrap();
        let after = |name: &str, value| {
            let path = folder.path().join(name);
            fs::write(&path, "262144\n").unwrap();
            (set(&path, value).unwrap(), fs::read_to_string(&path).unwrap().trim().to_owned())
        };
        assert_eq!(after(MAX, 131_072), (false, "262144".to_owned()));
        assert_eq!(after(MAX, 524_288), (true, "524288".to_owned()));
        assert_eq!(after("nf_conntrack_udp_timeout", 30), (true, "30".to_owned()));
        assert_eq!(after("nf_conntrack_udp_timeout", 262_144), (false, "262144".to_owned()));
    }

    #[test]
    fn zero_leaves_the_kernels_timeouts() {
        let given = Conntrack {
            tcp_established: Some(Duration::ZERO),
            tcp_close_wait: Some(Duration::from_secs(3600)),
            ..Conntrack::default()
        };
        assert_eq!(given.values(1), [("nf_conntrack_tcp_timeout_close_wait", 3600)]);
    }
}
