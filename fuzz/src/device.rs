//! A whole device under a hostile driver and a hostile VMM.
//!
//! The input is a list of what either does, in any order. Whatever it is: no worker panics, what is
//! written to memory is marked, a device that does not run does nothing, DEVICE_NEEDS_RESET goes
//! only with a reset or another state, a refused state changes nothing. At the end there is a
//! snapshot from which another device goes on, or the device has failed and shows
//! DEVICE_NEEDS_RESET.

use net_device::rate_limiter::{RateLimiterConfig, TokenBucketConfig};
use net_device::{Cursor, Lifecycle, Snapshot, Snapshottable, VirtioDevice};
use net_queue::testing::Answer;

use crate::arena::END;
use crate::bytes::Bytes;
use crate::machine::{BUFFERS, Machine, PAIRS, QUEUES};
use crate::ring::Desc;
use crate::{Seed, Target, snapshot};

/// See the module.
pub const TARGET: Target = Target {
    name: "device",
    run,
    seeds,
};

/// Steps after which a script ends.
const MAX_STEPS: usize = 64;

/// An hour, of which none passes: a limit lets through what its bucket holds.
const REFILL_MS: u64 = 3_600_000;

/// Codes of the steps.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Step {
    Negotiate,
    Activate,
    LayOut,
    Post,
    Command,
    Write,
    Frame,
    Answer,
    Turn,
    ReadConfig,
    Reset,
    Pause,
    Resume,
    Save,
    Load,
    LoadChanged,
    Migrate,
    Memory,
    Limits,
    Start,
    Stop,
    Link,
    Announce,
    DirtyLog,
    DriverMtu,
}

impl Step {
    const ALL: [Self; 25] = [
        Self::Negotiate,
        Self::Activate,
        Self::LayOut,
        Self::Post,
        Self::Command,
        Self::Write,
        Self::Frame,
        Self::Answer,
        Self::Turn,
        Self::ReadConfig,
        Self::Reset,
        Self::Pause,
        Self::Resume,
        Self::Save,
        Self::Load,
        Self::LoadChanged,
        Self::Migrate,
        Self::Memory,
        Self::Limits,
        Self::Start,
        Self::Stop,
        Self::Link,
        Self::Announce,
        Self::DirtyLog,
        Self::DriverMtu,
    ];
}

/// A machine, and the snapshot that its VMM keeps.
#[derive(Default)]
struct Script {
    machine: Machine,
    kept: Option<Snapshot>,
}

/// Input: steps, each a code and its parameters.
fn run(input: &[u8]) {
    let mut input = Bytes::new(input);
    let mut script = Script::default();
    for _ in 0..MAX_STEPS {
        if input.remaining().is_empty() {
            break;
        }
        let step = Step::ALL[usize::from(input.u8()) % Step::ALL.len()];
        let needed_reset = script.machine.device.needs_reset();
        script.driver(step, &mut input);
        script.vmm(step, &mut input);
        script.machine.meet_workers();
        script.machine.check_workers();
        let cures = matches!(step, Step::Reset | Step::Load | Step::LoadChanged);
        let needs_reset = script.machine.device.needs_reset();
        assert!(cures || needs_reset || !needed_reset, "cured by itself");
    }
    script.end();
}

