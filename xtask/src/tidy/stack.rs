//! The stack of the kernel programs, as the verifier of the oldest kernel counts it: 512 bytes and eight frames for each
//! chain of calls, each frame rounded up to 32 bytes (`check_max_stack_depth`; to 16 from Linux 6.8 on). A kernel at hand
//! that counts less does not notice a program that the others refuse.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use object::read::elf::ElfFile64;
use object::{Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};

use super::debts::Finding;

/// Bytes of a chain of calls.
const STACK: usize = 512;
/// What a frame is rounded up to.
const GRAIN: usize = 32;
/// Frames of a chain of calls.
const FRAMES: usize = 8;
/// Bytes of an instruction.
const INSTRUCTION: u8 = 8;
/// The register that points at the end of the frame.
const FRAME_POINTER: u8 = 10;

/// Where a function begins: section and offset.
type Place = (usize, u64);

/// A function of the object.
#[derive(Debug, Default)]
struct Function {
    name: String,
    /// Whether it is a program: these lie in sections of their own.
    program: bool,
    /// Bytes of its frame.
    frame: usize,
    calls: BTreeSet<Place>,
}

/// A chain of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Chain {
    bytes: usize,
    frames: Vec<String>,
}

/// Judges each program of the agent's object.
pub(super) fn check(object: &[u8]) -> Result<Vec<Finding>> {
    judge(&functions(object).context("reading the functions of the kernel programs' object")?)
}

fn judge(functions: &BTreeMap<Place, Function>) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (place, program) in functions.iter().filter(|(_, function)| function.program) {
        let (mut widest, mut deepest) = (Chain::default(), Chain::default());
        follow(functions, *place, &Chain::default(), &mut |chain| {
            if chain.bytes > widest.bytes {
                widest = chain.clone();
            }
            if chain.frames.len() > deepest.frames.len() {
                deepest = chain.clone();
            }
        })?;
        let mut tell = |what: String, chain: &Chain| {
            let text = format!("{}: {what}: {}", program.name, chain.frames.join(" > "));
            findings.push(Finding::new("stack", &program.name, text));
        };
        if widest.bytes > STACK {
            tell(format!("{} bytes of stack, more than {STACK}", widest.bytes), &widest);
        }
        if deepest.frames.len() > FRAMES {
            tell(format!("{} frames, more than {FRAMES}", deepest.frames.len()), &deepest);
        }
    }
    Ok(findings)
}

/// Goes through all chains that begin with this function behind `callers`.
fn follow(
    functions: &BTreeMap<Place, Function>,
    place: Place,
    callers: &Chain,
    see: &mut impl FnMut(&Chain),
) -> Result<()> {
    let function = functions.get(&place).context("a call that leads to no function")?;
    ensure!(callers.frames.len() < 4 * FRAMES, "{} calls itself", function.name);
    let mut chain = callers.clone();
    chain.bytes += function.frame.max(1).next_multiple_of(GRAIN);
    chain.frames.push(format!("{} ({})", function.name, function.frame));
    see(&chain);
    function.calls.iter().try_for_each(|callee| follow(functions, *callee, &chain, see))
}

fn functions(object: &[u8]) -> Result<BTreeMap<Place, Function>> {
    let object = ElfFile64::<Endianness>::parse(object)?;
    let mut functions = BTreeMap::new();
    for symbol in object.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let index = symbol.section_index().context("a function without a section")?;
        let section = object.section_by_index(index)?;
        let code = section.data_range(symbol.address(), symbol.size())?.context("a function without code")?;
        let relocated: BTreeMap<u64, Place> = section
            .relocations()
            .filter_map(|(offset, relocation)| {
                let RelocationTarget::Symbol(target) = relocation.target() else { return None };
                let target = object.symbol_by_index(target).ok()?;
                Some((offset, (target.section_index()?.0, target.address())))
            })
            .collect();
        let mut function =
            Function { name: short(symbol.name()?), program: section.name()? != ".text", ..Function::default() };
        function.read(code, index.0, symbol.address(), &relocated);
        functions.insert((index.0, symbol.address()), function);
    }
    Ok(functions)
}

/// A mangled name's last words.
fn short(name: &str) -> String {
    let demangled = format!("{:#}", rustc_demangle::demangle(name));
    demangled.replace("lb_common::", "").replace("datapath::", "").replace("sluice_bpf::", "")
}

