//! The tables of sockets that hooks have connected to a backend: what `sluice flows` shows, and those whose backend is gone.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::Path;

use aya::Pod;
use aya::maps::{Array, HashMap as BpfHashMap, MapData};
use lb_common::abi::{
    BackendValue, Be16, FrontendKey, FrontendValue, SocketKey, SocketValue, V4, V6, frontend_scope, map_name,
    socket_kind,
};

use super::address::MapAddress;
use super::batch;
use super::failure::TableFailure;
use super::pins::{fault, halves, open, open_raw, read_failure, removed, whole};
use crate::model::family::Family;

/// Entries read in one system call.
const CHUNK: usize = 512;

/// A socket that a hook has connected to a backend, as its entry in the table names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketRow {
    /// Its network namespace.
    pub netns_cookie: u64,
    /// The socket, by `SO_COOKIE`.
    pub socket_cookie: u64,
    /// IP protocol number, UDP or TCP.
    pub protocol: u8,
    /// Family of its peer: also IPv4 for an IPv6 socket that is connected to a v4-mapped address.
    pub family: Family,
    /// The backend that it is connected to. Connected to another one meanwhile, it is left alone.
    pub peer: SocketAddr,
    /// That backend's generation.
    pub generation: u32,
    /// What its owner has connected it to, if that leads to other backends now.
    pub frontend: Option<SocketAddr>,
}

/// A socket that was load-balanced when it connected, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketFlow {
    /// IP protocol number.
    pub protocol: u8,
    /// Cookie of the socket's network namespace.
    pub netns: u64,
    /// The socket's cookie.
    pub socket: u64,
    /// What the process connected or sent to.
    pub frontend: SocketAddr,
    /// Where that leads.
    pub backend: SocketAddr,
    /// Service id.
    pub service: u32,
    /// Backend id.
    pub backend_id: u32,
}

/// Calls `each` with every socket that a hook has connected to a backend.
pub(super) fn walk<A>(
    dir: &Path,
    mut each: impl FnMut(&SocketKey<A>, &SocketValue<A>) -> ControlFlow<()>,
) -> Result<(), TableFailure>
where
    A: MapAddress,
    SocketKey<A>: Pod,
    SocketValue<A>: Pod,
{
    let name = map_name::SOCKETS[usize::from(A::IS_V6)];
    let data = open_raw(dir, name)?;
    let walked = batch::walk::<SocketKey<A>, SocketValue<A>>(data.fd().as_fd(), CHUNK, |keys, values| {
        let mut entries = keys.iter().zip(values).filter(|(key, _)| key.kind == socket_kind::REPLY);
        entries.try_for_each(|(key, value)| each(key, value))
    });
    walked.map_err(|source| TableFailure::Batch { map: name, source })
}

/// Up to `limit` sockets of both families that are wanted.
pub fn list(
    pin_path: &Path,
    limit: usize,
    wanted: impl Fn(&SocketFlow) -> bool,
) -> Result<Vec<SocketFlow>, TableFailure> {
    let dir = pin_path.join("maps");
    let mut flows = Vec::new();
    collect::<V4>(&dir, limit, &wanted, &mut flows)?;
    collect::<V6>(&dir, limit, &wanted, &mut flows)?;
    Ok(flows)
}

fn collect<A>(
    dir: &Path,
    limit: usize,
    wanted: &impl Fn(&SocketFlow) -> bool,
    into: &mut Vec<SocketFlow>,
) -> Result<(), TableFailure>
where
    A: MapAddress,
    SocketKey<A>: Pod,
    SocketValue<A>: Pod,
{
    walk::<A>(dir, |key, value| {
        if into.len() >= limit {
            return ControlFlow::Break(());
        }
        let flow = SocketFlow {
            protocol: key.proto,
            netns: whole(value.netns),
            socket: whole(key.cookie),
            frontend: SocketAddr::new(value.addr.ip(), value.port.get()),
            backend: SocketAddr::new(key.addr.ip(), key.port.get()),
            service: value.service,
            backend_id: value.backend,
        };
        if wanted(&flow) {
            into.push(flow);
        }
        ControlFlow::Continue(())
    })
}

