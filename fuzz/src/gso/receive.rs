//! Large frames on their way to a driver.

use net_queue::header::HdrSize;
use net_queue::ring::RingConfig;
use net_queue::testing::{GuestRing, TestMemory};
use net_queue::{Budget, Offloads, RxConfig};

use super::frames::{self, MAX_STEPS};
use crate::Seed;
use crate::bytes::Bytes;
use crate::pair::RxSide;
use crate::ports::{Gate, Port};

/// Terms: bits (1), offloads (1). Steps: buffers, a large frame, a run, another engine.
pub(super) fn run(input: &mut Bytes<'_>, ring: RingConfig, size: HdrSize) {
    let (bits, offloads) = (input.u8(), input.u8());
    let config = RxConfig {
        size,
        offloads: Offloads::from_bits_truncate(offloads.into()),
        merge: bits & 1 != 0 && size != HdrSize::Legacy,
        mtu: (bits & 2 != 0).then_some(1500),
        link_mtu: None,
    };
    let memory = TestMemory::new();
    let mut side = RxSide::new(GuestRing::new(&memory, ring), config);
    let mut port = Port::new(size, Offloads::all());
    let mut gate = Gate::default();
    for _ in 0..MAX_STEPS {
        if input.remaining().is_empty() {
            break;
        }
        match input.u8() % 5 {
            0 | 1 => {
                let (count, len) = (input.u8() % 64, usize::from(input.u16()).max(1));
                for _ in 0..count.min(side.guest.free() as u8) {
                    side.guest.add(&[memory.room(len)]);
                }
                side.guest.publish();
            }
            2 if port.frames.len() < 8 => {
                let frame = frames::behind(size, frames::large(input));
                side.expect(frame.clone());
                port.frames.push_back(frame);
            }
            3 => side.resume_at_cursor(&mut gate),
            _ => {
                gate.left = input.u8().into();
                let frames = input.u8().into();
                let bytes = u64::MAX;
                side.run(&mut port, &mut gate, Budget { frames, bytes });
                side.check(&port);
            }
        }
    }
    gate.left = u32::MAX;
    let (frames, bytes) = (1 << 20, u64::MAX);
    side.run(&mut port, &mut gate, Budget { frames, bytes });
    side.check(&port);
    side.is_done(&port);
}

pub(super) fn seeds() -> Vec<Seed> {
    let post = |count: u8, len: u16| [&[0, count], len.to_le_bytes().as_slice()].concat();
    let frame = |kind: u8, payload: u16, changes: &[[u8; 2]]| {
        let (payload, size) = (payload.to_le_bytes(), 1448_u16.to_le_bytes());
        let count = [changes.len() as u8];
        let head = [2, kind, 0x31, 0x99];
        [
            &head,
            payload.as_slice(),
            &size,
            &count,
            changes.as_flattened(),
        ]
        .concat()
    };
    let (run, resume) = (vec![4, 20, 20], vec![3]);
    let tcp = [
        vec![0x80, 0, 1, 1],
        post(20, 900),
        frame(0x0e, 9000, &[]),
        run.clone(),
        resume.clone(),
    ];
    let udp = [
        vec![0x85, 1, 0, 0],
        post(3, 1600),
        frame(0x21, 7000, &[]),
        run.clone(),
        post(9, 1600),
    ];
    let lies = [
        vec![0x81, 0, 1, 0],
        post(50, 1600),
        frame(0x02, 5000, &[[2, 9], [6, 2], [28, 0x0f]]),
        frame(0x00, 5000, &[[50, 1]]),
        run,
        resume,
    ];
    vec![
        ("receive_tcp", tcp.concat()),
        ("receive_udp", udp.concat()),
        ("receive_lies", lies.concat()),
    ]
}
