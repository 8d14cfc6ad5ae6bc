//! Capacities of the maps, as flags of `sluice run`.

use clap::Args;

use crate::attach::MapSizes;

/// Capacities; without them by the node's memory. They take effect for maps that are not pinned yet: after `cleanup`.
#[derive(Clone, Debug, Args)]
#[allow(clippy::struct_field_names, reason = "the fields are named as the flags")]
pub(super) struct SizeArgs {
    /// Room for service ports; this and what follows is chosen by the node's memory, and holds once maps are pinned.
    #[arg(long, value_name = "N")]
    max_services: Option<u32>,
    /// Room for frontends, per family.
    #[arg(long, value_name = "N")]
    max_frontends: Option<u32>,
    /// Room for backends (endpoints of service ports), per family.
    #[arg(long, value_name = "N")]
    max_backends: Option<u32>,
    /// Room for the members of all backend sets, per family.
    #[arg(long, value_name = "N")]
    max_slots: Option<u32>,
    /// Room for prefixes of `loadBalancerSourceRanges`, per family.
    #[arg(long, value_name = "N")]
    max_source_ranges: Option<u32>,
    /// Room for established flows, two entries a flow, per family.
    #[arg(long, value_name = "N")]
    max_flows: Option<u32>,
    /// Room for flows without a reply, two entries a flow, per family.
    #[arg(long, value_name = "N")]
    max_embryonic_flows: Option<u32>,
    /// Room for clients with session affinity, per family.
    #[arg(long, value_name = "N")]
    max_affinity: Option<u32>,
    /// Backends whose packets, bytes and connections are counted, per family, on each processor; 0: none.
    #[arg(long, value_name = "N")]
    max_counted_backends: Option<u32>,
    /// Room for sockets led to a backend, per family.
    #[arg(long, value_name = "N")]
    max_sockets: Option<u32>,
}

impl SizeArgs {
    /// These sizes where they are given, else `sizes`.
    pub(super) fn over(&self, sizes: MapSizes) -> MapSizes {
        let backends = self.max_backends.unwrap_or(sizes.backends);
        MapSizes {
            names: self.max_services.unwrap_or(sizes.names),
            frontends: self.max_frontends.unwrap_or(sizes.frontends),
            backends,
            slots: self.max_slots.unwrap_or(sizes.slots),
            ranges: self.max_source_ranges.unwrap_or(sizes.ranges),
            flows: self.max_flows.unwrap_or(sizes.flows),
            embryos: self.max_embryonic_flows.unwrap_or(sizes.embryos),
            affinity: self.max_affinity.unwrap_or(sizes.affinity),
            // A map has at least one entry; id 0 is no backend's.
            counted: self.max_counted_backends.map_or(sizes.counted.min(backends), |wanted| wanted.max(1)),
            sockets: self.max_sockets.unwrap_or(sizes.sockets),
            ..sizes
        }
    }
}
