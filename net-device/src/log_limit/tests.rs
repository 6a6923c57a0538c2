use super::*;

#[test]
fn a_burst_passes_then_one_line_for_each_interval_with_a_count() {
    let limit = LogLimit::default();
    for _ in 0..LOG_BURST {
        assert_eq!(limit.admit(0, Level::Warn), Some(0));
    }
    for _ in 0..1000 {
        assert_eq!(limit.admit(1, Level::Warn), None);
    }
    assert_eq!(limit.admit(LOG_INTERVAL_NS - 1, Level::Warn), None);
    assert_eq!(limit.admit(LOG_INTERVAL_NS, Level::Warn), Some(1001));
    assert_eq!(limit.admit(LOG_INTERVAL_NS, Level::Warn), None);
    assert_eq!(limit.admit(2 * LOG_INTERVAL_NS, Level::Warn), Some(1));
    assert_eq!(limit.withheld(), 1002);
}

#[test]
fn each_level_has_its_own_budget() {
    let limit = LogLimit::default();
    while limit.admit(0, Level::Info).is_some() {}
    assert_eq!(limit.admit(0, Level::Error), Some(0));
    assert_eq!(limit.admit(0, Level::Trace), Some(0));
}

#[test]
fn a_clock_that_goes_back_brings_no_lines() {
    let limit = LogLimit::default();
    while limit.admit(LOG_INTERVAL_NS, Level::Info).is_some() {}
    assert_eq!(limit.admit(0, Level::Info), None);
    assert_eq!(limit.admit(LOG_INTERVAL_NS, Level::Info), None);
}