/// Sockets of these protocols whose backend is gone.
pub fn orphans(pin_path: &Path, protocols: &[u8]) -> Result<Vec<SocketRow>, TableFailure> {
    let dir = pin_path.join("maps");
    let mut rows = Vec::new();
    collect_orphans::<V4>(&dir, protocols, &mut rows)?;
    collect_orphans::<V6>(&dir, protocols, &mut rows)?;
    Ok(rows)
}

fn collect_orphans<A>(dir: &Path, protocols: &[u8], into: &mut Vec<SocketRow>) -> Result<(), TableFailure>
where
    A: MapAddress + 'static,
    SocketKey<A>: Pod,
    SocketValue<A>: Pod,
    BackendValue<A>: Pod,
    FrontendKey<A>: Pod,
{
    let name = map_name::BACKENDS[usize::from(A::IS_V6)];
    let backends: Array<MapData, BackendValue<A>> = open(dir, name)?;
    let frontends: BpfHashMap<MapData, FrontendKey<A>, FrontendValue> =
        open(dir, map_name::FRONTENDS[usize::from(A::IS_V6)])?;
    let leads_on = |addr: A, port: Be16, proto: u8| {
        let (addr, scope) =
            if addr.is_loopback() { (A::LOOPBACK, frontend_scope::HOST) } else { (addr, frontend_scope::ALL) };
        frontends.get(&FrontendKey { addr, port, proto, scope }, 0).is_ok_and(|frontend| frontend.internal.count > 0)
    };
    let mut generations: HashMap<u32, u32> = HashMap::new();
    let mut failure = None;
    walk::<A>(dir, |key, value| {
        if !protocols.contains(&key.proto) {
            return ControlFlow::Continue(());
        }
        let generation = match generations.get(&value.backend) {
            Some(generation) => *generation,
            None => match backends.get(&value.backend, 0) {
                Ok(backend) => *generations.entry(value.backend).or_insert(backend.generation),
                Err(error) => {
                    failure = Some(read_failure(name)(error));
                    return ControlFlow::Break(());
                }
            },
        };
        if generation != value.generation {
            into.push(SocketRow {
                netns_cookie: whole(value.netns),
                socket_cookie: whole(key.cookie),
                protocol: key.proto,
                family: A::FAMILY,
                peer: SocketAddr::new(key.addr.ip(), key.port.get()),
                generation: value.generation,
                frontend: leads_on(value.addr, value.port, key.proto)
                    .then(|| SocketAddr::new(value.addr.ip(), value.port.get())),
            });
        }
        ControlFlow::Continue(())
    })?;
    failure.map_or(Ok(()), Err)
}

/// Removes the entries of sockets that are destroyed, closed, or connected to another backend. One that is at the same
/// address again, by a backend of another generation, keeps its new entry.
pub fn forget<'a>(pin_path: &Path, rows: impl Iterator<Item = &'a SocketRow>) -> Result<(), TableFailure> {
    let dir = pin_path.join("maps");
    let mut v4: BpfHashMap<MapData, SocketKey<V4>, SocketValue<V4>> = open(&dir, map_name::SOCKETS[0])?;
    let mut v6: BpfHashMap<MapData, SocketKey<V6>, SocketValue<V6>> = open(&dir, map_name::SOCKETS[1])?;
    for row in rows {
        match row.peer {
            SocketAddr::V4(peer) => {
                let key = key(row, V4::from(*peer.ip()));
                if v4.get(&key, 0).is_ok_and(|value| value.generation == row.generation) {
                    fault(map_name::SOCKETS[0])?;
                    removed(map_name::SOCKETS[0], v4.remove(&key))?;
                }
            }
            SocketAddr::V6(peer) => {
                let key = key(row, V6::from(*peer.ip()));
                if v6.get(&key, 0).is_ok_and(|value| value.generation == row.generation) {
                    fault(map_name::SOCKETS[1])?;
                    removed(map_name::SOCKETS[1], v6.remove(&key))?;
                }
            }
        }
    }
    Ok(())
}

fn key<A>(row: &SocketRow, addr: A) -> SocketKey<A> {
    SocketKey {
        cookie: halves(row.socket_cookie),
        addr,
        port: Be16::new(row.peer.port()),
        proto: row.protocol,
        kind: socket_kind::REPLY,
    }
}