impl Script {
    /// Does what a driver does.
    fn driver(&mut self, step: Step, input: &mut Bytes<'_>) {
        let machine = &mut self.machine;
        match step {
            Step::Negotiate => {
                let (mode, bits) = (input.u8(), u128::from(u64::from_le_bytes(input.array())));
                let offered = machine.device.features();
                // All but some, some of those offered, or any.
                let features = match mode % 3 {
                    0 => offered & !bits,
                    1 => offered & bits,
                    _ => bits,
                };
                let _ = machine.device.ack_features(features);
            }
            Step::Activate => {
                machine.activate(input.u8());
            }
            Step::LayOut => machine.lay_out(u16::from(input.u8()) % QUEUES),
            Step::Post => post(machine, input),
            Step::Command => command(machine, input),
            Step::Write => {
                let at = input.u16() % END;
                let bytes: [u8; 8] = input.array();
                machine.arena.write(at.into(), &bytes);
            }
            Step::Turn => machine.watched_turn(),
            Step::ReadConfig => {
                let (mode, offset) = (input.u8(), u64::from(input.u16()));
                let offset = if mode & 1 == 0 { offset } else { !offset };
                let mut data = [0xaa; 16];
                machine.device.read_config(offset, &mut data);
                machine.device.write_config(offset, &data);
                machine.device.config_generation();
            }
            Step::Reset => {
                machine.device.reset();
                assert_eq!(machine.device.lifecycle(), Lifecycle::Inactive);
                assert!(!machine.device.needs_reset());
            }
            _ => {}
        }
    }

    /// Does what a VMM or its network does.
    fn vmm(&mut self, step: Step, input: &mut Bytes<'_>) {
        let machine = &mut self.machine;
        match step {
            Step::Frame => {
                let wire = &machine.wires[usize::from(input.u8() % PAIRS as u8)];
                let (len, header) = (usize::from(input.u16() % 3000), input.array::<12>());
                let mut frame = header.to_vec();
                frame.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
                frame.resize(12 + len, 0);
                wire.inject(frame);
            }
            Step::Answer => answer(machine, input.u8()),
            Step::Pause => machine.device.pause().expect("no worker is lost"),
            Step::Resume => drop(machine.device.resume()),
            Step::Save => self.kept = machine.snapshot().or(self.kept.take()),
            Step::Load => {
                if let Some(kept) = self.kept.clone() {
                    load(machine, kept);
                }
            }
            Step::LoadChanged => self.load_changed(input),
            Step::Migrate => {
                let again = input.u8();
                if let Some(snapshot) = machine.migrate()
                    && again & 1 == 1
                {
                    machine.activate_as(&snapshot);
                }
            }
            Step::Memory => {
                let memory = machine.arena.part(input.u8());
                let _ = machine.device.set_memory(memory);
            }
            Step::Limits => {
                let (rx, tx) = (limit(input), limit(input));
                machine.device.set_limits(rx, tx).expect("they are usable");
            }
            Step::Start | Step::Stop => start_or_stop(machine, step, input),
            Step::Link => machine.device.set_link(input.u8() & 1 == 0),
            Step::Announce => {
                machine.device.announce();
                machine.device.continue_announcement();
            }
            Step::DirtyLog => drop(machine.device.set_dirty_logging(input.u8() & 1 == 0)),
            Step::DriverMtu => {
                let mtu = input.u16();
                machine.device.set_driver_mtu((mtu >= 68).then_some(mtu));
            }
            _ => {}
        }
    }

    fn load_changed(&mut self, input: &mut Bytes<'_>) {
        let (at, value) = (usize::from(input.u16()), input.u8());
        let Some(kept) = &self.kept else { return };
        let mut bytes = kept.as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = value;
        let changed = snapshot::reseal(&bytes).map(Snapshot::from_bytes);
        if let Some(Ok(changed)) = changed {
            load(&mut self.machine, changed);
        }
    }

    /// Whatever happened, the guest can be moved, or has to be reset, which then helps.
    fn end(mut self) {
        let machine = &mut self.machine;
        machine.device.pause().expect("no worker is lost");
        machine.watched_turn();
        if let Some(snapshot) = machine.migrate() {
            let state = snapshot.open().expect("it was taken from a device");
            if state.activated && machine.activate_as(&snapshot) {
                assert_eq!(machine.device.lifecycle(), Lifecycle::Paused);
                let _ = machine.device.resume();
                machine.meet_workers();
                machine.watched_turn();
            }
        } else {
            assert_eq!(machine.device.lifecycle(), Lifecycle::Failed);
            assert!(machine.device.needs_reset());
        }
        machine.device.reset();
        machine.watched_turn();
        machine.check_workers();
        assert!(machine.snapshot().is_some());
    }
}

