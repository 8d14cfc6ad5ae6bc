//! `sluice flows`: connections in the flow tables.
//!
//! JSON: a list of `{via, protocol, state, client, frontend, source, backend, service, backend_id}`. `via` is `packet` or
//! `socket`; `source` is the client's address as the backend sees it; `state` is `embryonic`,
//! `established`, `half-closed`, `closed` or `direct`.
//! For a socket that was load-balanced when it connected, `client` is `netns/COOKIE socket/COOKIE` (as `ss -e` shows
//! the latter, in hexadecimal), `source` is empty and `state` is `connected`.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::output;
use super::output::FormatArgs;
use super::pin_args::PinArgs;
use crate::maps::flows::{self, End};
use crate::maps::kernel::KernelTables;
use crate::maps::{Tables, dump, sockets};

#[derive(Debug, Args)]
pub(super) struct FlowsArgs {
    #[command(flatten)]
    pins: PinArgs,
    #[command(flatten)]
    format: FormatArgs,
    /// Print at most this many.
    #[arg(long, default_value_t = 10_000)]
    limit: usize,
}

#[derive(Debug, Serialize)]
struct Row {
    /// `packet` or `socket`.
    via: &'static str,
    protocol: String,
    state: &'static str,
    client: String,
    frontend: String,
    source: String,
    backend: String,
    /// `namespace/name:port/PROTOCOL`; empty when the Service is gone.
    service: String,
    backend_id: u32,
}

pub(super) fn print(args: &FlowsArgs) -> anyhow::Result<()> {
    let names: BTreeMap<u32, String> =
        KernelTables::open(&args.pins.pin_path)?.read()?.names.into_iter().map(|(id, _, name)| (id, name)).collect();
    let mut rows: Vec<Row> = flows::list(&args.pins.pin_path, args.limit)?
        .into_iter()
        .map(|flow| Row {
            via: "packet",
            protocol: dump::protocol(flow.protocol),
            state: match (flow.direct, flow.established, flow.end) {
                (true, ..) => "direct",
                (false, _, End::Closed) => "closed",
                (false, true, End::HalfClosed) => "half-closed",
                (false, true, End::Open) => "established",
                (false, false, _) => "embryonic",
            },
            client: flow.client.to_string(),
            frontend: flow.frontend.to_string(),
            source: flow.source.to_string(),
            backend: flow.backend.to_string(),
            service: names.get(&flow.service).cloned().unwrap_or_default(),
            backend_id: flow.backend_id,
        })
        .collect();
    let room = args.limit.saturating_sub(rows.len());
    rows.extend(sockets::list(&args.pins.pin_path, room)?.into_iter().map(|flow| Row {
        via: "socket",
        protocol: dump::protocol(flow.protocol),
        state: "connected",
        client: format!("netns/{} socket/{:x}", flow.netns, flow.socket),
        frontend: flow.frontend.to_string(),
        source: String::new(),
        backend: flow.backend.to_string(),
        service: names.get(&flow.service).cloned().unwrap_or_default(),
        backend_id: flow.backend_id,
    }));
    rows.sort_by(|a, b| (&a.service, &a.client).cmp(&(&b.service, &b.client)));
    output::print(&rows, args.format.output, |rows| {
        let mut table = output::table(&["PROTO", "STATE", "CLIENT", "FRONTEND", "SEEN AS", "BACKEND", "SERVICE"]);
        for row in rows {
            table.add_row([
                &row.protocol,
                row.state,
                &row.client,
                &row.frontend,
                &row.source,
                &row.backend,
                &row.service,
            ]);
        }
        table.to_string()
    })
}
