//! `sluice flows`: connections in the flow tables.
//!
//! JSON: a list of `{via, protocol, state, age_secs, idle_secs, client, frontend, source, backend, service, backend_id}`. `via` is
//! `packet` or `socket`; `source` is the client's address as the backend sees it; `state` is `embryonic`, `established`,
//! `half-closed`, `closed` or `direct`; `age_secs` and `idle_secs` are `null` where they are not known.
//! For a socket that was load-balanced when it connected, `client` is `netns/COOKIE socket/COOKIE` (as `ss -e` shows
//! the latter, in hexadecimal), `source` is empty and `state` is `connected`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use serde::Serialize;

use super::labelled;
use super::list::{FormArgs, Found, Grid, Listed, Owner, SelectArgs, Shown, amount};
use super::pin_args::PinArgs;
use crate::maps::dump;
use crate::maps::flows::{self, End, Flow};
use crate::maps::jiffies::Jiffies;
use crate::maps::kernel::KernelTables;
use crate::maps::sockets::{self, SocketFlow};
use crate::plan::Existing;

#[derive(Clone, Debug, Args)]
pub(super) struct FlowsArgs {
    #[command(flatten)]
    select: SelectArgs,
    /// Of these clients alone: an address, an address with its port, or a prefix.
    #[arg(long, value_name = "ADDRESS", help_heading = "Which")]
    client: Option<Place>,
    /// To these frontends alone.
    #[arg(long, value_name = "ADDRESS", help_heading = "Which")]
    frontend: Option<Place>,
    /// To these backends alone.
    #[arg(long, value_name = "ADDRESS", help_heading = "Which")]
    backend: Option<Place>,
    /// In these states alone; several with commas between.
    #[arg(long, value_enum, value_delimiter = ',', help_heading = "Which")]
    state: Vec<State>,
    /// Of this protocol alone: `tcp` or `udp`.
    #[arg(long, value_name = "PROTOCOL", ignore_case = true, help_heading = "Which")]
    protocol: Option<String>,
    /// Print at most this many.
    #[arg(long, value_name = "N", default_value_t = 10_000, help_heading = "Output")]
    limit: usize,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    pins: PinArgs,
}

/// How far a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// Its client has not answered its backend yet.
    Embryonic,
    /// Both have.
    Established,
    /// One side has closed it.
    HalfClosed,
    /// Both have, or one has reset it.
    Closed,
    /// Not through a Service: a direct connection whose port was changed.
    Direct,
    /// A socket's, translated when it connected.
    Connected,
}

impl State {
    const fn of(flow: &Flow) -> Self {
        match (flow.direct, flow.established, flow.end) {
            (true, ..) => Self::Direct,
            (false, _, End::Closed) => Self::Closed,
            (false, true, End::HalfClosed) => Self::HalfClosed,
            (false, true, End::Open) => Self::Established,
            (false, false, _) => Self::Embryonic,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Embryonic => "embryonic",
            Self::Established => "established",
            Self::HalfClosed => "half-closed",
            Self::Closed => "closed",
            Self::Direct => "direct",
            Self::Connected => "connected",
        }
    }
}

/// Addresses that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Net(IpNet),
    At(SocketAddr),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let net = text.parse().map(Self::Net);
        net.or_else(|_| text.parse::<IpAddr>().map(|ip| Self::Net(ip.into())))
            .or_else(|_| text.parse().map(Self::At))
            .map_err(|_not_even_a_port| {
                format!("\"{text}\" is no address such as 10.0.0.1, [fd00::1]:80 or 10.0.0.0/8")
            })
    }
}

impl Place {
    fn holds(self, addr: SocketAddr) -> bool {
        match self {
            Self::Net(net) => net.contains(&addr.ip()),
            Self::At(at) => at == addr,
        }
    }
}

#[derive(Debug, Serialize)]
struct Row {
    /// `packet` or `socket`.
    via: &'static str,
    protocol: String,
    state: State,
    /// Seconds since it began.
    age_secs: Option<u64>,
    /// Seconds without a packet, exact to a second or so.
    idle_secs: Option<u64>,
    client: String,
    frontend: String,
    source: String,
    backend: String,
    /// `namespace/name:port/PROTOCOL`; empty when the Service is gone.
    service: String,
    backend_id: u32,
}

