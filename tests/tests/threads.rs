//! Worker threads as a VMM wants them: pinned, named, made early, with more in their filter, and
//! calls by a VMM's thread that is confined itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::{env, fs, io, thread};

use net_device::seccomp::{CALLER, CALLER_IOCTLS, CALLER_THREADS, ThreadKind, allowed};
use net_device::{
    DeviceEvent, Features, Interrupt, InterruptSource, NetDevice, NetDeviceBuilder, NewError,
    Observer, TapConfig, ThreadHook, ThreadInfo, VirtioDevice,
};
use seccompiler::{
    BpfProgram, SeccompAction as Verdict, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};
use tests::testbed::{
    Host, PEER_MAC, Rig, all_caps, alone, chain, frame, isolated, pause, port, process, resume,
    without_ipv6,
};

type F = Features;

/// Ids of the device's threads, by name.
fn threads() -> BTreeMap<String, u32> {
    let threads = process::threads_named("net_").into_iter();
    threads.map(|thread| (thread.name, thread.id)).collect()
}

#[test]
fn a_hook_runs_in_each_thread_before_it_is_confined() {
    alone(|| {
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let log = seen.clone();
        let hook = move |thread: &ThreadInfo<'_>| {
            // No worker may open a file.
            let name = fs::read_to_string("/proc/thread-self/comm")?;
            assert_eq!(name.trim_end(), thread.name);
            let row = (thread.name.to_owned(), thread.kind, thread.tid);
            log.lock().unwrap().push(row);
            Ok(())
        };
        let mut rig = Rig::built(Rig::config(2), |builder| {
            builder.thread_hook(Arc::new(hook))
        });
        assert!(
            seen.lock().unwrap().is_empty(),
            "no thread starts early unasked"
        );
        rig.start(F::empty());
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_by(|one, other| one.0.cmp(&other.0));
        let ids = threads();
        let expected = [
            ("net_ctrl", ThreadKind::Control),
            ("net_qp0", ThreadKind::QueuePair),
            ("net_qp1", ThreadKind::QueuePair),
        ];
        let expected =
            expected.map(|(name, kind)| (name.to_owned(), kind, ids[name].cast_signed()));
        assert_eq!(seen, expected);
    });
}

#[test]
fn a_hook_that_refuses_or_panics_keeps_the_device_from_starting() {
    alone(|| {
        let refuses = |_: &ThreadInfo<'_>| Err(io::Error::other("no CPU left"));
        let panics = |_: &ThreadInfo<'_>| panic!("no CPU of that number");
        let hooks: [(Arc<dyn ThreadHook>, _); 2] = [
            (Arc::new(refuses), "no CPU left"),
            (Arc::new(panics), "ended at once"),
        ];
        for (hook, reason) in hooks {
            let mut rig = Rig::built(Rig::config(1), |builder| builder.thread_hook(hook.clone()));
            rig.negotiate(F::empty());
            rig.lay_out(64);
            let error = rig
                .try_activate(rig.setups())
                .expect_err("it did not start");
            assert!(chain(&error).contains(reason), "{}", chain(&error));
            process::await_threads("net_", 0);
            let early = NetDevice::builder(Rig::config(1)).thread_hook(hook);
            let early = early
                .start_threads_early()
                .build_on_ports(vec![port(all_caps()).0]);
            assert!(matches!(early, Err(NewError::Spawn(_))), "{early:?}");
            process::await_threads("net_", 0);
        }
    });
}

#[test]
fn threads_that_start_early_serve_every_activation() {
    alone(|| {
        let mut rig = Rig::built(Rig::config(2), NetDeviceBuilder::start_threads_early);
        let early = threads();
        assert_eq!(early.len(), 3);
        for without in [F::empty(), F::VIRTIO_F_RING_PACKED, F::VIRTIO_NET_F_CTRL_VQ] {
            rig.start(without);
            rig.send(0, &frame(60, 1));
            rig.wait_used(1, 1);
            assert_eq!(threads(), early);
            rig.device.reset();
            assert_eq!(threads(), early);
        }
        drop(rig);
        process::await_threads("net_", 0);
    });
}

/// Interrupts that wait until somebody needs the thread that raises them.
#[derive(Default)]
struct Waiting {
    needed: Mutex<bool>,
    changed: Condvar,
}

impl Interrupt for Waiting {
    fn trigger(&self, _source: InterruptSource) -> io::Result<()> {
        let needed = self.needed.lock().unwrap();
        let mut needed = self.changed.wait_while(needed, |needed| !*needed).unwrap();
        *needed = false;
        Ok(())
    }

