use super::*;

const STATES: [Lifecycle; 6] = [Inactive, Restored, Running, Paused, Suspended, Failed];

/// States that can be reached from `from` without a reset.
fn reachable(from: Lifecycle) -> Vec<Lifecycle> {
    let mut reached = vec![from];
    let mut at = 0;
    while let Some(state) = reached.get(at).copied() {
        at += 1;
        let rows = TRANSITIONS
            .iter()
            .filter(|(start, by, _)| *start == state && *by != Transition::Reset);
        for (_, _, to) in rows {
            if !reached.contains(to) {
                reached.push(*to);
            }
        }
    }
    reached
}

#[test]
fn no_state_has_two_ways_by_one_event() {
    for (at, (from, by, _)) in TRANSITIONS.iter().enumerate() {
        let again = TRANSITIONS[at + 1..]
            .iter()
            .any(|(other, event, _)| (other, event) == (from, by));
        assert!(!again, "{from} by {by:?}");
    }
}

#[test]
fn a_reset_leads_every_state_back_to_the_beginning() {
    for state in STATES {
        assert_eq!(state.after(Transition::Reset), Some(Inactive), "{state}");
    }
}

#[test]
fn every_state_can_be_reached_from_a_new_device() {
    let reached = reachable(Inactive);
    assert!(
        STATES.iter().all(|state| reached.contains(state)),
        "{reached:?}"
    );
}

#[test]
fn nothing_but_a_reset_ends_a_failure() {
    assert_eq!(reachable(Failed), [Failed]);
}

#[test]
fn a_restored_device_comes_up_paused() {
    assert_eq!(Restored.after(Transition::Activate), Some(Paused));
    assert_eq!(Inactive.after(Transition::Activate), Some(Running));
}

#[test]
fn a_state_is_put_into_no_device_that_is_or_was_active() {
    for state in [Running, Paused, Suspended, Failed] {
        assert_eq!(state.after(Transition::Restore), None, "{state}");
        assert_eq!(state.after(Transition::RestoreInactive), None, "{state}");
    }
}

#[test]
fn an_error_names_the_state_and_those_that_would_do() {
    let error = StateError::new(Inactive, &[Running, Paused]);
    assert_eq!(
        error.to_string(),
        "device is inactive; the operation needs one that is running or paused"
    );
}
