//! One agent after the other on the same maps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fixtures::{ROOMY, port, upsert};
use super::meaning::{check_whole, meaning};
use crate::maps::memory::MemoryTables;
use crate::model::desired::Change;
use crate::reconcile::writer::Writer;
use crate::reconcile::{Claim, Ended};

fn changes(host: u8) -> Vec<Change> {
    (1..=20).map(|n| upsert(n, vec![port(n, 80, &[(host + n, 4)])])).collect()
}

#[test]
fn a_batch_is_broken_off_between_services_for_a_successor_that_completes_it() {
    let world = (1..=20).map(|n| (n, vec![port(n, 80, &[(100 + n, 4)])])).collect();
    for before in 0..20 {
        for first in [true, false] {
            let mut writer = Writer::restore(MemoryTables::new(ROOMY)).unwrap();
            writer.write(changes(0));
            let mut left = before;
            writer.while_it(Box::new(move |_| {
                left -= 1;
                left >= 0
            }));
            let outcome = if first { writer.write_first(changes(100)) } else { writer.write(changes(100)) };
            assert!(outcome.broken_off);
            assert_eq!(outcome.services, usize::try_from(before).unwrap());
            let left = writer.tables().clone();
            meaning(&left);
            let mut successor = Writer::restore(left).unwrap();
            assert!(!successor.write_first(changes(100)).broken_off);
            check_whole(successor.tables(), &world);
        }
    }
}

#[test]
fn removals_are_broken_off_too() {
    let mut writer = Writer::restore(MemoryTables::new(ROOMY)).unwrap();
    writer.write(changes(0));
    let mut asked = 0;
    writer.while_it(Box::new(move |_| {
        asked += 1;
        asked <= 25
    }));
    let outcome = writer.write(changes(100));
    assert!(outcome.broken_off && outcome.services == 20, "{outcome:?}");
    assert!(writer.tables().backends.len() > 20, "old backends are left to the successor");
    let mut successor = Writer::restore(writer.tables().clone()).unwrap();
    successor.write_first(changes(100));
    assert_eq!(successor.tables().backends.len(), 20);
}

#[test]
fn a_claim_is_lost_to_a_successor_that_waits_or_to_whoever_writes_another_one() {
    let mut tables = MemoryTables::new(ROOMY);
    let asks = Arc::new(AtomicBool::new(false));
    let claim = Claim::new({
        let asks = Arc::clone(&asks);
        Arc::new(move || asks.load(Ordering::Relaxed))
    });
    claim.stake(&mut tables).unwrap();
    assert_eq!(claim.lost(&tables), None);
    asks.store(true, Ordering::Relaxed);
    assert_eq!(claim.lost(&tables), Some(Ended::TakenOver));
    asks.store(false, Ordering::Relaxed);
    // Of the same process id, as in separate pid namespaces.
    Claim::new(Arc::new(|| false)).stake(&mut tables).unwrap();
    assert_eq!(claim.lost(&tables), Some(Ended::Ousted));
    // A version that knows nothing of random numbers.
    claim.stake(&mut tables).unwrap();
    tables.status.pid += 1;
    assert_eq!(claim.lost(&tables), Some(Ended::Ousted));
}
