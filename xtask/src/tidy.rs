//! `cargo xtask tidy`: keeps the structure of the code, where neither the compiler nor clippy looks.

mod circles;
mod imports;
mod module_tree;
mod target;

use anyhow::Result;

use circles::Graph;

/// What to do besides checking.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct Args {
    /// Print the circles of imports that exist, between files and between modules, and check nothing.
    #[arg(long)]
    pub graph: bool,
}

/// Checks the structure of the workspace's sources.
pub fn run(args: &Args) -> Result<()> {
    for target in target::all()? {
        let graph = Graph::of(&target)?;
        if args.graph {
            print!("{graph}");
        }
    }
    Ok(())
}
