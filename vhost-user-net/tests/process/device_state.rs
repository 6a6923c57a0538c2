//! The device's state through pipes, out of one confined daemon and into another.

use std::io::{Read, Write, pipe};

use vhost::vhost_user::VhostUserFrontend;
use vhost::vhost_user::message::{VhostTransferStateDirection, VhostTransferStatePhase};

use crate::daemon::Daemon;
use crate::guest::{Guest, TX};

const STOPPED: VhostTransferStatePhase = VhostTransferStatePhase::STOPPED;

#[test]
fn a_daemon_goes_on_from_the_state_of_another_one() {
    let daemon = Daemon::serve(&[]);
    let mut guest = Guest::start(&daemon);
    guest.send();
    vhost::VhostBackend::get_vring_base(&guest.front_end, TX).unwrap();
    let (mut reader, writer) = pipe().unwrap();
    let own = guest.front_end.set_device_state_fd(
        VhostTransferStateDirection::SAVE,
        STOPPED,
        writer.into(),
    );
    assert!(own.unwrap().is_none(), "the pipe of the front-end serves");
    let mut state = Vec::new();
    reader.read_to_end(&mut state).unwrap();
    guest.front_end.check_device_state().unwrap();
    drop((guest, daemon));

    let daemon = Daemon::serve(&[]);
    let mut guest = Guest::connect(&daemon);
    for good in [false, true] {
        let (reader, mut writer) = pipe().unwrap();
        let direction = VhostTransferStateDirection::LOAD;
        let own = guest
            .front_end
            .set_device_state_fd(direction, STOPPED, reader.into());
        assert!(own.unwrap().is_none());
        let len = if good { state.len() } else { state.len() - 1 };
        writer.write_all(&state[..len]).unwrap();
        drop(writer);
        assert_eq!(guest.front_end.check_device_state().is_ok(), good);
    }
    guest.set_up();
    guest.enable();
    guest.send();
}
