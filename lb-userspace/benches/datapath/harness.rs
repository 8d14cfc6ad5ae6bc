//! Runs a program of the kernel many times on packets that are put back to new each time, and takes the time.

use std::time::Instant;

use anyhow::{Context, Result};
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{ProgramFd, SchedClassifier, TestRun, TestRunOptions, TestRunResult, Xdp};
use aya::{Ebpf, EbpfLoader};
use lb_common::abi::{V4, V6};

use crate::packets::{Template, Tuple, frame, template};
use crate::subject::{count_flows, fill_flows, load_tc, load_xdp, program_fd};
use crate::world::{FLOWS, World};

/// Kind of program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// XDP.
    Xdp,
    /// Traffic control.
    Tc,
}

impl Hook {
    /// As in names of programs and in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Tc => "tc",
        }
    }
}

/// The packets of a case, as the kernel side keeps them.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    base: u32,
    mask: u32,
    v6: bool,
    first: Vec<u8>,
}

/// What became of one packet.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The program's verdict.
    pub(crate) verdict: u32,
    /// The packet after it.
    pub(crate) packet: Vec<u8>,
}

/// The kernel side of the bench.
pub(crate) struct Harness {
    object: Ebpf,
    next_xdp: ProgramArray<MapData>,
    next_tc: ProgramArray<MapData>,
    state: Array<MapData, [u32; 4]>,
    templates: Array<MapData, Template>,
    used: u32,
    packets: u32,
}

const WRAPPERS: [[&str; 2]; 2] = [["restore_xdp4", "restore_xdp6"], ["restore_tc4", "restore_tc6"]];
const BASELINES: [[&str; 5]; 2] = [
    ["empty_xdp", "floor_xdp4", "floor_xdp6", "insert_xdp4", "insert_xdp6"],
    ["empty_tc", "floor_tc4", "floor_tc6", "insert_tc4", "insert_tc6"],
];

impl Harness {
    /// Loads the kernel side with room for the packets of so many cases; the floor's flows are those of `world`.
    pub(crate) fn load(object: &[u8], cases: u32, world: World) -> Result<Self> {
        let mut object = EbpfLoader::new()
            .map_max_entries("TEMPLATES", cases * FLOWS)
            .load(object)
            .context("loading the bench's kernel programs")?;
        for (hook, names) in BASELINES.iter().enumerate() {
            for name in names.iter().chain(&WRAPPERS[hook]) {
                if hook == 0 { load_xdp(&mut object, name)? } else { load_tc(&mut object, name)? }
            }
        }
        fill_flows::<V4>(&mut object, "FLOOR4", world)?;
        fill_flows::<V6>(&mut object, "FLOOR6", world)?;
        let mut take = |name: &str| object.take_map(name).with_context(|| format!("no map {name}"));
        let (xdp, tc, state, templates) = (take("NEXT_XDP")?, take("NEXT_TC")?, take("STATE")?, take("TEMPLATES")?);
        Ok(Self {
            next_xdp: xdp.try_into()?,
            next_tc: tc.try_into()?,
            state: state.try_into()?,
            templates: templates.try_into()?,
            object,
            used: 0,
            packets: 0,
        })
    }

    /// A program of the kernel side.
    pub(crate) fn program(&self, name: &str) -> Result<ProgramFd> {
        program_fd(&self.object, name)
    }

    /// Gives the kernel side the packets of a case, one a flow. The bits of `fresh` say how many packets get a source
    /// address and port that no packet before them had.
    pub(crate) fn traffic(&mut self, v6: bool, fresh: u32, packet: impl Fn(u32) -> Tuple) -> Result<Traffic> {
        let base = self.used;
        for number in 0..FLOWS {
            self.templates.set(base + number, template(&frame(&packet(number))), 0)?;
        }
        self.used += FLOWS;
        Ok(Traffic { base, mask: fresh, v6, first: frame(&packet(0)) })
    }

    /// Number of flows that the baseline which inserts them has in its table.
    pub(crate) fn inserted(&self, v6: bool) -> Result<usize> {
        if v6 { count_flows::<V6>(&self.object, "INSERT6") } else { count_flows::<V4>(&self.object, "INSERT4") }
    }

    /// Sends the first packet, once.
    pub(crate) fn once(&mut self, hook: Hook, program: &ProgramFd, traffic: &Traffic) -> Result<Outcome> {
        self.packets = self.packets.next_multiple_of(FLOWS);
        self.prepare(hook, program, traffic)?;
        let mut packet = vec![0; 256];
        let result = self.run(hook, traffic, 1, Some(&mut packet))?;
        packet.truncate(usize::try_from(result.data_size_out)?);
        // An XDP program's metadata comes first.
        packet.drain(..packet.len().saturating_sub(traffic.first.len()));
        Ok(Outcome { verdict: result.return_value, packet })
    }

    /// Nanoseconds per packet, harness included, over `packets` packets after `warm` that do not count.
    pub(crate) fn measure(
        &mut self,
        hook: Hook,
        program: &ProgramFd,
        traffic: &Traffic,
        warm: u32,
        packets: u32,
    ) -> Result<f64> {
        self.prepare(hook, program, traffic)?;
        if warm > 0 {
            self.run(hook, traffic, warm, None)?;
        }
        let begin = Instant::now();
        let kernel = self.run(hook, traffic, packets, None)?.duration;
        let ours = begin.elapsed().as_secs_f64() * 1e9 / f64::from(packets);
        // The kernel leaves out what other programs took of the CPU, but gives whole nanoseconds, rounded down. The
        // fraction is ours as long as both agree.
        let whole = kernel.as_secs_f64() * 1e9;
        Ok(ours.clamp(whole, whole + 1.0))
    }

    fn prepare(&mut self, hook: Hook, program: &ProgramFd, traffic: &Traffic) -> Result<()> {
        let next = if hook == Hook::Xdp { &mut self.next_xdp } else { &mut self.next_tc };
        next.set(0, program, 0)?;
        // The counter goes on, so that a fresh flow is never one of an earlier round.
        self.state.set(0, [self.packets, traffic.base, traffic.mask, 0], 0)?;
        Ok(())
    }

    fn run(&mut self, hook: Hook, traffic: &Traffic, packets: u32, out: Option<&mut [u8]>) -> Result<TestRunResult> {
        self.packets = self.packets.wrapping_add(packets);
        let mut options = TestRunOptions::new();
        options.data_in = Some(&traffic.first);
        options.data_out = out;
        options.repeat = packets;
        let name = WRAPPERS[usize::from(hook == Hook::Tc)][usize::from(traffic.v6)];
        let program = self.object.program(name).with_context(|| format!("no program {name}"))?;
        let result = match hook {
            Hook::Xdp => <&Xdp>::try_from(program)?.test_run(options),
            Hook::Tc => <&SchedClassifier>::try_from(program)?.test_run(options),
        };
        result.with_context(|| format!("running {name}"))
    }
}
