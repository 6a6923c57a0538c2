//! The driver crate's network driver, with buffers that are owned instead of borrowed.

use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, PoisonError};
use std::{array, io};

use thiserror::Error;
use virtio_drivers::Error as RingError;
use virtio_drivers::device::net::VirtIONetRaw;

use super::{ArenaHal, DmaBuf};
use crate::guest::interrupt::GuestInterrupt;
use crate::guest::lines::Lines;
use crate::guest::transport::{DeviceTransport, SharedDevice};
use crate::guest::transport_error::TransportError;

/// Descriptors in each of the two queues.
pub const QUEUE_SIZE: usize = 256;

/// Reason why the driver gave up.
#[derive(Debug, Error)]
pub enum DriverError {
    /// No descriptors for doorbells or the interrupt.
    #[error("no event for the driver")]
    Event(#[source] io::Error),
    /// Every page of guest memory is in use.
    #[error("no guest memory for frames")]
    Memory,
    /// The device did not come up.
    #[error("the device did not come up")]
    Boot(#[from] TransportError),
    /// The driver crate refused something.
    #[error("the driver stopped while it had to {action}")]
    Ring {
        /// Action that it was about to take.
        action: &'static str,
        /// Cause.
        #[source]
        source: RingError,
    },
    /// The device returned a descriptor that it does not hold.
    #[error("the device returned descriptor {0}, which it does not hold")]
    Token(u16),
    /// The device claims to have written more than the buffer holds.
    #[error("the device wrote {0} bytes into a smaller buffer")]
    Length(usize),
}

/// A received frame, with the device's header in front.
#[derive(Debug)]
pub struct Frame {
    buf: DmaBuf,
    start: usize,
    len: usize,
}

impl Frame {
    /// The frame without the header.
    pub fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.start + self.len]
    }
}

/// Buffers that the device holds, by descriptor.
type Slots<T> = Box<[Option<T>; QUEUE_SIZE]>;

/// A running network driver. Dropping it resets the device.
///
/// A buffer that the device holds lies in a slot of its descriptor and is not looked at.
pub struct Driver {
    // Dropped first: its drop resets the device, which then no longer holds any buffer below.
    raw: VirtIONetRaw<ArenaHal, DeviceTransport, QUEUE_SIZE>,
    receiving: Slots<DmaBuf>,
    /// With the number of bytes that were sent from the start.
    sending: Slots<(DmaBuf, usize)>,
    idle: Vec<DmaBuf>,
    lines: Arc<Lines>,
    header: usize,
}

impl Driver {
    /// Brings the device up and posts a receive buffer of `buffer_len` bytes per descriptor.
    ///
    /// # Errors
    /// When the device or the driver crate refuses, or guest memory is used up.
    pub fn start(device: SharedDevice, buffer_len: usize) -> Result<Self, DriverError> {
        let queues = device
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .queue_max_sizes()
            .len();
        let lines = Arc::new(Lines::new(queues).map_err(DriverError::Event)?);
        let raw = VirtIONetRaw::new(DeviceTransport::new(device, Arc::clone(&lines)));
        if let Some(failure) = lines.take_failure() {
            return Err(failure.into());
        }
        let raw = raw.map_err(ring("start"))?;
        let buffers = |count| {
            (0..count)
                .map(|_| DmaBuf::new(buffer_len))
                .collect::<Option<Vec<_>>>()
        };
        let mut idle = buffers(QUEUE_SIZE).ok_or(DriverError::Memory)?;
        let header = raw
            .fill_buffer_header(&mut idle[0])
            .map_err(ring("write a header"))?;
        let mut driver = Self {
            raw,
            receiving: Box::new(array::from_fn(|_| None)),
            sending: Box::new(array::from_fn(|_| None)),
            idle,
            lines,
            header,
        };
        for buf in buffers(QUEUE_SIZE).ok_or(DriverError::Memory)? {
            driver.post(buf)?;
        }
        driver.flush();
        Ok(driver)
    }

