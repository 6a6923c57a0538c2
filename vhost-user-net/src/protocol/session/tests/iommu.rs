//! A front-end with an IOMMU: it answers what is asked, late, wrongly, or not at all.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::*;
use crate::protocol::iotlb::{PATIENCE, Permissions};
use crate::protocol::wire::IotlbMessage;

const PAGE: u64 = 4096;
/// Length of a question with its header.
const QUESTION: usize = 12 + 32;

/// The front-end's end of the channel, and its page table.
struct Translator {
    channel: UnixStream,
    /// Time before all questions: however long a busy machine takes, none of them is given up.
    begun: Instant,
    /// Pages of the driver, where they are not those of guest memory.
    moved: HashMap<u64, u64>,
}

impl Translator {
    /// The questions that are there once somebody has asked.
    fn questions(&mut self, session: &mut Session<'_>) -> Vec<(u64, u8)> {
        let (iotlb, _) = session.translations_wanted();
        let iotlb = iotlb.expect("translations were negotiated");
        let event = iotlb.event().as_fd();
        let asked = crate::sys::is_ready(event, Interest::Readable, Some(60_000)).unwrap();
        assert!(asked, "nothing was asked");
        session.advance_translations(self.begun).unwrap();
        self.sent()
    }

    /// So many questions, of which none was answered meanwhile.
    fn several(&mut self, session: &mut Session<'_>, count: usize) -> Vec<(u64, u8)> {
        let mut asked = Vec::new();
        while asked.len() < count {
            asked.extend(self.questions(session));
        }
        asked
    }

    /// The questions that were sent.
    fn sent(&mut self) -> Vec<(u64, u8)> {
        let mut questions = Vec::new();
        let mut message = [0; QUESTION];
        while let Ok(len) = (&self.channel).read(&mut message) {
            assert_eq!(len, QUESTION);
            let code = u32::from_ne_bytes(message[..4].try_into().unwrap());
            let iova = u64::from_ne_bytes(message[12..20].try_into().unwrap());
            assert_eq!((code, message[QUESTION - 7]), (1, 1), "a miss");
            questions.push((iova, message[QUESTION - 8]));
        }
        questions
    }

    fn update(&self, iova: u64, permissions: u8) -> Request {
        let page = iova & !(PAGE - 1);
        let gpa = self.moved.get(&page).copied().unwrap_or(page);
        Request::Iotlb(IotlbMessage::Update {
            iova: page,
            size: PAGE,
            user_addr: USER + gpa,
            permissions: Permissions::new(permissions).unwrap(),
        })
    }

    /// Answers all that is asked until `done`; returns how many questions there were.
    fn serve(
        &mut self,
        session: &mut Session<'_>,
        mut done: impl FnMut(&mut Session<'_>) -> bool,
    ) -> usize {
        let mut count = 0;
        let end = Instant::now() + Duration::from_secs(60);
        while !done(session) {
            assert!(Instant::now() < end, "it was answered in vain");
            let (iotlb, _) = session.translations_wanted();
            let event = iotlb.as_ref().expect("negotiated").event().as_fd();
            if !crate::sys::is_ready(event, Interest::Readable, Some(10)).unwrap() {
                continue;
            }
            session.advance_translations(self.begun).unwrap();
            for (iova, _) in self.sent() {
                count += 1;
                session.handle(self.update(iova, 3)).unwrap();
            }
        }
        count
    }
}

fn invalidate(iova: u64, size: u64) -> Request {
    Request::Iotlb(IotlbMessage::Invalidate { iova, size })
}

/// Addresses of a ring for a driver that numbers its pages as guest memory does, unless they are
/// moved.
fn addresses(ring: u32, flags: u32) -> Request {
    let at = FrontEnd::ring(ring);
    Request::SetVringAddr(VhostUserVringAddr {
        index: ring,
        flags,
        descriptor: at,
        used: at + 0x2000,
        available: at + 0x1000,
        log: at + 0x2000,
    })
}

/// A session behind an IOMMU whose two rings are enabled; nothing of them was answered yet.
fn begun<'a>(
    device: &'a mut NetDevice,
    front_end: &FrontEnd,
    features: u64,
) -> (Session<'a>, Translator) {
    let mut session = Session::new(device).unwrap().offering_iommu(true).unwrap();
    let (own_end, channel) = UnixStream::pair().unwrap();
    channel.set_nonblocking(true).unwrap();
    all(
        &mut session,
        [
            Request::SetOwner,
            Request::SetProtocolFeatures(PROTOCOL_FEATURES.bits()),
            Request::SetBackendReqFd(own_end.into()),
            Request::SetFeatures(VERSION_1 | PROTOCOL | ACCESS_PLATFORM | features),
            front_end.memory_table(),
        ],
    );
    for ring in [RX, TX] {
        let requests = front_end.set_up(ring, 0).into_iter();
        let others = requests.filter(|it| !matches!(it, Request::SetVringAddr(_)));
        all(&mut session, others);
        all(
            &mut session,
            [addresses(ring, 0), Request::SetVringEnable(ring, true)],
        );
    }
    let translator = Translator {
        channel,
        begun: Instant::now(),
        moved: HashMap::new(),
    };
    (session, translator)
}

