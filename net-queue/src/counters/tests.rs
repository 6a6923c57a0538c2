use super::*;

#[test]
fn every_value_has_a_name_of_its_own() {
    let stats = QueueStats::default();
    let names: std::collections::BTreeSet<_> = stats.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), stats.iter().count());
    assert_eq!(
        names.len(),
        16 + GroupEnd::ALL.len() + DropCause::COUNT + Refusal::COUNT
    );
}

#[test]
fn values_are_those_that_were_counted_and_sums_add_each() {
    let queues = [1, 10].map(|scale| {
        let queue = QueueCounters::default();
        queue.add_batch(scale, 100 * scale);
        queue.add_published(scale, false);
        queue.add_kick();
        for _ in 0..scale {
            queue.add_limited();
        }
        queue.add_published(0, true);
        queue.add_published(0, false);
        queue.add_segmented();
        queue.add_drop(DropCause::Mtu);
        queue.add_refusal(Refusal::Host);
        queue
    });
    let sum: QueueStats = queues.iter().sum();
    let counted: Vec<_> = sum.iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(
        counted,
        [
            ("frames", 11),
            ("bytes", 1100),
            ("batches", 2),
            ("kicks", 2),
            ("interrupts", 2),
            ("interrupts_suppressed", 2),
            ("limited", 11),
            ("segmented", 2),
            ("drop_mtu", 2),
            ("refused_host", 2),
        ]
    );
    assert_eq!((sum.dropped(), sum.refused()), (2, 2));
    assert_eq!(
        sum.drops(DropCause::Mtu),
        queues[0].drops(DropCause::Mtu) * 2
    );
    assert_eq!(
        sum.refusals(Refusal::Host),
        queues[1].refusals(Refusal::Host) * 2
    );
}

#[test]
fn causes_stand_where_their_index_says() {
    for (at, cause) in DropCause::all().enumerate() {
        assert_eq!(cause.index(), at);
    }
    for (at, cause) in Refusal::ALL.iter().enumerate() {
        assert_eq!(cause.index(), at);
    }
}

/// Counts that are all different.
fn numbered(first: u64) -> QueueStats {
    let mut numbers = first..;
    let mut next = || numbers.next().unwrap_or_default();
    QueueStats {
        frames: next(),
        bytes: next(),
        batches: next(),
        kicks: next(),
        interrupts: next(),
        interrupts_suppressed: next(),
        limited: next(),
        segmented: next(),
        steered: next(),
        groups: next(),
        grouped: next(),
        groups_refused: next(),
        group_ends: std::array::from_fn(|_| next()),
        needs_csum: next(),
        data_valid: next(),
        gso_frames: next(),
        gso_bytes: next(),
        drops: std::array::from_fn(|_| next()),
        refusals: std::array::from_fn(|_| next()),
    }
}

#[test]
fn every_count_of_a_sum_is_the_sum_of_that_count() {
    let (first, second) = (numbered(3), numbered(1000));
    let mut sum = numbered(3);
    sum += &second;
    let counts = first.iter().zip(second.iter());
    for ((name, count), ((_, a), (_, b))) in sum.iter().zip(counts) {
        assert_eq!(count, a + b, "{name}");
    }
    assert_eq!(sum.dropped(), first.dropped() + second.dropped());
    assert_eq!(sum.refused(), first.refused() + second.refused());
}

#[test]
fn every_event_is_counted_under_its_own_name_as_often_as_it_came() {
    type Event = fn(&QueueCounters);
    let events: [(&str, Event); 13] = [
        ("kicks", QueueCounters::add_kick),
        ("interrupts", QueueCounters::add_interrupt),
        ("limited", QueueCounters::add_limited),
        ("segmented", QueueCounters::add_segmented),
        ("steered", QueueCounters::add_steered),
        ("groups_refused", QueueCounters::add_group_refused),
        ("group_end_run", |it| it.add_group_end(GroupEnd::Run)),
        ("group_end_last", |it| it.add_group_end(GroupEnd::Last)),
        ("group_end_full", |it| it.add_group_end(GroupEnd::Full)),
        ("group_end_order", |it| it.add_group_end(GroupEnd::Order)),
        ("group_end_evicted", |it| {
            it.add_group_end(GroupEnd::Evicted)
        }),
        ("drop_mtu", |it| it.add_drop(DropCause::Mtu)),
        ("refused_host", |it| it.add_refusal(Refusal::Host)),
    ];
    let queue = QueueCounters::default();
    for (times, (_, event)) in (2..).zip(events) {
        (0..times).for_each(|_| event(&queue));
    }
    let stats = queue.stats();
    let counted: Vec<_> = stats.iter().filter(|(_, count)| *count > 0).collect();
    let wanted = (2..).zip(events).map(|(times, (name, _))| (name, times));
    assert_eq!(counted, wanted.collect::<Vec<_>>());
    assert_eq!(queue.dropped(), 13);
    assert_eq!(queue.drops(DropCause::Mtu), 13);
    assert_eq!(queue.refusals(Refusal::Host), 14);
    assert_eq!((stats.dropped(), stats.refused()), (13, 14));
}

