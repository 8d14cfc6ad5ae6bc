//! Small frames as fast as they go: made by a live XDP test run, sent into the node's uplink, counted in the Pod.
//!
//! `restore_xdp4` writes the headers of the next of 1,024 flows into a frame and `send_xdp` redirects it into the other
//! end of the uplink's veth; in the Pod `sink_tc` counts and drops. All of it is on the bench's processor.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, MapData, PerCpuArray, ProgramArray};
use aya::programs::tc::SchedClassifierLinkId;
use aya::programs::{SchedClassifier, TcAttachType, TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use nix::net::if_::if_nametoindex;

use super::client::Sample;
use super::island::{ELSEWHERE, NODE_MAC};
use super::row::{Row, Stream};
use super::setup::Nodes;
use crate::bench::cpu::Cpu;
use crate::build;

/// Flows of a row, as many as the kernel side cycles over.
const FLOWS: u16 = 1_024;
/// The first source port of flows that get an answer before the frames come, and of those that never do.
const ANSWERED: u16 = 20_000;
const UNANSWERED: u16 = 30_000;
/// Frames that a test run hands over at once, as a driver does.
const BATCH: u32 = 64;
/// Frames of one test run: many, as its beginning and its end cost milliseconds that are no frame's.
const RUN: u32 = 32_768;
/// Ethernet frame without its check sequence.
const FRAME: usize = 60;
/// A datagram that takes longer is lost.
const LOST: Duration = Duration::from_secs(2);

/// One flow's headers as the kernel side keeps them: Ethernet alone in the first two words.
type Template = [u64; 10];

/// The kernel side, and the programs in the Pods that swallow what arrives. Detached on drop.
pub(super) struct Frames {
    object: Ebpf,
    state: Array<MapData, [u32; 4]>,
    send_to: Array<MapData, u32>,
    sunk: PerCpuArray<MapData, u64>,
    _next: ProgramArray<MapData>,
    _sinks: Vec<SchedClassifierLinkId>,
}

impl Frames {
    /// Loads the kernel side, lets the answered flows be answered, and closes the Pods behind them.
    pub(super) fn prepare(nodes: &Nodes, rows: &[Row], cpu: Cpu) -> Result<Self> {
        for row in rows.iter().filter(|row| row.stream == Stream::Answered) {
            answer(nodes, row, cpu).with_context(|| format!("row {}", row.id))?;
        }
        let count = u32::try_from(rows.len()).context("too many rows")?;
        let mut object = EbpfLoader::new()
            .map_max_entries("TEMPLATES", count * u32::from(FLOWS))
            .load_file(build::bench_object_path())
            .context("loading the bench's kernel programs")?;
        for name in ["restore_xdp4", "send_xdp"] {
            xdp(&mut object, name)?.load().with_context(|| format!("loading {name}"))?;
        }
        let sinks = attach_sinks(&mut object, nodes, rows)?;
        let mut take = |name: &str| object.take_map(name).with_context(|| format!("no map {name}"));
        let mut templates: Array<MapData, Template> = take("TEMPLATES")?.try_into()?;
        let (state, send_to, sunk) =
            (take("STATE")?.try_into()?, take("SEND_TO")?.try_into()?, take("SUNK")?.try_into()?);
        let mut next: ProgramArray<MapData> = take("NEXT_XDP")?.try_into()?;
        next.set(0, xdp(&mut object, "send_xdp")?.fd().context("send_xdp is not loaded")?, 0)?;
        for (number, row) in (0..).zip(rows) {
            for flow in 0..FLOWS {
                let at = number * u32::from(FLOWS) + u32::from(flow);
                templates.set(at, template(&frame(row, flow)), 0).context("map TEMPLATES")?;
            }
        }
        Ok(Self { object, state, send_to, sunk, _next: next, _sinks: sinks })
    }

    /// Sends a row's frames for a while. `number` is the row's place in what was prepared.
    pub(super) fn send(
        &mut self,
        nodes: &Nodes,
        rows: &[Row],
        number: usize,
        cpu: Cpu,
        slice: Duration,
    ) -> Result<Sample> {
        let row = rows.get(number).context("no such row")?;
        let node = nodes.get(&row.kind).with_context(|| format!("row {} has no node", row.id))?;
        let first = u32::try_from(number)? * u32::from(FLOWS);
        self.state.set(0, [0, first, 0, 0], 0).context("map STATE")?;
        let outside = &node.arm.island.outside;
        let device = outside.run(|| if_nametoindex("eth0").context("the client has no device"))?;
        self.send_to.set(0, device, 0).context("map SEND_TO")?;
        let packet = frame(row, 0);
        let restore = <&Xdp>::try_from(self.object.program("restore_xdp4").context("no program restore_xdp4")?)?;
        let sunk = || sunk(&self.sunk);
        let (sent, arrived, elapsed, charged) = outside
            .run(|| {
                cpu.bind()?;
                // Not counted: the first frames find cold caches.
                run(restore, &packet)?;
                let (before, charged) = (sunk()?, cpu.charged(&[])?);
                let (mut sent, mut elapsed) = (0u64, Duration::ZERO);
                while elapsed < slice {
                    elapsed += run(restore, &packet)?;
                    sent += u64::from(RUN);
                }
                Ok((sent, sunk()?.saturating_sub(before), elapsed, cpu.charged(&[])?.saturating_sub(charged)))
            })
            .with_context(|| format!("row {}", row.id))?;
        ensure!(arrived > 0, "row {}: no frame of {sent} arrived", row.id);
        #[allow(clippy::cast_precision_loss, reason = "far fewer frames than a float counts")]
        let (sent, arrived) = (sent as f64, arrived as f64);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of frames")]
        let failed = (sent - arrived).max(0.0) as u32;
        let (rate, cpu_us) = (arrived / elapsed.as_secs_f64(), charged.as_secs_f64() * 1e6 / arrived);
        Ok(Sample { rate, cpu_us, p50_us: None, p99_us: None, failed })
    }
}

/// Sends and returns the time that it took by the kernel's clock, without beginning and end.
fn run(program: &Xdp, packet: &[u8]) -> Result<Duration> {
    let mut options = TestRunOptions::new();
    options.data_in = Some(packet);
    options.repeat = RUN;
    options.attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
    let done = program.test_run(options).context("sending frames (needs Linux 5.18)")?;
    Ok(done.duration * RUN)
}

fn sunk(map: &PerCpuArray<MapData, u64>) -> Result<u64> {
    Ok(map.get(&0, 0).context("map SUNK")?.iter().sum())
}

fn xdp<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(object.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

/// The Pods take no more packets: those of the frames' rows.
fn attach_sinks(object: &mut Ebpf, nodes: &Nodes, rows: &[Row]) -> Result<Vec<SchedClassifierLinkId>> {
    let sink: &mut SchedClassifier = object.program_mut("sink_tc").context("no program sink_tc")?.try_into()?;
    sink.load().context("loading sink_tc")?;
    let mut closed = Vec::new();
    for (kind, node) in nodes.iter().filter(|(kind, _)| rows.iter().any(|row| row.kind == **kind)) {
        let link = node.arm.island.server.run(|| {
            sink.attach("eth0", TcAttachType::Ingress).with_context(|| format!("closing the Pod of {kind:?}"))
        })?;
        closed.push(link);
    }
    Ok(closed)
}

/// Asks and is answered twice on every flow of a row, so that both sides know it.
fn answer(nodes: &Nodes, row: &Row, cpu: Cpu) -> Result<()> {
    let node = nodes.get(&row.kind).context("no node")?;
    node.arm.island.outside.run(|| {
        cpu.bind()?;
        for flow in 0..FLOWS {
            let [source, destination] = tuple(row, flow);
            let socket = UdpSocket::bind(source).with_context(|| format!("cannot bind {source}"))?;
            socket.set_read_timeout(Some(LOST))?;
            socket.connect(destination)?;
            for _ in 0..2 {
                socket.send(&[0; 18])?;
                socket.recv(&mut [0; 64]).with_context(|| format!("no answer to {source} from {destination}"))?;
            }
        }
        Ok(())
    })
}

fn tuple(row: &Row, flow: u16) -> [SocketAddr; 2] {
    let to = row.target();
    let address = to.addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
    let first = if row.stream == Stream::Answered { ANSWERED } else { UNANSWERED };
    [SocketAddr::from((ELSEWHERE, first + flow)), SocketAddr::from((address, to.udp))]
}

/// A UDP datagram of the least length an Ethernet frame has.
fn frame(row: &Row, flow: u16) -> [u8; FRAME] {
    const IP: usize = 14;
    const UDP: usize = 34;
    let [source, destination] = tuple(row, flow);
    let mut frame = [0; FRAME];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = frame.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, &NODE_MAC);
    put(6, &[2, 0, 0, 0, 0, 2, 0x08, 0x00]);
    put(IP, &[0x45, 0, 0, 46, 0x12, 0x34, 0x40, 0, 64, 17]);
    for (at, address) in [(IP + 12, source), (IP + 16, destination)] {
        if let SocketAddr::V4(address) = address {
            put(at, &address.ip().octets());
        }
    }
    put(UDP, &source.port().to_be_bytes());
    put(UDP + 2, &destination.port().to_be_bytes());
    put(UDP + 4, &[0, 26]);
    put(UDP + 8, &[0x61; 18]);
    let header = checksum(&frame[IP..UDP], 0);
    frame[IP + 10..IP + 12].copy_from_slice(&header.to_be_bytes());
    // Protocol and length of the pseudo-header; its addresses are in front of the datagram.
    let datagram = checksum(&frame[IP + 12..], 17 + 26);
    frame[UDP + 6..UDP + 8].copy_from_slice(&datagram.to_be_bytes());
    frame
}

/// RFC 1071, over an even number of bytes.
fn checksum(bytes: &[u8], more: u32) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum = words.sum::<u32>() + more;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn template(frame: &[u8; FRAME]) -> Template {
    let mut bytes = [0u8; 80];
    bytes[..14].copy_from_slice(&frame[..14]);
    bytes[16..16 + FRAME - 14].copy_from_slice(&frame[14..]);
    let mut words = [0; 10];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        *word = u64::from_ne_bytes(eight);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::live::row;

    #[test]
    fn checksums_of_a_frame_are_right() {
        let row = row::ALL.into_iter().find(|row| row.stream == Stream::Unanswered).unwrap();
        let frame = frame(&row, 7);
        // Over bytes that hold their own checksum the sum is zero.
        assert_eq!(checksum(&frame[14..34], 0), 0);
        assert_eq!(checksum(&frame[26..], 17 + 26), 0);
        assert_eq!(u16::from_be_bytes([frame[34], frame[35]]), UNANSWERED + 7);
    }

    #[test]
    fn the_kernel_side_reads_what_the_frame_has() {
        let mut frame = [0; FRAME];
        for (at, byte) in (0..).zip(&mut frame) {
            *byte = at;
        }
        let words = template(&frame);
        assert_eq!(words[0].to_ne_bytes(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(words[2].to_ne_bytes(), [14, 15, 16, 17, 18, 19, 20, 21]);
    }
}
