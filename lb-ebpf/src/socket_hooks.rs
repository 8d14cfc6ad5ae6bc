//! Entry points at a cgroup: the socket calls of the processes in it.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr};
use aya_ebpf::programs::{SockAddrContext, SockContext};
use lb_common::abi::{Be16, V4, V6, proto};
use lb_common::datapath::{socket_closed, socket_released};

use crate::route::AF_INET6;
use crate::socket::{Call, halves, process, v4, v6};

macro_rules! hooks {
    ($($(#[$doc:meta])* $name:ident: $family:ident, $call:ident;)*) => {
        $(
            $(#[$doc])*
            #[cgroup_sock_addr($name)]
            pub fn $name(ctx: SockAddrContext) -> i32 {
                $family(&ctx, Call::$call)
            }
        )*
    };
}

hooks! {
    /// `connect` of an IPv4 socket.
    connect4: v4, Connect;
    /// `connect` of an IPv6 socket.
    connect6: v6, Connect;
    /// A datagram with an address, from an IPv4 socket.
    sendmsg4: v4, Send;
    /// A datagram with an address, from an IPv6 socket.
    sendmsg6: v6, Send;
    /// Where a datagram came from, as an IPv4 socket is told.
    recvmsg4: v4, ReportPeer;
    /// Where a datagram came from, as an IPv6 socket is told.
    recvmsg6: v6, ReportPeer;
    /// The peer, as an IPv4 socket is told.
    getpeername4: v4, ReportPeer;
    /// The peer, as an IPv6 socket is told.
    getpeername6: v6, ReportPeer;
    /// `bind` of an IPv4 socket.
    bind4: v4, Bind;
    /// `bind` of an IPv6 socket.
    bind6: v6, Bind;
}

/// A socket is closed.
#[cgroup_sock(sock_release)]
pub fn sock_release(ctx: SockContext) -> i32 {
    let sock: *mut bpf_sock = ctx.sock;
    // SAFETY: the kernel's context, valid for the whole program.
    let port = Be16(unsafe { (*sock).dst_port });
    // SAFETY: as above.
    let proto = unsafe { (*sock).protocol } as u8;
    // SAFETY: as above.
    let v4 = unsafe { (*sock).dst_ip4 };
    // SAFETY: as above.
    let family = unsafe { (*sock).family };
    if port.0 == 0 && proto != proto::UDP {
        return 1;
    }
    let env = process(ctx.as_ptr());
    // SAFETY: the context is the program's own.
    let cookie = halves(unsafe { bpf_get_socket_cookie(ctx.as_ptr()) });
    if proto == proto::UDP {
        socket_released::<V4, _>(&env, cookie, proto);
        if family == u32::from(AF_INET6) {
            socket_released::<V6, _>(&env, cookie, proto);
        }
    }
    if port.0 == 0 {
        return 1;
    }
    if v4 != 0 {
        socket_closed(&env, cookie, proto, V4(v4), port);
        return 1;
    }
    // SAFETY: a field of the kernel's context.
    let words = unsafe { &raw const (*sock).dst_ip6 };
    let word = |at: usize| {
        // SAFETY: inside the field for each of the four words, each read on its own.
        unsafe { words.cast::<u32>().wrapping_add(at).read_volatile() }
    };
    socket_closed(&env, cookie, proto, V6([word(0), word(1), word(2), word(3)]), port);
    1
}