    /// Activates the device that is there now with what this driver has set up, and goes on.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn move_to(&self, device: &SharedDevice) -> Result<(), DriverError> {
        let activation = self.lines.activation()?;
        let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
        let activated = device.activate(activation);
        Ok(activated.map_err(TransportError::Activate)?)
    }

    /// The MAC address in the config space; zero when the device gives none.
    pub fn mac(&self) -> [u8; 6] {
        self.raw.mac_address()
    }

    /// The interrupt to sleep on.
    pub fn interrupt(&self) -> &Arc<GuestInterrupt> {
        &self.lines.interrupt
    }

    /// The oldest received frame, if there is one. Give it back with [`Driver::recycle`].
    ///
    /// # Errors
    /// When the device returned what it was not given.
    pub fn receive(&mut self) -> Result<Option<Frame>, DriverError> {
        let Some(token) = self.raw.poll_receive() else {
            return Ok(None);
        };
        let mut buf = take(&mut self.receiving, token)?;
        // SAFETY: the slot of a token holds the buffer that was posted when the token was made.
        let (start, len) = unsafe { self.raw.receive_complete(token, &mut buf) }
            .map_err(ring("receive a frame"))?;
        if start + len > buf.len() {
            return Err(DriverError::Length(start + len));
        }
        Ok(Some(Frame { buf, start, len }))
    }

    /// Posts the buffer of a frame again.
    ///
    /// # Errors
    /// When the driver crate refuses.
    pub fn recycle(&mut self, frame: Frame) -> Result<(), DriverError> {
        self.post(frame.buf)
    }

    /// A buffer to write a frame into, from [`Driver::header_len`] on, or `None` while the device
    /// holds them all. Send it with [`Driver::transmit`].
    ///
    /// # Errors
    /// When the device returned what it was not given.
    pub fn tx_buffer(&mut self) -> Result<Option<DmaBuf>, DriverError> {
        if self.idle.is_empty() {
            self.reclaim()?;
        }
        Ok(self.idle.pop())
    }

    /// Takes an unused buffer back.
    pub fn put_back(&mut self, buf: DmaBuf) {
        self.idle.push(buf);
    }

    /// Bytes in front of each frame.
    pub fn header_len(&self) -> usize {
        self.header
    }

    /// Hands the first `len` bytes after the header to the device.
    ///
    /// # Errors
    /// When `len` does not fit, or the driver crate refuses.
    pub fn transmit(&mut self, mut buf: DmaBuf, len: usize) -> Result<(), DriverError> {
        let end = self.header.saturating_add(len);
        let Some(bytes) = buf.get_mut(..end) else {
            return Err(DriverError::Length(end));
        };
        self.raw
            .fill_buffer_header(bytes)
            .map_err(ring("write a header"))?;
        // SAFETY: the buffer moves into the slot of its token and stays there, unseen, until
        // `reclaim` has completed the token or the device is reset.
        let token = unsafe { self.raw.transmit_begin(bytes) }.map_err(ring("send a frame"))?;
        give(&mut self.sending, token, (buf, end))
    }

    /// Takes back every buffer that the device has sent; returns whether one came.
    ///
    /// Done late, when no buffer is left: each look moves the point at which the device interrupts,
    /// so looking early would cost an interrupt per frame.
    ///
    /// # Errors
    /// When the device returned what it was not given.
    pub fn reclaim(&mut self) -> Result<bool, DriverError> {
        let before = self.idle.len();
        while let Some(token) = self.raw.poll_transmit() {
            let (buf, end) = take(&mut self.sending, token)?;
            // SAFETY: the slot of a token holds the bytes that were sent when the token was made.
            unsafe { self.raw.transmit_complete(token, &buf[..end]) }
                .map_err(ring("end a send"))?;
            self.idle.push(buf);
        }
        Ok(self.idle.len() > before)
    }

    /// Returns whether the device holds every transmit buffer.
    pub fn tx_full(&self) -> bool {
        self.idle.is_empty()
    }

    /// Ends a batch of frames: rings the doorbells that are owed.
    pub fn flush(&self) {
        self.lines.flush();
    }

    /// Rings every doorbell.
    pub fn ring_all(&self) {
        self.lines.ring_all();
    }

    /// Returns whether the device has left something since the last look. Makes it safe to sleep on
    /// the interrupt when the answer is no.
    ///
    /// # Errors
    /// When the device returned what it was not given.
    pub fn has_work(&mut self) -> Result<bool, DriverError> {
        // Orders the used-event stores of the last completions before the look at the used rings:
        // the device publishes first and reads the used event second.
        fence(Ordering::SeqCst);
        let received = self.raw.poll_receive().is_some();
        Ok(received || (self.tx_full() && self.reclaim()?))
    }

    fn post(&mut self, mut buf: DmaBuf) -> Result<(), DriverError> {
        // SAFETY: the buffer moves into the slot of its token and stays there, unseen, until
        // `receive` has completed the token or the device is reset.
        let token = unsafe { self.raw.receive_begin(&mut buf) }.map_err(ring("post a buffer"))?;
        give(&mut self.receiving, token, buf)
    }
}

fn ring(action: &'static str) -> impl Fn(RingError) -> DriverError {
    move |source| DriverError::Ring { action, source }
}

fn take<T>(slots: &mut Slots<T>, token: u16) -> Result<T, DriverError> {
    let slot = slots.get_mut(usize::from(token));
    slot.and_then(Option::take).ok_or(DriverError::Token(token))
}

fn give<T>(slots: &mut Slots<T>, token: u16, held: T) -> Result<(), DriverError> {
    let slot = slots
        .get_mut(usize::from(token))
        .ok_or(DriverError::Token(token))?;
    *slot = Some(held);
    Ok(())
}
