//! Which kernel runs, and what its version alone decides.

/// The running kernel's release, such as `6.12.9-cloud-amd64`.
pub fn release() -> String {
    nix::sys::utsname::uname().map_or_else(|_| "unknown".into(), |name| name.release().to_string_lossy().into_owned())
}

/// Major and minor version of a release. An unreadable one counts as new, so that only a known lack refuses.
pub fn parse(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (u32::MAX, 0),
    }
}

/// Major and minor version of the running kernel.
pub fn running() -> (u32, u32) {
    parse(&release())
}

/// Whether XDP takes frames in fragments (`BPF_F_XDP_HAS_FRAGS`, Linux 5.18).
pub fn has_xdp_frags() -> bool {
    running() >= (5, 18)
}

/// Whether a socket hook can say which error a call gets (`bpf_set_retval`, Linux 5.18).
pub fn can_refuse_sockets() -> bool {
    running() >= (5, 18)
}

/// Whether the memory of maps counts against the limit of locked memory (until 5.11, when cgroups took over).
pub fn counts_maps_as_locked_memory() -> bool {
    running() < (5, 11)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(parse("5.4.0-100-generic") < (5, 10));
        assert!(parse("5.10.0") >= (5, 10));
        assert!(parse("6.18.3+") >= (5, 10));
        assert!(parse("next") >= (5, 10));
    }
}
