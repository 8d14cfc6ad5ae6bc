//! BPF links by their pins: what aya does not hand out or do. Which device a link is on, and another program under it.
#![expect(unsafe_code, reason = "a raw system call, and the descriptor that it returns")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::faults;

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
/// `BPF_F_BEFORE`, which without another program means: before all.
const BEFORE_ALL: u32 = 1 << 3;
/// Programs of a hook that are asked for; the kernel allows 64 (`BPF_MPROG_MAX`).
const AT_A_HOOK: usize = 64;
/// `BPF_LINK_TYPE_CGROUP`.
pub const LINK_TYPE_CGROUP: u32 = 3;
/// `BPF_LINK_TYPE_XDP`.
pub const LINK_TYPE_XDP: u32 = 6;
/// `BPF_LINK_TYPE_TCX`.
pub const LINK_TYPE_TCX: u32 = 11;
/// `BPF_TCX_INGRESS`.
pub const TCX_INGRESS: u32 = 46;
/// `BPF_TCX_EGRESS`.
pub const TCX_EGRESS: u32 = 47;

/// Where a link is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Kind of link, such as [`LINK_TYPE_TCX`].
    pub kind: u32,
    /// Its number.
    pub id: u32,
    /// Number of the program under it.
    pub program: u32,
    /// Device, of links on devices; 0: the device is gone.
    pub ifindex: u32,
    /// Attach type, of links that have one. (The `xdp` part of the kernel's union ends with the device.)
    pub attach_type: u32,
    /// The cgroup, of links on cgroups; 0: it is gone. (The same bytes as the two before.)
    pub cgroup: u64,
}

/// `union bpf_attr`, the part for `BPF_OBJ_GET` and `BPF_OBJ_PIN`.
#[repr(C)]
struct ObjGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// `union bpf_attr`, the part for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_link_info`: the first fields of its union are the same for `xdp` and `tcx`.
#[repr(C)]
#[derive(Default)]
struct BpfLinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    pad: u32,
    ifindex: u32,
    attach_type: u32,
    rest: [u64; 5],
}

fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    let len = size_of::<T>();
    // SAFETY: the attribute is a live, initialised `repr(C)` value of the size given; the pointers in it are to
    // buffers that their owners keep for the duration of the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Opens a pin.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = ObjGet { pathname: name.as_ptr().expose_provenance() as u64, bpf_fd: 0, file_flags: 0 };
    let fd = bpf(BPF_OBJ_GET, &mut attr)?;
    let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just returned this descriptor to us; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `union bpf_attr`, the part for `BPF_LINK_UPDATE`.
#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// Puts another program under a link, atomically; aya has it for some kinds of links only.
pub fn update(link: &impl AsFd, program: &impl AsFd) -> io::Result<()> {
    let mut attr = LinkUpdate {
        link_fd: link.as_fd().as_raw_fd().cast_unsigned(),
        new_prog_fd: program.as_fd().as_raw_fd().cast_unsigned(),
        flags: 0,
        old_prog_fd: 0,
    };
    faults::point("link, update")?;
    bpf(BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// What the kernel says of a pinned link.
pub fn info(path: &Path) -> io::Result<LinkInfo> {
    let fd = open(path)?;
    let mut info = BpfLinkInfo::default();
    let mut attr = InfoByFd {
        bpf_fd: fd.as_raw_fd().cast_unsigned(),
        info_len: u32::try_from(size_of::<BpfLinkInfo>()).map_err(io::Error::other)?,
        info: std::ptr::from_mut(&mut info).expose_provenance() as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    let BpfLinkInfo { kind, id, prog_id, ifindex, attach_type, .. } = info;
    let bytes = [ifindex.to_ne_bytes(), attach_type.to_ne_bytes()].concat();
    let cgroup = bytes.try_into().map(u64::from_ne_bytes).unwrap_or_default();
    Ok(LinkInfo { kind, id, program: prog_id, ifindex, attach_type, cgroup })
}

/// `union bpf_attr`, the part for `BPF_LINK_CREATE` on a device.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative: [u32; 2],
    expected_revision: u64,
}

/// Attaches a program to a TC hook of a device, before all others there (tcx, Linux 6.6). By the device's number: a name
/// may be another device's by now, which aya would take instead.
pub fn create_tcx(program: &impl AsFd, ifindex: u32, attach_type: u32) -> io::Result<OwnedFd> {
    let mut attr = LinkCreate {
        prog_fd: program.as_fd().as_raw_fd().cast_unsigned(),
        target_ifindex: ifindex,
        attach_type,
        flags: BEFORE_ALL,
        relative: [0; 2],
        expected_revision: 0,
    };
    faults::point("link, create")?;
    let fd = libc::c_int::try_from(bpf(BPF_LINK_CREATE, &mut attr)?).map_err(io::Error::other)?;
    // SAFETY: the kernel just returned this descriptor to us; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins a link.
pub fn pin(link: &impl AsFd, path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let bpf_fd = link.as_fd().as_raw_fd().cast_unsigned();
    let mut attr = ObjGet { pathname: name.as_ptr().expose_provenance() as u64, bpf_fd, file_flags: 0 };
    faults::point("link, pin")?;
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

/// `union bpf_attr`, the part for `BPF_PROG_QUERY`.
#[repr(C)]
struct Query {
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    pad: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// Links and programs at a TC hook of a device of the current network namespace, by their numbers (tcx, Linux 6.6).
pub fn links_at(ifindex: u32, attach_type: u32) -> io::Result<Vec<(u32, u32)>> {
    let mut programs = [0_u32; AT_A_HOOK];
    let mut links = [0_u32; AT_A_HOOK];
    let mut attr = Query {
        target_ifindex: ifindex,
        attach_type,
        flags: 0,
        attach_flags: 0,
        prog_ids: programs.as_mut_ptr().expose_provenance() as u64,
        count: u32::try_from(AT_A_HOOK).map_err(io::Error::other)?,
        pad: 0,
        prog_attach_flags: 0,
        link_ids: links.as_mut_ptr().expose_provenance() as u64,
        link_attach_flags: 0,
        revision: 0,
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    let count = usize::try_from(attr.count).map_err(io::Error::other)?;
    Ok(links.into_iter().zip(programs).take(count).collect())
}

/// Programs at a hook of a cgroup, by their numbers, in the order in which they run.
pub fn programs_at_cgroup(cgroup: &impl AsFd, attach_type: u32) -> io::Result<Vec<u32>> {
    let mut programs = [0_u32; AT_A_HOOK];
    let mut attr = Query {
        target_ifindex: cgroup.as_fd().as_raw_fd().cast_unsigned(),
        attach_type,
        flags: 0,
        attach_flags: 0,
        prog_ids: programs.as_mut_ptr().expose_provenance() as u64,
        count: u32::try_from(AT_A_HOOK).map_err(io::Error::other)?,
        pad: 0,
        prog_attach_flags: 0,
        link_ids: 0,
        link_attach_flags: 0,
        revision: 0,
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    let count = usize::try_from(attr.count).map_err(io::Error::other)?;
    Ok(programs.into_iter().take(count).collect())
}
