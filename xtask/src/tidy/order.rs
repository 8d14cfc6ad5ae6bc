//! The order of a crate's modules: each may use those of the layers below its own.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::circles::Graph;
use super::debts::Finding;

/// Layers of one crate, from the bottom. Modules of one layer do not know each other.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Order(Vec<Vec<String>>);

/// The order of each library, by package.
pub(super) fn listed() -> Result<BTreeMap<String, Order>> {
    #[derive(Deserialize)]
    struct Crate {
        layers: Order,
    }
    let crates: BTreeMap<String, Crate> =
        toml::from_str(include_str!("../../tidy/order.toml")).context("reading xtask/tidy/order.toml")?;
    Ok(crates.into_iter().map(|(name, listed)| (name, listed.layers)).collect())
}

impl Order {
    fn layer(&self, module: &str) -> Option<usize> {
        self.0.iter().position(|layer| layer.iter().any(|name| name == module))
    }

    /// Edges that go up or sideways, and modules without a place.
    pub(super) fn check(&self, package: &str, graph: &Graph) -> Vec<Finding> {
        let mut findings = Vec::new();
        for module in graph.modules() {
            if self.layer(module).is_none() {
                let text = format!("{package}: module {module} has no place in xtask/tidy/order.toml");
                findings.push(Finding::new("module_order", package, text));
            }
        }
        for ((from, to), names) in graph.module_edges() {
            let wrong = match (self.layer(from), self.layer(to)) {
                (Some(above), Some(below)) => above <= below,
                _ => false,
            };
            if wrong {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let text = format!("{package}: {from} uses {to}, which is not below it: {}", names.join("; "));
                findings.push(Finding::new("module_order", package, text));
            }
        }
        findings
    }
}
