//! The loaded object and its test runs.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use aya::maps::{HashMap, MapData, PerCpuArray};
use aya::programs::{ProgramError, SchedClassifier, TestRun, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use lb_common::abi::{Counter, DeviceValue, V4, V6, device_flag, map_name};
use lb_common::testkit::{Action, Family, GATEWAY_MAC, HOST_MAC, Hook, Outcome, POD, UPLINK, UPLINK2};

use sluice::load::stages::{enter, second_stages};

use crate::namespace::{DEVICES, Namespace};
use crate::node::KernelNode;

/// Offsets in `__sk_buff`, and its size up to the last field that a test run takes (linux/bpf.h).
const SKB_IFINDEX: usize = 40;
const SKB_SIZE: usize = 192;
/// `xdp_md`: data, end, meta, ingress device, receive queue, egress device.
const XDP_SIZE: usize = 24;
/// Room for what a program makes of a packet.
const ROOM: usize = 16_384;

const TC_ACT_UNSPEC: u32 = u32::MAX;
const TC_ACT_SHOT: u32 = 2;
const TC_ACT_REDIRECT: u32 = 7;
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

pub(crate) const CLASSIFIERS: [&str; 14] = [
    "pod_ingress",
    "pod_egress",
    "uplink_ingress",
    "uplink_egress",
    "tunnel_ingress",
    "tunnel_egress",
    "ingress_rest4",
    "ingress_rest6",
    "egress_rest4",
    "egress_rest6",
    "tunnel_in_rest4",
    "tunnel_in_rest6",
    "tunnel_out_rest4",
    "tunnel_out_rest6",
];

/// Whether XDP is in front of the uplink's TC program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// TC alone.
    Tc,
    /// XDP that may send.
    Xdp,
    /// XDP that may not send by any device, as on veth: TC does all that leaves.
    XdpNoSend,
}

/// The programs, loaded without pins, and a namespace to run them in.
pub(crate) struct Rig {
    pub(crate) object: Ebpf,
    pub(crate) namespace: Namespace,
    pub(crate) xdp_program: &'static str,
    /// Blocks of filters that are not empty.
    pub(crate) claimed: Vec<(String, u32)>,
}

/// What XDP made of a packet.
pub(crate) enum FromXdp {
    /// Passed up as translated.
    Marked(Vec<u8>),
    /// Passed up for TC.
    Unmarked(Vec<u8>),
    Done(Outcome),
}

pub(crate) fn read_object() -> Vec<u8> {
    let path = std::env::var_os("SLUICE_BPF_OBJECT")
        .or_else(|| option_env!("SLUICE_BPF_OBJECT").map(Into::into))
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/sluice-bpf.o"), PathBuf::from);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; run `cargo xtask build` first", path.display()))
}

impl Rig {
    /// Loads everything into a namespace of its own, in which the calling thread is afterwards.
    pub(crate) fn new() -> Self {
        let bytes = read_object();
        let namespace = Namespace::new();
        let mut loader = EbpfLoader::new();
        for table in [map_name::FLOWS, map_name::HALF_OPEN, map_name::AFFINITY, map_name::FRAGMENTS].as_flattened() {
            loader.map_max_entries(table, 8_192);
        }
        for table in [map_name::FRONTENDS, map_name::SLOTS, map_name::BACKENDS].as_flattened() {
            loader.map_max_entries(table, 1_024);
        }
        let mut object = loader.load(&bytes).unwrap();
        for name in CLASSIFIERS {
            let program: &mut SchedClassifier = object.program_mut(name).unwrap().try_into().unwrap();
            patiently(|| program.load()).unwrap();
        }
        let xdp_program = loaded_xdp(&mut object);
        for first in CLASSIFIERS.into_iter().chain([xdp_program]) {
            for stage in second_stages(first) {
                enter(&mut object, *stage).unwrap();
            }
        }
        let xdp: &mut Xdp = object.program_mut(xdp_program).unwrap().try_into().unwrap();
        for (ifindex, name) in DEVICES {
            // A veth has receive queues for XDP only while a program is attached.
            if ifindex != POD {
                xdp.attach(name, XdpMode::Driver).unwrap();
            }
        }
        Self { object, namespace, xdp_program, claimed: Vec::new() }
    }

    /// What is known of the devices. `local`: those behind which Pods of this node are, where that counts.
    pub(crate) fn write_devices(&mut self, mode: Mode, local: &[u32]) {
        let mut devices: HashMap<&mut MapData, u32, DeviceValue> =
            self.object.map_mut(map_name::DEVICES).unwrap().try_into().unwrap();
        let target = if mode == Mode::XdpNoSend { 0 } else { device_flag::XDP_TARGET };
        let uplink = DeviceValue { flags: device_flag::UPLINK | target, mac: HOST_MAC, ..DeviceValue::default() };
        let known = [
            (POD, DeviceValue { flags: device_flag::POD, ..DeviceValue::default() }),
            (UPLINK, DeviceValue { v4: V4::NODE, v6: V6::NODE, ..uplink }),
            (UPLINK2, DeviceValue { v4: V4::NODE2, v6: V6::NODE2, ..uplink }),
        ];
        for (ifindex, mut value) in known {
            if local.contains(&ifindex) {
                value.flags |= device_flag::LOCAL;
            }
            devices.insert(ifindex, value, 0).unwrap();
        }
    }

