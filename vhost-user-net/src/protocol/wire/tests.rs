//! Every request, and what is near to it but refused.

use std::fs::File;
use std::os::fd::OwnedFd;

use vhost::vhost_user::message::VhostUserConfigFlags;

use super::*;
use crate::protocol::iotlb::Permissions;

fn fds(count: usize) -> Vec<OwnedFd> {
    (0..count)
        .map(|_| File::open("/dev/null").unwrap().into())
        .collect()
}

fn parse(request: FrontendReq, payload: &[u8], count: usize) -> Result<Request, ParseError> {
    Request::parse(request.into(), payload, fds(count))
}

/// A message about translations: its kind, and permissions.
fn iotlb(kind: u8, permissions: u8) -> Vec<u8> {
    let mut payload: Vec<u8> = [0x1000_u64, 0x2000, 0x7000_0000, 0]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    (payload[24], payload[25]) = (permissions, kind);
    payload
}

#[test]
fn messages_about_translations_are_updates_and_invalidations() {
    let parsed = |payload: &[u8]| match parse(FrontendReq::IOTLB_MSG, payload, 0) {
        Ok(Request::Iotlb(message)) => Ok(message),
        Ok(_) => panic!("another request"),
        Err(error) => Err(error),
    };
    let update = IotlbMessage::Update {
        iova: 0x1000,
        size: 0x2000,
        user_addr: 0x7000_0000,
        permissions: Permissions::new(3).unwrap(),
    };
    assert_eq!(parsed(&iotlb(2, 3)), Ok(update));
    assert_eq!(parsed(&iotlb(2, 3)[..26]), Ok(update), "without padding");
    let invalidate = IotlbMessage::Invalidate {
        iova: 0x1000,
        size: 0x2000,
    };
    assert_eq!(parsed(&iotlb(3, 0)), Ok(invalidate));
    for (kind, permissions) in [(2, 4), (0, 1), (1, 1), (4, 1), (5, 0), (255, 0)] {
        assert!(matches!(
            parsed(&iotlb(kind, permissions)),
            Err(ParseError::Field { .. })
        ));
    }
    for len in [0, 25, 27, 31] {
        assert!(matches!(
            parsed(&iotlb(2, 3)[..len]),
            Err(ParseError::Length { .. })
        ));
    }
}

/// Each supported request with a payload and a number of descriptors that it accepts.
fn accepted() -> Vec<(FrontendReq, Vec<u8>, usize)> {
    use FrontendReq as R;
    let state = VhostUserVringState::new(1, 1).as_slice().to_vec();
    let number = VhostUserU64::new(1).as_slice().to_vec();
    let region = VhostUserSingleMemoryRegion::new(0x1000, 0x2000, 0x7000_0000, 0)
        .as_slice()
        .to_vec();
    let mut config = VhostUserConfig::new(0, 6, VhostUserConfigFlags::empty())
        .as_slice()
        .to_vec();
    config.extend([0; 6]);
    vec![
        (R::GET_FEATURES, vec![], 0),
        (R::SET_FEATURES, number.clone(), 0),
        (R::NET_SET_MTU, number.clone(), 0),
        (R::SEND_RARP, vec![2, 0, 0, 0, 0, 9, 0, 0], 0),
        (R::IOTLB_MSG, iotlb(2, 3), 0),
        (R::GET_PROTOCOL_FEATURES, vec![], 0),
        (R::SET_PROTOCOL_FEATURES, number.clone(), 0),
        (R::SET_OWNER, vec![], 0),
        (R::RESET_OWNER, vec![], 0),
        (R::RESET_DEVICE, vec![], 0),
        (R::GET_QUEUE_NUM, vec![], 0),
        (R::SET_MEM_TABLE, memory_table(2, 2), 2),
        (R::GET_MAX_MEM_SLOTS, vec![], 0),
        (R::ADD_MEM_REG, region.clone(), 1),
        (R::REM_MEM_REG, region, 0),
        (
            R::SET_LOG_BASE,
            VhostUserLog::new(0x1000, 0).as_slice().to_vec(),
            1,
        ),
        (R::SET_LOG_FD, vec![], 1),
        (R::SET_VRING_NUM, state.clone(), 0),
        (
            R::SET_VRING_ADDR,
            ring_addr(0x1000, 0).as_slice().to_vec(),
            0,
        ),
        (R::SET_VRING_BASE, state.clone(), 0),
        (R::GET_VRING_BASE, state.clone(), 0),
        (R::SET_VRING_KICK, number.clone(), 1),
        (R::SET_VRING_CALL, number.clone(), 1),
        (R::SET_VRING_ERR, number, 1),
        (R::SET_VRING_ENABLE, state, 0),
        (R::SET_BACKEND_REQ_FD, vec![], 1),
        (R::GET_CONFIG, config.clone(), 0),
        (R::SET_CONFIG, config, 0),
        (R::SET_DEVICE_STATE_FD, vec![0; 8], 1),
        (R::CHECK_DEVICE_STATE, vec![], 0),
        (R::GET_INFLIGHT_FD, vec![1; 24], 0),
        (R::SET_INFLIGHT_FD, vec![1; 24], 1),
    ]
}

