//! `cargo xtask tidy`: keeps the structure of the code and of the documents, where neither the compiler nor clippy looks.
//!
//! What is wrong and known is in `xtask/tidy/debts.toml`, whose numbers may only fall.

mod budget;
mod circles;
mod code;
mod debts;
mod files;
mod flags;
mod imports;
mod invariants;
mod module_tree;
mod order;
mod shape;
mod stack;
mod target;
mod vocabulary;
mod words;

use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::build;
use circles::Graph;
use debts::{Debts, Finding};

/// What to do besides checking.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the command line")]
pub struct Args {
    /// Print the circles of imports that exist, between files and between modules, and check nothing.
    #[arg(long)]
    pub graph: bool,
    /// Print what is known to be wrong as well.
    #[arg(long)]
    pub all: bool,
    /// Leave out what needs the agent or the kernel.
    #[arg(long)]
    pub quick: bool,
    /// Print what each kernel program costs next to its budget, check that and its stack, and nothing else. Needs root.
    #[arg(long)]
    pub budget: bool,
    /// Lower the known debts to what is left of them; with `--budget`, record the budget anew.
    #[arg(long)]
    pub bless: bool,
}

/// Checks the structure of the repository.
pub fn run(args: &Args) -> Result<()> {
    if args.graph {
        for target in target::all()? {
            print!("{}", Graph::of(&target)?);
        }
        return Ok(());
    }
    if args.budget {
        let findings = of_programs(args.bless, true)?;
        for finding in &findings {
            println!("{}", finding.text);
        }
        ensure!(findings.is_empty(), "{} budgets are exceeded", findings.len());
        return Ok(());
    }
    // A rule that is left out would look like a debt that is paid.
    ensure!(!(args.quick && args.bless), "--bless needs every rule: leave out --quick");
    let findings = findings(args.quick)?;
    let (mut known, found) = (Debts::known()?, Debts::of(&findings));
    let verdict = known.judge(&found);
    for finding in &findings {
        let new = verdict.grown.iter().any(|(rule, area, ..)| rule == finding.rule && *area == finding.area);
        if args.all || new {
            println!("{}: {}", finding.rule, finding.text);
        }
    }
    if args.bless && known.lower(&found) {
        known.write()?;
    } else {
        for (rule, area, now, known) in &verdict.fallen {
            println!(
                "{rule}, {area}: {now}, and {known} in xtask/tidy/debts.toml; `cargo xtask tidy --bless` lowers it"
            );
        }
    }
    println!("known debts: {} (`cargo xtask tidy --all` shows them)", known.total());
    if verdict.grown.is_empty() {
        return Ok(());
    }
    for (rule, area, now, known) in &verdict.grown {
        println!("{rule}, {area}: {now}, at most {known}");
    }
    bail!("{} rules are broken", verdict.grown.len());
}

/// What is wrong with the kernel programs.
fn of_programs(bless: bool, print: bool) -> Result<Vec<Finding>> {
    let path = build::bpf_object()?;
    let object = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut findings = budget::check(&object, bless, print)?;
    findings.extend(stack::check(&object)?);
    Ok(findings)
}

fn findings(quick: bool) -> Result<Vec<Finding>> {
    let (sources, documents) = (files::rust()?, files::documents()?);
    let (invariants, words, orders) = (invariants::Invariants::listed()?, words::Words::listed()?, order::listed()?);
    let mut findings = Vec::new();
    for file in &sources {
        findings.extend(shape::check(file)?);
        findings.extend(invariants.check(file)?);
        if !file.path.starts_with("xtask/") && !file.is_test() {
            findings.extend(words.check(file));
        }
    }
    invariants.check_that_all_apply(&sources)?;
    for file in &documents {
        findings.extend(words.check(file));
    }
    for target in target::all()? {
        let graph = Graph::of(&target)?;
        findings.extend(circle_findings(&target.package, &graph));
        if let Some(order) = orders.get(&target.package).filter(|_| target.is_library) {
            findings.extend(order.check(&target.package, &graph));
        }
    }
    findings.extend(vocabulary::check(&sources, &documents)?);
    if !quick {
        findings.extend(of_programs(false, false)?);
        findings.extend(flags::check(&documents)?);
    }
    findings.sort();
    Ok(findings)
}

/// Each edge of a circle is one: cutting any of them is a step.
fn circle_findings(package: &str, graph: &Graph) -> Vec<Finding> {
    let kinds = [("file_circles", graph.file_circles()), ("module_circles", graph.module_circles())];
    let edges = kinds.into_iter().flat_map(|(rule, circles)| {
        circles.into_iter().flat_map(move |circle| circle.into_keys().map(move |ends| (rule, ends)))
    });
    let finding = |(rule, (from, to)): (&'static str, (String, String))| {
        Finding::new(rule, package, format!("{}: {from} -> {to} is part of a circle", graph.name))
    };
    edges.map(finding).collect()
}
