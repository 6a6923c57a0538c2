//! States through pipes and files: slow, endless, cut short, closed.

use std::io::{PipeReader, PipeWriter, pipe};

use rustix::fs::{OFlags, SealFlags, fcntl_add_seals, fcntl_setfl};

use super::*;

/// More than a pipe takes at once.
const LONG: usize = 200_000;

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// A pipe whose ends would block, as a front-end may have it.
fn blocking_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    for fd in [reader.as_fd(), writer.as_fd()] {
        fcntl_setfl(fd, OFlags::empty()).unwrap();
    }
    (reader, writer)
}

fn memory_file() -> File {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    memfd_create("state", flags).unwrap().into()
}

#[test]
fn a_state_longer_than_a_pipe_is_saved_as_the_front_end_reads() {
    let (mut reader, writer) = blocking_pipe();
    let mut transfer = Transfer::save(&bytes(LONG), writer.into()).unwrap();
    let mut saved = Vec::new();
    while transfer.wanted().is_some() {
        transfer.advance();
        let mut part = [0; 4096];
        let count = reader.read(&mut part).unwrap();
        saved.extend_from_slice(&part[..count]);
    }
    reader.read_to_end(&mut saved).unwrap();
    assert!(saved == bytes(LONG));
    assert_eq!(transfer.end().unwrap(), None);
}

#[test]
fn a_state_that_nobody_reads_to_its_end_is_not_saved() {
    let (reader, writer) = blocking_pipe();
    let mut transfer = Transfer::save(&bytes(LONG), writer.into()).unwrap();
    transfer.advance();
    let end = transfer.end();
    let moved = |moved| moved > 0 && moved < LONG as u64;
    assert!(matches!(end, Err(TransferError::Unfinished(at)) if moved(at)));
    drop(reader);

    let (reader, writer) = blocking_pipe();
    drop(reader);
    let mut transfer = Transfer::save(&bytes(1), writer.into()).unwrap();
    transfer.advance();
    assert!(transfer.wanted().is_none());
    assert!(matches!(transfer.end(), Err(TransferError::Io(_))));
}

#[test]
fn a_state_that_comes_in_pieces_is_loaded_once_the_pipe_is_closed() {
    let (reader, mut writer) = blocking_pipe();
    let mut transfer = Transfer::load(reader.into()).unwrap();
    for part in bytes(LONG).chunks(5000) {
        writer.write_all(part).unwrap();
        transfer.advance();
        assert!(transfer.wanted().is_some());
    }
    drop(writer);
    assert!(transfer.end().unwrap().unwrap() == bytes(LONG));
}

#[test]
fn a_state_whose_pipe_stays_open_is_not_loaded() {
    let (reader, mut writer) = blocking_pipe();
    let mut transfer = Transfer::load(reader.into()).unwrap();
    transfer.advance();
    writer.write_all(&bytes(7)).unwrap();
    assert!(matches!(transfer.end(), Err(TransferError::Unfinished(7))));
}

#[test]
fn a_state_without_an_end_stops_at_the_longest_there_is() {
    let (reader, mut writer) = blocking_pipe();
    let mut transfer = Transfer::load(reader.into()).unwrap();
    let part = vec![0; 1 << 15];
    while transfer.wanted().is_some() {
        // Fails once nobody reads any more.
        if writer.write_all(&part).is_err() {
            break;
        }
        transfer.advance();
    }
    assert!(transfer.moved <= MAX_LEN as u64 + 1);
    assert!(matches!(transfer.end(), Err(TransferError::TooLong)));

    let file = memory_file();
    file.set_len(1 << 40).unwrap();
    let transfer = Transfer::load(file.into()).unwrap();
    assert!(matches!(transfer.end(), Err(TransferError::TooLong)));
}

#[test]
fn a_state_passes_through_a_file_in_memory() {
    let file = memory_file();
    let mut transfer = Transfer::save(&bytes(LONG), file.try_clone().unwrap().into()).unwrap();
    assert!(transfer.wanted().is_none());
    transfer.advance();
    transfer.end().unwrap();
    // Another description of it, which stands at its begin.
    let again = File::open(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&file)
    ));
    let transfer = Transfer::load(again.unwrap().into()).unwrap();
    assert!(transfer.end().unwrap().unwrap() == bytes(LONG));
}

#[test]
fn a_file_that_cannot_be_written_and_the_wrong_end_of_a_pipe_are_told() {
    let file = memory_file();
    fcntl_add_seals(&file, SealFlags::WRITE).unwrap();
    let mut transfer = Transfer::save(&bytes(1), file.into()).unwrap();
    transfer.advance();
    assert!(matches!(transfer.end(), Err(TransferError::Io(_))));

    let (_reader, writer) = blocking_pipe();
    let mut transfer = Transfer::load(writer.into()).unwrap();
    transfer.advance();
    assert!(matches!(transfer.end(), Err(TransferError::Io(_))));
}

#[test]
fn a_descriptor_that_somebody_else_would_be_asked_about_is_refused() {
    let disk = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    for fd in [
        crate::sys::event().unwrap(),
        disk,
        File::open("/dev/null").unwrap(),
    ] {
        let transfer = Transfer::load(fd.into());
        assert!(matches!(transfer, Err(TransferError::Descriptor)));
    }
}
