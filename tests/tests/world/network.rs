//! The network behind each pair of the device.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;

use crate::frames::Numbers;

/// Frames that arrived as one.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) numbers: Vec<u64>,
    /// Length that goes with them.
    pub(crate) len: usize,
}

/// The network behind one pair.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// It delivers frames to its pair.
    pub(crate) attached: bool,
    /// Its other end, until it is gone.
    pub(crate) end: Option<UnixStream>,
    /// Something happened to its end since the VMM looked.
    pub(crate) hung_up: bool,
    /// Frames that have arrived.
    pub(crate) arriving: VecDeque<Arrival>,
    pub(crate) numbers: Numbers,
    /// Frames that there is room for.
    pub(crate) room: u32,
    /// A frame arrived since the VMM looked.
    pub(crate) arrived: bool,
    /// Somebody asked for room when there was none.
    pub(crate) wants_room: bool,
    /// There is room again since the VMM looked, and somebody asked.
    pub(crate) has_room: bool,
    /// Frames that it refused to send: the device has to have counted them.
    pub(crate) refused: u64,
    /// Frames that it lost: likewise.
    pub(crate) lost: u64,
}

impl Network {
    /// So many frames of a flow arrive as one, unless nobody listens.
    pub(crate) fn arrive(&mut self, flow: usize, len: usize, count: usize) {
        if !self.attached {
            return;
        }
        let numbers = (0..count).map(|_| self.numbers.take(flow)).collect();
        self.arriving.push_back(Arrival { numbers, len });
        self.arrived = true;
    }

    /// Begins or ends delivery. What nobody has received until then is lost in the network.
    pub(crate) fn attach(&mut self, on: bool) {
        self.attached = on;
        if !on {
            self.arriving.clear();
        }
    }

    /// The host takes the link away.
    pub(crate) fn die(&mut self) {
        self.hung_up |= self.end.take().is_some();
        self.arriving.clear();
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.end.is_none()
    }

    /// Makes room, and tells who waits for it as a tap does: those who asked when there was none.
    pub(crate) fn make_room(&mut self, frames: u32) {
        self.room += frames;
        self.has_room |= self.room > 0 && std::mem::take(&mut self.wants_room);
    }
}