impl Listed for Row {
    const SORT: &'static [(&'static str, &'static str)] = &[
        ("PROTO", "protocol"),
        ("STATE", "state"),
        ("AGE", "age_secs"),
        ("IDLE", "idle_secs"),
        ("CLIENT", "client"),
        ("FRONTEND", "frontend"),
        ("BACKEND", "backend"),
        ("SERVICE", "service"),
    ];

    fn id(&self) -> String {
        format!("flow/{}/{}/{}", self.protocol, self.client, self.frontend)
    }
}

/// The names of services, by id.
struct Names(BTreeMap<u32, (String, Owner)>);

impl Names {
    fn new(existing: Existing) -> Self {
        let owned = existing.names.into_iter().map(|(id, family, name)| {
            let owner = Owner::read(&name, family);
            (id, (name, owner))
        });
        Self(owned.collect())
    }

    fn of(&self, service: u32) -> String {
        self.0.get(&service).map(|(name, _)| name.clone()).unwrap_or_default()
    }
}

impl FlowsArgs {
    fn is_wanted(&self, protocol: u8, state: State, service: Option<&Owner>, places: [Option<SocketAddr>; 3]) -> bool {
        let asked = [self.client, self.frontend, self.backend];
        let holds = |(place, addr): (Option<Place>, Option<SocketAddr>)| {
            place.is_none_or(|place| addr.is_some_and(|addr| place.holds(addr)))
        };
        let of_protocol = |name: &String| dump::protocol(protocol).eq_ignore_ascii_case(name);
        (self.state.is_empty() || self.state.contains(&state))
            && self.protocol.as_ref().is_none_or(of_protocol)
            && self.select.wants(service.unwrap_or(&Owner::default()))
            && asked.into_iter().zip(places).all(holds)
    }

    fn look(&self) -> anyhow::Result<Found<Row>> {
        let tables = KernelTables::open(&self.pins.pin_path)?;
        let now = Jiffies::now(tables.status()?.ticks_per_second);
        let names = Names::new(tables.read_names()?);
        let owner = |service: u32| names.0.get(&service).map(|(_, owner)| owner);
        let missing = self.select.missing(&names.0.values().map(|(_, owner)| owner));
        let wanted = |flow: &Flow| {
            let places = [Some(flow.client), Some(flow.frontend), Some(flow.backend)];
            self.is_wanted(flow.protocol, State::of(flow), owner(flow.service), places)
        };
        let flows = flows::list(&self.pins.pin_path, self.limit, wanted)?;
        let mut rows: Vec<Row> = flows.iter().map(|flow| of_packets(flow, now, &names)).collect();
        let sockets = sockets::list(&self.pins.pin_path, self.limit.saturating_sub(rows.len()), |flow| {
            let places = [None, Some(flow.frontend), Some(flow.backend)];
            self.is_wanted(flow.protocol, State::Connected, owner(flow.service), places)
        })?;
        rows.extend(sockets.iter().map(|flow| of_socket(flow, &names)));
        rows.sort_by(|a, b| (&a.service, &a.client).cmp(&(&b.service, &b.client)));
        Ok(Found { rows, missing })
    }
}

fn of_packets(flow: &Flow, now: Jiffies, names: &Names) -> Row {
    Row {
        via: "packet",
        protocol: dump::protocol(flow.protocol),
        state: State::of(flow),
        age_secs: now.secs_since(flow.born),
        idle_secs: now.secs_since(flow.seen),
        client: flow.client.to_string(),
        frontend: flow.frontend.to_string(),
        source: flow.source.to_string(),
        backend: flow.backend.to_string(),
        service: names.of(flow.service),
        backend_id: flow.backend_id,
    }
}

fn of_socket(flow: &SocketFlow, names: &Names) -> Row {
    Row {
        via: "socket",
        protocol: dump::protocol(flow.protocol),
        state: State::Connected,
        age_secs: None,
        idle_secs: None,
        client: format!("netns/{} socket/{:x}", flow.netns, flow.socket),
        frontend: flow.frontend.to_string(),
        source: String::new(),
        backend: flow.backend.to_string(),
        service: names.of(flow.service),
        backend_id: flow.backend_id,
    }
}

pub(super) fn print(args: &FlowsArgs) -> anyhow::Result<()> {
    let args = FlowsArgs { select: labelled::resolve(&args.select, &args.pins.pin_path)?, ..args.clone() };
    args.form.print(|| args.look(), grid)
}

