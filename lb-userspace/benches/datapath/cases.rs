//! What is measured: each case is a program, packets, and what must become of the first of them.

use anyhow::{Result, ensure};
use aya::programs::ProgramFd;
use lb_common::abi::{V4, V6, proto};

use crate::harness::{Harness, Hook, Outcome, Traffic};
use crate::packets::{ACK, SYN, Tuple, frame, read};
use crate::subject::Subject;
use crate::world::{Net, TARGET_PORT, World};

/// Kind of packet, and with it what must become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing happens to the packet.
    Empty,
    /// A client's packet of an established flow.
    Request(u8),
    /// A Pod's packet of an established flow.
    Reply,
    /// The first packet of a flow.
    Opening,
    /// The same, but only to the Services of a small cluster, however large this one is.
    OpeningFew,
    /// The first packet to a Service without endpoints.
    Refused,
    /// A packet between others.
    Foreign,
    /// The first packet of a flow, for the baseline that inserts it.
    Inserted,
}

impl Kind {
    /// Whether each packet begins a flow.
    const fn is_fresh(self) -> bool {
        matches!(self, Self::Opening | Self::OpeningFew)
    }

    /// Which bits of the packets' number go into source address and port.
    const fn fresh_bits(self) -> u32 {
        match self {
            Self::Opening | Self::OpeningFew => u32::MAX,
            // A million flows, each again and again after it was pushed out.
            Self::Inserted => (1 << 20) - 1,
            _ => 0,
        }
    }
}

/// What is measured of each hook: name, program, kind of packet.
const XDP: [(&str, &str, Kind); 6] = [
    ("flow hit", "uplink_xdp", Kind::Request(proto::TCP)),
    ("flow hit, UDP", "uplink_xdp", Kind::Request(proto::UDP)),
    ("new flow", "uplink_xdp", Kind::Opening),
    ("new flow, to 10", "uplink_xdp", Kind::OpeningFew),
    ("reject", "uplink_xdp", Kind::Refused),
    ("not Sluice's", "uplink_xdp", Kind::Foreign),
];
const TC: [(&str, &str, Kind); 9] = [
    ("flow hit", "pod_ingress", Kind::Request(proto::TCP)),
    ("flow hit, UDP", "pod_ingress", Kind::Request(proto::UDP)),
    ("flow hit", "uplink_ingress", Kind::Request(proto::TCP)),
    ("reply hit", "pod_egress", Kind::Reply),
    ("new flow", "pod_ingress", Kind::Opening),
    ("new flow, to 10", "pod_ingress", Kind::OpeningFew),
    ("reject", "pod_ingress", Kind::Refused),
    ("not Sluice's", "pod_ingress", Kind::Foreign),
    ("not Sluice's", "pod_egress", Kind::Foreign),
];

/// Cases that need packets of their own, at most: an upper bound for the kernel side's table.
pub(crate) const MAX_CASES: u32 = 100;

/// A case, ready to be measured.
pub(crate) struct Case {
    /// What it is.
    pub(crate) name: String,
    /// Which program.
    pub(crate) program: &'static str,
    /// Kind of program.
    pub(crate) hook: Hook,
    /// IPv6.
    pub(crate) v6: bool,
    /// Number of Services; 0: it has nothing to do with them.
    pub(crate) services: u32,
    /// Kind of packet.
    pub(crate) kind: Kind,
    /// The subject whose new flows have to be forgotten afterwards.
    pub(crate) forget: Option<usize>,
    /// The program.
    pub(crate) fd: ProgramFd,
    /// The packets.
    pub(crate) traffic: Traffic,
}

