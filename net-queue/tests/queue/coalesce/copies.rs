//! Copies that a backend makes of the frames of a group, into less room than they need.

use std::io;
use std::os::fd::BorrowedFd;

use net_queue::header::HDR_LEN;
use net_queue::testing::ScriptedBackend;
use net_queue::{Caps, FrameBackend, Gather, LinkConfig, RecvError, Scatter, SendError};

use super::{ALL, kinds, post, rig, stream};
use crate::rig::{PLENTY, ring};

/// Copies each frame into each length of room.
struct Copier {
    inner: ScriptedBackend,
    /// Bytes of the headers of each frame, that of virtio-net included.
    headers: usize,
    groups: usize,
}

impl FrameBackend for Copier {
    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn configure(&mut self, link: &LinkConfig) -> io::Result<()> {
        self.inner.configure(link)
    }

    fn send(&mut self, frame: &Gather<'_>) -> Result<(), SendError> {
        self.groups += usize::from(frame.frames() > 1);
        let mut group = vec![0; frame.len()];
        frame.copy_to(&mut group)?;
        for index in 0..frame.frames() {
            let mut whole = vec![0; frame.len()];
            let len = frame.copy_frame(index, &mut whole)?;
            for room in 0..=len {
                let mut copy = vec![0xee; room];
                assert_eq!(frame.copy_frame(index, &mut copy), Ok(room));
                if room < self.headers {
                    assert_eq!(copy, group[..room], "frame {index} in {room}");
                } else {
                    // Its own payload behind the header of one frame.
                    assert_eq!(copy[..HDR_LEN], whole[..HDR_LEN], "frame {index} in {room}");
                    assert_eq!(copy[self.headers..], whole[self.headers..room]);
                }
            }
        }
        Ok(())
    }

    fn recv(&mut self, room: &mut Scatter<'_>) -> Result<usize, RecvError> {
        self.inner.recv(room)
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.inner.poll_fd()
    }
}

#[test]
fn a_copy_that_is_cut_within_the_headers_of_a_frame_is_the_start_of_its_group() {
    for first in kinds(&[7; 50]) {
        let mut rig = rig(ring(net_queue::ring::Layout::Split, 16), ALL);
        post(&mut rig, &stream(&first, 4, 0));
        let mut copier = Copier {
            inner: rig.backend,
            headers: first.bytes().len() - first.payload.len(),
            groups: 0,
        };
        rig.engine.run(&mut copier, &mut rig.limit, 0, PLENTY);
        assert_eq!(copier.groups, 1);
    }
}
