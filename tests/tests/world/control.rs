//! The control queue as a strict driver uses it: one command at a time, and a look at the answer
//! when it was interrupted.

use net_device::net_queue::ctrl::{Command, NotificationCoalescing, RxMode};
use net_device::net_queue::ring::RingConfig;
use net_device::{Cursor, Features};
use net_queue::testing::{GuestRing, Interrupts, Piece, Random, TestMemory, command_bytes};

use crate::listener::Listener;
use crate::queue::break_ring;
use crate::steering::{self, Steering};

/// Bytes of memory for a command and its answer.
const MEMORY: usize = 64;
/// Value of the answer before there is one.
const NONE: u8 = 0xee;

/// A command that was posted.
#[derive(Clone, Copy, Debug)]
struct Posted {
    /// Address of the byte that answers.
    answer: u64,
    /// Ring slots that it takes.
    slots: u16,
    /// Steering that is in force once it is done.
    steering: Steering,
    /// It says that the driver has announced itself.
    acknowledges: bool,
    /// It may be refused: its queues do not all run.
    may_fail: bool,
}

/// Commands that a driver can give.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Commands {
    /// The driver can choose between one pair and two.
    pub(crate) several: bool,
    /// It can say by a table which of two receives a frame.
    pub(crate) steers: bool,
    /// Notifications can wait.
    pub(crate) notf_coal: bool,
}

impl Commands {
    /// Those of a driver that has accepted `features`, of so many pairs.
    pub(crate) fn of(features: Features, pairs: u16) -> Self {
        let has = |feature| features.contains(feature);
        Self {
            several: has(Features::VIRTIO_NET_F_MQ) && pairs > 1,
            steers: has(Features::VIRTIO_NET_F_RSS) && pairs > 1,
            notf_coal: has(Features::VIRTIO_NET_F_NOTF_COAL),
        }
    }
}

#[derive(Debug)]
pub(crate) struct ControlQueue {
    pub(crate) ring: GuestRing,
    pub(crate) listener: Listener,
    pub(crate) kicked: bool,
    commands: Commands,
    /// Steering in force, unless a command is on its way.
    steering: Steering,
    /// Commands that were given so far.
    pub(crate) given: u64,
    place: u64,
    posted: Option<Posted>,
    /// The driver was asked to announce itself, and has not said yet that it did.
    pub(crate) announces: bool,
    /// It has just said so, and looks at the configuration.
    pub(crate) announced: bool,
    /// Commands that the driver still gives while the world comes to rest.
    pub(crate) last: u64,
}

impl ControlQueue {
    pub(crate) fn new(
        memory: &TestMemory,
        index: u16,
        config: RingConfig,
        commands: Commands,
    ) -> Self {
        Self {
            ring: GuestRing::new(memory, config),
            listener: Listener::new(index, false),
            kicked: false,
            commands,
            steering: Steering::default(),
            given: 0,
            place: memory.alloc_ring(MEMORY, 64),
            posted: None,
            announces: false,
            announced: false,
            last: 0,
        }
    }

    /// Begins anew with a ring that is empty.
    pub(crate) fn begin_again(&mut self, memory: &TestMemory) {
        let config = RingConfig {
            cursor: Cursor::default(),
            ..self.ring.config()
        };
        self.ring = GuestRing::new(memory, config);
        self.posted = None;
        self.listener.begin_again();
        // It may have been lost that it announced itself.
        self.announced = true;
    }

    /// The pair that receives frame `number` of the network of `pair`, if that is certain now.
    pub(crate) fn pair_of(&self, pair: usize, number: u64) -> Option<usize> {
        let sure = self.posted.is_none() && !self.listener.is_broken;
        sure.then(|| self.steering.pair_of(pair, number))
    }

    /// The device is reset, and with it all that commands have set.
    pub(crate) fn device_resets(&mut self) {
        self.steering = Steering::default();
        self.given += 1;
    }

    /// A queue stops: a command that needs it may be refused.
    pub(crate) fn queue_stops(&mut self) {
        if let Some(posted) = &mut self.posted {
            posted.may_fail = true;
        }
    }

    /// One step of the driver; `unsteady` says that queues are stopped.
    pub(crate) fn step(&mut self, random: &mut Random, unsteady: bool) -> Result<(), String> {
        if self.posted.is_some() || self.listener.is_broken {
            // Some look for the answer for a while, and want no interrupt for it.
            let looks = random.below(2) == 0 && self.listener.asleep.is_none();
            return match self.posted {
                Some(_) if looks && !self.listener.is_broken => self.look().map(|_| ()),
                _ => self.wait().map(|_| ()),
            };
        }
        if random.below(2) == 0 {
            self.listener.ask(&mut self.ring, Interrupts::Never);
        }
        self.give(random, unsteady);
        Ok(())
    }

