//! What the maps say of an address of Services, whatever the port: whether it is a `ClusterIP`, and whether an ICMP
//! echo request is answered.

use lb_common::abi::{FrontendValue, frontend_flag, frontend_kind};

/// What a service port has to do with one of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    /// Service id.
    pub(crate) service: u32,
    /// It is a `ClusterIP` of the port.
    pub(crate) is_cluster_ip: bool,
    /// Some client gets an endpoint there.
    has_endpoints: bool,
    /// Only clients in the port's source ranges are.
    is_limited: bool,
}

impl Hold {
    /// Of a frontend of the port; none: it leaves no trace at the address.
    pub(crate) const fn of(frontend: &FrontendValue) -> Option<Self> {
        let is_cluster_ip = frontend.kind == frontend_kind::CLUSTER_IP;
        // Where the address is the node's own, its stack answers.
        let is_balanced =
            frontend.kind == frontend_kind::LOAD_BALANCER && frontend.flags & frontend_flag::NODE_ADDRESS == 0;
        if !is_cluster_ip && !is_balanced {
            return None;
        }
        Some(Self {
            service: frontend.service,
            is_cluster_ip,
            has_endpoints: frontend.internal.count > 0 || frontend.external.count > 0,
            is_limited: frontend.flags & frontend_flag::SOURCE_RANGES != 0,
        })
    }
}

/// The entry of an address that these hold; none: nobody does. It does not depend on their order.
pub(crate) fn entry(holds: impl Iterator<Item = Hold> + Clone) -> Option<FrontendValue> {
    let is_cluster_ip = holds.clone().any(|hold| hold.is_cluster_ip);
    // Who answers most clients answers.
    let first = holds.min_by_key(|hold| (!hold.has_endpoints, hold.is_limited, hold.service))?;
    let flags = match (first.has_endpoints, first.is_limited) {
        (false, _) => 0,
        (true, false) => frontend_flag::ANSWERS_ECHO,
        (true, true) => frontend_flag::ANSWERS_ECHO | frontend_flag::SOURCE_RANGES,
    };
    let kind = if is_cluster_ip { frontend_kind::KNOWN_VIP } else { frontend_kind::ADDRESS };
    Some(FrontendValue { service: first.service, flags, kind, ..FrontendValue::default() })
}

#[cfg(test)]
mod tests {
    use lb_common::abi::SetRef;

    use super::*;

    fn hold(service: u32, kind: u8, count: u32, flags: u16) -> Option<Hold> {
        let set = SetRef { base: 0, count };
        Hold::of(&FrontendValue { internal: set, external: set, service, kind, flags, ..FrontendValue::default() })
    }

    fn entry_of(holds: &[Option<Hold>]) -> Option<(u32, u8, u16)> {
        let forward = entry(holds.iter().flatten().copied());
        assert_eq!(forward, entry(holds.iter().rev().flatten().copied()));
        forward.map(|value| (value.service, value.kind, value.flags))
    }

    #[test]
    fn an_address_answers_while_one_of_its_services_has_endpoints() {
        use frontend_flag::{ANSWERS_ECHO, NODE_ADDRESS, SOURCE_RANGES};
        use frontend_kind::{ADDRESS, CLUSTER_IP, EXTERNAL_IP, KNOWN_VIP, LOAD_BALANCER, NODE_PORT};
        assert_eq!(entry_of(&[]), None);
        assert_eq!(entry_of(&[hold(1, NODE_PORT, 1, 0), hold(2, EXTERNAL_IP, 1, 0)]), None);
        assert_eq!(entry_of(&[hold(1, LOAD_BALANCER, 1, NODE_ADDRESS)]), None);
        assert_eq!(entry_of(&[hold(1, CLUSTER_IP, 0, 0)]), Some((1, KNOWN_VIP, 0)));
        assert_eq!(
            entry_of(&[hold(1, CLUSTER_IP, 0, 0), hold(2, CLUSTER_IP, 3, 0)]),
            Some((2, KNOWN_VIP, ANSWERS_ECHO))
        );
        let limited = hold(1, LOAD_BALANCER, 1, SOURCE_RANGES);
        assert_eq!(
            entry_of(&[limited, hold(2, LOAD_BALANCER, 0, 0)]),
            Some((1, ADDRESS, ANSWERS_ECHO | SOURCE_RANGES))
        );
        assert_eq!(entry_of(&[limited, hold(2, LOAD_BALANCER, 1, 0)]), Some((2, ADDRESS, ANSWERS_ECHO)));
        assert_eq!(entry_of(&[limited, hold(2, CLUSTER_IP, 0, 0)]), Some((1, KNOWN_VIP, ANSWERS_ECHO | SOURCE_RANGES)));
    }
}
