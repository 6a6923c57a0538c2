//! Flows over a real tap, whose queues the host chooses for itself.

use super::*;
use net_device::NetDevice;
use net_device::tap::TapOptions;
use net_queue::header::HDR_LEN;
use tests::testbed::{Host, Interrupting, isolated, without_ipv6};

const PAIRS: u16 = 4;
const FLOWS: usize = 1000;
const IP: usize = HDR_LEN + 14;

/// The queue of `table` that a datagram without IP options belongs to.
fn queue_of(bytes: &[u8], table: &[u16]) -> u16 {
    let hash = flows::toeplitz(&KEY, &bytes[IP + 12..IP + 24]);
    table[hash as usize % table.len()]
}

/// Sends a datagram of each of `FLOWS` flows; how many landed at each pair, all as `table` says.
fn spread(rig: &mut Rig, table: &[u16]) -> Vec<usize> {
    for pair in 0..PAIRS {
        let room = rig.queues[&(2 * pair)].ring.free();
        rig.post(pair, &vec![256; room]);
    }
    for _ in 0..FLOWS {
        Host::send_by(&Host::flow(), b"flow");
    }
    let mut landed = vec![0; usize::from(PAIRS)];
    let (irq, queues) = (rig.irq.clone(), &mut rig.queues);
    irq.wait_until("all flows to arrive", || {
        for pair in 0..PAIRS {
            let queue = queues.get_mut(&(2 * pair)).expect("it was laid out");
            queue.look(usize::MAX, Interrupting::Yes);
            for used in std::mem::take(&mut queue.used) {
                let bytes = queue.ring.bytes(&used);
                if Host::payload(&bytes) == Some(b"flow") {
                    assert_eq!(queue_of(&bytes, table), pair, "where the table says");
                    landed[usize::from(pair)] += 1;
                }
            }
        }
        landed.iter().sum::<usize>() == FLOWS
    });
    landed
}

#[test]
fn a_thousand_flows_of_a_real_tap_land_where_the_table_says() {
    isolated(|| {
        without_ipv6();
        let options = TapOptions::new("rss0").queues(usize::from(PAIRS)).up();
        let taps = options.open().expect("a namespace of its own");
        let host = Host::on("rss0");
        let mut config = Rig::config(PAIRS);
        config.rss = true;
        config.queue_size = 2048;
        let device = NetDevice::from_taps(config, taps).expect("they fit");
        let mut rig = Rig::over(device);
        rig.negotiate(F::empty());
        rig.lay_out(2048);
        rig.activate();
        for table in [&[0, 1, 2, 3][..], &[3, 3, 1, 1, 0, 2, 2, 2], &[1]] {
            let config = rss_config(0x1ff, 0, table, PAIRS, &KEY);
            assert_eq!(rig.command(MQ, RSS_CONFIG, &config), OK);
            let landed = spread(&mut rig, table);
            for pair in 0..PAIRS {
                let named = table.contains(&pair);
                assert_eq!(landed[usize::from(pair)] > 0, named, "{landed:?}");
            }
        }
        assert!(rig.counter("rx_steered") > 0, "the host knows no table");
        // The other way is the driver's own choice.
        rig.send(2, &host.datagram(b"out"));
        assert_eq!(host.receive(), b"out");
    });
}
