//! What the verifier looks at and what the JIT compiler makes of each kernel program, held against a recorded budget.
//!
//! Both numbers are the kernel's that loads the programs, so there is a budget for each kernel by `major.minor` and
//! machine. The programs are those of the object: one that is added has to be recorded.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use aya::EbpfLoader;
use aya::programs::{Program, ProgramInfo};
use serde::{Deserialize, Serialize};

use super::debts::Finding;
use crate::command::{is_root, workspace_root};

/// By how many percent a program may exceed its budget. The verifier's count moves with the compiler's register choice.
const TOLERANCE: u32 = 10;

/// What one program costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cost {
    /// Instructions that the verifier looked at, over all paths.
    verified: u32,
    /// Bytes of machine code.
    jited: u32,
}

/// Costs by program.
type Programs = BTreeMap<String, Cost>;

/// The recorded budget, by kernel.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Budget(BTreeMap<String, Programs>);

fn path() -> PathBuf {
    workspace_root().join("xtask/budget.toml")
}

impl Budget {
    fn recorded() -> Result<Self> {
        let text = fs::read_to_string(path()).with_context(|| format!("reading {}", path().display()))?;
        toml::from_str(&text).with_context(|| format!("reading {}", path().display()))
    }

    fn write(&self) -> Result<()> {
        let head = "# What each kernel program costs, by the kernel that loaded it: instructions that the verifier looked at,\n\
                    # and bytes of machine code. `cargo xtask lint` fails when one grows by more than a tenth;\n\
                    # `cargo xtask tidy --budget --bless` records anew what the kernel at hand says.\n";
        let mut text = head.to_owned();
        for (kernel, programs) in &self.0 {
            write!(text, "\n[\"{kernel}\"]\n")?;
            for (name, Cost { verified, jited }) in programs {
                writeln!(text, "{name} = {{ verified = {verified}, jited = {jited} }}")?;
            }
        }
        fs::write(path(), text).with_context(|| format!("writing {}", path().display()))
    }
}

/// Checks the programs against the budget, or with `bless` records them. With `print`, shows every program.
pub(super) fn check(object: &[u8], bless: bool, print: bool) -> Result<Vec<Finding>> {
    if !is_root() {
        println!("budget of the kernel programs: not checked, since loading them needs root");
        return Ok(Vec::new());
    }
    let (kernel, refuses_sockets) = this_kernel()?;
    let now = costs(object, refuses_sockets)?;
    let mut budget = Budget::recorded()?;
    let recorded = budget.0.get(&kernel).cloned();
    if print {
        for (name, cost) in &now {
            println!("{}", shown(name, *cost, recorded.as_ref().and_then(|programs| programs.get(name))));
        }
    }
    if bless {
        budget.0.insert(kernel, now);
        budget.write()?;
        return Ok(Vec::new());
    }
    let Some(recorded) = recorded else {
        println!("budget of the kernel programs: not checked, since none is recorded for {kernel}");
        return Ok(Vec::new());
    };
    let judged = judge(&recorded, &now);
    for name in &judged.lower {
        println!("budget of {name}: `cargo xtask tidy --budget --bless` lowers it");
    }
    Ok(judged.findings)
}

fn shown(name: &str, cost: Cost, recorded: Option<&Cost>) -> String {
    let column = |now: u32, recorded: Option<u32>| {
        format!("{now:>7} of {:>7}", recorded.map_or_else(|| "-".to_owned(), |number| number.to_string()))
    };
    let verified = column(cost.verified, recorded.map(|cost| cost.verified));
    let jited = column(cost.jited, recorded.map(|cost| cost.jited));
    format!("{name:<20} verified {verified}  jited {jited}")
}

