//! What the data path asks of a trace's surroundings, besides its flows: Services, the node, counters, sockets.

use lb_common::abi::{
    AffinityKey, AffinityValue, BackendValue, Be16, Counter, EventValue, FamilyConfig, FlowValue, FrontendKey,
    FrontendValue, SetRef, SocketKey, SocketValue, SourceRangeKey, StatsValue, counter_name, device_flag, filter,
};
use lb_common::datapath::{Counters, Host, NextHop, Route, Services, SocketEnv, Watch, scaled};

use super::leg::{forwarding_off, why_no_route};
use super::overlay::{Overlay, Traced, end, holds, may};
use crate::linux::clock;
use crate::maps::{dump, resting};

impl<A: Traced> Services<A> for Overlay<'_, A> {
    fn may_be_frontend(&self, addr: A, port: Be16) -> bool {
        let yes = self.front_holds(filter::address_hash(addr)) || self.front_holds(filter::endpoint_hash(addr, port));
        self.note(format!("filter of frontends: {}", end(addr, port)), may(yes));
        yes
    }

    fn may_be_frontend_port(&self, addr: A, port: Be16) -> bool {
        self.front_holds(filter::endpoint_hash(addr, port))
    }

    fn may_be_backend(&self, addr: A, port: Be16) -> bool {
        let at = filter::position(filter::endpoint_hash(addr, port), filter::BACK_BLOCKS);
        let yes = holds((self.maps.back_filter)(&at.block), at);
        self.note(format!("filter of backends: {}", end(addr, port)), may(yes));
        yes
    }

    fn may_be_frontend_address(&self, _addr: A) -> bool {
        true
    }

    fn may_be_backend_address(&self, _addr: A) -> bool {
        true
    }

    fn frontend(&self, key: &FrontendKey<A>) -> Option<FrontendValue> {
        let found = (self.maps.frontends)(key);
        let asked = if key.port.get() == 0 {
            format!("is {} a ClusterIP", key.addr.ip())
        } else {
            format!("frontend {} {}", dump::protocol(key.proto), end(key.addr, key.port))
        };
        let text = found.map_or_else(
            || "none".to_owned(),
            |value| {
                let flags = dump::frontend_flags(value.flags);
                format!(
                    "{} of {}: {} backends inside, {} outside; affinity {} s; {}",
                    dump::kind(value.kind),
                    self.name(value.service),
                    value.internal.count,
                    value.external.count,
                    value.affinity_secs,
                    if flags.is_empty() { "no flags".to_owned() } else { flags.join(" ") }
                )
            },
        );
        self.note(asked, text);
        // The first is the request's; a reply's source may be looked for, too.
        if key.port.get() != 0 && self.frontend.get().is_none() {
            self.frontend.set(found);
        }
        found
    }

    /// Whose turn it is differs by processor: each backend that may be next is a candidate.
    fn turn(&self, set: SetRef) -> u32 {
        scaled(Host::<A>::random(self), set.count)
    }

    /// A client's source port decides, and each connection has another one: each backend is a candidate.
    fn table(&self, _set: u32, _byte: u32) -> Option<u8> {
        None
    }

    fn slot(&self, index: u32) -> u32 {
        let id = (self.maps.slots)(&index).unwrap_or(0);
        self.picked.set(true);
        self.note(format!("slot {index}"), if id == 0 { "empty".to_owned() } else { format!("backend id {id}") });
        id
    }

    fn backend(&self, id: u32) -> Option<BackendValue<A>> {
        let found = (self.maps.backends)(&id);
        let text = match found {
            Some(value) if value.generation != 0 => format!(
                "{} of {}, generation {}; {}{}{}",
                end(value.addr, value.port),
                self.name(value.service),
                value.generation,
                dump::backend_flags(value.flags).join(" "),
                if value.silent == 0 { "" } else { " silent" },
                resting(value.rest).map(|word| format!(" {word}")).unwrap_or_default()
            ),
            _ => "free".to_owned(),
        };
        self.note(format!("backend id {id}"), text);
        found
    }

    fn generation(&self, id: u32) -> u32 {
        (self.maps.backends)(&id).map_or(0, |backend| backend.generation)
    }

    fn set_silent(&self, _id: u32, _silent: u16) {}

    fn set_answered(&self, _id: u32, _ticks: u32) {}

    fn affinity(&self, key: &AffinityKey<A>) -> Option<AffinityValue> {
        let found = (self.maps.affinity)(key);
        let text = |value: AffinityValue| {
            let age = Host::<A>::now_ns(self).saturating_sub(value.last_ns) / 1_000_000_000;
            format!("backend id {}, {age} s ago", value.backend)
        };
        let found_text = found.map_or_else(|| "none".to_owned(), text);
        self.note(format!("last backend of {} at {}", key.client.ip(), self.name(key.service)), found_text);
        found
    }

    fn set_affinity(&self, _key: &AffinityKey<A>, _value: &AffinityValue) {}

    fn in_source_range(&self, key: &SourceRangeKey<A>) -> bool {
        let yes = (self.maps.ranges)(key).is_some();
        let asked = if key.service == lb_common::abi::SERVICE_RANGES {
            format!("is {} in a range of ClusterIPs", key.addr.ip())
        } else {
            format!("is {} in the source ranges of {}", key.addr.ip(), self.name(key.service))
        };
        self.note(asked, if yes { "yes" } else { "no" });
        yes
    }
}