fn both_run(session: &mut Session<'_>) -> bool {
    [RX, TX].map(|ring| session.rings[ring as usize].state()) == [State::Running; 2]
}

/// The same once both rings run.
fn ready<'a>(device: &'a mut NetDevice, front_end: &FrontEnd) -> (Session<'a>, Translator) {
    let (mut session, mut translator) = begun(device, front_end, 0);
    translator.serve(&mut session, both_run);
    (session, translator)
}

fn counter(session: &mut Session<'_>, name: &str) -> u64 {
    let counters = session.device().counters();
    let found = counters.iter().find(|(known, _)| known == name);
    found.unwrap().1
}

#[test]
fn rings_and_buffers_are_asked_for_and_frames_wait_net_feat_11() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let (mut session, mut translator) = begun(&mut device, &front_end, 0);
    front_end.send();
    front_end.send();
    assert!(!both_run(&mut session));
    let mut asked = translator.questions(&mut session);
    asked.sort_unstable();
    let pages = [RX, TX].map(FrontEnd::ring);
    let wanted = pages.map(|at| [(at, 1), (at + 0x1000, 1), (at + 0x2000, 2)]);
    assert_eq!(asked, wanted.as_flattened());
    assert!(translator.sent().is_empty(), "once is enough");
    for (iova, _) in asked {
        assert!(wires[0].take_sent().is_empty());
        session.handle(translator.update(iova, 3)).unwrap();
    }
    assert!(both_run(&mut session));
    // Both frames lie in one page.
    assert_eq!(translator.questions(&mut session), [(0x8_0000, 1)]);
    assert_eq!(front_end.used(TX), 0);
    session.handle(translator.update(0x8_0000, 1)).unwrap();
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0, 1]);

    front_end.provide(2);
    wires[0].inject([&[0; HEADER][..], &[7; FRAME]].concat());
    // What the next frame will need is asked for with it.
    let asked = translator.several(&mut session, 2);
    assert_eq!(asked, [(0x9_0000, 2), (0x9_1000, 2)]);
    assert_eq!(wires[0].waiting(), 1, "the frame waits where it is");
    session.handle(translator.update(0x9_0000, 3)).unwrap();
    front_end.wait_for(RX, 1);
    assert_eq!(front_end.written(0) as usize, HEADER + FRAME);
    assert_eq!(counter(&mut session, "tx_drop_bad_address"), 0);
    assert_eq!(counter(&mut session, "rx_drop_bad_address"), 0);
}