/// A chain of one to four descriptors, of which each but the last has another behind it.
fn post(machine: &mut Machine, input: &mut Bytes<'_>) {
    let (queue, count) = (u16::from(input.u8()) % QUEUES, input.u8() % 4 + 1);
    let mut chain: Vec<_> = (0..count).map(|_| Desc::take(input)).collect();
    let last = chain.len() - 1;
    for desc in &mut chain[..last] {
        desc.flags |= Desc::NEXT;
    }
    chain[last].flags &= !Desc::NEXT;
    machine.post(queue, &chain);
}

/// A control command of up to 32 bytes, and room for its answer.
fn command(machine: &mut Machine, input: &mut Bytes<'_>) {
    let len = input.u8() % 33;
    let bytes: Vec<_> = (0..len).map(|_| input.u8()).collect();
    machine.arena.write(BUFFERS.into(), &bytes);
    let request = Desc {
        addr: BUFFERS.into(),
        len: len.into(),
        flags: Desc::NEXT,
        next: 0,
    };
    let ack = Desc {
        addr: u64::from(BUFFERS) + 0x40,
        len: 1,
        flags: Desc::WRITE,
        next: 0,
    };
    machine.post(QUEUES - 1, &[request, ack]);
}

/// Answers of a backend to come: its pair, the direction and the answer.
fn answer(machine: &Machine, bits: u8) {
    let wire = &machine.wires[usize::from(bits & 1)];
    let answer = match bits >> 2 & 3 {
        0 => Answer::Pass,
        1 => Answer::WouldBlock,
        2 => Answer::Refused,
        _ => Answer::Dead,
    };
    if bits & 2 == 0 {
        wire.script_send([answer]);
    } else {
        wire.script_recv([answer]);
    }
}

/// Loads a state, which changes nothing if it is refused.
fn load(machine: &mut Machine, state: Snapshot) {
    let idle = matches!(
        machine.device.lifecycle(),
        Lifecycle::Inactive | Lifecycle::Restored
    );
    let before = if idle { machine.snapshot() } else { None };
    let before = before.map(Snapshot::into_bytes);
    if machine.device.restore(state).is_err() {
        let after = if idle { machine.snapshot() } else { None };
        assert!(before == after.map(Snapshot::into_bytes), "half a state");
    }
}

/// A limit in frames; none for 0.
fn limit(input: &mut Bytes<'_>) -> Option<RateLimiterConfig> {
    let size = u64::from(input.u8());
    (size > 0).then_some(RateLimiterConfig {
        ops: Some(TokenBucketConfig {
            size,
            one_time_burst: None,
            refill_time: REFILL_MS,
        }),
        ..RateLimiterConfig::default()
    })
}

/// A queue that is there or not, from its start, where it was stopped, or anywhere.
fn start_or_stop(machine: &mut Machine, step: Step, input: &mut Bytes<'_>) {
    let (queue, mode) = (u16::from(input.u8()) % (QUEUES + 1), input.u8());
    let at = usize::from(queue);
    if matches!(step, Step::Stop) {
        if mode & 1 == 1 && machine.device.reset_queue(queue).is_ok() {
            machine.stopped[at] = Cursor::default();
        } else if let Ok(Some(cursor)) = machine.device.stop_queue(queue) {
            machine.stopped[at] = cursor;
        }
        return;
    }
    let cursor = match mode % 3 {
        0 => Cursor::default(),
        1 => machine.stopped.get(at).copied().unwrap_or_default(),
        _ => Cursor {
            avail: input.u16(),
            used: (mode & 0x80 == 0).then_some(input.u16()),
            avail_wrap: mode & 0x40 == 0,
            used_wrap: mode & 0x20 == 0,
        },
    };
    let _ = machine.device.start_queue(Machine::setup(queue, cursor));
}

