//! Translations that take a while: what waits in a ring is asked for at once.

use std::sync::{Arc, Mutex};

use net_queue::header::TxRules;
use net_queue::ring::{AnyRing, Layout};
use net_queue::testing::{Piece, Shape, TestMemory};
use net_queue::{Access, AccessPlatform, TranslateError, TxConfig, TxEngine};

use crate::rig::{TxRig, every_layout, ring};

/// Address of the first buffer; those before it are known.
const BUFFERS: u64 = 0x50_0000_0000;

/// Knows nothing of buffers, and of tables if `tables`.
struct Slow {
    tables: bool,
    /// Ranges that were asked for before their turn.
    asked: Mutex<Vec<(u64, u64, Access)>>,
}

impl AccessPlatform for Slow {
    fn translate(&self, iova: u64, len: u64, _: Access) -> Result<(u64, u64), TranslateError> {
        if iova < BUFFERS {
            return Ok((iova, len));
        }
        Err(TranslateError::Awaited { iova })
    }

    fn ask_ahead(&self, iova: u64, len: u64, access: Access) -> bool {
        self.asked.lock().unwrap().push((iova, len, access));
        iova < BUFFERS && self.tables
    }
}

/// A buffer that nothing is known of.
fn buffer(number: u64) -> Piece {
    Piece::readable(BUFFERS + number * 0x1000, 100 + number as u32)
}

/// Posts chains of these numbers of buffers, and runs the engine; the ranges that were asked for.
fn asked(layout: Layout, size: u16, shape: Shape, chains: &[u64], tables: bool) -> Vec<(u64, u64)> {
    let mut rig = TxRig::new(ring(layout, size));
    let memory: TestMemory = rig.guest.memory().clone();
    let asked = Mutex::default();
    let platform = Arc::new(Slow { tables, asked });
    let ram = memory.ram().with_access_platform(platform.clone());
    let device = AnyRing::new(&ram, &rig.guest.config()).expect("its pages are known");
    let config = TxConfig::new(TxRules::default());
    rig.engine = TxEngine::new(device, config, rig.counters.clone());
    let mut numbers = 0..;
    for count in chains {
        let pieces: Vec<_> = numbers.by_ref().take(*count as usize).map(buffer).collect();
        rig.guest.add_as(shape, &pieces);
    }
    rig.guest.publish();
    for _ in 0..3 {
        assert!(rig.drain().is_empty());
    }
    assert!(rig.guest.poll().is_none());
    let asked = platform.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|(_, _, access)| *access == Access::Read));
    asked.iter().map(|(iova, len, _)| (*iova, *len)).collect()
}

fn ranges(count: u64) -> Vec<(u64, u64)> {
    (0..count)
        .map(|number| (BUFFERS + number * 0x1000, 100 + number))
        .collect()
}

#[test]
fn all_buffers_of_all_chains_are_asked_for_once() {
    every_layout(|layout| {
        assert_eq!(
            asked(layout, 16, Shape::Direct, &[3, 1, 4], true),
            ranges(8)
        );
        let found = asked(layout, 16, Shape::Indirect, &[3, 1, 4], true);
        let (tables, buffers): (Vec<_>, Vec<_>) = found.iter().partition(|it| it.0 < BUFFERS);
        let lens: Vec<_> = tables.iter().map(|(_, len)| *len).collect();
        assert_eq!((lens, buffers), (vec![48, 16, 64], ranges(8)));
    });
}

#[test]
fn a_table_that_is_not_known_is_asked_for_without_its_entries() {
    every_layout(|layout| {
        let found = asked(layout, 16, Shape::Indirect, &[3, 1, 4], false);
        let lens: Vec<_> = found.iter().map(|(_, len)| *len).collect();
        assert_eq!(lens, [48, 16, 64]);
    });
}

#[test]
fn no_driver_has_more_asked_for_than_a_bound() {
    every_layout(|layout| {
        let long = asked(layout, 256, Shape::Direct, &[2; 100], true);
        assert_eq!(long, ranges(64));
        let found = asked(layout, 256, Shape::Indirect, &[60, 60], true);
        assert_eq!(found.len(), 64);
    });
}