#[test]
fn buffers_that_are_available_are_asked_for_at_once_net_feat_11() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let (mut session, mut translator) = ready(&mut device, &front_end);
    front_end.provide(6);
    for number in 0..6 {
        wires[0].inject([&[0; HEADER][..], &[number; FRAME]].concat());
    }
    let asked = translator.several(&mut session, 6);
    let pages = (0..6).map(|slot| (0x9_0000 + slot * PAGE, 2));
    assert_eq!(asked, pages.collect::<Vec<_>>());
    for (iova, _) in asked {
        session.handle(translator.update(iova, 3)).unwrap();
    }
    front_end.wait_for(RX, 6);
    let (iotlb, _) = session.translations_wanted();
    assert!(iotlb.unwrap().questions().is_empty(), "once is enough");
}

/// As a driver's mapping for the used ring allows no more.
#[test]
fn a_ring_whose_used_part_the_device_may_only_write_runs_net_feat_11() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let (mut session, mut translator) = begun(&mut device, &front_end, 0);
    for (iova, wanted) in translator.questions(&mut session) {
        session.handle(translator.update(iova, wanted)).unwrap();
    }
    assert!(both_run(&mut session));
    front_end.send();
    translator.serve(&mut session, |_| front_end.used(TX) == 1);
    assert_eq!(payloads(&wires[0]), [0]);
}

#[test]
fn nothing_is_used_through_a_translation_that_was_taken_back_net_feat_11() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let (mut session, mut translator) = ready(&mut device, &front_end);
    front_end.send();
    let sent = |front_end: &FrontEnd, count| front_end.used(TX) == count;
    translator.serve(&mut session, |_| sent(&front_end, 1));
    front_end.provide(3);
    wires[0].inject([&[0; HEADER][..], &[7; FRAME]].concat());
    translator.serve(&mut session, |_| front_end.used(RX) == 1);
    assert_eq!(payloads(&wires[0]), [0]);

    let write = |memory: &GuestMemoryMmap, at, bytes: &[u8]| {
        memory.write_slice(bytes, GuestAddress(at)).unwrap();
    };
    all(
        &mut session,
        [invalidate(0x8_0000, PAGE), invalidate(0x9_0000, 3 * PAGE)],
    );
    assert!(both_run(&mut session), "rings are elsewhere");
    write(&front_end.memory, 0x9_0000, &[0xa5; 3 * PAGE as usize]);
    translator.moved = HashMap::from([
        (0x8_0000, 0xb_0000),
        (0x9_0000, 0xc_0000),
        (0x9_1000, 0xd_0000),
        (0x9_2000, 0xe_0000),
    ]);
    let other = [&[0; HEADER][..], &[0x77; FRAME]].concat();
    write(&front_end.memory, 0xb_0100, &other);
    front_end.send();
    wires[0].inject([&[0; HEADER][..], &[8; FRAME]].concat());
    translator.serve(&mut session, |_| {
        sent(&front_end, 2) && front_end.used(RX) == 2
    });
    assert_eq!(payloads(&wires[0]), [0x77]);
    let mut old = vec![0; 3 * PAGE as usize];
    let memory = &front_end.memory;
    memory.read_slice(&mut old, GuestAddress(0x9_0000)).unwrap();
    assert!(old.iter().all(|byte| *byte == 0xa5));
    let mut new = [0; FRAME];
    let at = GuestAddress(0xd_0000 + HEADER as u64);
    memory.read_slice(&mut new, at).unwrap();
    assert_eq!(new, [8; FRAME]);
}

#[test]
fn rings_whose_translation_was_taken_back_wait_for_another_net_feat_11() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let (mut session, mut translator) = ready(&mut device, &front_end);
    let ranges = [
        (FrontEnd::ring(TX) + 0x2001, 1),
        (0, 0),
        (0, u64::MAX),
        (FrontEnd::ring(TX), PAGE),
    ];
    for (round, (iova, size)) in (1..).zip(ranges) {
        session.handle(invalidate(iova, size)).unwrap();
        assert_eq!(session.rings[TX as usize].state(), State::Held);
        front_end.send();
        assert_eq!(front_end.used(TX), round - 1);
        translator.serve(&mut session, |_| front_end.used(TX) == round);
        assert_eq!(payloads(&wires[0]), [round as u8 - 1]);
    }
    // It can be stopped while it waits, and says where it stands.
    session.handle(invalidate(0, 0)).unwrap();
    let base = session.handle(Request::GetVringBase(TX)).unwrap();
    let value = ranges.len() as u32;
    assert_eq!(base, Answer::RingBase(RingValue { ring: TX, value }));
}

