//! Network namespaces whose sockets are left alone: those of files that match a pattern, kept in the map `OPT_OUT`.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use aya::maps::{HashMap as BpfHashMap, Map, MapData, MapError};
use lb_common::abi::map_name;

use crate::faults;
use crate::linux::netns::{cookie_of_file, own_netns_cookie};
use crate::maps::pins::halves;

/// A new Pod's namespace is there some time before its first process.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Where plain names are looked for.
const NAMES: &str = "/run/netns";

/// Files that a pattern stands for: a whole path, or a name below `/run/netns`.
fn pattern_path(pattern: &str) -> String {
    if pattern.contains('/') { pattern.to_owned() } else { format!("{NAMES}/{pattern}") }
}

/// Checks a pattern of `--socket-opt-out`.
pub fn parse_pattern(text: &str) -> Result<String, String> {
    glob::Pattern::new(text).map_err(|error| error.to_string())?;
    Ok(pattern_path(text))
}

/// Follows the patterns' files for as long as the process lives.
pub fn follow(pin_path: &Path, patterns: Vec<String>) {
    if let Err(error) = own_netns_cookie() {
        return tracing::error!(%error, "--socket-opt-out has no effect: namespaces cannot be distinguished before Linux 5.14");
    }
    let path = pin_path.join("maps").join(map_name::OPT_OUT);
    let map = MapData::from_pin(&path).and_then(Map::from_map_data).and_then(BpfHashMap::try_from);
    let mut map: BpfHashMap<MapData, [u32; 2], u32> = match map {
        Ok(map) => map,
        Err(error) => return tracing::error!(path = %path.display(), %error, "--socket-opt-out has no effect"),
    };
    let mut known = HashMap::new();
    look(&patterns, &mut known, &mut map);
    let spawned = thread::Builder::new().name("opt-out".into()).spawn(move || {
        loop {
            thread::sleep(LOOK_EVERY);
            look(&patterns, &mut known, &mut map);
        }
    });
    if let Err(error) = spawned {
        tracing::error!(%error, "--socket-opt-out: later namespaces are not noticed");
    }
}

/// A namespace's file, by path and inode: the same name may come back for another namespace.
type Known = HashMap<(PathBuf, u64), u64>;

fn look(patterns: &[String], known: &mut Known, map: &mut BpfHashMap<MapData, [u32; 2], u32>) {
    let mut seen = Known::new();
    for path in patterns.iter().filter_map(|pattern| glob::glob(pattern).ok()).flatten().flatten() {
        let Ok(meta) = fs::metadata(&path) else { continue };
        let key = (path, meta.ino());
        let cookie = match known.get(&key) {
            Some(cookie) => *cookie,
            None => match cookie_of_file(&key.0) {
                Ok(cookie) => cookie,
                Err(error) => {
                    tracing::debug!(path = %key.0.display(), %error, "is no network namespace that can be entered");
                    continue;
                }
            },
        };
        seen.insert(key, cookie);
    }
    let wanted: Vec<u64> = seen.values().copied().collect();
    let listed: Vec<[u32; 2]> = map.keys().filter_map(Result::ok).collect();
    for key in listed.iter().filter(|key| !wanted.iter().any(|cookie| halves(*cookie) == **key)) {
        let allowed = faults::point("OPT_OUT").map_err(MapError::IoError);
        if let Err(error) = allowed.and_then(|()| map.remove(key)) {
            tracing::debug!(%error, "namespace had no entry");
        }
    }
    for cookie in wanted.iter().filter(|cookie| !listed.contains(&halves(**cookie))) {
        let allowed = faults::point("OPT_OUT").map_err(MapError::IoError);
        match allowed.and_then(|()| map.insert(halves(*cookie), 1, 0)) {
            Ok(()) => tracing::info!(cookie, "sockets of a network namespace are left alone"),
            Err(error) => tracing::error!(cookie, %error, "sockets of a network namespace cannot be left alone"),
        }
    }
    *known = seen;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_are_below_the_usual_directory_and_bad_patterns_are_refused() {
        assert_eq!(parse_pattern("cni-*"), Ok("/run/netns/cni-*".to_owned()));
        assert_eq!(parse_pattern("/var/lib/x/*"), Ok("/var/lib/x/*".to_owned()));
        assert!(parse_pattern("[").is_err());
    }
}