#[test]
fn batches_count_if_something_passed_and_their_bytes_with_it() {
    let queue = QueueCounters::default();
    queue.add_batch(0, 5);
    queue.add_batch(3, 100);
    queue.add_batch(4, 200);
    for frames in [0, 3, 4, 7] {
        queue.add_published(frames, false);
    }
    for frames in [0, 1] {
        queue.add_published(frames, true);
    }
    queue.add_group(3);
    queue.add_group(4);
    let stats = queue.stats();
    let counted: Vec<_> = stats.iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(
        counted,
        [
            ("frames", 7),
            ("bytes", 300),
            ("batches", 4),
            ("interrupts", 2),
            ("interrupts_suppressed", 3),
            ("groups", 2),
            ("grouped", 7),
        ]
    );
}

#[test]
fn drops_elsewhere_are_added_to_those_of_the_queue() {
    let mut stats = QueueStats::default();
    stats.add_drops(DropCause::Filtered, 3);
    stats.add_drops(DropCause::Filtered, 4);
    assert_eq!((stats.drops(DropCause::Filtered), stats.dropped()), (7, 7));
}

#[test]
fn what_the_headers_of_received_frames_say_is_counted() {
    let rules = crate::header::RxRules::new(crate::offload::Offloads::all());
    let header = |flags, gso_type| {
        // Headers of 54 bytes, segments of 1448, a checksum at 34 + 16.
        let raw = [flags, gso_type, 54, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0];
        let header = NetHdr::check_rx(&crate::header::RawHdr::from(raw), 9000, rules);
        Offload::of(header.unwrap())
    };
    let cases = [
        (header(0, gso::NONE), [0, 0, 0, 0]),
        (header(flags::NEEDS_CSUM, gso::NONE), [3, 0, 0, 0]),
        (header(flags::DATA_VALID, gso::NONE), [0, 3, 0, 0]),
        (header(flags::NEEDS_CSUM, gso::TCPV4), [3, 0, 3, 500]),
    ];
    let queue = QueueCounters::default();
    let mut all = OffloadCounts::default();
    let mut sums = [0; 4];
    for (offload, wanted) in cases {
        let alone = QueueCounters::default();
        let mut counts = OffloadCounts::default();
        counts.add_frames(offload, 2, 400);
        counts.add(offload, 100);
        all.add_frames(offload, 2, 400);
        all.add(offload, 100);
        alone.add_offloads(&mut counts);
        assert!(!counts.any, "counts anew");
        let stats = alone.stats();
        let counted = [
            stats.needs_csum,
            stats.data_valid,
            stats.gso_frames,
            stats.gso_bytes,
        ];
        assert_eq!(counted, wanted);
        sums = std::array::from_fn(|at| sums[at] + wanted[at]);
    }
    queue.add_offloads(&mut all);
    let stats = queue.stats();
    assert_eq!([stats.needs_csum, stats.data_valid], sums[..2]);
    assert_eq!([stats.gso_frames, stats.gso_bytes], sums[2..]);
}

#[test]
fn requests_of_headers_are_counted_by_kind() {
    let queue = QueueCounters::default();
    let mut counts = OffloadCounts::default();
    counts.add_frames(Offload::checksum(true), 2, 100);
    counts.add_frames(Offload::checksum(false), 3, 100);
    queue.add_offloads(&mut counts);
    let stats = queue.stats();
    assert_eq!((stats.needs_csum, stats.data_valid), (2, 0));
    assert_eq!((stats.gso_frames, stats.gso_bytes), (0, 0));
}