/// SET_MEM_TABLE that announces `count` regions and has room for `room`.
fn memory_table(count: u32, room: u64) -> Vec<u8> {
    let mut payload = VhostUserMemory::new(count).as_slice().to_vec();
    for i in 0..room {
        let region = VhostUserMemoryRegion::new(i << 20, 0x1000, 0x7000_0000 + (i << 20), 0);
        payload.extend(region.as_slice());
    }
    payload
}

fn ring_addr(descriptor: u64, flags: u32) -> VhostUserVringAddr {
    VhostUserVringAddr {
        index: 0,
        flags,
        descriptor,
        used: 0x3000,
        available: 0x2000,
        log: 0,
    }
}

#[test]
fn every_request_is_accepted_in_its_own_form() {
    for (request, payload, count) in accepted() {
        if let Err(error) = parse(request, &payload, count) {
            panic!("{request:?}: {error}");
        }
    }
}

#[test]
fn a_byte_less_is_refused_and_so_is_a_byte_more() {
    for (request, payload, count) in accepted() {
        if !payload.is_empty() {
            assert!(
                parse(request, &payload[1..], count).is_err(),
                "{request:?} shorter"
            );
        }
        let mut longer = payload.clone();
        longer.push(0);
        let tolerant = request == FrontendReq::SET_MEM_TABLE;
        assert_eq!(
            parse(request, &longer, count).is_ok(),
            tolerant,
            "{request:?} longer"
        );
    }
}

#[test]
fn spare_and_missing_descriptors_are_refused() {
    for (request, payload, count) in accepted() {
        let tolerant = request == FrontendReq::REM_MEM_REG;
        assert_eq!(
            parse(request, &payload, count + 1).is_ok(),
            tolerant,
            "{request:?} with one more"
        );
        if count > 0 {
            assert!(
                parse(request, &payload, count - 1).is_err(),
                "{request:?} with one less"
            );
        }
    }
}

#[test]
fn requests_that_were_never_offered_are_refused_by_number() {
    let known: Vec<u32> = accepted()
        .iter()
        .map(|(request, ..)| (*request).into())
        .collect();
    for code in (0..64)
        .chain([u32::MAX])
        .filter(|code| !known.contains(code))
    {
        let error = Request::parse(code, &[], Vec::new()).err();
        assert_eq!(error, Some(ParseError::Unsupported(code)));
    }
}

#[test]
fn user_mode_linux_leaves_room_for_a_second_region() {
    let Ok(Request::SetMemTable(regions)) =
        parse(FrontendReq::SET_MEM_TABLE, &memory_table(1, 2), 1)
    else {
        panic!("refused");
    };
    assert_eq!(regions.len(), 1);
}

#[test]
fn an_empty_memory_table_is_a_table() {
    assert!(matches!(
        parse(FrontendReq::SET_MEM_TABLE, &memory_table(0, 0), 0),
        Ok(Request::SetMemTable(regions)) if regions.is_empty()
    ));
}

#[test]
fn a_memory_table_that_announces_more_than_it_has_is_refused() {
    assert!(parse(FrontendReq::SET_MEM_TABLE, &memory_table(2, 1), 2).is_err());
    assert!(parse(FrontendReq::SET_MEM_TABLE, &memory_table(u32::MAX, 2), 2).is_err());
    assert!(parse(FrontendReq::SET_MEM_TABLE, &memory_table(33, 33), 32).is_err());
}

#[test]
fn regions_and_logs_that_wrap_or_are_empty_are_refused() {
    let max = u64::MAX;
    for (gpa, size, user, offset) in [
        (max, 0x1000, 0, 0),
        (0, 0x1000, max, 0),
        (0, 0x1000, 0, max),
        (0, 0, 0, 0),
    ] {
        let region = VhostUserSingleMemoryRegion::new(gpa, size, user, offset);
        assert!(parse(FrontendReq::ADD_MEM_REG, region.as_slice(), 1).is_err());
    }
    for (size, offset) in [(0, 0), (0x1000, max), (max, 0x1000)] {
        let log = VhostUserLog::new(size, offset);
        assert!(parse(FrontendReq::SET_LOG_BASE, log.as_slice(), 1).is_err());
    }
}

