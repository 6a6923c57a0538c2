//! Receive offloads that the driver switches.

use super::*;

/// Bits of GUEST_OFFLOADS_SET.
const CSUM: u64 = 1 << 1;

const TSO4: u64 = 1 << 7;

/// A frame whose checksum is left to the receiver.
fn partial(seed: u64) -> Vec<u8> {
    let mut bytes = frame(128, seed);
    bytes[0] = 1;
    bytes[6..8].copy_from_slice(&34u16.to_le_bytes());
    bytes[8..10].copy_from_slice(&16u16.to_le_bytes());
    bytes
}

#[test]
fn offloads_are_switched_on_the_link_and_in_the_frames_net_cvq_19() {
    let mut rig = Rig::running(F::empty());
    let all = rig.networks[0].wire.links()[0].rx;
    assert_eq!(
        all,
        all_caps().rx,
        "all that were negotiated are on at first"
    );
    assert_eq!(rig.sees(&[partial(1)]).len(), 1);
    assert_eq!(rig.command(5, 0, &0u64.to_le_bytes()), OK);
    // What the driver does not take is done by the device, but for fragments.
    let most = Offloads::DONE_HERE;
    assert_eq!(rig.networks[0].offloads(), [most]);
    let seen = rig.sees(&[partial(2)]);
    assert!(seen.iter().all(|bytes| bytes[0] & 1 == 0), "NET-HDR-20");
    assert_eq!(rig.command(5, 0, &(CSUM | TSO4).to_le_bytes()), OK);
    assert_eq!(rig.networks[0].offloads().len(), 1, "no call of the link");
    assert_eq!(rig.sees(&[partial(3)]).len(), 1);
    // A pause in between (in `sees`) programs what is in force, not what was negotiated.
    let last = rig.networks[0]
        .wire
        .links()
        .pop()
        .expect("it was configured");
    assert_eq!(last.rx, most);
    // The next driver starts from what it negotiates.
    rig.device.reset();
    rig.start(F::empty());
    let last = rig.networks[0]
        .wire
        .links()
        .pop()
        .expect("it was configured");
    assert_eq!(last.rx, all_caps().rx);
}

#[test]
fn offloads_not_negotiated_are_refused_net_cvq_20() {
    let mut rig = Rig::running(F::VIRTIO_NET_F_GUEST_TSO6 | F::VIRTIO_NET_F_GUEST_UFO);
    let negotiated = [1, 7, 9, 54, 55];
    for bit in 0..64 {
        let mask: u64 = 1 << bit | CSUM | TSO4;
        let expected = if negotiated.contains(&bit) { OK } else { ERR };
        assert_eq!(
            rig.command(5, 0, &mask.to_le_bytes()),
            expected,
            "bit {bit}"
        );
    }
    let told = rig.networks[0].offloads().len();
    assert_eq!(told, 0, "the link has all of these on anyway");
    assert_eq!(
        rig.command(5, 0, &TSO4.to_le_bytes()),
        ERR,
        "TSO without CSUM"
    );
    for len in 0..8 {
        assert_eq!(rig.command(5, 0, &vec![0; len]), ERR);
    }
    assert_eq!(rig.networks[0].offloads().len(), told);
}

#[test]
fn a_link_that_refuses_offloads_is_an_error_without_effect() {
    let mut rig = Rig::running(F::empty());
    rig.networks[0].set_refusing(true);
    assert_eq!(rig.command(5, 0, &0u64.to_le_bytes()), ERR);
    assert_eq!(rig.counter("ctrl_refused_host"), 1);
    rig.networks[0].set_refusing(false);
    assert_eq!(rig.sees(&[partial(1)]).len(), 1, "still on");
}
