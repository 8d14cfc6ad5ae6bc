//! Socket calls: what a hook's context says of one, and what the data path decides of it.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval};
use aya_ebpf::programs::SockAddrContext;
use core::ffi::c_void;
use lb_common::abi::{Be16, V4, V6, config_flag};
use lb_common::datapath::{Host, SocketCall, SocketVerdict, socket_bind, socket_connect, socket_peer, socket_send};

use crate::env::{Kernel, REST};
use crate::maps::{self, FamilyMaps};
use crate::route::RouteLookup;

/// The hook lets the call go on.
const GO_ON: i32 = 1;
/// The hook fails the call.
const FAIL: i32 = 0;
/// `ECONNREFUSED`, `EADDRINUSE` (errno.h).
const REFUSED: i32 = 111;
const IN_USE: i32 = 98;

/// Set by the agent at load: whether the kernel has `bpf_set_retval` (5.18), so that a hook can say which error a call
/// gets. Without it the caller would see EPERM.
#[unsafe(no_mangle)]
static SET_RETVAL: u8 = 0;

/// What kind of call a hook sees.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// `connect`.
    Connect,
    /// `sendto`, `sendmsg` with an address.
    Send,
    /// An address that the kernel tells the process: `recvfrom`, `recvmsg`, `getpeername`.
    ReportPeer,
    /// `bind`.
    Bind,
}

/// An address family's fields of the context.
pub(crate) trait SocketFamily: FamilyMaps + RouteLookup {
    /// Reads the address of the call.
    fn read(ctx: *mut bpf_sock_addr) -> Self;
    /// Replaces it.
    fn write(ctx: *mut bpf_sock_addr, addr: Self);
}

impl SocketFamily for V4 {
    #[inline(always)]
    fn read(ctx: *mut bpf_sock_addr) -> Self {
        // SAFETY: the kernel's context, valid for the whole program.
        Self(unsafe { (*ctx).user_ip4 })
    }

    #[inline(always)]
    fn write(ctx: *mut bpf_sock_addr, addr: Self) {
        // SAFETY: as above; hooks may write this field.
        unsafe { (*ctx).user_ip4 = addr.0 };
    }
}

/// One word of the IPv6 address, read or written on its own: the kernel takes no other widths everywhere.
#[inline(always)]
fn word(ctx: *mut bpf_sock_addr, at: usize) -> *mut u32 {
    // SAFETY: a field of the kernel's context.
    let words = unsafe { &raw mut (*ctx).user_ip6 };
    words.cast::<u32>().wrapping_add(at)
}

#[inline(always)]
fn read_word(ctx: *mut bpf_sock_addr, at: usize) -> u32 {
    // SAFETY: inside the context for each of the four words.
    unsafe { word(ctx, at).read_volatile() }
}

impl SocketFamily for V6 {
    #[inline(always)]
    fn read(ctx: *mut bpf_sock_addr) -> Self {
        Self([read_word(ctx, 0), read_word(ctx, 1), read_word(ctx, 2), read_word(ctx, 3)])
    }

    #[inline(always)]
    fn write(ctx: *mut bpf_sock_addr, addr: Self) {
        let [a, b, c, d] = addr.0;
        write_word(ctx, 0, a);
        write_word(ctx, 1, b);
        write_word(ctx, 2, c);
        write_word(ctx, 3, d);
    }
}

#[inline(always)]
fn write_word(ctx: *mut bpf_sock_addr, at: usize, value: u32) {
    // SAFETY: inside the context for each of the four words, which hooks may write.
    unsafe { word(ctx, at).write_volatile(value) };
}

/// An IPv4 address in an IPv6 socket's call (RFC 4291 section 2.5.5.2): IPv4 it is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mapped;

impl Mapped {
    const HEAD: u32 = 0xffff_u32.to_be();

    #[inline(always)]
    fn read(ctx: *mut bpf_sock_addr) -> Option<V4> {
        mapped([read_word(ctx, 0), read_word(ctx, 1), read_word(ctx, 2), read_word(ctx, 3)])
    }
}

/// The IPv4 address that these words of an IPv6 address stand for.
#[inline(always)]
pub(crate) fn mapped([first, second, head, addr]: [u32; 4]) -> Option<V4> {
    if first == 0 && second == 0 && head == Mapped::HEAD { Some(V4(addr)) } else { None }
}