#[test]
fn a_question_without_an_answer_costs_its_frame_net_feat_11() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let (mut session, mut translator) = ready(&mut device, &front_end);
    front_end.send();
    assert_eq!(translator.questions(&mut session), [(0x8_0000, 1)]);
    let (_, due) = session.translations_wanted();
    assert!(due.is_some());
    session
        .advance_translations(Instant::now() + PATIENCE)
        .unwrap();
    front_end.wait();
    assert_eq!(counter(&mut session, "tx_drop_bad_address"), 1);
    // One that allows too little is none.
    front_end.send();
    assert_eq!(translator.questions(&mut session), [(0x8_0100, 1)]);
    session.handle(translator.update(0x8_0000, 2)).unwrap();
    front_end.wait();
    assert_eq!(counter(&mut session, "tx_drop_bad_address"), 2);
    front_end.send();
    assert_eq!(translator.questions(&mut session), [(0x8_0200, 1)]);
    session.handle(translator.update(0x8_0000, 1)).unwrap();
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [2]);
    // A ring is asked for again and again.
    session.handle(invalidate(FrontEnd::ring(TX), 1)).unwrap();
    let mut later = Instant::now();
    for _ in 0..3 {
        session.advance_translations(later).unwrap();
        assert_eq!(translator.sent(), [(FrontEnd::ring(TX), 1)]);
        assert!(!both_run(&mut session));
        later += 2 * PATIENCE;
    }
    let base = FrontEnd::ring(TX);
    session.handle(translator.update(base, 3)).unwrap();
    assert!(both_run(&mut session));
}

#[test]
fn without_a_channel_nothing_is_waited_for_net_feat_11() {
    let (mut device, _wires) = device(1);
    let mut front_end = FrontEnd::new();
    let (mut session, translator) = ready(&mut device, &front_end);
    let begun = translator.begun;
    drop(translator.channel);
    front_end.send();
    let (iotlb, _) = session.translations_wanted();
    let event = iotlb.unwrap();
    let asked = crate::sys::is_ready(event.event().as_fd(), Interest::Readable, Some(60_000));
    assert!(asked.unwrap());
    session.advance_translations(begun).unwrap();
    session
        .advance_translations(Instant::now() + PATIENCE)
        .unwrap();
    front_end.wait();
    front_end.send();
    front_end.wait();
    assert_eq!(counter(&mut session, "tx_drop_bad_address"), 2);
}

#[test]
fn a_front_end_that_does_not_read_is_asked_once_it_does_net_feat_11() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let (mut session, mut translator) = ready(&mut device, &front_end);
    let (own_end, channel) = UnixStream::pair().unwrap();
    channel.set_nonblocking(true).unwrap();
    let filler = own_end.try_clone().unwrap();
    filler.set_nonblocking(true).unwrap();
    all(&mut session, [Request::SetBackendReqFd(own_end.into())]);
    session.advance_translations(translator.begun).unwrap();
    while std::io::Write::write(&mut &filler, &[0; QUESTION]).is_ok() {}
    translator.channel = channel;
    front_end.send();
    let (iotlb, _) = session.translations_wanted();
    let iotlb = iotlb.unwrap();
    let event = iotlb.event().as_fd();
    assert!(crate::sys::is_ready(event, Interest::Readable, Some(60_000)).unwrap());
    session.advance_translations(translator.begun).unwrap();
    let (_, due) = session.translations_wanted();
    assert!(
        due.unwrap() < Instant::now() + PATIENCE / 2,
        "it is tried again soon"
    );
    let mut byte = [0; QUESTION];
    while let Ok(1..) = (&translator.channel).read(&mut byte) {}
    session.advance_translations(translator.begun).unwrap();
    assert_eq!(translator.sent(), [(0x8_0000, 1)]);
    session.handle(translator.update(0x8_0000, 1)).unwrap();
    front_end.wait();
    assert_eq!(payloads(&wires[0]), [0]);
}

