//! The hooks that serve sockets, and where their links are pinned: for the agent that attaches them, and for a successor that
//! exchanges their programs in place.

use std::fs;
use std::path::{Path, PathBuf};

/// Programs that serve sockets, in the order in which they are attached and exchanged. Told addresses first, as they read what
/// the others write: a socket is not led away while its peer would look wrong.
pub const HOOKS: [&str; 9] = [
    "recvmsg4",
    "recvmsg6",
    "getpeername4",
    "getpeername6",
    "sock_release",
    "sendmsg4",
    "sendmsg6",
    "connect4",
    "connect6",
];

/// Where links are pinned, below the agent's pins.
pub const FOLDER: &str = "sockets";

/// Where a hook's link at a cgroup (its inode) is pinned.
pub fn path(root: &Path, cgroup: u64, hook: &str) -> PathBuf {
    root.join(FOLDER).join(format!("{cgroup}:{hook}"))
}

/// Links of [`HOOKS`] that are pinned, at whatever cgroup, in the order of the hooks.
pub(super) fn all(root: &Path) -> Vec<(&'static str, PathBuf)> {
    let pins: Vec<PathBuf> =
        fs::read_dir(root.join(FOLDER)).into_iter().flatten().flatten().map(|pin| pin.path()).collect();
    let is_of = |pin: &Path, hook: &str| {
        pin.file_name().is_some_and(|name| name.to_string_lossy().split_once(':').is_some_and(|(_, of)| of == hook))
    };
    let of_hook = |hook: &'static str| {
        let pins = pins.iter().filter(move |pin| is_of(pin, hook));
        pins.map(|pin| (hook, pin.clone())).collect::<Vec<_>>()
    };
    HOOKS.into_iter().flat_map(of_hook).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_where_they_are_pinned_in_the_order_of_the_hooks() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(FOLDER)).unwrap();
        let pins = [path(root.path(), 7, "connect4"), path(root.path(), 9, "recvmsg4"), path(root.path(), 7, "bind4")];
        for pin in &pins {
            fs::write(pin, "").unwrap();
        }
        assert_eq!(all(root.path()), [("recvmsg4", pins[1].clone()), ("connect4", pins[0].clone())]);
        assert_eq!(all(&root.path().join("none")), []);
    }
}