fn grid(rows: &[Row]) -> Grid {
    let mut grid = Grid::default()
        .word("PROTO", Shown::Any)
        .word("STATE", Shown::Any)
        .number("AGE", Shown::Any)
        .number("IDLE", Shown::Any)
        .text("CLIENT", Shown::Any)
        .text("FRONTEND", Shown::Any)
        .text("BACKEND", Shown::Any)
        .text("SERVICE", Shown::Medium)
        .text("SEEN-AS", Shown::Large)
        .word("VIA", Shown::Wide)
        .number("BACKEND-ID", Shown::Wide);
    for row in rows {
        grid.line([
            row.protocol.clone(),
            row.state.name().to_owned(),
            row.age_secs.map_or_else(|| "-".to_owned(), amount::age),
            row.idle_secs.map_or_else(|| "-".to_owned(), amount::age),
            row.client.clone(),
            row.frontend.clone(),
            row.backend.clone(),
            if row.service.is_empty() { "-".to_owned() } else { row.service.clone() },
            // Where the source was left alone, it says nothing.
            if row.source == row.client { "-".to_owned() } else { row.source.clone() },
            row.via.to_owned(),
            row.backend_id.to_string(),
        ]);
    }
    grid
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::list::golden;
    use crate::model::desired::Family;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        flows: FlowsArgs,
    }

    fn flow(client: &str, state: (bool, End)) -> Flow {
        Flow {
            protocol: 6,
            established: state.0,
            direct: false,
            client: client.parse().unwrap(),
            frontend: "10.96.0.10:80".parse().unwrap(),
            source: client.parse().unwrap(),
            backend: "10.1.0.7:8080".parse().unwrap(),
            service: 1,
            backend_id: 4,
            end: state.1,
            born: 3,
            seen: 5,
        }
    }

    #[test]
    fn flows_are_printed_as_the_golden_files_say() {
        let names = Names::new(Existing {
            names: vec![(1, Family::V4, "shop/storefront:http/TCP".into())],
            ..Existing::default()
        });
        let now = Jiffies::now(0);
        let long = "[fd00:1234:5678:9abc:def0:1234:5678:9abc]:54321";
        let seen_as =
            Flow { source: "192.0.2.1:1024".parse().unwrap(), ..flow("203.0.113.9:40000", (true, End::Open)) };
        let mut rows = vec![
            of_packets(&flow("10.1.0.3:41234", (true, End::Open)), now, &names),
            of_packets(&flow(long, (false, End::Open)), now, &names),
            of_packets(&seen_as, now, &names),
            of_packets(&Flow { service: 9, ..flow("10.1.0.3:41235", (true, End::HalfClosed)) }, now, &names),
        ];
        (rows[0].age_secs, rows[0].idle_secs) = (Some(90_000), Some(3725));
        let socket = SocketFlow {
            protocol: 17,
            netns: 4_026_531_840,
            socket: 0x1f2a,
            frontend: "10.96.0.53:53".parse().unwrap(),
            backend: "10.1.0.9:53".parse().unwrap(),
            service: 1,
            backend_id: 5,
        };
        rows.push(of_socket(&socket, &names));
        golden::list("flows", &rows, grid);
    }

    #[test]
    fn flows_are_chosen_by_client_backend_state_protocol_and_service() {
        let owner = Owner::read("shop/storefront:http/TCP", Family::V4);
        let open = flow("10.1.0.3:41234", (true, End::Open));
        for (args, wanted) in [
            (&[][..], true),
            (&["--client", "10.1.0.3"], true),
            (&["--client", "10.1.0.0/16", "--protocol", "tcp"], true),
            (&["--client", "10.1.0.3:41234"], true),
            (&["--client", "10.1.0.3:41235"], false),
            (&["--backend", "10.1.0.8"], false),
            (&["--frontend", "10.96.0.10:80"], true),
            (&["--state", "established,closed"], true),
            (&["--state", "embryonic"], false),
            (&["--protocol", "UDP"], false),
            (&["storefront"], true),
            (&["-n", "other"], false),
        ] {
            let line = Line::parse_from([&["flows"], args].concat());
            let places = [Some(open.client), Some(open.frontend), Some(open.backend)];
            let got = line.flows.is_wanted(6, State::of(&open), Some(&owner), places);
            assert_eq!(got, wanted, "{args:?}");
        }
        assert!(Line::try_parse_from(["flows", "--client", "nobody"]).is_err());
    }
}