#[test]
fn memory_that_changes_takes_translations_with_it_net_feat_11() {
    let (mut device, wires) = device(1);
    let mut front_end = FrontEnd::new();
    let (mut session, mut translator) = ready(&mut device, &front_end);
    front_end.send();
    translator.serve(&mut session, |_| front_end.used(TX) == 1);
    session.handle(front_end.memory_table()).unwrap();
    assert_eq!(session.rings[TX as usize].state(), State::Held);
    front_end.send();
    translator.serve(&mut session, |_| front_end.used(TX) == 2);
    assert_eq!(payloads(&wires[0]), [0, 1]);
    assert_eq!(counter(&mut session, "tx_drop_bad_address"), 0);
}

#[test]
fn pages_are_marked_where_they_are_in_guest_memory_net_feat_11() {
    let (mut device, _wires) = device(1);
    let mut front_end = FrontEnd::new();
    let (mut session, mut translator) = begun(&mut device, &front_end, LOG_ALL);
    let log = tempfile::tempfile_in("/dev/shm").unwrap();
    log.set_len(0x1000).unwrap();
    let area = VhostUserLog::new(0x1000, 0);
    all(
        &mut session,
        [Request::SetLogBase(area, own(&log)), addresses(TX, 1)],
    );
    let used = FrontEnd::ring(TX) + 0x2000;
    translator.moved.insert(used, 0xf_0000);
    front_end.send();
    let index = |front_end: &FrontEnd| -> u16 {
        let at = GuestAddress(0xf_0000 + 2);
        front_end.memory.read_obj(at).unwrap()
    };
    translator.serve(&mut session, |_| index(&front_end) == 1);
    all(&mut session, [Request::GetVringBase(TX)]);
    let mut bits = [0; 0x1000];
    std::os::unix::fs::FileExt::read_exact_at(&log, &mut bits, 0).unwrap();
    let is_marked = |at: u64| bits[(at >> 15) as usize] & 1 << (at >> 12 & 7) != 0;
    assert!(is_marked(0xf_0000) && !is_marked(used));
}

#[test]
fn translations_are_taken_only_where_they_were_negotiated_net_feat_11() {
    let (mut device, _wires) = device(1);
    let front_end = FrontEnd::new();
    let mut plain = Session::new(&mut device).unwrap();
    assert_eq!(plain.offered_features() & ACCESS_PLATFORM, 0);
    let asked = plain.handle(Request::SetFeatures(VERSION_1 | ACCESS_PLATFORM));
    assert!(matches!(asked, Err(SessionError::NotOffered(..))));
    drop(plain);
    let session = Session::new(&mut device).unwrap();
    let mut session = session.offering_iommu(true).unwrap();
    assert_ne!(session.offered_features() & ACCESS_PLATFORM, 0);
    let early = session.handle(invalidate(0, 0));
    assert!(matches!(early, Err(SessionError::Iotlb(_))));
    drop(session);
    // One that does without runs as ever, although it is offered.
    let (mut session, translator) = ready(&mut device, &front_end);
    let other = session.handle(Request::SetFeatures(VERSION_1 | PROTOCOL));
    assert!(matches!(other, Err(SessionError::FeaturesInUse)));
    let update = |user_addr, size| {
        Request::Iotlb(IotlbMessage::Update {
            iova: 0x4000_0000,
            size,
            user_addr,
            permissions: Permissions::new(3).unwrap(),
        })
    };
    for bad in [
        update(USER + MEMORY, PAGE),
        update(USER + MEMORY - PAGE, 2 * PAGE),
        update(USER, 0),
        update(USER, u64::MAX),
    ] {
        let refused = session.handle(bad);
        assert!(matches!(refused, Err(SessionError::Iotlb(_))));
    }
    all(&mut session, [update(USER, PAGE)]);
    assert!(both_run(&mut session));
    drop(translator);
}
