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
