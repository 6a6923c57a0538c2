//! Captures can be read by an analyser.

use pcap_file::pcap::PcapReader;

use super::*;

#[test]
fn frames_of_two_pairs_are_read_back_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("frames.pcap");
    let mut first = PcapFile::create(&path).unwrap();
    let mut second = first.clone();
    let frames = [vec![1u8; 60], vec![2u8; 1514], vec![3u8; 65_550], vec![]];
    for (i, frame) in frames.iter().enumerate() {
        if i % 2 == 0 {
            first.frame(frame)
        } else {
            second.frame(frame)
        }
    }
    let mut reader = PcapReader::new(File::open(&path).unwrap()).unwrap();
    assert_eq!(reader.header().datalink, DataLink::ETHERNET);
    for frame in &frames {
        assert_eq!(*reader.next_packet().unwrap().unwrap().data, *frame);
    }
    assert!(reader.next_packet().is_none());
}

#[test]
fn a_file_from_before_is_replaced() {
    let named = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(named.path(), vec![0xff; 4096]).unwrap();
    PcapFile::create(named.path()).unwrap();
    assert_eq!(
        std::fs::metadata(named.path()).unwrap().len(),
        HEADER_LEN as u64
    );
}

#[test]
fn a_full_disk_ends_the_capture_and_nothing_else() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut pcap = PcapFile {
        file: Some(Arc::new(full)),
        buffer: Vec::new(),
    };
    pcap.frame(&[0; 60]);
    assert!(pcap.file.is_none());
    pcap.frame(&[0; 60]);
}
