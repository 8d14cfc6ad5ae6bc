//! What was counted for the first service ports by name, and for the first backends: of a list that may have a hundred
//! thousand rows, only those that are shown are put together.

use std::collections::HashMap;
use std::net::SocketAddr;

use lb_common::abi::StatsValue;

use super::failure::TableFailure;
use crate::model::family::Family;

/// A service port: its name, family and id.
pub(super) type Named = (String, Family, u32);
/// A backend that is counted: its family, its id, and the id of its service port.
pub(super) type Owned = (Family, u32, u32);

/// The first rows of two lists, and how long they are.
#[derive(Debug, Default)]
pub struct FirstRows {
    /// Service ports by name and family, with what was counted for all their backends.
    pub services: Vec<(String, Family, StatsValue)>,
    /// How many there are.
    pub all_services: usize,
    /// Backends by their service port's name and family, then by their address.
    pub backends: Vec<(String, Family, SocketAddr, StatsValue)>,
    /// How many there are.
    pub all_backends: usize,
}

/// Where the numbers are.
pub(super) trait Counts {
    /// Of backends that are gone, by the id of their service port.
    fn total(&self, service: u32) -> Result<StatsValue, TableFailure>;
    /// A backend's address, and what was counted for it.
    fn backend(&self, family: Family, id: u32) -> Result<(SocketAddr, StatsValue), TableFailure>;
}

/// At most `limit` rows of each list.
pub(super) fn first_rows(
    mut names: Vec<Named>,
    owned: &[Owned],
    limit: usize,
    counts: &impl Counts,
) -> Result<FirstRows, TableFailure> {
    names.sort_unstable();
    let place: HashMap<u32, usize> = names.iter().enumerate().map(|(at, (_, _, id))| (*id, at)).collect();
    let mut rows = FirstRows::default();
    // While a service port is written anew it may have two ids: they are one row.
    let mut row_of: Vec<usize> = Vec::with_capacity(names.len());
    for (at, (name, family, id)) in names.iter().enumerate() {
        let again = at > 0 && (&names[at - 1].0, names[at - 1].1) == (name, *family);
        rows.all_services += usize::from(!again);
        row_of.push(rows.all_services - 1);
        if rows.all_services > limit {
            continue;
        }
        let total = counts.total(*id)?;
        match rows.services.last_mut().filter(|_| again) {
            Some(row) => row.2 = row.2.plus(&total),
            None => rows.services.push((name.clone(), *family, total)),
        }
    }
    let mut backends_of = vec![0_usize; rows.all_services];
    for at in owned.iter().filter_map(|(_, _, service)| place.get(service)) {
        backends_of[row_of[*at]] += 1;
    }
    rows.all_backends = backends_of.iter().sum();
    // The first service ports that have so many backends together.
    let mut enough = 0;
    let listed = backends_of.iter().take_while(|many| {
        let short = enough < limit;
        enough += **many;
        short
    });
    let listed = listed.count();
    for (family, id, service) in owned {
        let Some(at) = place.get(service).copied() else { continue };
        let row = row_of[at];
        if row >= limit && row >= listed {
            continue;
        }
        let (addr, counted) = counts.backend(*family, *id)?;
        if let Some(shown) = rows.services.get_mut(row) {
            shown.2 = shown.2.plus(&counted);
        }
        if row < listed {
            rows.backends.push((names[at].0.clone(), *family, addr, counted));
        }
    }
    rows.backends.sort_unstable_by(|a, b| (&a.0, a.1, a.2).cmp(&(&b.0, b.1, b.2)));
    rows.backends.truncate(limit);
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[derive(Default)]
    struct Played {
        asked: Cell<usize>,
    }

    impl Counts for Played {
        fn total(&self, service: u32) -> Result<StatsValue, TableFailure> {
            Ok(StatsValue { packets: 1000 * u64::from(service), ..StatsValue::default() })
        }

        fn backend(&self, _: Family, id: u32) -> Result<(SocketAddr, StatsValue), TableFailure> {
            self.asked.set(self.asked.get() + 1);
            // The higher the id, the lower the address.
            let addr = SocketAddr::from(([10, 0, 0, u8::try_from(200 - id).unwrap()], 80));
            Ok((addr, StatsValue { packets: u64::from(id), ..StatsValue::default() }))
        }
    }

    fn named(name: &str, id: u32) -> Named {
        (name.into(), Family::V4, id)
    }

    #[test]
    fn the_first_rows_are_those_of_the_whole_list_in_order() {
        let names = || vec![named("c", 3), named("a", 1), named("b", 2), named("a", 4)];
        let owned: Vec<Owned> =
            [(1, 3), (2, 1), (3, 1), (4, 4), (5, 2), (6, 9)].map(|(id, service)| (Family::V4, id, service)).into();
        let whole = first_rows(names(), &owned, 100, &Played::default()).unwrap();
        let packets: Vec<(&str, u64)> = whole.services.iter().map(|(name, _, c)| (name.as_str(), c.packets)).collect();
        assert_eq!(packets, [("a", 5009), ("b", 2005), ("c", 3001)], "two ids of one port are one row");
        let backends: Vec<(&str, u64)> =
            whole.backends.iter().map(|(name, .., c)| (name.as_str(), c.packets)).collect();
        assert_eq!(backends, [("a", 4), ("a", 3), ("a", 2), ("b", 5), ("c", 1)]);
        for limit in 0..6 {
            let some = first_rows(names(), &owned, limit, &Played::default()).unwrap();
            assert_eq!((some.all_services, some.all_backends), (3, 5), "a backend of nobody does not count");
            assert_eq!(some.services, whole.services[..limit.min(3)]);
            assert_eq!(some.backends, whole.backends[..limit.min(5)]);
        }
    }

    #[test]
    fn rows_that_are_not_shown_are_not_read() {
        let names = (0..40).map(|n| named(&format!("{n:02}"), n + 1)).collect();
        let owned: Vec<Owned> = (0..120).map(|n| (Family::V4, n, n % 40 + 1)).collect();
        let counts = Played::default();
        let rows = first_rows(names, &owned, 4, &counts).unwrap();
        assert_eq!((rows.services.len(), rows.backends.len()), (4, 4));
        assert_eq!(counts.asked.get(), 12, "those of four service ports");
    }
}
