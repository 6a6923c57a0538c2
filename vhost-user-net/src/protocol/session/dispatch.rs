//! Requests by their codes: each goes to the code for its group.
//!
//! | requests | handled in |
//! |---|---|
//! | GET_FEATURES, SET_FEATURES, GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, RESET_DEVICE | `negotiation.rs` |
//! | SET_MEM_TABLE, ADD_MEM_REG, REM_MEM_REG, SET_LOG_BASE | `memory.rs` |
//! | SET_VRING_NUM, SET_VRING_BASE, SET_VRING_ADDR, SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR, SET_VRING_ENABLE, GET_VRING_BASE | `rings.rs` |
//! | GET_CONFIG, SET_CONFIG, NET_SET_MTU | `config.rs` |
//! | SET_BACKEND_REQ_FD | `channel.rs` |
//! | SET_DEVICE_STATE_FD, CHECK_DEVICE_STATE | `device_state.rs` |
//! | GET_INFLIGHT_FD, SET_INFLIGHT_FD | `inflight.rs` |
//! | IOTLB_MSG | `iommu.rs` |
//! | SEND_RARP, GET_QUEUE_NUM, GET_MAX_MEM_SLOTS, and those without an effect | here |

use std::os::fd::{AsFd, OwnedFd};

use super::{PROTOCOL_FEATURES, Session, SessionError};
use crate::protocol::dirty_log::DirtyBitmap;
use crate::protocol::memory_table::{MAX_SLOTS, MemoryError, MemoryTable, check_sealed};
use crate::protocol::wire::{Answer, Request, RingFd, RingValue};

impl Session<'_> {
    /// Does what a request asks.
    ///
    /// # Errors
    /// The reason for a refusal.
    pub fn handle(&mut self, request: Request) -> Result<Answer, SessionError> {
        self.check_seals(&request)?;
        match request {
            Request::GetFeatures => return Ok(Answer::Number(self.offered_features())),
            Request::GetProtocolFeatures => return Ok(Answer::Number(PROTOCOL_FEATURES.bits())),
            Request::GetQueueNum => return Ok(Answer::Number(self.ring_count() as u64)),
            Request::GetMaxMemSlots => return Ok(Answer::Number(MAX_SLOTS as u64)),
            Request::GetConfig(config) => return Ok(self.read_config(&config)),
            Request::GetVringBase(ring) => return self.stop_ring(ring),
            Request::SetLogBase(log, fd) => {
                self.set_log(DirtyBitmap::new(&log, fd).map_err(SessionError::Log)?)?;
                // The front-end waits for this one, whether it asked for an answer or not.
                let (size, offset) = (log.mmap_size, log.mmap_offset);
                return Ok(Answer::Log { size, offset });
            }
            // RESET_OWNER is deprecated and to be ignored; that pages were marked is never
            // announced.
            Request::SetOwner | Request::ResetOwner | Request::SetLogFd => {}
            Request::ResetDevice => self.reset(),
            Request::SetFeatures(features) => self.set_features(features)?,
            Request::SetProtocolFeatures(features) => self.set_protocol_features(features)?,
            Request::SetMemTable(regions) => self.change_memory(MemoryTable::new(regions)?)?,
            Request::AddMemReg(region, fd) => self.change_memory(self.memory.with(&region, fd)?)?,
            Request::RemMemReg(region) => self.change_memory(self.memory.without(&region)?)?,
            Request::SetVringNum(RingValue { ring, value }) => {
                self.update_ring(ring, |it| it.set_size(value))?
            }
            Request::SetVringBase(RingValue { ring, value }) => {
                self.update_ring(ring, |it| it.set_base(value))?
            }
            Request::SetVringAddr(addrs) => self.set_addrs(&addrs)?,
            Request::SetVringKick(RingFd { ring, fd }) => self.set_kick(ring, fd)?,
            Request::SetVringCall(RingFd { ring, fd }) => self.set_call(ring, fd)?,
            Request::SetVringErr(RingFd { ring, fd }) => self.set_err(ring, fd)?,
            Request::SetVringEnable(ring, on) => self.set_enabled(ring, on)?,
            Request::SetBackendReqFd(fd) => self.set_channel(fd)?,
            Request::SetConfig(..) => return Err(SessionError::ReadOnly),
            Request::NetSetMtu(mtu) => self.set_mtu(mtu)?,
            Request::SendRarp(mac) => self.device.send_rarp(mac.into()),
            Request::SetDeviceStateFd(asked, fd) => {
                self.begin_transfer(&asked, fd)?;
                return Ok(Answer::TRANSFER_BEGINS);
            }
            Request::GetInflightFd(rings, size) => return self.make_inflight(rings, size),
            Request::SetInflightFd(area, fd) => self.set_inflight(&area, fd)?,
            Request::Iotlb(message) => self.translate(message)?,
            Request::CheckDeviceState => {
                self.end_transfer()?;
                return Ok(Answer::Number(0));
            }
        }
        Ok(Answer::Done)
    }

    /// Makes sure that memory which comes with `request` may be used.
    fn check_seals(&self, request: &Request) -> Result<(), SessionError> {
        let check = |gpa: u64, fd: &OwnedFd| {
            check_sealed(fd.as_fd()).map_err(|source| MemoryError::Region { gpa, source })
        };
        match request {
            _ if !self.require_sealed => {}
            Request::SetMemTable(regions) => {
                for (region, fd) in regions {
                    check(region.guest_phys_addr, fd)?;
                }
            }
            Request::AddMemReg(region, fd) => check(region.guest_phys_addr, fd)?,
            Request::SetLogBase(_, fd) => check_sealed(fd.as_fd()).map_err(SessionError::Log)?,
            Request::SetInflightFd(_, fd) => {
                check_sealed(fd.as_fd()).map_err(SessionError::Inflight)?
            }
            _ => {}
        }
        Ok(())
    }
}
