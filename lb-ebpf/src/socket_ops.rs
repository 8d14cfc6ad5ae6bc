//! Entry point at a cgroup: what its processes' TCP sockets live through while they connect. Only those that a hook has sent
//! to a backend count.

use aya_ebpf::bindings::{
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_RTO_CB, BPF_SOCK_OPS_RTO_CB_FLAG, BPF_SOCK_OPS_STATE_CB,
    BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE, BPF_TCP_ESTABLISHED, BPF_TCP_SYN_SENT,
    bpf_sock_ops,
};
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_sock_ops_cb_flags_set};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use lb_common::abi::{Be16, V4, V6, proto};
use lb_common::datapath::{socket_answered, socket_closed, socket_failed, socket_is_led, socket_unanswered};

use crate::maps::FamilyMaps;
use crate::route::{AF_INET6, RouteLookup};
use crate::socket::{halves, mapped, process};

/// Other programs at the cgroup go on as they would, and so does the socket.
const GO_ON: u32 = 1;

/// A TCP socket connects, has to send its SYN again, is connected, or has come to its end.
#[sock_ops]
pub fn socket_ops(ctx: SockOpsContext) -> u32 {
    let ops = ctx.ops;
    let op = ctx.op();
    match op {
        BPF_SOCK_OPS_TCP_CONNECT_CB => {}
        // Both are for those alone that were found when they began to connect.
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB if ctx.cb_flags() & BPF_SOCK_OPS_RTO_CB_FLAG != 0 => {}
        // SAFETY: the kernel's context, valid for the whole program.
        BPF_SOCK_OPS_RTO_CB if unsafe { (*ops).state } == BPF_TCP_SYN_SENT => {}
        // For those alone whose end counts. The second word is the new state.
        BPF_SOCK_OPS_STATE_CB if ctx.arg(1) == BPF_TCP_CLOSE => {}
        _ => return GO_ON,
    }
    // SAFETY: the kernel's context.
    let family = unsafe { (*ops).family };
    if family != u32::from(AF_INET6) {
        happened(ops, op, V4(ctx.remote_ip4()));
        return GO_ON;
    }
    // SAFETY: a field of the kernel's context.
    let words = unsafe { &raw const (*ops).remote_ip6 };
    let word = |at: usize| {
        // SAFETY: inside the field for each of the four words, each read on its own.
        unsafe { words.cast::<u32>().wrapping_add(at).read_volatile() }
    };
    let addr = [word(0), word(1), word(2), word(3)];
    match mapped(addr) {
        Some(addr) => happened(ops, op, addr),
        None => happened(ops, op, V6(addr)),
    }
    GO_ON
}

/// Whether a socket that is closed is so because its connection has failed: from connecting, or from a connection
/// that has brought nothing yet, to closed at once, by the other side. The kernel throws away what is still to be sent
/// before it closes a socket that was reset, refused or given up, and after it closes one that its process has closed. So
/// "something was not acknowledged, and nothing is on its way" is said of the former alone.
#[inline(always)]
fn has_failed(ctx: &SockOpsContext) -> bool {
    // The callback's first word: the state before.
    let before = ctx.arg(0);
    if before != BPF_TCP_SYN_SENT && before != BPF_TCP_ESTABLISHED {
        return false;
    }
    // SAFETY: the kernel's context.
    let on_its_way = unsafe { (*ctx.ops).packets_out };
    // SAFETY: as above.
    let acknowledged = unsafe { (*ctx.ops).snd_una };
    // SAFETY: as above.
    let sent = unsafe { (*ctx.ops).snd_nxt };
    // SAFETY: as above.
    let received = unsafe { (*ctx.ops).bytes_received };
    on_its_way == 0 && acknowledged != sent && received == 0
}

#[inline(always)]
fn happened<A: FamilyMaps + RouteLookup>(ops: *mut bpf_sock_ops, op: u32, addr: A) {
    let env = process(ops.cast());
    // The port is in the higher half of the number that it would be in network byte order.
    // SAFETY: the kernel's context.
    let port = Be16((u32::from_be(unsafe { (*ops).remote_port }) as u16).to_be());
    // SAFETY: the context is the program's own.
    let cookie = halves(unsafe { bpf_get_socket_cookie(ops.cast()) });
    match op {
        BPF_SOCK_OPS_TCP_CONNECT_CB => {
            if let Some(to_the_end) = socket_is_led(&env, cookie, addr, port) {
                let wanted = BPF_SOCK_OPS_RTO_CB_FLAG | if to_the_end { BPF_SOCK_OPS_STATE_CB_FLAG } else { 0 };
                // SAFETY: the kernel's context; what others have asked for stays.
                let asked = unsafe { (*ops).bpf_sock_ops_cb_flags } | wanted;
                // Refused, nobody hears of this socket.
                // SAFETY: the context is the program's own.
                let _refused = unsafe { bpf_sock_ops_cb_flags_set(ops, asked as i32) };
            }
        }
        BPF_SOCK_OPS_RTO_CB => socket_unanswered(&env, cookie, addr, port),
        BPF_SOCK_OPS_STATE_CB => {
            let ctx = SockOpsContext::new(ops);
            if has_failed(&ctx) {
                socket_failed(&env, cookie, addr, port, ctx.arg(0) == BPF_TCP_SYN_SENT);
            }
            // One that its peer has reset, or that has given up, may stay in its process's hands.
            socket_closed(&env, cookie, proto::TCP, addr, port);
        }
        _ => socket_answered(&env, cookie, addr, port),
    }
}
