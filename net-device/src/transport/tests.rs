use super::*;
use virtio_queue::Queue;
use vmm_sys_util::eventfd::EFD_NONBLOCK;

#[test]
fn a_queue_that_was_written_back_goes_on_where_it_stopped() {
    let mut queue = Queue::new(256).unwrap();
    let stopped = Cursor {
        avail: 300,
        used: Some(290),
        ..Cursor::default()
    };
    QueueSetup::write_back(&stopped, &mut queue);
    let setup = QueueSetup::from_queue(1, &queue, EventFd::new(EFD_NONBLOCK).unwrap());
    assert_eq!((setup.index, setup.size), (1, 256));
    assert_eq!(setup.cursor, stopped);
}

#[test]
fn without_chains_in_flight_both_positions_are_one() {
    let mut queue = Queue::new(16).unwrap();
    let stopped = Cursor {
        avail: 7,
        used: None,
        ..Cursor::default()
    };
    QueueSetup::write_back(&stopped, &mut queue);
    assert_eq!((queue.next_avail(), queue.next_used()), (7, 7));
}

#[test]
fn a_notification_names_queue_offset_and_wrap_vq_ntf_09() {
    for (word, queue, next_off, next_wrap) in [
        (0, 0, 0, false),
        (0xffff_ffff, 0xffff, 0x7fff, true),
        (0x8000_0001, 1, 0, true),
        (0x1234_00ff, 0xff, 0x1234, false),
    ] {
        let expected = NotificationData {
            queue,
            next_off,
            next_wrap,
        };
        assert_eq!(NotificationData::from(word), expected);
    }
}