/// Makes a family's cases. Of the last subject only new flows are measured: its table is full.
pub(crate) fn family<A: Net>(harness: &mut Harness, subjects: &mut [Subject; 3]) -> Result<Vec<Case>> {
    let mut all = Vec::new();
    for hook in [Hook::Xdp, Hook::Tc] {
        baselines::<A>(harness, subjects[0].world, hook, &mut all)?;
        for (at, subject) in subjects.iter_mut().enumerate() {
            let full = at == 2;
            let list: &[(&str, &'static str, Kind)] = if hook == Hook::Xdp { &XDP } else { &TC };
            for &(name, program, kind) in list.iter().filter(|(_, _, kind)| !full || *kind == Kind::Opening) {
                let case = Case {
                    name: if full { format!("{name}, table full") } else { name.into() },
                    program,
                    hook,
                    v6: A::IS_V6,
                    services: subject.world.services,
                    kind,
                    forget: (kind.is_fresh() && !full).then_some(at),
                    fd: subject.program(program)?,
                    traffic: traffic::<A>(harness, subject.world, kind)?,
                };
                check::<A>(harness, subject.world, &case)?;
                if full {
                    overfill(harness, subject, &case)?;
                }
                all.push(case);
            }
        }
    }
    Ok(all)
}

fn baselines<A: Net>(harness: &mut Harness, world: World, hook: Hook, all: &mut Vec<Case>) -> Result<()> {
    let (empty, floor, insert) = match (hook, A::IS_V6) {
        (Hook::Xdp, false) => ("empty_xdp", "floor_xdp4", "insert_xdp4"),
        (Hook::Xdp, true) => ("empty_xdp", "floor_xdp6", "insert_xdp6"),
        (Hook::Tc, false) => ("empty_tc", "floor_tc4", "insert_tc4"),
        (Hook::Tc, true) => ("empty_tc", "floor_tc6", "insert_tc6"),
    };
    let list = [
        ("empty", empty, Kind::Empty),
        ("floor", floor, Kind::Request(proto::TCP)),
        ("insert", insert, Kind::Inserted),
    ];
    for (name, program, kind) in list {
        let case = Case {
            name: name.into(),
            program,
            hook,
            v6: A::IS_V6,
            services: 0,
            kind,
            forget: None,
            fd: harness.program(program)?,
            traffic: traffic::<A>(harness, world, kind)?,
        };
        check::<A>(harness, world, &case)?;
        if kind == Kind::Inserted {
            fill_insert(harness, &case)?;
        }
        all.push(case);
    }
    Ok(())
}

/// Fills the table of the baseline that inserts, so that each further flow takes another's place.
fn fill_insert(harness: &mut Harness, case: &Case) -> Result<()> {
    harness.measure(case.hook, &case.fd, &case.traffic, 0, 1 << 20)?;
    let entries = harness.inserted(case.v6)?;
    ensure!(entries > 50_000, "{}: the table does not fill: {entries} entries", case.program);
    Ok(())
}

fn packet<A: Net>(world: World, kind: Kind, number: u32) -> Tuple {
    match kind {
        Kind::Empty => world.request::<A>(number, proto::TCP, ACK)[0].clone(),
        Kind::Request(protocol) => world.request::<A>(number, protocol, ACK)[0].clone(),
        Kind::Reply => world.reply::<A>(number, proto::TCP, ACK)[0].clone(),
        Kind::Opening | Kind::Inserted => world.opening::<A>(number, SYN),
        Kind::OpeningFew => world.opening::<A>(number % 10, SYN),
        Kind::Refused => world.refused::<A>(number, SYN),
        Kind::Foreign => World::foreign::<A>(number, ACK),
    }
}

fn traffic<A: Net>(harness: &mut Harness, world: World, kind: Kind) -> Result<Traffic> {
    harness.traffic(A::IS_V6, kind.fresh_bits(), |number| packet::<A>(world, kind, number))
}

/// Fills the table of flows without a reply to its end, so that each further one takes another's place.
fn overfill(harness: &mut Harness, subject: &Subject, case: &Case) -> Result<()> {
    let before = subject.half_open(case.v6)?;
    harness.measure(case.hook, &case.fd, &case.traffic, 0, 100_000)?;
    let after = subject.half_open(case.v6)?;
    ensure!(after > before || before > 32_768, "{}: the table does not fill: {after} entries", case.program);
    Ok(())
}

const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
/// `TC_ACT_UNSPEC`, -1.
const TC_UNSPEC: u32 = u32::MAX;
const TC_REDIRECT: u32 = 7;

/// A time is worth nothing unless the program did its work: the first packet's verdict and bytes are looked at.
fn check<A: Net>(harness: &mut Harness, world: World, case: &Case) -> Result<()> {
    let Outcome { verdict, packet: after } = harness.once(case.hook, &case.fd, &case.traffic)?;
    let what = format!("{} ({}, {} Services)", case.program, case.name, case.services);
    let wanted = match (case.hook, case.kind) {
        (Hook::Xdp, Kind::Refused) => XDP_TX,
        (Hook::Tc, Kind::Refused) => TC_REDIRECT,
        (Hook::Xdp, _) => XDP_PASS,
        (Hook::Tc, _) => TC_UNSPEC,
    };
    ensure!(verdict == wanted, "{what}: verdict {verdict} instead of {wanted}");
    let exactly = |tuple: &Tuple| {
        let wanted = frame(tuple);
        ensure!(after == wanted, "{what}: packet is\n{after:02x?} instead of\n{wanted:02x?}");
        Ok(())
    };
    match case.kind {
        Kind::Empty | Kind::Foreign => exactly(&packet::<A>(world, case.kind, 0)),
        Kind::Request(protocol) => exactly(&world.request::<A>(0, protocol, ACK)[1]),
        Kind::Reply => exactly(&world.reply::<A>(0, proto::TCP, ACK)[1]),
        Kind::Opening | Kind::OpeningFew => {
            let good = read(&after, case.v6)
                .is_some_and(|tuple| tuple.ports[1] == TARGET_PORT && world.is_pod::<A>(&tuple.addresses[1]));
            ensure!(good, "{what}: packet is not for a Pod: {after:02x?}");
            Ok(())
        }
        Kind::Inserted => {
            let sent = packet::<A>(world, case.kind, 0);
            let whole = read(&after, case.v6).is_some_and(|tuple| tuple.addresses[1] == sent.addresses[1]);
            ensure!(whole, "{what}: the packet was changed: {after:02x?}");
            Ok(())
        }
        Kind::Refused => {
            let sent = packet::<A>(world, case.kind, 0);
            let [source, destination] = sent.addresses;
            let answer = read(&after, case.v6);
            let good = answer.is_some_and(|tuple| {
                tuple.addresses == [destination, source] && tuple.flags == RST_ACK && tuple.ports[1] == sent.ports[0]
            });
            ensure!(good, "{what}: packet is no answer that refuses: {after:02x?}");
            Ok(())
        }
    }
}

/// Flags of the answer to a SYN that is refused.
const RST_ACK: u8 = 0x14;

/// All cases.
pub(crate) fn all(harness: &mut Harness, subjects: &mut [Subject; 3]) -> Result<Vec<Case>> {
    let mut cases = family::<V4>(harness, subjects)?;
    cases.extend(family::<V6>(harness, subjects)?);
    Ok(cases)
}