impl<A: Traced> Host<A> for Overlay<'_, A> {
    fn config(&self) -> &FamilyConfig<A> {
        &self.maps.config
    }

    fn device_flags(&self, ifindex: u32) -> u32 {
        (self.maps.devices)(&ifindex).map_or(0, |device| device.flags)
    }

    fn hardware_address(&self, _ifindex: u32) -> Option<(u32, u16)> {
        None
    }

    fn route(&self, dst: A) -> Option<Route<A>> {
        let hop = self.next_hop(dst, 0)?;
        let device = (self.maps.devices)(&hop.ifindex).unwrap_or_default();
        let source = A::from_ip(std::net::Ipv4Addr::from(device.v4).into())
            .or_else(|| A::from_ip(std::net::Ipv6Addr::from(device.v6).into()))
            .unwrap_or(A::ZERO);
        Some(Route { ifindex: hop.ifindex, source, flags: device.flags })
    }

    fn next_hop(&self, dst: A, length: u16) -> Option<NextHop> {
        // The kernel tells programs of no way out where the device does not forward.
        if let Some(setting) = forwarding_off(self.node, A::IS_V6, &self.device_name(self.at.get()), true) {
            self.note(format!("route to {}", dst.ip()), format!("not looked for: {setting} is 0"));
            self.not_forwarding.replace(Some(setting));
            return None;
        }
        let found = self.node.route(dst.ip(), None, None);
        let text = match &found {
            Ok(route) if route.local => "the node itself".to_owned(),
            Ok(route) => format!("by {}", self.device_name(route.device)),
            Err(error) => why_no_route(error),
        };
        self.note(format!("route to {}", dst.ip()), text);
        // As the kernel's look-up for programs: what is the node's own has no next hop.
        let route = found.ok().filter(|route| !route.local)?;
        let mtu = route.mtu.or_else(|| self.node.link(route.device).ok().map(|link| link.mtu)).unwrap_or(0);
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
        let limit = if length != 0 && mtu != 0 && length > mtu { mtu } else { 0 };
        Some(NextHop { ifindex: route.device, resolved: true, limit, ethernet: [0; 3] })
    }

    fn leads(&self, ifindex: u32, _src: A, dst: A) -> bool {
        let uplink = Host::<A>::device_flags(self, ifindex) & device_flag::UPLINK != 0;
        uplink && self.node.route(dst.ip(), None, Some(ifindex)).is_ok_and(|route| route.device == ifindex)
    }

    fn random(&self) -> u32 {
        if self.asked.replace(true) {
            self.random.set(self.random.get().wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        }
        self.random.get()
    }

    fn now_ns(&self) -> u64 {
        clock::monotonic_ns()
    }

    fn ticks(&self) -> u32 {
        self.ticks.get()
    }

    fn refusal_clock(&self, _bucket: u32) -> u64 {
        0
    }

    fn set_refusal_clock(&self, _bucket: u32, _clock: u64) {}
}

impl<A: Traced> Counters<A> for Overlay<'_, A> {
    fn count(&self, counter: Counter) {
        self.note("would count", counter.name());
    }

    fn count_index(&self, index: u32) {
        self.note("would count", counter_name(index).unwrap_or("unknown"));
    }

    fn account(&self, _flow: &FlowValue<A>, _reply: bool, _packets: u32, _bytes: u32) {}

    fn connected(&self, _backend: u32, _generation: u32, _waits: bool) {}

    fn answered(&self, _backend: u32, _generation: u32) {}

    fn refused(&self, _backend: u32, _generation: u32) {}

    fn went(&self, _backend: u32, _generation: u32, _client: u64, _answered: u32, _failed: u32) {}

    fn opened(&self, _backend: u32, _generation: u32) {}

    fn ended(&self, _backend: u32, _generation: u32) {}

    /// Told, but as if they were not counted: the numbers change all the time, so each backend is a candidate.
    fn open(&self, backend: u32, generation: u32) -> Option<u32> {
        let cell = (self.maps.stats)(&backend).filter(|cell| cell.generation == generation);
        let text = cell.map_or("not counted".to_owned(), |cell| StatsValue::open_now(cell.open).to_string());
        self.note(format!("open connections of backend id {backend}"), text);
        None
    }

    fn blame(&self, _service: u32, _cause: u32) {}
}

impl<A: Traced> Watch<A> for Overlay<'_, A> {
    fn is_watched(&self) -> bool {
        false
    }

    fn through_memory(&self, word: u64) -> Option<u64> {
        Some(word)
    }

    fn tell(&self, _event: &EventValue<A>) {}
}

impl<A: Traced> SocketEnv<A> for Overlay<'_, A> {
    fn socket(&self, key: &SocketKey<A>) -> Option<SocketValue<A>> {
        (self.maps.sockets)(key)
    }

    fn set_socket(&self, _key: &SocketKey<A>, _value: &SocketValue<A>) -> bool {
        true
    }

    fn remove_socket(&self, _key: &SocketKey<A>) {}
}