/// A 64-bit cookie as two words.
#[inline(always)]
pub(crate) fn halves(cookie: u64) -> [u32; 2] {
    [cookie as u32, (cookie >> 32) as u32]
}

#[inline(always)]
pub(crate) fn process(ctx: *mut c_void) -> Kernel<REST> {
    Kernel { ctx, ifindex: 0 }
}

/// The socket's network namespace, and whether it is the node's own. `None`: its sockets are not served.
#[inline(always)]
fn namespace<A: FamilyMaps + RouteLookup>(env: &Kernel<REST>) -> Option<([u32; 2], bool)> {
    // SAFETY: the context is the program's own.
    let cookie = unsafe { bpf_get_netns_cookie(env.ctx) };
    let netns = halves(cookie);
    let config = Host::<A>::config(env);
    let host = if config.host_netns == [0; 2] {
        // SAFETY: without a context the helper tells the initial namespace's cookie.
        cookie == unsafe { bpf_get_netns_cookie(core::ptr::null_mut()) }
    } else {
        netns == config.host_netns
    };
    let excluded = config.flags & config_flag::SOCKETS_HOST_ONLY != 0 && !host
        || config.flags & config_flag::SOCKETS_OPT_OUT != 0 && maps::opted_out(netns);
    if config.abi == 0 || excluded { None } else { Some((netns, host)) }
}

/// An IPv4 socket's call.
#[inline(always)]
pub(crate) fn v4(ctx: &SockAddrContext, call: Call) -> i32 {
    let raw = ctx.sock_addr;
    serve(ctx.as_ptr(), raw, V4::read(raw), call, V4::write)
}

/// An IPv6 socket's call, with an address of either family.
#[inline(always)]
pub(crate) fn v6(ctx: &SockAddrContext, call: Call) -> i32 {
    let raw = ctx.sock_addr;
    match Mapped::read(raw) {
        Some(addr) => serve(ctx.as_ptr(), raw, addr, call, |raw, addr: V4| write_word(raw, 3, addr.0)),
        None => serve(ctx.as_ptr(), raw, V6::read(raw), call, V6::write),
    }
}

#[inline(always)]
fn serve<A: SocketFamily>(
    ctx: *mut c_void,
    raw: *mut bpf_sock_addr,
    addr: A,
    call: Call,
    write: impl Fn(*mut bpf_sock_addr, A),
) -> i32 {
    let env = process(ctx);
    // SAFETY: the kernel's context, valid for the whole program.
    let port = Be16(unsafe { (*raw).user_port } as u16);
    // SAFETY: as above.
    let proto = unsafe { (*raw).protocol } as u8;
    if call == Call::ReportPeer {
        // SAFETY: the context is the program's own.
        let cookie = halves(unsafe { bpf_get_socket_cookie(ctx) });
        if let Some((addr, port)) = socket_peer(&env, cookie, proto, addr, port) {
            write(raw, addr);
            write_port(raw, port);
        }
        return GO_ON;
    }
    let Some((netns, host)) = namespace::<A>(&env) else { return GO_ON };
    if call == Call::Bind {
        return if !host || socket_bind(&env, proto, addr, port) { GO_ON } else { fail(IN_USE) };
    }
    // SAFETY: the context is the program's own.
    let cookie = halves(unsafe { bpf_get_socket_cookie(ctx) });
    let asked = SocketCall { cookie, netns, host, addr, port, proto };
    let answer = if call == Call::Send { socket_send(&env, &asked) } else { socket_connect(&env, &asked) };
    match answer {
        SocketVerdict::Pass => GO_ON,
        SocketVerdict::To(addr, port) => {
            write(raw, addr);
            write_port(raw, port);
            GO_ON
        }
        SocketVerdict::Refused => fail(REFUSED),
    }
}

#[inline(always)]
fn write_port(raw: *mut bpf_sock_addr, port: Be16) {
    // SAFETY: the kernel's context; hooks may write this field.
    unsafe { (*raw).user_port = u32::from(port.0) };
}

/// Fails the call with an errno. Kernels that cannot say which let it go on: as packets it is refused, or dropped.
#[inline(always)]
fn fail(errno: i32) -> i32 {
    // SAFETY: read-only data, which the agent fixes before the program is loaded.
    if unsafe { core::ptr::read_volatile(&raw const SET_RETVAL) } == 0 {
        return GO_ON;
    }
    // SAFETY: a helper without pointers.
    unsafe { bpf_set_retval(-errno) };
    FAIL
}
