//! Rings that stall, and rings that only look as if they did.

use super::*;

/// Findings of looks, each a second after the other.
fn looks(views: &[RingView]) -> (Vec<Option<Finding>>, RingGauges) {
    let (mut watch, gauges, start) = (RingWatch::default(), RingGauges::default(), Instant::now());
    let at = |second: usize| start + INTERVAL * second as u32;
    let found = views.iter().enumerate();
    let found = found.map(|(second, view)| watch.look(at(second), *view, &gauges));
    (found.collect(), gauges)
}

fn view(progress: u64, waits_for: WaitsFor) -> RingView {
    RingView {
        progress,
        waits_for,
        ..RingView::default()
    }
}

#[test]
fn a_lost_kick_is_found_once_and_its_end_as_well() {
    let lost = RingView {
        depth: 3,
        unseen: 3,
        ..view(5, WaitsFor::Driver)
    };
    let (found, gauges) = looks(&[lost, lost, lost, lost, lost, view(8, WaitsFor::Driver)]);
    let stalled = Some(Finding::Stalled(Missing::Kick));
    let end = Some(Finding::GoesOn);
    assert_eq!(found, [None, None, stalled, None, None, end]);
    assert_eq!(gauges.stalls(Missing::Kick), 1);
    assert_eq!(gauges.stalls(Missing::Interrupt), 0);
}

#[test]
fn an_interrupt_is_missed_only_where_one_was_sent_at_last() {
    let quiet = RingView {
        untaken: 4,
        ..view(9, WaitsFor::Network)
    };
    let told = RingView {
        interrupts: 1,
        ..quiet
    };
    let (found, _) = looks(&[view(5, WaitsFor::Network), quiet, quiet, quiet, quiet]);
    assert_eq!(found, [None; 5]);
    let (found, gauges) = looks(&[view(5, WaitsFor::Network), told, told, told, told, told]);
    let stalled = Some(Finding::Stalled(Missing::Interrupt));
    assert_eq!(found, [None, None, None, None, stalled, None]);
    assert_eq!((gauges.idle_s(), gauges.stalls(Missing::Interrupt)), (4, 1));
}

#[test]
fn a_ring_that_moves_or_that_waits_for_something_else_does_not_stall() {
    let unseen = |progress, waits_for| RingView {
        unseen: 1,
        ..view(progress, waits_for)
    };
    let moving: Vec<_> = (0..9).map(|at| unseen(at, WaitsFor::Driver)).collect();
    assert!(looks(&moving).0.iter().all(Option::is_none));
    for event in [
        WaitsFor::Nothing,
        WaitsFor::Network,
        WaitsFor::Limit,
        WaitsFor::Reset,
    ] {
        assert!(looks(&[unseen(1, event); 9]).0.iter().all(Option::is_none));
    }
}
