//! Devices that share a process, to its end.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use net_device::net_queue::Offloads;
use net_device::{NetConfig, Port, PortControl};
use net_queue::testing::Wire;

use super::*;
use crate::daemon::listener::Access;

struct NoControl;

impl PortControl for NoControl {
    fn attach(&self, _on: bool) -> io::Result<()> {
        Ok(())
    }

    fn set_offloads(&self, _rx: Offloads) -> io::Result<()> {
        Ok(())
    }
}

fn device(source: Source) -> ServedDevice {
    let port = Port::new(Box::new(Wire::new().0), Box::new(NoControl));
    ServedDevice {
        lost_port: LostPort::default(),
        device: NetDevice::from_ports(NetConfig::default(), vec![port]).unwrap(),
        source,
        control: None,
        require_sealed: false,
        iommu: false,
        number: 0,
        confined: Confined::default(),
        front_ends: Arc::default(),
        metrics: None,
    }
}

#[test]
fn a_lost_worker_ends_all_devices() {
    let directory = tempfile::tempdir().unwrap();
    let (_front_end, back_end) = UnixStream::pair().unwrap();
    let devices = vec![
        device(Source::listen(&directory.path().join("net.sock"), &Access::default()).unwrap()),
        device(Source::Client(directory.path().join("nobody.sock"))),
        device(Source::Connected(back_end)),
    ];
    let (termination, lost) = (Termination::new().unwrap(), sys::event().unwrap());
    signal(Some(&lost)).unwrap();
    let result = serve(devices, &termination, &lost);
    assert!(matches!(result, Err(ServeError::WorkerLost)));
}

#[test]
fn a_device_whose_front_end_is_gone_leaves_the_others_alone() {
    let (mut front_ends, mut devices) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (front_end, back_end) = UnixStream::pair().unwrap();
        front_ends.push(front_end);
        devices.push(device(Source::Connected(back_end)));
    }
    thread::scope(|scope| {
        let daemon = scope.spawn(|| {
            let (termination, lost) = (Termination::new().unwrap(), sys::event().unwrap());
            serve(devices, &termination, &lost)
        });
        let mut last = front_ends.pop().unwrap();
        drop(front_ends);
        // GET_QUEUE_NUM, which the device that is left answers.
        last.write_all(&[17, 1, 0].map(u32::to_ne_bytes).concat())
            .unwrap();
        let mut answer = [0; 20];
        last.read_exact(&mut answer).unwrap();
        assert!(!daemon.is_finished());
        drop(last);
        daemon.join().unwrap().unwrap();
    });
}

#[test]
fn nothing_to_serve_is_no_error() {
    let (termination, lost) = (Termination::new().unwrap(), sys::event().unwrap());
    serve(Vec::new(), &termination, &lost).unwrap();
}
