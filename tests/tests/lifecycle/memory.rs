//! Guest memory that is replaced under a device.

use super::*;

/// The rig's memory once more, as a mapping of its own that can be seen to end.
fn view(rig: &Rig) -> (GuestRam, std::sync::Weak<dyn Send + Sync>) {
    let mapping = Arc::new((**rig.memory.mmap()).clone());
    let weak = Arc::downgrade(&mapping) as std::sync::Weak<dyn Send + Sync>;
    (GuestRam::new(mapping).expect("it is mapped"), weak)
}

#[test]
fn remap_mid_packet_moves_every_queue_and_lets_the_old_mapping_go() {
    for without in RINGS {
        let mut rig = Rig::new(Rig::config(1));
        rig.negotiate(without);
        rig.lay_out(64);
        let (ram, mut old) = view(&rig);
        let activation = Activation {
            memory: ram,
            ..rig.activation(rig.setups())
        };
        rig.device.activate(activation).expect("it can be used");
        rig.networks[0].set_endless(true);
        for round in 0..50 {
            rig.post(0, &[256; 16]);
            rig.send(0, &frame(60, round));
            let (ram, new) = view(&rig);
            assert!(old.upgrade().is_some());
            rig.device.set_memory(ram).expect("the same rings");
            assert!(old.upgrade().is_none(), "the old mapping is still held");
            old = new;
            assert_eq!(
                body(&rig.networks[0].wait_sent(1)[0]),
                body(&frame(60, round))
            );
            rig.wait_used(1, 1);
            for bytes in rig.receive(0, 16) {
                assert_eq!(body(&bytes), body(&frame(64, 0)));
            }
            assert_eq!(rig.command(0, 0, &[1]), 0);
        }
        pause(&mut rig);
        let (ram, new) = view(&rig);
        rig.device.set_memory(ram).expect("the same rings");
        assert!(old.upgrade().is_none() && new.upgrade().is_some());
        rig.networks[0].set_endless(false);
        let receives = rig.networks[0].receives();
        rig.networks[0].wire.inject(frame(60, 1));
        assert_eq!(rig.networks[0].receives(), receives, "it is paused still");
        resume(&mut rig);
        rig.post(0, &[256]);
        rig.receive(0, 1);
    }
}

#[test]
fn memory_without_the_rings_fails_the_device_and_reset_cures_it() {
    let mut rig = Rig::running(F::empty());
    let elsewhere = [(GuestAddress(0x9000_0000), 0x10000)];
    let other = GuestMemoryMmap::<()>::from_ranges(&elsewhere).expect("it can be mapped");
    let other = GuestRam::new(Arc::new(other)).expect("it is mapped");
    assert!(rig.device.set_memory(other).is_err());
    rig.irq.wait_config(1);
    assert!(rig.device.needs_reset());
    rig.device.reset();
    rig.start(F::empty());
    check_traffic(&mut rig, 1);
}
