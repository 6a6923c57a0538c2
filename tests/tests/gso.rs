//! Kernels that do not cut large frames as they should: a device on them leaves them less to cut,
//! and offers its driver the same.

use net_device::net_queue::{self, FrameBackend};
use net_device::port::{GsoPolicy, TapBackend, tap_port};
use net_device::tap::{
    GsoFault, GsoOutcome, GsoPath, GsoReport, GsoTrial, NotTried, Offloads, TapOptions, ThisKernel,
};
use net_device::{Features, GsoTrust, NetConfig, NetDevice, TapConfig, VirtioDevice};
use tests::testbed::{Rig, isolated};

type F = Features;

const TCP: Offloads = Offloads::TSO4.union(Offloads::TSO6);
const UDP: Offloads = Offloads::USO4.union(Offloads::USO6);

/// This kernel, with something that goes wrong for UDP.
struct Faulty(Spoil);

type Spoil = fn(&mut GsoOutcome);

impl GsoPath for Faulty {
    fn pass(&mut self, frames: Vec<Vec<u8>>) -> Result<Vec<GsoOutcome>, NotTried> {
        // VIRTIO_NET_HDR_GSO_UDP_L4 in the header.
        let udp: Vec<_> = frames.iter().map(|frame| frame[1] == 5).collect();
        let mut outcomes = ThisKernel::default().pass(frames)?;
        for (outcome, _) in outcomes.iter_mut().zip(udp).filter(|(_, udp)| *udp) {
            (self.0)(outcome);
        }
        Ok(outcomes)
    }
}

/// Features of a device on a tap of a kernel for which this is the policy.
fn offered(policy: GsoPolicy) -> Features {
    let tap = TapOptions::new("gso%d").open().expect("a tap").remove(0);
    let backend = TapBackend::new(tap.try_clone().expect("a descriptor"), false, policy);
    let caps = backend.expect("a backend").caps();
    let coalesced = caps.coalesce;
    for (ours, kernels) in [
        (net_queue::Offloads::TSO4, Offloads::TSO4),
        (net_queue::Offloads::TSO6, Offloads::TSO6),
        (net_queue::Offloads::USO4, Offloads::USO4),
        (net_queue::Offloads::USO6, Offloads::USO6),
    ] {
        assert_eq!(coalesced.contains(ours), policy.coalesced.contains(kernels));
        assert_ne!(caps.tx.contains(ours), policy.refused.contains(kernels));
    }
    let port = tap_port(tap, false, policy).expect("a port");
    let device = NetDevice::from_ports(Rig::config(1), vec![port]).expect("a device");
    Features::from_bits_retain(device.features())
}

fn report(spoil: Spoil) -> GsoReport {
    let report = GsoReport::of(&mut Faulty(spoil));
    assert_eq!(
        report.not_tried(),
        None,
        "these tests need a kernel with a bridge: `modprobe bridge`"
    );
    report
}

#[test]
fn large_frames_of_udp_are_not_left_to_a_kernel_that_corrupts_refuses_or_swallows_them() {
    isolated(|| {
        let sound = offered(GsoPolicy::of(&report(|_| {})));
        let tso = F::VIRTIO_NET_F_HOST_TSO4 | F::VIRTIO_NET_F_HOST_TSO6 | F::VIRTIO_NET_F_HOST_ECN;
        assert!(sound.contains(tso | F::VIRTIO_NET_F_HOST_USO), "{sound:?}");
        let faults: [(Spoil, GsoFault); 3] = [
            (
                // The last byte of a checksum.
                |outcome| {
                    for frame in &mut outcome.frames {
                        let udp = 24 + 14 + if frame[36] == 0x86 { 40 } else { 20 };
                        frame[udp + 7] ^= 1;
                    }
                },
                GsoFault::Changed { piece: 0, of: 4 },
            ),
            (
                |outcome| {
                    outcome.refused = Some(22);
                    outcome.frames.clear();
                },
                GsoFault::Refused(22),
            ),
            (|outcome| outcome.frames.clear(), GsoFault::Swallowed),
        ];
        for (spoil, fault) in faults {
            let report = report(spoil);
            assert_eq!(report.trial(UDP), GsoTrial::Failed(fault));
            let policy = GsoPolicy::of(&report);
            assert_eq!((policy.refused, policy.coalesced), (UDP, TCP));
            // They are cut before the kernel has them, but not in tunnels.
            let tunnels =
                F::VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO | F::VIRTIO_NET_F_HOST_UDP_TUNNEL_GSO_CSUM;
            assert_eq!(offered(policy), sound - tunnels);
        }
    });
}

#[test]
fn a_kernel_that_cannot_be_tried_is_offered_as_it_is_and_sent_no_merged_udp() {
    struct Sandbox;
    impl GsoPath for Sandbox {
        fn pass(&mut self, _: Vec<Vec<u8>>) -> Result<Vec<GsoOutcome>, NotTried> {
            Err(NotTried::NoPath)
        }
    }
    let untried = GsoPolicy::of(&GsoReport::of(&mut Sandbox));
    assert_eq!(untried, GsoPolicy::of_this_kernel(GsoTrust::Assume));
    assert_eq!(
        (untried.refused, untried.coalesced),
        (Offloads::empty(), TCP)
    );
    let trusted = GsoPolicy::of_this_kernel(GsoTrust::Trust);
    assert_eq!(
        (trusted.refused, trusted.coalesced),
        (Offloads::empty(), TCP | UDP)
    );
    isolated(|| {
        let all = offered(GsoPolicy::of_this_kernel(GsoTrust::Trust));
        assert_eq!(offered(GsoPolicy::of_this_kernel(GsoTrust::Assume)), all);
    });
}

#[test]
fn a_device_on_a_named_tap_follows_its_configuration() {
    isolated(|| {
        let device = |gso| {
            let config = NetConfig {
                gso,
                ..Rig::config(2)
            };
            let device = NetDevice::from_tap_name(config, &TapConfig::default());
            Features::from_bits_retain(device.expect("a device").features())
        };
        let assumed = device(GsoTrust::Assume);
        let probed = device(GsoTrust::Probe);
        // Whatever this kernel does: what it does not is done here.
        assert_eq!(probed, assumed);
    });
}
