//! The kernel's connection tracking, set as kube-proxy sets it. Sluice's own flows do not need it; plain connections of
//! the node do, and clusters rely on these values.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const HASH_SIZE: &str = "/sys/module/nf_conntrack/parameters/hashsize";
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
            let max = (u64::from(per_core) * processors).max(u64::from(self.min.unwrap_or(0)));
            values.push(("nf_conntrack_max", max));
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

    /// Sets everything in this network namespace. What cannot be set is logged and left.
    pub fn apply(&self) {
        let processors = std::thread::available_parallelism().map_or(1, |n| u64::try_from(n.get()).unwrap_or(1));
        let folder = Path::new("/proc/sys/net/netfilter");
        for (name, value) in self.values(processors) {
            match set(&folder.join(name), value) {
                Ok(true) => tracing::info!(name, value, "set a value of connection tracking"),
                Ok(false) => {}
                Err(error) => tracing::warn!(name, value, %error, "a value of connection tracking cannot be set"),
            }
            if name == "nf_conntrack_max" {
                grow_table(value);
            }
        }
    }
}

/// Whether the value had to be set.
fn set(path: &PathBuf, value: u64) -> io::Result<bool> {
    if fs::read_to_string(path)?.trim() == value.to_string() {
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
        assert_eq!(of(Some(0), Some(131_072)), []);
        assert_eq!(of(None, None), []);
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
