//! Frames that pass, written to a file that packet analysers read.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use net_device::net_queue::capture::FrameTap;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, PcapError, TsResolution};

#[cfg(test)]
mod tests;

/// More than the longest frame, in bytes.
const SNAP_LEN: u32 = 0x4_0000;
/// Length of the file's header in bytes.
const HEADER_LEN: usize = 24;

/// One queue pair's way into the file. Clones write to the same file.
///
/// Each record is one `write` at the file's end, so records of several pairs never mix. When one
/// fails, as on a full disk, that is logged once, and further frames are not captured.
#[derive(Clone, Debug)]
pub struct PcapFile {
    /// `None` once writing has failed.
    file: Option<Arc<File>>,
    /// A file's header, and one record.
    buffer: Vec<u8>,
}

fn header() -> PcapHeader {
    PcapHeader {
        snaplen: SNAP_LEN,
        datalink: DataLink::ETHERNET,
        ts_resolution: TsResolution::NanoSecond,
        ..PcapHeader::default()
    }
}

/// `buffer` filled with a file's header and the record of `frame`.
fn record(mut buffer: Vec<u8>, frame: &[u8]) -> Result<Vec<u8>, PcapError> {
    buffer.clear();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut writer = PcapWriter::with_header(buffer, header())?;
    writer.write_packet(&PcapPacket::new(now, frame.len() as u32, frame))?;
    Ok(writer.into_writer())
}

impl PcapFile {
    /// Makes the file anew, with its header.
    ///
    /// # Errors
    /// The file cannot be made or written.
    pub fn create(path: &Path) -> io::Result<Self> {
        // To truncate and to append cannot be asked for at once.
        File::create(path)?;
        let mut file = OpenOptions::new().append(true).open(path)?;
        let bytes = PcapWriter::with_header(Vec::new(), header())
            .map_err(io::Error::other)?
            .into_writer();
        file.write_all(&bytes)?;
        Ok(Self {
            file: Some(Arc::new(file)),
            buffer: Vec::with_capacity(HEADER_LEN + 16 + SNAP_LEN as usize),
        })
    }
}

impl FrameTap for PcapFile {
    fn frame(&mut self, bytes: &[u8]) {
        let Some(file) = &self.file else {
            return;
        };
        let written = record(std::mem::take(&mut self.buffer), bytes).and_then(|buffer| {
            self.buffer = buffer;
            file.as_ref()
                .write_all(&self.buffer[HEADER_LEN..])
                .map_err(PcapError::IoError)
        });
        if let Err(error) = written {
            log::warn!("frames are not captured any more: {error}");
            self.file = None;
        }
    }
}