    /// Gives one of the last commands, if one is left and nothing is waited for; returns whether it
    /// did.
    pub(crate) fn step_last(
        &mut self,
        random: &mut Random,
        unsteady: bool,
    ) -> Result<bool, String> {
        self.wait()?;
        let gives = self.last > 0 || self.announces;
        let gives = gives && self.posted.is_none() && !self.listener.is_broken;
        if gives {
            self.last = self.last.saturating_sub(1);
            self.give(random, unsteady);
        }
        Ok(gives)
    }

    fn give(&mut self, random: &mut Random, unsteady: bool) {
        let command = self.choose(random);
        let bytes = command_bytes(&command);
        let memory = self.ring.memory();
        let answer = self.place + bytes.len() as u64;
        memory.write(self.place, &bytes);
        memory.write(answer, &[NONE]);
        let pieces = [
            Piece::readable(self.place, bytes.len() as u32),
            Piece::writable(answer, 1),
        ];
        self.ring.add(&pieces);
        self.kicked |= self.ring.publish();
        self.given += 1;
        self.posted = Some(Posted {
            answer,
            slots: pieces.len() as u16,
            steering: Steering::after(&command, self.steering),
            acknowledges: matches!(command, Command::AckAnnounce),
            may_fail: unsteady,
        });
    }

    fn choose(&mut self, random: &mut Random) -> Command<'static> {
        if std::mem::take(&mut self.announces) {
            return Command::AckAnnounce;
        }
        let notf_coal = NotificationCoalescing {
            max_packets: random.below(40) as u32,
            max_usecs: random.below(500) as u32,
        };
        match random.below(5) {
            0 if self.commands.notf_coal => Command::SetRxNotfCoal(notf_coal),
            1 if self.commands.notf_coal => Command::SetTxNotfCoal(notf_coal),
            2 if self.commands.several => Command::SetPairs(1 + random.below(2) as u16),
            3 if self.commands.steers => {
                steering::command(random.below(steering::TABLES.len() as u64) as usize)
            }
            // The frames are for the driver's own address anyway.
            _ => Command::SetRxMode {
                mode: RxMode::AllMulti,
                on: random.below(2) == 0,
            },
        }
    }

    /// Acts as a driver that has nothing new to do, but may have been asked for something; returns
    /// whether it did anything.
    pub(crate) fn quiesce(&mut self, random: &mut Random, unsteady: bool) -> Result<bool, String> {
        let gives = self.announces && self.step_last(random, unsteady)?;
        Ok(self.wait()? | gives)
    }

    /// Breaks the ring, if there is room for that.
    pub(crate) fn break_ring(&mut self, random: &mut Random) -> bool {
        let broken = break_ring(&mut self.ring, Piece::readable(self.place, 2), random);
        self.kicked |= broken;
        self.listener.is_broken |= broken;
        broken
    }

    /// Waits for the answer as a strict driver; returns whether it did anything.
    pub(crate) fn wait(&mut self) -> Result<bool, String> {
        if std::mem::take(&mut self.listener.interrupted) {
            self.listener.asleep = None;
        }
        if self.posted.is_none() || self.listener.asleep.is_some() || self.listener.is_broken {
            return Ok(false);
        }
        if !self.look()? {
            self.listener.ask(&mut self.ring, Interrupts::Always);
            self.listener.asleep = (!self.look()?).then_some(1);
        }
        Ok(true)
    }

    /// Takes the answer, if it is there.
    pub(crate) fn look(&mut self) -> Result<bool, String> {
        let Some(used) = self.ring.poll() else {
            return Ok(false);
        };
        let posted = self.posted.take().ok_or("an answer to no command")?;
        self.listener.takes(&self.ring, posted.slots);
        self.announced |= posted.acknowledges;
        let answer: u8 = self.ring.memory().load(posted.answer);
        match answer {
            _ if used.len != 1 => Err(format!("an answer of {} bytes", used.len)),
            0 => {
                self.steering = posted.steering;
                Ok(true)
            }
            1 if posted.may_fail => Ok(true),
            other => Err(format!("a command was answered by {other}")),
        }
    }

    /// Nothing is to be waited for any more.
    ///
    /// # Errors
    /// An answer is missing, or an interrupt for it.
    pub(crate) fn owed(&mut self) -> Result<(), String> {
        if self.posted.is_none() {
            return Ok(());
        }
        Err(if self.look()? {
            "a command was answered, and no interrupt told of it".to_owned()
        } else {
            "a command has no answer".to_owned()
        })
    }
}
