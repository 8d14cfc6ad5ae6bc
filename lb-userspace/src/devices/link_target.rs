//! Where a pinned link is attached.

use std::io;
use std::path::Path;

use super::hook::Hook;
use crate::linux::bpf_link;

/// Device and hook of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkTarget {
    /// Device; 0: the device is gone.
    pub(super) ifindex: u32,
    /// The hook.
    pub(super) hook: Hook,
}

/// Reads a pinned link's target. `None`: it is a link of a kind that Sluice does not make.
pub(super) fn of_pin(path: &Path) -> io::Result<Option<LinkTarget>> {
    let info = bpf_link::info(path)?;
    let hook = match (info.kind, info.attach_type) {
        (bpf_link::LINK_TYPE_XDP, _) => Hook::Xdp,
        (bpf_link::LINK_TYPE_TCX, bpf_link::TCX_INGRESS) => Hook::Ingress,
        (bpf_link::LINK_TYPE_TCX, bpf_link::TCX_EGRESS) => Hook::Egress,
        _ => return Ok(None),
    };
    Ok(Some(LinkTarget { ifindex: info.ifindex, hook }))
}
