//! smoltcp's tokens over the driver.

use std::cell::RefCell;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use super::hal::{DmaBuf, Driver, DriverError, Frame};

/// Ethernet header, which smoltcp counts as part of the MTU.
const ETHERNET_HEADER: usize = 14;

/// The driver as a smoltcp device.
///
/// smoltcp sends while it looks at a received frame, so both tokens need the driver at the same
/// time; each borrows it only to move a buffer, never while the stack runs.
pub(super) struct Phy {
    driver: RefCell<Driver>,
    mtu: usize,
    fault: RefCell<Option<DriverError>>,
}

impl Phy {
    /// A device that carries IP packets of up to `mtu` bytes.
    pub(super) fn new(driver: Driver, mtu: usize) -> Self {
        Self {
            driver: RefCell::new(driver),
            mtu,
            fault: RefCell::new(None),
        }
    }

    /// The driver between two polls of the stack.
    pub(super) fn driver(&mut self) -> &mut Driver {
        self.driver.get_mut()
    }

    /// Error that stopped the driver during a poll, where the stack leaves no room for an error.
    pub(super) fn take_fault(&mut self) -> Result<(), DriverError> {
        self.fault.get_mut().take().map_or(Ok(()), Err)
    }

    fn keep_fault<T>(&self, outcome: Result<T, DriverError>) -> Option<T> {
        outcome
            .map_err(|error| {
                self.fault.borrow_mut().get_or_insert(error);
            })
            .ok()
    }

    fn tx_token(&self) -> Option<TxFrame<'_>> {
        let buf = self.keep_fault(self.driver.borrow_mut().tx_buffer())??;
        Some(TxFrame {
            phy: self,
            buf: Some(buf),
        })
    }
}

impl Device for Phy {
    type RxToken<'a> = RxFrame<'a>;
    type TxToken<'a> = TxFrame<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(RxFrame<'_>, TxFrame<'_>)> {
        let phy = &*self;
        // The stack may want to answer, so a frame waits until there is a buffer to answer with.
        let tx = phy.tx_token()?;
        let frame = phy.keep_fault(phy.driver.borrow_mut().receive())??;
        let rx = RxFrame {
            phy,
            frame: Some(frame),
        };
        Some((rx, tx))
    }

    fn transmit(&mut self, _now: Instant) -> Option<TxFrame<'_>> {
        self.tx_token()
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + ETHERNET_HEADER;
        capabilities
    }
}

/// A received frame; its buffer is posted again when the token goes.
pub(super) struct RxFrame<'a> {
    phy: &'a Phy,
    frame: Option<Frame>,
}

impl RxToken for RxFrame<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.frame.as_ref().map_or(&[], Frame::bytes))
    }
}

impl Drop for RxFrame<'_> {
    fn drop(&mut self) {
        if let Some(frame) = self.frame.take() {
            self.phy
                .keep_fault(self.phy.driver.borrow_mut().recycle(frame));
        }
    }
}

/// A buffer to send; it goes back unused when the token is not consumed.
pub(super) struct TxFrame<'a> {
    phy: &'a Phy,
    buf: Option<DmaBuf>,
}

impl TxToken for TxFrame<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, len: usize, f: F) -> R {
        let start = self.phy.driver.borrow().header_len();
        let fits = self.buf.take().filter(|buf| start + len <= buf.len());
        let Some(mut buf) = fits else {
            self.phy.keep_fault::<()>(Err(DriverError::Length(len)));
            return f(&mut vec![0; len]);
        };
        let result = f(&mut buf[start..start + len]);
        self.phy
            .keep_fault(self.phy.driver.borrow_mut().transmit(buf, len));
        result
    }
}

impl Drop for TxFrame<'_> {
    fn drop(&mut self) {
        if let Some(buf) = self.buf.take() {
            self.phy.driver.borrow_mut().put_back(buf);
        }
    }
}
