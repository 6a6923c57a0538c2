//! Lifecycle events of a device as its VMM's observer hears of them.

use std::sync::{Arc, Mutex, PoisonError};

use net_device::{
    DeviceEvent, Features, NetDevice, Observer, Snapshottable, TapConfig, VirtioDevice,
};
use tests::testbed::{
    Doorbell, RINGS, Rig, alone, break_ring, frame, ip, isolated, pause, resume, without_ipv6,
};

type F = Features;

/// Events that were told, with the names of the threads that told them.
#[derive(Debug, Default)]
struct Recorder {
    events: Mutex<Vec<(DeviceEvent, Option<String>)>>,
    bell: Doorbell,
}

impl Observer for Recorder {
    fn event(&self, device: &str, event: &DeviceEvent) {
        assert_eq!(device, "net");
        let thread = std::thread::current().name().map(str::to_owned);
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.push((event.clone(), thread));
        drop(events);
        self.bell.ring();
    }
}

impl Recorder {
    fn take(&self) -> Vec<DeviceEvent> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.drain(..).map(|(event, _)| event).collect()
    }

    /// Waits until `count` events came from other threads than the test's, and takes them all with
    /// the threads.
    fn wait(&self, count: usize) -> Vec<(DeviceEvent, Option<String>)> {
        let mut all = Vec::new();
        self.bell.wait_until("events", || {
            let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
            all.append(&mut events);
            all.len() >= count
        });
        all
    }
}

/// A device that is observed.
fn observed() -> (Rig, Arc<Recorder>) {
    let recorder = Arc::<Recorder>::default();
    let rig = Rig::built(Rig::config(1), |builder| builder.observer(recorder.clone()));
    (rig, recorder)
}

#[test]
fn an_observer_hears_of_each_step_before_the_call_returns() {
    for without in RINGS {
        let (mut rig, recorder) = observed();
        rig.start(without);
        assert_eq!(recorder.take(), [DeviceEvent::Activated]);
        rig.send(0, &frame(60, 1));
        rig.wait_used(1, 1);
        assert_eq!(recorder.take(), [], "frames are not events");
        pause(&mut rig);
        pause(&mut rig);
        let snapshot = rig.device.snapshot().expect("it is paused");
        assert_eq!(recorder.take(), [DeviceEvent::Paused]);
        resume(&mut rig);
        resume(&mut rig);
        assert_eq!(recorder.take(), [DeviceEvent::Resumed]);
        rig.device.set_link(true);
        rig.device.set_link(false);
        rig.device.set_link(true);
        let link = |up| DeviceEvent::Link { up };
        assert_eq!(recorder.take(), [link(false), link(true)]);
        rig.device.reset();
        rig.device.restore(snapshot).expect("its own state");
        rig.activate();
        resume(&mut rig);
        let told = recorder.take();
        let expected = [
            DeviceEvent::Reset,
            DeviceEvent::Restored,
            DeviceEvent::Activated,
            DeviceEvent::Resumed,
        ];
        assert_eq!(told, expected);
    }
}

#[test]
fn a_broken_ring_is_told_once_with_its_reason() {
    for index in 0..3 {
        let (mut rig, recorder) = observed();
        rig.start(F::VIRTIO_F_RING_PACKED);
        recorder.take();
        for _ in 0..2 {
            break_ring(&mut rig, index);
            break_ring(&mut rig, (index + 1) % 3);
            let told = recorder.wait(1);
            let (DeviceEvent::NeedsReset { reason }, thread) = &told[0] else {
                panic!("{told:?}")
            };
            assert!(reason.contains("queue"), "{reason}");
            assert!(reason.contains("available index jumped"), "{reason}");
            let thread = thread.as_deref().expect("a worker has a name");
            assert!(thread.starts_with("net_"), "{thread}");
            pause(&mut rig);
            let rest = recorder.take();
            assert_eq!(rest, [DeviceEvent::Paused], "once until the next reset");
            rig.device.reset();
            rig.queues.clear();
            rig.start(F::VIRTIO_F_RING_PACKED);
            assert_eq!(
                recorder.take(),
                [DeviceEvent::Reset, DeviceEvent::Activated]
            );
        }
    }
}

#[test]
fn an_activation_that_fails_says_why() {
    let (mut rig, recorder) = observed();
    rig.negotiate(F::empty());
    rig.lay_out(16);
    let mut setups = rig.setups();
    setups[1].addrs.desc = !15;
    assert!(rig.try_activate(setups).is_err());
    let told = recorder.take();
    let [DeviceEvent::NeedsReset { reason }] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(reason.contains("queue 1"), "{reason}");
}

#[test]
fn a_worker_that_is_lost_is_named() {
    alone(|| {
        let (mut rig, recorder) = observed();
        rig.start(F::empty());
        recorder.take();
        rig.networks[0].panic_next();
        rig.send(0, &frame(60, 1));
        let told = recorder.wait(2);
        assert!(matches!(told[0].0, DeviceEvent::NeedsReset { .. }));
        let worker = "net_qp0".to_owned();
        assert_eq!(told[1].0, DeviceEvent::WorkerLost { worker });
    });
}

#[test]
fn a_port_that_is_lost_takes_the_link_down() {
    isolated(|| {
        without_ipv6();
        let tap = TapConfig {
            name: Some("lost0".to_owned()),
            ..TapConfig::default()
        };
        let recorder = Arc::<Recorder>::default();
        let device = NetDevice::builder(Rig::config(1)).observer(recorder.clone());
        let mut rig = Rig::over(device.build_on_tap(&tap).expect("it can be made"));
        rig.start(F::empty());
        recorder.take();
        ip("link delete lost0");
        let told = recorder.wait(2);
        assert_eq!(told[0].0, DeviceEvent::Link { up: false });
        let DeviceEvent::NeedsReset { reason } = &told[1].0 else {
            panic!("{told:?}")
        };
        assert!(reason.contains("port of pair 0 is gone"), "{reason}");
    });
}

#[test]
fn a_link_that_the_host_holds_down_is_not_told_of_as_up() {
    isolated(|| {
        without_ipv6();
        let recorder = Arc::<Recorder>::default();
        let tap = TapConfig {
            name: Some("held0".into()),
            ..TapConfig::default()
        };
        let builder = NetDevice::builder(Rig::config(1)).observer(recorder.clone());
        let mut device = builder.build_on_tap(&tap).expect("it can be made");
        ip("link set held0 down");
        device.follow_host_link();
        assert_eq!(recorder.take(), [DeviceEvent::Link { up: false }]);
        device.set_link(true);
        device.set_link(false);
        device.set_link(true);
        assert_eq!(recorder.take(), []);
        assert!(!device.handle().is_link_up());
    });
}
