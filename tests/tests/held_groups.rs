//! Frames that were coalesced and have not left when something happens to their device.

use net_device::net_queue::{Caps, Offloads};
use net_device::{
    EventWorker, Features, NetDevice, Snapshottable, Source, VirtioDevice, WorkerEvent,
};
use net_queue::testing::Answer;
use net_queue::testing::packets::{Packet, on_the_wire};
use tests::testbed::{EventLoop, RINGS, Rig, all_caps, port, resume};

/// Flows, and packets of each.
const FLOWS: u16 = 3;
const EACH: usize = 5;

/// A device without threads on a port for which frames are merged.
fn rig() -> Rig {
    let (port, network) = port(Caps {
        coalesce: Offloads::all(),
        ..all_caps()
    });
    let device = NetDevice::builder(Rig::config(1)).event_loop();
    let device = device.build_on_ports(vec![port]);
    let mut rig = Rig::over(device.expect("the device can be made"));
    rig.networks.push(network);
    rig
}

/// The packets of all flows in turn.
fn packets() -> Vec<Packet> {
    let turns = (0..EACH).flat_map(|n| (0..FLOWS).map(move |flow| (n, flow)));
    turns
        .map(|(n, flow)| Packet {
            ports: (1000 + flow, 9),
            ..Packet::udp(&[0; 80]).after(n, &[n as u8; 80])
        })
        .collect()
}

/// The packets of a flow as they are on the wire.
fn of_flow(frames: &[Vec<u8>], flow: u16) -> Vec<&Vec<u8>> {
    let port = (1000 + flow).to_be_bytes();
    frames
        .iter()
        .filter(|frame| frame[34..36] == port)
        .collect()
}

fn wire(sent: &[Vec<u8>]) -> Vec<Vec<u8>> {
    sent.iter().flat_map(|sent| on_the_wire(sent)).collect()
}

/// Makes all packets available at once, and lets the device look at them once: the backend takes
/// `groups` groups.
fn hold(rig: &mut Rig, without: Features, groups: usize) -> Vec<EventWorker> {
    rig.start(without);
    let workers = rig.device.event_workers();
    let script = vec![Answer::Pass; groups];
    let blocked = vec![Answer::WouldBlock; 1000];
    rig.networks[0].wire.script_send([script, blocked].concat());
    for packet in packets() {
        let pieces = rig.memory.cut(&packet.bytes(), &[]);
        rig.queue(1).ring.add(&pieces);
    }
    rig.queue(1).publish();
    turn(&workers);
    assert_eq!(rig.networks[0].wire.waiting(), 0);
    workers
}

/// Tells each worker of a kick of its transmit queue.
fn turn(workers: &[EventWorker]) {
    for worker in workers {
        let _ = worker.turn();
        let kick = WorkerEvent::from_epoll(epoll::Events::EPOLLIN.bits(), Source::TxKick as u64);
        worker.on_event(kick.expect("the source is known"));
        let _ = worker.turn();
    }
}

#[test]
fn frames_of_a_group_go_on_in_another_device() {
    for without in RINGS {
        for groups in 0..=usize::from(FLOWS) {
            let mut rig = rig();
            let workers = hold(&mut rig, without, groups);
            let before = wire(&rig.networks[0].wire.take_sent());
            assert_eq!(before.len(), groups * EACH, "{without:?}");
            rig.device
                .pause()
                .expect("a device with frames in hand pauses");
            assert_eq!(rig.networks[0].wire.take_sent().len(), 0);
            let state = rig.device.snapshot().expect("it is paused");
            drop(workers);
            let mut next = self::rig();
            next.device.restore(state).expect("the device is alike");
            let mut next = rig.move_to(next);
            next.activate();
            let _loop = EventLoop::drive(next.device.event_workers());
            resume(&mut next);
            next.wait_used(1, usize::from(FLOWS) * EACH);
            let after = wire(&next.networks[0].wire.take_sent());
            let expected: Vec<_> = packets()
                .iter()
                .flat_map(|packet| on_the_wire(&packet.bytes()))
                .collect();
            for flow in 0..FLOWS {
                let (before, after) = (of_flow(&before, flow), of_flow(&after, flow));
                let expected = of_flow(&expected, flow);
                assert!(expected.starts_with(&before), "{without:?} {groups} {flow}");
                // Those that left behind one that had not are sent again.
                assert!(expected.ends_with(&after), "{without:?} {groups} {flow}");
                assert!(
                    before.len() + after.len() >= EACH,
                    "{without:?} {groups} {flow}"
                );
            }
        }
    }
}

#[test]
fn nothing_of_a_group_is_left_after_a_reset() {
    for without in RINGS {
        let mut rig = rig();
        let workers = hold(&mut rig, without, 1);
        assert_eq!(wire(&rig.networks[0].wire.take_sent()).len(), EACH);
        rig.device.reset();
        drop(workers);
        rig.networks[0].wire.clear_scripts();
        assert_eq!(rig.networks[0].wire.take_sent().len(), 0);
        rig.start(without);
        let _loop = EventLoop::drive(rig.device.event_workers());
        let packet = &packets()[0];
        rig.send(0, &packet.bytes());
        assert_eq!(
            wire(&rig.networks[0].wait_sent(1)),
            on_the_wire(&packet.bytes())
        );
    }
}

#[test]
fn a_queue_that_stops_with_a_group_goes_on_where_it_was() {
    for without in RINGS {
        let mut rig = rig();
        let workers = hold(&mut rig, without, 0);
        rig.networks[0].wire.clear_scripts();
        let cursor = rig.device.stop_queue(1).expect("the queue runs");
        let sent = wire(&rig.networks[0].wire.take_sent());
        assert_eq!(
            sent.len(),
            usize::from(FLOWS) * EACH,
            "sent at the last moment"
        );
        let setup = rig.queues[&1].setup_at(cursor.expect("it ran"));
        rig.device.start_queue(setup).expect("the queue starts");
        turn(&workers);
        rig.wait_used(1, usize::from(FLOWS) * EACH);
        assert_eq!(
            rig.networks[0].wire.take_sent().len(),
            0,
            "nothing is sent twice"
        );
    }
}
