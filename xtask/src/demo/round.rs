//! Asks each frontend from each client over each transport and family, and judges every answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::lab::expect::{Client, Frontend, FrontendKind, Source};
use crate::lab::probe::{Answer, Failure, Transport};
use crate::lab::{Family, Lab};

/// After so many failed connections a cell is given up.
const GIVE_UP: usize = 3;

/// Silence for so long is a failure: far more than any answer takes here, and less than a SYN's retransmit.
const PATIENCE: Duration = Duration::from_millis(800);

/// One client's connections to one frontend over one transport and family.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) client: String,
    pub(super) kind: FrontendKind,
    pub(super) dst: SocketAddr,
    pub(super) transport: Transport,
    /// Connections tried.
    pub(super) tried: usize,
    /// Answers by Pod.
    pub(super) answers: BTreeMap<String, usize>,
    /// What went wrong, each cause once.
    pub(super) wrong: BTreeMap<String, usize>,
}

impl Cell {
    pub(super) fn answered(&self) -> usize {
        self.answers.values().sum()
    }

    pub(super) fn held(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Each sort of failure as a line.
    pub(super) fn failures(&self) -> Vec<String> {
        let Self { client, kind, dst, transport, tried, .. } = self;
        let place = format!("{client} -> {} {dst}/{}", kind.name(), transport.name());
        self.wrong.iter().map(|(what, times)| format!("{place}: {what} ({times} of {tried})")).collect()
    }
}

/// Asks `count` times per client, frontend, transport and family; all Pods of the lab must be met.
pub(super) fn ask_everywhere(lab: &Lab, clients: &[Client<'_>], frontends: &[Frontend], count: usize) -> Vec<Cell> {
    let mut cells = Vec::new();
    for frontend in frontends {
        for transport in Transport::ALL {
            for family in Family::ALL {
                let dst = frontend.at(family, transport);
                let all: Vec<_> = lab.pods().iter().map(|pod| pod.name.as_str()).collect();
                // The clients ask at the same time, as they would in life.
                let all = &all;
                let row = thread::scope(|scope| {
                    let ask = |client| move || ask(lab, client, frontend.kind, dst, transport, count, all);
                    let running: Vec<_> = clients.iter().map(|client| scope.spawn(ask(client))).collect();
                    running.into_iter().flat_map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
                });
                cells.extend(row);
            }
        }
    }
    cells
}

/// Asks `count` times; exactly the Pods in `met` must answer.
pub(super) fn ask(
    lab: &Lab,
    client: &Client<'_>,
    kind: FrontendKind,
    dst: SocketAddr,
    transport: Transport,
    count: usize,
    met: &[&str],
) -> Cell {
    let mut cell = Cell {
        client: client.name.to_owned(),
        kind,
        dst,
        transport,
        tried: 0,
        answers: BTreeMap::new(),
        wrong: BTreeMap::new(),
    };
    let asked = client.ns.run(|| {
        let mut results = Vec::with_capacity(count);
        let mut failed = 0;
        while results.len() < count && failed < GIVE_UP {
            let result = transport.ask_once(dst, 0, PATIENCE);
            failed += usize::from(result.is_err());
            results.push(result);
        }
        Ok(results)
    });
    let mut wrong = |what: String| *cell.wrong.entry(what).or_default() += 1;
    let results = asked.unwrap_or_else(|err| {
        wrong(format!("{err:#}"));
        Vec::new()
    });
    cell.tried = results.len();
    for result in results {
        match judge(lab, client, kind, met, result) {
            Ok(pod) => *cell.answers.entry(pod).or_default() += 1,
            Err(what) => wrong(what),
        }
    }
    if cell.tried == count {
        let left_out = met.iter().filter(|pod| !cell.answers.contains_key(**pod));
        left_out.for_each(|pod| wrong(format!("{pod} never answered")));
    }
    cell
}

/// The Pod that answered, or what is wrong with the answer.
fn judge(
    lab: &Lab,
    client: &Client<'_>,
    kind: FrontendKind,
    met: &[&str],
    result: Result<Answer, Failure>,
) -> Result<String, String> {
    let answer = result.map_err(|failure| format!("{:?} ({})", failure.cause, failure.source))?;
    if !met.contains(&answer.pod.as_str()) {
        return Err(format!("{} answered, which it should not have", answer.pod));
    }
    let pod = lab.pod(&answer.pod).map_err(|err| err.to_string())?;
    let source = Source::expected(client, kind, pod);
    if !source.holds(client, answer.client.ip()) {
        let whose = match source {
            Source::Client => "the client's own",
            Source::Node => "the node's",
        };
        return Err(format!("{} saw {} instead of {whose} address", answer.pod, answer.client.ip()));
    }
    Ok(answer.pod)
}