    fn unblock(&self) {
        *self.needed.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

#[test]
fn whoever_needs_a_worker_gets_it_out_of_an_interrupt_that_waits() {
    type Need = fn(&mut Rig);
    alone(|| {
        let needs: [Need; 5] = [
            |rig| assert!(rig.device.stop_queue(1).expect("it runs").is_some()),
            pause,
            |rig| rig.device.set_limits(None, None).expect("there is none"),
            |rig| drop(rig.device.reset()),
            |_| {},
        ];
        for need in needs {
            let mut rig = Rig::new(Rig::config(1));
            rig.negotiate(F::empty());
            rig.lay_out(64);
            let mut activation = rig.activation(rig.setups());
            activation.interrupt = Arc::<Waiting>::default();
            rig.device
                .activate(activation)
                .expect("it can be activated");
            rig.send(0, &frame(60, 1));
            assert_eq!(rig.networks[0].wait_sent(1).len(), 1);
            need(&mut rig);
            // Dropping the device needs its workers as well.
        }
    });
}

/// An observer that makes system calls which are on no worker's list, when it hears of a failure.
#[derive(Default)]
struct Curious(AtomicUsize);

impl Observer for Curious {
    fn event(&self, _device: &str, event: &DeviceEvent) {
        if matches!(event, DeviceEvent::NeedsReset { .. }) {
            // `getcwd` would be refused, `sched_getaffinity` would end the process.
            env::current_dir().expect("it is allowed");
            thread::available_parallelism().expect("it is allowed");
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[test]
fn system_calls_can_be_added_to_the_list_of_workers() {
    alone(|| {
        let observer = Arc::<Curious>::default();
        let mut rig = Rig::built(Rig::config(1), |builder| {
            builder
                .observer(observer.clone())
                .more_system_calls(&[libc::SYS_getcwd])
                .more_system_calls(&[libc::SYS_sched_getaffinity])
        });
        rig.start(F::VIRTIO_F_RING_PACKED);
        tests::testbed::break_ring(&mut rig, 1);
        rig.irq.wait_config(1);
        assert_eq!(observer.0.load(Ordering::SeqCst), 1);
    });
}

/// Confines the calling thread to `calls` and the listed requests of `ioctl`: any other call ends
/// the process.
fn confine(calls: impl Iterator<Item = i64>) {
    // The end of the test's own thread, and what its allocator reads once.
    let ending = [
        libc::SYS_exit,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigprocmask,
        libc::SYS_openat,
    ];
    let mut rules: BTreeMap<_, _> = calls.chain(ending).map(|call| (call, Vec::new())).collect();
    let request = |request: &u64| {
        let is =
            SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, *request).unwrap();
        SeccompRule::new(vec![is]).unwrap()
    };
    rules.insert(libc::SYS_ioctl, CALLER_IOCTLS.iter().map(request).collect());
    let arch = env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, Verdict::KillProcess, Verdict::Allow, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

/// Every operation of an activated device, by a thread that may do nothing else.
fn operate(mut rig: Rig, calls: impl Iterator<Item = i64> + Send) {
    rig.negotiate(F::empty());
    rig.lay_out(64);
    let activation = rig.activation(rig.setups());
    let memory = activation.memory.clone();
    thread::scope(|scope| {
        let confined = || {
            confine(calls);
            rig.device
                .activate(activation)
                .expect("it can be activated");
            pause(&mut rig);
            resume(&mut rig);
            rig.device.set_dirty_logging(true).expect("it runs");
            let handle = rig.device.handle();
            handle.set_dirty_logging(true).expect("it is listed");
            rig.device.set_link(false);
            rig.device.set_link(true);
            rig.device.announce();
            rig.device.send_rarp(PEER_MAC.into());
            rig.device.follow_host_link();
            assert!(!rig.device.is_port_lost());
            rig.device.set_memory(memory).expect("it is the same");
            rig.device.set_limits(None, None).expect("there is none");
            rig.device.stop_queue(1).expect("it runs");
            pause(&mut rig);
            rig.device.counters();
            rig.device.reset();
        };
        scope.spawn(confined).join().expect("it went through");
    });
}

fn on_tap(name: &str, early: bool) -> (Rig, Host) {
    without_ipv6();
    let tap = TapConfig {
        name: Some(name.to_owned()),
        ..TapConfig::default()
    };
    let builder = NetDevice::builder(Rig::config(2));
    let builder = if early {
        builder.start_threads_early()
    } else {
        builder
    };
    let device = builder.build_on_tap(&tap).expect("it can be made");
    (Rig::over(device), Host::on(name))
}

#[test]
fn a_caller_needs_the_documented_system_calls_alone_when_threads_started_early() {
    isolated(|| {
        let (rig, _host) = on_tap("early0", true);
        operate(rig, CALLER.iter().copied());
    });
}

#[test]
fn a_caller_that_starts_threads_needs_the_documented_ones_for_that_as_well() {
    isolated(|| {
        let (rig, _host) = on_tap("late0", false);
        let workers = [ThreadKind::QueuePair, ThreadKind::Control].map(allowed);
        let calls = CALLER.iter().chain(CALLER_THREADS).copied();
        operate(rig, calls.chain(workers.into_iter().flatten()));
    });
}