#[test]
fn ring_addresses_are_aligned_and_their_flags_known() {
    let check = |addr: VhostUserVringAddr| parse(FrontendReq::SET_VRING_ADDR, addr.as_slice(), 0);
    assert!(check(ring_addr(0x1000, 1)).is_ok());
    assert!(check(ring_addr(0x1008, 0)).is_err());
    assert!(check(ring_addr(0x1000, 2)).is_err());
}

#[test]
fn a_ring_descriptor_message_says_whether_it_has_one() {
    let check = |value: u64, count| {
        parse(
            FrontendReq::SET_VRING_CALL,
            VhostUserU64::new(value).as_slice(),
            count,
        )
    };
    assert!(matches!(
        check(2, 1),
        Ok(Request::SetVringCall(RingFd {
            ring: 2,
            fd: Some(_)
        }))
    ));
    assert!(matches!(
        check(2 | NO_FD, 0),
        Ok(Request::SetVringCall(RingFd { ring: 2, fd: None }))
    ));
    assert!(check(2, 0).is_err());
    assert!(check(2 | NO_FD, 1).is_err());
    assert!(check(0x1_0000, 1).is_err(), "an index that would wrap");
}

#[test]
fn a_ring_is_enabled_or_not() {
    let check = |value| {
        parse(
            FrontendReq::SET_VRING_ENABLE,
            VhostUserVringState::new(0, value).as_slice(),
            0,
        )
    };
    assert!(matches!(check(0), Ok(Request::SetVringEnable(0, false))));
    assert!(matches!(check(1), Ok(Request::SetVringEnable(0, true))));
    assert!(check(2).is_err());
}

#[test]
fn configuration_accesses_stay_in_their_space() {
    let check = |offset, size: u32, data: usize| {
        let mut payload = VhostUserConfig::new(offset, size, VhostUserConfigFlags::empty())
            .as_slice()
            .to_vec();
        payload.extend(vec![0; data]);
        parse(FrontendReq::GET_CONFIG, &payload, 0)
    };
    for size in 1..=10 {
        assert!(check(0, size, size as usize).is_ok());
    }
    assert!(check(0, 0, 0).is_err());
    assert!(check(0xfff, 2, 2).is_err());
    assert!(check(u32::MAX, 2, 2).is_err());
    assert!(check(0, 8, 4).is_err());
}

#[test]
fn headers_have_the_right_version_no_stray_flag_and_a_sane_size() {
    let header = |flags: u32, size: u32| {
        let words = [1u32, flags, size].map(u32::to_ne_bytes);
        Header::parse(words.as_flattened().try_into().unwrap())
    };
    assert_eq!(
        header(1, 0),
        Ok(Header {
            code: 1,
            need_reply: false,
            size: 0
        })
    );
    assert_eq!(
        header(9, 8),
        Ok(Header {
            code: 1,
            need_reply: true,
            size: 8
        })
    );
    assert_eq!(header(0, 0), Err(ParseError::Version(0)));
    assert_eq!(header(2, 0), Err(ParseError::Version(2)));
    assert_eq!(header(5, 0), Err(ParseError::Flags(5)), "a reply");
    assert_eq!(header(0x11, 0), Err(ParseError::Flags(0x11)));
    assert_eq!(header(1, 0x1001), Err(ParseError::TooLong(0x1001)));
    assert_eq!(header(1, u32::MAX), Err(ParseError::TooLong(u32::MAX)));
}

#[test]
fn answers_are_replies_of_the_announced_size() {
    let answers = [
        (Answer::Done, 8),
        (Answer::Number(7), 8),
        (Answer::RingBase(RingValue { ring: 1, value: 2 }), 8),
        (Answer::Config(0, vec![1, 2, 3]), 15),
        (Answer::Log { size: 8, offset: 0 }, 16),
    ];
    for (answer, size) in answers {
        let mut out = vec![0xaa];
        answer.encode(11, &mut out);
        let words: Vec<u32> = out[1..13]
            .chunks(4)
            .map(|word| u32::from_ne_bytes(word.try_into().unwrap()))
            .collect();
        assert_eq!(words, [11, 5, size]);
        assert_eq!(out.len(), 1 + 12 + size as usize);
    }
}

#[test]
fn an_address_to_announce_is_that_of_a_station() {
    let parse = |bytes: [u8; 8]| Request::parse(FrontendReq::SEND_RARP.into(), &bytes, Vec::new());
    let mac = [2, 0, 0, 0, 0, 9];
    assert!(matches!(parse([2, 0, 0, 0, 0, 9, 0xff, 1]), Ok(Request::SendRarp(it)) if it == mac));
    for bytes in [[0; 8], [1, 0, 0x5e, 0, 0, 1, 0, 0], [0xff; 8]] {
        assert!(matches!(parse(bytes), Err(ParseError::Field { .. })));
    }
}
