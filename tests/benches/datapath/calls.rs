//! Other ways to ask the kernel for the same, against one `writev` or `readv` of one buffer: what
//! the tap backend chooses from.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use net_device::Layout;
use net_device::tap::Tap;
use net_queue::header::HDR_LEN;

use crate::driver::DriverRing;
use crate::frames::Kind;
use crate::host::{self, PacketSocket};
use crate::paired::{self, Paired, timed};

const BATCH: u16 = 32;

/// One way to move the frame of one buffer.
#[derive(Clone, Copy, Debug)]
enum Way {
    Writev,
    Readv,
    Write,
    CopyWrite,
    WritevTwo,
    Read,
    ReadCopy,
    ReadvTwo,
}

const WAYS: [(Way, &str); 6] = [
    (Way::Write, "write"),
    (Way::CopyWrite, "copy, write the copy"),
    (Way::WritevTwo, "writev header copy + frame"),
    (Way::Read, "read"),
    (Way::ReadCopy, "read elsewhere, copy"),
    (Way::ReadvTwo, "readv buffer + spill"),
];

struct Calls {
    driver: DriverRing,
    tap: Tap,
    _backend: Box<dyn net_device::net_queue::FrameBackend>,
    sender: PacketSocket,
    frame: Vec<u8>,
    private: Vec<u8>,
    way: Way,
}

impl Way {
    fn receives(self) -> bool {
        matches!(
            self,
            Self::Readv | Self::Read | Self::ReadCopy | Self::ReadvTwo
        )
    }

    #[inline]
    fn go(self, fd: RawFd, buffer: &libc::iovec, private: &mut [u8]) -> isize {
        match self {
            Self::Writev => host::writev(fd, std::slice::from_ref(buffer)),
            Self::Readv => host::readv(fd, std::slice::from_ref(buffer)),
            Self::Write => host::write(fd, buffer),
            Self::CopyWrite => {
                host::copy_out(buffer, private);
                let len = buffer.iov_len.min(private.len());
                host::write(fd, &host::iovec(private.as_mut_ptr(), len))
            }
            Self::WritevTwo => {
                let header = host::iovec(private.as_mut_ptr(), HDR_LEN);
                host::copy_out(buffer, &mut private[..HDR_LEN]);
                host::writev(fd, &[header, host::behind(buffer, HDR_LEN)])
            }
            Self::Read => host::read(fd, buffer),
            Self::ReadCopy => {
                let len = host::read(fd, &host::iovec(private.as_mut_ptr(), private.len()));
                host::copy_in(buffer, &private[..len.unsigned_abs()]);
                len
            }
            Self::ReadvTwo => {
                let spill = host::iovec(private.as_mut_ptr(), private.len());
                host::readv(fd, &[*buffer, spill])
            }
        }
    }
}

impl Calls {
    fn new(way: Way, kind: Kind) -> Self {
        let frame = kind.bytes();
        let len = if way.receives() {
            kind.room()
        } else {
            frame.len()
        };
        let driver = DriverRing::new(Layout::Split, len, way.receives());
        for piece in &driver.pieces {
            driver.memory.write(piece.addr, &frame);
        }
        let opened = host::open_taps(1).remove(0);
        let tap = opened.try_clone().expect("a descriptor can be duplicated");
        let sender = PacketSocket::open(&tap, 0).expect("a packet socket can be opened");
        Self {
            driver,
            tap,
            _backend: crate::driver::backend(opened),
            sender,
            frame,
            private: vec![0; 65_565],
            way,
        }
    }

    fn go(&mut self, way: Way) -> u64 {
        if way.receives() {
            (0..BATCH).for_each(|_| self.sender.send(&self.frame));
        }
        let fd = self.tap.as_fd().as_raw_fd();
        let (len, private) = (self.frame.len() as isize, &mut self.private);
        let buffers: Vec<_> = self.driver.bare(BATCH).collect();
        timed(|| {
            for buffer in buffers {
                assert_eq!(
                    way.go(fd, buffer, private),
                    len,
                    "the kernel moves the frame"
                );
            }
        })
    }
}

impl Paired for Calls {
    fn device(&mut self) -> u64 {
        self.go(self.way)
    }

    fn bare(&mut self) -> u64 {
        self.go(if self.way.receives() {
            Way::Readv
        } else {
            Way::Writev
        })
    }
}

/// Every way for every kind of frame.
pub(crate) fn run() {
    println!(
        "\nways to move one frame, ratio to `writev`/`readv` of one buffer (batches of {BATCH})"
    );
    println!(
        "{:<28} {:>8} {:>8} {:>8} {:>8}",
        "", "64", "512", "1514", "64K-gso"
    );
    for (way, name) in WAYS {
        let ratio = |kind: Kind| {
            let score = paired::hold(&mut Calls::new(way, kind), BATCH, kind.rounds());
            format!(" {:>8.3}", score.ratio[1])
        };
        println!("{name:<28}{}", Kind::ALL.map(ratio).concat());
    }
}
