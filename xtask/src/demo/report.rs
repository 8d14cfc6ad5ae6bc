//! Prints who answered whom: a table and bars.

use std::collections::BTreeMap;

use comfy_table::{Cell as TableCell, Table, presets};

use super::round::Cell;
use crate::lab::expect::Client;
use crate::lab::{Cni, Lab};

/// Width of the longest bar.
const BAR: usize = 50;

/// One row per frontend, transport and family; one column per client.
pub(super) fn print_cells(clients: &[Client<'_>], cells: &[Cell]) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let head = ["Frontend", "Address"].map(str::to_owned).into_iter();
    table.set_header(head.chain(clients.iter().map(|client| format!("from {}", client.name))));
    for row in cells.chunks(clients.len().max(1)) {
        let Some(first) = row.first() else { continue };
        let address = format!("{}/{}", first.dst, first.transport.name());
        let head = [first.kind.name().to_owned(), address].map(TableCell::new);
        table.add_row(head.into_iter().chain(row.iter().map(|cell| {
            let verdict = if cell.held() { "ok" } else { "FAILED" };
            TableCell::new(format!("{verdict}  {}/{} by {} Pods", cell.answered(), cell.tried, cell.answers.len()))
        })));
    }
    println!("{table}\n");
}

/// Which Pods answered each client, over all frontends.
pub(super) fn print_bars(lab: &Lab, clients: &[Client<'_>], cells: &[Cell]) {
    println!("Which Pods answered:");
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for cell in cells {
        for (pod, count) in &cell.answers {
            *counts.entry((&cell.client, pod)).or_default() += count;
        }
    }
    let most = counts.values().copied().max().unwrap_or(1).max(1);
    for client in clients {
        for (line, pod) in lab.pods().iter().enumerate() {
            let count = counts.get(&(client.name, pod.name.as_str())).copied().unwrap_or_default();
            let who = if line == 0 { format!("from {}", client.name) } else { String::new() };
            let place = match pod.cni {
                Cni::Bridge => "bridge",
                Cni::Routed => "routed",
                Cni::Remote => "node2",
                Cni::Macvlan => "macvlan",
            };
            let bar = "█".repeat((count * BAR).div_ceil(most));
            println!("  {who:<12} {:<8} {place:<7} {bar:<BAR$} {count}", pod.name);
        }
    }
    println!();
}