/// The kernel's `major.minor` and machine, and whether it has `bpf_set_retval` (5.18).
fn this_kernel() -> Result<(String, bool)> {
    let names = nix::sys::utsname::uname().context("asking for the kernel's version")?;
    let release = names.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or_default());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    Ok((format!("{}.{} {}", version.0, version.1, names.machine().to_string_lossy()), version >= (5, 18)))
}

/// Loads every program of the object and asks the kernel about it.
fn costs(object: &[u8], refuses_sockets: bool) -> Result<Programs> {
    let refuses_sockets = u8::from(refuses_sockets);
    let mut loader = EbpfLoader::new();
    // As the agent sets it: the verifier does not look at code that a constant rules out.
    loader.override_global("SET_RETVAL", &refuses_sockets, false);
    let mut programs = loader.load(object).context("loading the kernel programs' object")?;
    let mut costs = Programs::new();
    for (name, program) in programs.programs_mut() {
        let info = load(program).with_context(|| format!("loading program {name}"))?;
        let verified = info.verified_instruction_count().context("the kernel does not count verified instructions")?;
        costs.insert(name.to_owned(), Cost { verified, jited: info.size_jitted() });
    }
    Ok(costs)
}

fn load(program: &mut Program) -> Result<ProgramInfo> {
    match program {
        Program::Xdp(program) => program.load()?,
        Program::SchedClassifier(program) => program.load()?,
        Program::CgroupSockAddr(program) => program.load()?,
        Program::CgroupSock(program) => program.load()?,
        Program::SockOps(program) => program.load()?,
        other => bail!("programs of type {:?} have no budget yet", other.prog_type()),
    }
    Ok(program.info()?)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Judged {
    findings: Vec<Finding>,
    lower: Vec<String>,
}

fn judge(recorded: &Programs, now: &Programs) -> Judged {
    let mut judged = Judged::default();
    for (name, cost) in now {
        let Some(budget) = recorded.get(name) else {
            let text = format!("{name} is not in xtask/budget.toml: `cargo xtask tidy --budget --bless` records it");
            judged.findings.push(Finding::new("budget", name, text));
            continue;
        };
        let pairs = [("verified instructions", cost.verified, budget.verified), ("bytes", cost.jited, budget.jited)];
        for (what, now, budget) in pairs {
            if u64::from(now) * 100 > u64::from(budget) * u64::from(100 + TOLERANCE) {
                let text = format!("{name}: {now} {what}, more than {TOLERANCE} % above {budget}");
                judged.findings.push(Finding::new("budget", name, text));
            }
        }
        if pairs.iter().any(|(_, now, budget)| u64::from(*now) * 100 < u64::from(*budget) * u64::from(100 - TOLERANCE))
        {
            judged.lower.push(name.clone());
        }
    }
    judged.lower.extend(recorded.keys().filter(|name| !now.contains_key(*name)).cloned());
    judged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(costs: &[(&str, u32, u32)]) -> Programs {
        costs
            .iter()
            .map(|(name, verified, jited)| ((*name).to_owned(), Cost { verified: *verified, jited: *jited }))
            .collect()
    }

    #[test]
    fn a_program_may_grow_by_a_tenth_and_no_more() {
        let recorded = programs(&[("a", 1000, 1000), ("b", 1000, 1000)]);
        let judged = judge(&recorded, &programs(&[("a", 1100, 1100), ("b", 1101, 900)]));
        let texts: Vec<_> = judged.findings.iter().map(|finding| finding.text.as_str()).collect();
        assert_eq!(texts, ["b: 1101 verified instructions, more than 10 % above 1000"]);
        assert!(judged.lower.is_empty());
    }

    #[test]
    fn a_new_program_has_to_be_recorded_and_a_gone_one_can_be_taken_out() {
        let judged =
            judge(&programs(&[("gone", 1, 1), ("small", 100, 100)]), &programs(&[("new", 1, 1), ("small", 89, 100)]));
        assert_eq!(judged.findings.len(), 1);
        assert_eq!(judged.lower, ["small", "gone"]);
    }
}
