//! Programs of the kernel's behind a tap: what they drop and choose, and when they go.

mod common;

use std::env;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::{Sender, isolated, isolated_as_root, open, open_all, shell, without_ipv6};
use tap::{
    FilterProgram, FilterRules, STEERING_INPUT, STEERING_QUEUES, SteeringProgram, SteeringRules,
    Tap, TapOptions, VNET_HEADER_LEN, Verdict,
};

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const GROUP: [u8; 6] = [1, 0, 0x5e, 0, 0, 1];
const BROADCAST: [u8; 6] = [0xff; 6];
/// Of a frame that passes all filters here, and comes last.
const LAST: u16 = 0xffff;
/// Of frames that do not count.
const HELLO: u16 = 0;

/// Longest wait for frames; it only ends a test that hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// A frame with a number by which it is known.
fn frame(destination: [u8; 6], number: u16) -> Vec<u8> {
    let mut frame = [destination, [2, 0, 0, 0, 0, 9]].concat();
    frame.extend([0x88, 0xb5]);
    frame.extend(number.to_be_bytes());
    frame.resize(60, 0);
    frame
}

fn tagged(destination: [u8; 6], kind: u16, tag: u16, number: u16) -> Vec<u8> {
    let mut frame = frame(destination, number);
    let outer = [kind.to_be_bytes(), tag.to_be_bytes()].concat();
    frame.splice(12..12, outer);
    frame
}