impl Function {
    /// Reads instructions: how far below the frame pointer they go, and what they call.
    fn read(&mut self, code: &[u8], section: usize, start: u64, relocated: &BTreeMap<u64, Place>) {
        let mut copy = None;
        for (at, instruction) in (start..).step_by(INSTRUCTION.into()).zip(code.chunks_exact(INSTRUCTION.into())) {
            let &[opcode, registers, o0, o1, i0, i1, i2, i3] = instruction else { continue };
            let (dst, src) = (registers & 0xf, registers >> 4);
            let (offset, immediate) = (i16::from_le_bytes([o0, o1]), i32::from_le_bytes([i0, i1, i2, i3]));
            match opcode {
                // A call of a function of the program.
                0x85 if src == 1 => {
                    let ahead = (i64::from(immediate) + 1) * i64::from(INSTRUCTION);
                    let (section, base) = relocated.get(&at).copied().unwrap_or((section, at));
                    self.calls.insert((section, base.wrapping_add_signed(ahead)));
                }
                // The frame pointer is copied, and moved down.
                0xbf if src == FRAME_POINTER => copy = Some(dst),
                0x07 if copy == Some(dst) => {
                    self.reach(immediate.unsigned_abs() as usize, immediate < 0);
                    copy = None;
                }
                _ => {}
            }
            let (loads, stores) = (opcode & 7 == 1, matches!(opcode & 7, 2 | 3));
            if (loads && src == FRAME_POINTER) || (stores && dst == FRAME_POINTER) {
                self.reach(usize::from(offset.unsigned_abs()), offset < 0);
            }
        }
    }

    fn reach(&mut self, bytes: usize, below: bool) {
        if below && bytes <= STACK {
            self.frame = self.frame.max(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(frames: &[(usize, &[u64])]) -> BTreeMap<Place, Function> {
        let function = |(index, (frame, calls)): (usize, &(usize, &[u64]))| {
            let calls = calls.iter().map(|callee| (0, *callee)).collect();
            let function = Function { name: format!("f{index}"), program: index == 0, frame: *frame, calls };
            ((0, index as u64), function)
        };
        frames.iter().enumerate().map(function).collect()
    }

    #[test]
    fn each_frame_of_a_chain_is_rounded_up() {
        assert_eq!(judge(&object(&[(224, &[1, 2]), (288, &[]), (288, &[])])).unwrap(), []);
        let findings = judge(&object(&[(225, &[1]), (1, &[2]), (225, &[])])).unwrap();
        let texts: Vec<_> = findings.iter().map(|finding| finding.text.as_str()).collect();
        assert_eq!(texts, ["f0: 544 bytes of stack, more than 512: f0 (225) > f1 (1) > f2 (225)"]);
    }

    #[test]
    fn eight_frames_are_the_most_and_nothing_calls_itself() {
        let chain: Vec<_> = (1..=8_u64).map(|next| [next]).collect();
        let mut frames: Vec<(usize, &[u64])> = chain.iter().map(|next| (8, next.as_slice())).collect();
        frames.push((8, &[]));
        assert_eq!(judge(&object(&frames)).unwrap().len(), 1);
        judge(&object(&[(8, &[0])])).unwrap_err();
    }

    #[test]
    fn frames_and_calls_are_read_from_the_instructions() {
        let code: [[u8; 8]; 4] = [
            // *(u64 *)(r10 - 24) = r1
            [0x7b, 0x1a, 0xe8, 0xff, 0, 0, 0, 0],
            // r2 = r10; r2 += -72
            [0xbf, 0xa2, 0, 0, 0, 0, 0, 0],
            [0x07, 0x02, 0, 0, 0xb8, 0xff, 0xff, 0xff],
            // call +2
            [0x85, 0x10, 0, 0, 2, 0, 0, 0],
        ];
        let mut function = Function::default();
        function.read(code.as_flattened(), 3, 16, &BTreeMap::new());
        assert_eq!(function.frame, 72);
        assert_eq!(function.calls, BTreeSet::from([(3, 16 + 24 + 8 + 16)]));
        let mut function = Function::default();
        function.read(code.as_flattened(), 3, 16, &BTreeMap::from([(40, (7, 800))]));
        assert_eq!(function.calls, BTreeSet::from([(7, 800 + 24)]));
    }
}
