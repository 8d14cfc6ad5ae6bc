//! Services as vectors describe them, and the table entries that the agent would write for them.

use super::family::Family;
use super::node::Node;
use crate::abi::{BackendValue, Be16, FrontendKey, FrontendValue, SetRef, algorithm, backend_flag, frontend_flag};

/// An endpoint of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint<A> {
    /// Backend id.
    pub id: u32,
    /// Address.
    pub addr: A,
    /// Port.
    pub port: u16,
    /// Generation; 0: the backend is gone.
    pub generation: u32,
    /// Bits of `backend_flag`.
    pub flags: u16,
}

impl<A: Family> Endpoint<A> {
    /// A Pod on this node, in both sets.
    pub fn local(id: u32, addr: A) -> Self {
        let flags = backend_flag::LOCAL | backend_flag::IN_CLUSTER | backend_flag::IN_LOCAL;
        Self { id, addr, port: 8080, generation: 1, flags }
    }

    /// A Pod on another node.
    pub fn remote(id: u32, addr: A) -> Self {
        Self { id, addr, port: 8080, generation: 1, flags: backend_flag::IN_CLUSTER }
    }
}

/// One port of a Service, with its frontends and endpoints.
#[derive(Clone, Debug)]
pub struct Service<A> {
    /// Service id.
    pub id: u32,
    /// Protocol.
    pub proto: u8,
    /// Address, port and kind of each frontend.
    pub frontends: Vec<(A, u16, u8)>,
    /// Endpoints.
    pub endpoints: Vec<Endpoint<A>>,
    /// `sessionAffinity` timeout.
    pub affinity_secs: u32,
    /// One of `algorithm`.
    pub algorithm: u8,
    /// Its argument.
    pub schedule: u32,
    /// Bits of `frontend_flag`.
    pub flags: u16,
    /// How outlier ejection has backends, by id.
    pub rest: Vec<(u32, u16)>,
    /// First slot of this state's sets: another one for each state that a vector goes through.
    pub slots: u32,
}

impl<A: Family> Service<A> {
    /// A Service with one frontend.
    #[must_use]
    pub fn new(proto: u8, addr: A, port: u16, kind: u8) -> Self {
        Self {
            id: 7,
            proto,
            frontends: vec![(addr, port, kind)],
            endpoints: vec![],
            affinity_secs: 0,
            algorithm: algorithm::RANDOM,
            schedule: 0,
            flags: 0,
            rest: vec![],
            slots: 16,
        }
    }

    /// With these endpoints.
    #[must_use]
    pub fn endpoints(mut self, endpoints: &[Endpoint<A>]) -> Self {
        self.endpoints = endpoints.to_vec();
        self
    }

    /// With these flags too.
    #[must_use]
    pub fn flags(mut self, flags: u16) -> Self {
        self.flags |= flags;
        self
    }

    /// With `ClientIP` affinity.
    #[must_use]
    pub fn affinity(mut self, seconds: u32) -> Self {
        self.affinity_secs = seconds;
        self
    }

    /// With this algorithm.
    #[must_use]
    pub fn algorithm(mut self, algorithm: u8) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// With a backend that outlier ejection has so.
    #[must_use]
    pub fn rest(mut self, id: u32, rest: u16) -> Self {
        self.rest.push((id, rest));
        self
    }

    fn set(&self, local: bool, base: u32, node: &mut (impl Node<A> + ?Sized)) -> SetRef {
        let wanted = if local { backend_flag::IN_LOCAL } else { backend_flag::IN_CLUSTER };
        let members = self.endpoints.iter().filter(|e| e.flags & wanted != 0 && e.generation != 0);
        let mut count = 0;
        for endpoint in members {
            node.set_slot(base + count, endpoint.id);
            count += 1;
        }
        SetRef { base, count }
    }

    /// Writes backends, slots and then frontends.
    pub fn write(&self, node: &mut (impl Node<A> + ?Sized)) {
        for endpoint in &self.endpoints {
            let &Endpoint { id, addr, port, generation, flags } = endpoint;
            let port = Be16::new(port);
            let (service, weight) = (self.id, 1);
            let rest = self.rest.iter().find(|(of, _)| *of == id).map_or(0, |(_, rest)| *rest);
            let value =
                BackendValue { addr, port, flags, generation, service, weight, rest, ..BackendValue::default() };
            node.set_backend(id, value);
        }
        let internal = self.set(self.flags & frontend_flag::INTERNAL_LOCAL != 0, self.slots, node);
        let external = self.set(self.flags & frontend_flag::EXTERNAL_LOCAL != 0, self.slots + 64, node);
        for &(addr, port, kind) in &self.frontends {
            let value = FrontendValue {
                internal,
                external,
                service: self.id,
                affinity_secs: self.affinity_secs,
                flags: self.flags,
                kind,
                algorithm: self.algorithm,
                schedule: self.schedule,
                ..FrontendValue::default()
            };
            node.set_frontend(FrontendKey { addr, port: Be16::new(port), proto: self.proto, scope: 0 }, Some(value));
        }
    }
}