/// Reads up to the last frame: the numbers of those before, by their place behind the EtherType.
fn numbers(taps: &[Tap]) -> Vec<u16> {
    let deadline = Instant::now() + LIMIT;
    let mut found = Vec::new();
    let mut bytes = [0; 2048];
    loop {
        assert!(Instant::now() < deadline, "the last frame does not come");
        for tap in taps {
            while let Ok(len) = tap.read(&mut bytes) {
                let frame = &bytes[VNET_HEADER_LEN as usize..len];
                let mark = frame.windows(2).position(|two| two == [0x88, 0xb5]);
                // A bridge joins groups by itself.
                let Some(at) = mark.map(|mark| mark + 2) else {
                    continue;
                };
                match u16::from_be_bytes([frame[at], frame[at + 1]]) {
                    LAST => return found,
                    HELLO => {}
                    number => found.push(number),
                }
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// A datagram of one of many flows.
fn flow(number: u8) -> Vec<u8> {
    let mut frame = frame(OWN, 0);
    frame.splice(12.., [8, 0, 0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame.extend([10, 0, 0, number, 10, 0, 1, 1]);
    frame.extend([1, 2, 3, 4, 0, 8, 0, 0]);
    frame
}

/// The kernel notices some time after the last queue that the carrier is gone, and as much later
/// that it is back.
fn await_carrier(host: &Sender, taps: &[Tap]) {
    let deadline = Instant::now() + LIMIT;
    while taps.iter().all(|tap| tap.read(&mut [0; 2048]).is_err()) {
        assert!(Instant::now() < deadline, "no frame arrives");
        host.send(&frame(BROADCAST, HELLO));
        thread::sleep(Duration::from_millis(5));
    }
}

fn await_frame(tap: &Tap) {
    let deadline = Instant::now() + LIMIT;
    while tap.read(&mut [0; 2048]).is_err() {
        assert!(Instant::now() < deadline, "no flow comes by this queue");
        thread::sleep(Duration::from_millis(1));
    }
    while tap.read(&mut [0; 2048]).is_ok() {}
}

fn rules() -> FilterRules {
    let mut vlans = [0; 64];
    vlans[0] = 1 << 5;
    FilterRules {
        broadcast: Verdict::Pass,
        multicast: Verdict::Drop,
        unicast: Verdict::Listed,
        addresses: vec![OWN, [2, 0, 0, 0, 1, 0]],
        vlans: Some(vlans),
    }
}

/// A filter where this process may load one.
fn filter() -> Option<FilterProgram> {
    match FilterProgram::load() {
        Ok(program) => Some(program),
        Err(error) => {
            eprintln!("not run: {}", common::chain(&error));
            None
        }
    }
}

#[test]
fn unwanted_frames_are_never_read_and_wanted_ones_all_are() {
    isolated_as_root(|| {
        without_ipv6();
        let Some(mut program) = filter() else { return };
        let dropped = program.dropped();
        let tap = open(TapOptions::new("flt0").up());
        tap.set_filter(Some(program.as_fd())).unwrap();
        let host = Sender::on("flt0");
        // Rules that were not set pass all.
        for number in 1..10 {
            host.send(&frame(OTHER, number));
        }
        host.send(&frame(OWN, LAST));
        assert_eq!(
            numbers(std::slice::from_ref(&tap)),
            (1..10).collect::<Vec<_>>()
        );

        let rules = rules();
        program.set_rules(&rules);
        let mut wanted = Vec::new();
        let mut unwanted = 0;
        for number in 1..=400 {
            let frames = [
                frame(
                    [OWN, OTHER, BROADCAST, GROUP][usize::from(number % 4)],
                    number,
                ),
                tagged(
                    OWN,
                    0x8100,
                    [5, 6, 0, 0xe005][usize::from(number % 4)],
                    number,
                ),
                tagged(OWN, 0x88a8, 6, number),
            ];
            for frame in frames {
                if rules.admits(&frame) {
                    wanted.push(number);
                } else {
                    unwanted += 1;
                }
                host.send(&frame);
            }
        }
        host.send(&frame(OWN, LAST));
        assert_eq!(numbers(std::slice::from_ref(&tap)), wanted);
        assert_eq!(dropped.get(), unwanted);

        tap.set_filter(None).unwrap();
        host.send(&frame(OTHER, 7));
        host.send(&frame(OTHER, LAST));
        assert_eq!(numbers(std::slice::from_ref(&tap)), [7]);
        assert_eq!(dropped.get(), unwanted);
    });
}

#[test]
fn tags_that_the_kernel_took_out_of_a_frame_count() {
    isolated_as_root(|| {
        without_ipv6();
        let Some(mut program) = filter() else { return };
        let tap = open(TapOptions::new("flt1").up());
        // The kernel takes the outer tag out of all frames that it receives, as those of a bridge.
        let wire = open(TapOptions::new("wire1").up());
        shell(
            "ip link add br1 type bridge && ip link set flt1 master br1 && \
             ip link set wire1 master br1 && ip link set br1 up",
        );
        let send = |frame: Vec<u8>| {
            let with_header = [vec![0; VNET_HEADER_LEN as usize], frame].concat();
            wire.write(&with_header).expect("it is up");
        };
        await_bridge(&tap, send);
        program.set_rules(&FilterRules {
            multicast: Verdict::Pass,
            ..rules()
        });
        tap.set_filter(Some(program.as_fd())).unwrap();
        for (number, (kind, tag)) in
            (1..).zip([(0x8100, 5), (0x8100, 6), (0x88a8, 6), (0x8100, 0xe000)])
        {
            send(tagged(OWN, kind, tag, number));
            send(tagged(OTHER, kind, tag, 10 + number));
        }
        send(frame(OWN, LAST));
        assert_eq!(numbers(&[tap]), [1, 3, 4], "all but VLAN 6");
        assert_eq!(program.dropped().get(), 5);
    });
}

/// A bridge forwards nothing until it has noticed the carrier of its ports.
fn await_bridge(tap: &Tap, send: impl Fn(Vec<u8>)) {
    let deadline = Instant::now() + LIMIT;
    let mut bytes = [0; 2048];
    while tap.read(&mut bytes).is_err() {
        assert!(Instant::now() < deadline, "the bridge does not forward");
        send(frame(OWN, HELLO));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn programs_of_a_process_that_is_gone_do_not_stay_with_an_interface() {
    isolated_as_root(|| {
        without_ipv6();
        let Some(mut program) = filter() else { return };
        let options = TapOptions::new("flt2").queues(2).up();
        let taps = open_all(options.clone());
        taps[0].set_persist(true).unwrap();
        program.set_rules(&FilterRules {
            unicast: Verdict::Drop,
            ..FilterRules::default()
        });
        let mut steering = SteeringProgram::load().unwrap();
        steering.set_rules(&SteeringRules {
            hash_types: 0,
            contributions: &[[[0; 16]; 2]; STEERING_INPUT],
            queues: [1; STEERING_QUEUES],
            unclassified: 1,
        });
        taps[0].set_filter(Some(program.as_fd())).unwrap();
        taps[0].set_steering(Some(steering.as_fd())).unwrap();
        let host = Sender::on("flt2");
        host.send(&frame(OWN, 1));
        host.send(&frame(BROADCAST, LAST));
        assert_eq!(numbers(&taps[1..]), [] as [u16; 0], "dropped, and steered");
        // As if its process were killed: nobody takes the programs away.
        drop((taps, program, steering));
        let taps = open_all(options);
        assert!(!taps[0].was_created());
        await_carrier(&host, &taps);
        host.send(&frame(OWN, 2));
        host.send(&frame(BROADCAST, LAST));
        assert_eq!(numbers(&taps), [2], "not dropped");
        // The kernel spreads flows over both queues.
        (0..64).for_each(|number| host.send(&flow(number)));
        taps.iter().for_each(await_frame);

        // The same for descriptors that are handed in.
        let mut program = FilterProgram::load().unwrap();
        program.set_rules(&FilterRules {
            unicast: Verdict::Drop,
            ..FilterRules::default()
        });
        taps[0].set_filter(Some(program.as_fd())).unwrap();
        let taps = Tap::from_fds(taps.into_iter().map(OwnedFd::from).collect()).unwrap();
        host.send(&frame(OWN, 3));
        host.send(&frame(BROADCAST, LAST));
        assert_eq!(numbers(&taps), [3]);
        taps[0].set_persist(false).unwrap();
    });
}

#[test]
fn a_program_that_another_process_loaded_is_used_by_its_descriptors() {
    isolated_as_root(|| {
        without_ipv6();
        let Some(theirs) = filter() else { return };
        let own = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().unwrap();
        let (program, rules_fd) = (own(theirs.as_fd()), own(theirs.rules()));
        let dropped = theirs.dropped();
        drop(theirs);
        let mut program = FilterProgram::from_fds(program, rules_fd).unwrap();
        let tap = open(TapOptions::new("flt4").up());
        program.set_rules(&rules());
        tap.set_filter(Some(program.as_fd())).unwrap();
        let host = Sender::on("flt4");
        host.send(&frame(OWN, 1));
        host.send(&frame(OTHER, 2));
        host.send(&frame(OWN, LAST));
        assert_eq!(numbers(&[tap]), [1]);
        assert_eq!([dropped.get(), program.dropped().get()], [1, 1]);

        // What has no such rules is told from it.
        let steering = SteeringProgram::load().unwrap();
        let file = File::open("/dev/zero").unwrap();
        for other in [steering.rules(), steering.as_fd(), file.as_fd()] {
            let error = FilterProgram::from_fds(own(program.as_fd()), own(other));
            let error = common::chain(&error.expect_err("of another kind"));
            assert!(error.contains("not an array with the rules"), "{error}");
        }
        SteeringProgram::from_fds(own(steering.as_fd()), own(steering.rules())).unwrap();
    });
}

#[test]
fn who_may_not_load_a_program_is_told_so() {
    isolated(|| {
        let error = FilterProgram::load().expect_err("a user namespace has no right to it");
        assert!(
            common::chain(&error).contains("takes CAP_BPF: "),
            "{error:?}"
        );
        // To take programs away needs no right.
        let tap = open(TapOptions::new("flt3").up());
        tap.set_filter(None).unwrap();
        tap.set_steering(None).unwrap();
    });
}

/// Set in the process that has so few capabilities.
const FEW: &str = "TEST_WITH_FEW_CAPABILITIES";

#[test]
fn cap_bpf_alone_is_enough_to_filter_and_steering_is_refused_at_once() {
    const TEST: &str = "cap_bpf_alone_is_enough_to_filter_and_steering_is_refused_at_once";
    isolated_as_root(|| {
        if env::var_os(FEW).is_some() {
            FilterProgram::load().unwrap();
            let error = SteeringProgram::load().expect_err("it takes more");
            let error = common::chain(&error);
            assert!(error.contains("takes CAP_BPF and CAP_PERFMON"), "{error}");
            return;
        }
        if filter().is_none() {
            return;
        }
        let output = Command::new("setpriv")
            .args(["--bounding-set", "-all,+bpf", "--inh-caps", "-all"])
            .arg(env::current_exe().unwrap())
            .args([TEST, "--exact", "--nocapture"])
            .env(FEW, "1")
            .output()
            .expect("these tests need `setpriv`: install util-linux");
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(said[0].contains("1 passed"), "{}{}", said[0], said[1]);
    });
}