    /// Sum of a counter over all CPUs.
    pub(crate) fn counter(&mut self, counter: Counter) -> u64 {
        let counters: PerCpuArray<&mut MapData, u64> =
            self.object.map_mut(map_name::COUNTERS).unwrap().try_into().unwrap();
        counters.get(&counter.index(), 0).unwrap().iter().sum()
    }

    /// Runs a TC program on a packet.
    pub(crate) fn tc(&self, hook: Hook, ifindex: u32, packet: &[u8]) -> Outcome {
        let program: &SchedClassifier = self.object.program(hook.program()).unwrap().try_into().unwrap();
        let mut context = [0; SKB_SIZE];
        context[SKB_IFINDEX..SKB_IFINDEX + 4].copy_from_slice(&ifindex.to_ne_bytes());
        let mut out = vec![0; ROOM];
        let options = TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let result = program.test_run(options).unwrap();
        out.truncate(usize::try_from(result.data_size_out).unwrap());
        let action = match result.return_value {
            TC_ACT_UNSPEC => Action::Pass,
            TC_ACT_SHOT => return dropped(),
            TC_ACT_REDIRECT if out[..12] == packet[..12] || out[..6] == GATEWAY_MAC => Action::Route,
            TC_ACT_REDIRECT if out[..6] == packet[6..12] && out[6..12] == packet[..6] => Action::Back,
            verdict => panic!("{}: verdict {verdict}, Ethernet {:02x?}", hook.program(), &out[..14]),
        };
        Outcome { action, bytes: out }
    }

    /// Runs the XDP program on a packet.
    pub(crate) fn xdp(&self, ifindex: u32, packet: &[u8]) -> FromXdp {
        let program: &Xdp = self.object.program(self.xdp_program).unwrap().try_into().unwrap();
        let end = u32::try_from(packet.len()).unwrap();
        let context: Vec<u8> = [0, end, 0, ifindex, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
        let (mut out, mut after) = (vec![0; ROOM], [0; XDP_SIZE]);
        let options = TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ctx_out: Some(&mut after),
            ..TestRunOptions::default()
        };
        let result = program.test_run(options).unwrap();
        out.truncate(usize::try_from(result.data_size_out).unwrap());
        // What is returned begins with the metadata.
        let meta = usize::try_from(u32::from_ne_bytes(after[..4].try_into().unwrap())).unwrap();
        let out = out.split_off(meta);
        let action = match result.return_value {
            XDP_PASS if meta == 4 => return FromXdp::Marked(out),
            XDP_PASS if meta == 0 => return FromXdp::Unmarked(out),
            XDP_DROP => return FromXdp::Done(dropped()),
            XDP_TX if out[..6] == packet[6..12] && out[6..12] == packet[..6] => Action::Back,
            XDP_TX | XDP_REDIRECT if out[..6] == GATEWAY_MAC && out[6..12] != packet[6..12] => Action::Route,
            verdict => panic!("uplink_xdp: verdict {verdict}, Ethernet {:02x?}", &out[..14]),
        };
        FromXdp::Done(Outcome { action, bytes: out })
    }
}

/// Loads the XDP programs, or those for kernels before 5.18, which know no frames in fragments.
fn loaded_xdp(object: &mut Ebpf) -> &'static str {
    let first = match load_xdp(object, "uplink_xdp") {
        Err(ProgramError::LoadError { io_error, verifier_log })
            if io_error.kind() == ErrorKind::InvalidInput && verifier_log.to_string().trim().is_empty() =>
        {
            load_xdp(object, "uplink_xdp_linear").unwrap();
            "uplink_xdp_linear"
        }
        done => {
            done.unwrap();
            "uplink_xdp"
        }
    };
    for stage in second_stages(first) {
        load_xdp(object, stage.program).unwrap();
    }
    first
}

fn load_xdp(object: &mut Ebpf, name: &str) -> Result<(), ProgramError> {
    let xdp: &mut Xdp = object.program_mut(name).unwrap().try_into().unwrap();
    patiently(|| xdp.load())
}

/// The verifier gives up with EAGAIN when a signal or other work waits for the thread: that is no refusal.
fn patiently(mut attempt: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    for _ in 0..4 {
        match attempt() {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
    attempt()
}

fn dropped() -> Outcome {
    Outcome { action: Action::Drop, bytes: Vec::new() }
}

/// Runs `test` against the loaded programs of a mode: they are loaded once, and each vector begins with empty tables.
pub(crate) fn on_a_node(mode: Mode, test: impl FnOnce(&mut KernelNode<'_>)) {
    static RIGS: [OnceLock<Mutex<Rig>>; 3] = [const { OnceLock::new() }; 3];
    let rig = match mode {
        Mode::Tc => &RIGS[0],
        Mode::Xdp => &RIGS[1],
        Mode::XdpNoSend => &RIGS[2],
    };
    let rig = rig.get_or_init(|| Mutex::new(Rig::new()));
    // A failed vector leaves tables behind that the next one clears.
    let mut rig = rig.lock().unwrap_or_else(PoisonError::into_inner);
    rig.namespace.enter();
    test(&mut KernelNode { rig: &mut rig, mode, may_hand_over: false });
}