/// VIRTIO_F_RING_PACKED.
const PACKED: u64 = 1 << 34;
/// All queues.
const ALL: u8 = 0x1f;

/// Steps that bring a device up.
fn up(without: u64) -> Vec<u8> {
    let negotiate = [
        [Step::Negotiate as u8, 0].as_slice(),
        &without.to_le_bytes(),
    ]
    .concat();
    [negotiate, vec![Step::Activate as u8, ALL]].concat()
}

/// A chain of one buffer.
fn one(queue: u8, flags: u8, at: u16, len: u16) -> Vec<u8> {
    let ([low, high], len) = (at.to_le_bytes(), len.to_le_bytes());
    vec![
        Step::Post as u8,
        queue,
        0,
        flags,
        0,
        low,
        high,
        len[0],
        len[1],
    ]
}

/// A frame in each direction and a command.
fn traffic() -> Vec<u8> {
    let frame = [[Step::Frame as u8, 0, 60, 0].as_slice(), &[0; 12]].concat();
    let steps = [
        one(1, 0, BUFFERS + 0x100, 72),
        one(0, 2, 0x1800, 0x700),
        frame,
        vec![Step::Command as u8, 4, 4, 0, 2, 0],
        vec![Step::Turn as u8],
    ];
    steps.concat()
}

fn seeds() -> Vec<Seed> {
    let seed = |without, steps: &[&[u8]]| {
        let steps = steps
            .iter()
            .map(|step| [step, traffic().as_slice()].concat());
        let steps: Vec<_> = steps.collect();
        [up(without), traffic(), steps.concat()].concat()
    };
    let pause = [Step::Pause as u8];
    let resume = [Step::Resume as u8];
    let reset = [Step::Reset as u8];
    let save = [Step::Save as u8];
    let load = [Step::Load as u8];
    let changed = [Step::LoadChanged as u8, 70, 0, 0xff];
    let migrate = [Step::Migrate as u8, 1];
    let memory = |part| [Step::Memory as u8, part];
    let limits = [Step::Limits as u8, 3, 3];
    let stop = [Step::Stop as u8, 1, 0];
    let start = [Step::Start as u8, 1, 1];
    let link = [Step::Link as u8, 1];
    let announce = [Step::Announce as u8];
    let dead = [Step::Answer as u8, 0x0c];
    let fresh = [0, 1, 4].map(|queue| [Step::LayOut as u8, queue]);
    let again = [fresh.as_flattened().to_vec(), up(PACKED)].concat();
    let refused = [[Step::Negotiate as u8, 1].as_slice(), &[0; 8]].concat();
    vec![
        ("packed", seed(0, &[&pause, &resume])),
        ("split", seed(PACKED, &[&pause, &resume])),
        ("migrated_packed", seed(0, &[&pause, &migrate, &resume])),
        ("migrated_split", seed(PACKED, &[&pause, &migrate, &resume])),
        (
            "restored",
            seed(0, &[&pause, &save, &reset, &load, &changed]),
        ),
        (
            "restored_and_refused",
            seed(0, &[&pause, &save, &reset, &load, &refused]),
        ),
        (
            "reset",
            seed(PACKED, &[&[reset.as_slice(), &again].concat()]),
        ),
        ("memory_same", seed(0, &[&memory(0)])),
        ("memory_without_buffers", seed(0, &[&memory(1)])),
        ("memory_without_rings", seed(PACKED, &[&memory(2), &reset])),
        ("limits", seed(0, &[&limits, &pause])),
        ("queue_restarted", seed(PACKED, &[&stop, &start])),
        ("link_and_announcement", seed(0, &[&link, &announce])),
        ("backend_dead", seed(0, &[&dead])),
    ]
}
