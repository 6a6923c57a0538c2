//! Memory as weakly ordered CPUs may show it, for threads under `shuttle`.
//!
//! A word is the list of all values that were ever stored to it. A thread knows of each word the
//! oldest value that it may still see; a load takes that one or any later one, at random. What a
//! thread learns otherwise:
//!
//! - an acquire load of what a release store put there shows all that the storing thread had seen;
//! - a `SeqCst` fence shows all that any thread had seen before a `SeqCst` fence of its own;
//! - a [`Note`] (a kick, an interrupt) shows all that its sender had seen.
//!
//! So a store that waits in a buffer, a load that was done ahead of time and two stores that change
//! places all look as they do on a real machine: as a value that is older than one would think.
//! These are the relaxed, release and acquire accesses and fences of the C++ model, but for stores
//! to one word, which never change places. Accesses wider than 16 bits may be torn. Nothing here
//! reads or writes the memory that a word lies in; its address is but its name, and it starts as 0.

use std::collections::BTreeMap;
use std::sync::atomic::{self, Ordering};
use std::sync::{Mutex, MutexGuard};

use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::atomic::AtomicBool;
use shuttle::thread::{self, ThreadId};

#[cfg(test)]
use crate::memory::guard::MemoryFault;

/// A word that is a name in the model.
#[derive(Debug, Default)]
pub struct AtomicU64(atomic::AtomicU64);

impl AtomicU64 {
    /// A word that is `value`: it must be 0, as all words are at first.
    ///
    /// # Panics
    /// With any other value.
    #[must_use]
    pub fn new(value: u64) -> Self {
        assert_eq!(value, 0, "memory is 0 at first");
        Self::default()
    }

    fn name(&self) -> usize {
        std::ptr::from_ref(&self.0).addr()
    }

    /// Returns a value that this thread may be shown.
    #[must_use]
    pub fn load(&self, order: Ordering) -> u64 {
        let mut bytes = [0; 8];
        lock().load(self.name(), &mut bytes, order);
        u64::from_ne_bytes(bytes)
    }

    /// Adds a value to those that threads may be shown.
    pub fn store(&self, value: u64, order: Ordering) {
        lock().store(self.name(), &value.to_ne_bytes(), order);
    }
}

/// Loads the word that `ptr` is the name of.
#[cfg(test)]
pub(crate) fn load16(ptr: *const u16, order: Ordering) -> Result<u16, MemoryFault> {
    let mut bytes = [0; 2];
    lock().load(ptr.addr(), &mut bytes, order);
    Ok(u16::from_ne_bytes(bytes))
}

/// Stores to the word that `ptr` is the name of.
#[cfg(test)]
pub(crate) fn store16(ptr: *mut u16, value: u16, order: Ordering) -> Result<(), MemoryFault> {
    lock().store(ptr.addr(), &value.to_ne_bytes(), order);
    Ok(())
}

/// Stores to the double word that `ptr` is the name of.
#[cfg(test)]
pub(crate) fn store32(ptr: *mut u32, value: u32) -> Result<(), MemoryFault> {
    lock().store(ptr.addr(), &value.to_ne_bytes(), Ordering::Relaxed);
    Ok(())
}

/// Stores to the two double words that `ptr` is the name of.
#[cfg(test)]
pub(crate) fn store32x2(ptr: *mut u32, first: u32, second: u32) -> Result<(), MemoryFault> {
    store32(ptr, first)?;
    store32(ptr.wrapping_add(1), second)
}

/// Loads the two quad words that `ptr` is the name of.
#[cfg(test)]
pub(crate) fn load64x2(ptr: *const u64) -> Result<(u64, u64), MemoryFault> {
    let load = |ptr: *const u64| {
        let mut bytes = [0; 8];
        lock().load(ptr.addr(), &mut bytes, Ordering::Relaxed);
        u64::from_ne_bytes(bytes)
    };
    let high = load(ptr.wrapping_add(1));
    Ok((load(ptr), high))
}

/// The same, the last two bytes first, by an acquire load.
#[cfg(test)]
pub(crate) fn load64x2_acquire(ptr: *const u64) -> Result<(u64, u64), MemoryFault> {
    let flags = load16(ptr.cast::<u16>().wrapping_add(7), Ordering::Acquire)?;
    let (low, high) = load64x2(ptr)?;
    let mut bytes = high.to_ne_bytes();
    bytes[6..].copy_from_slice(&flags.to_ne_bytes());
    Ok((low, u64::from_ne_bytes(bytes)))
}

/// Orders this thread's accesses before and after it; `order` is sequential consistency.
///
/// # Panics
/// With any other order.
pub fn fence(order: Ordering) {
    assert_eq!(
        order,
        Ordering::SeqCst,
        "the one fence that the models know"
    );
    lock().fence();
}

/// Knowledge of a thread, on its way to another one.
#[derive(Debug)]
pub struct Note(View);

impl Note {
    /// All that this thread has seen.
    #[must_use]
    pub fn write() -> Self {
        Self(lock().me().seen.clone())
    }

    /// Shows it to this thread.
    pub fn read(self) {
        lock().me().seen.join(&self.0);
    }
}

shuttle::lazy_static! {
    /// New for each run of a test.
    static ref MEMORY: Mutex<Memory> = Mutex::default();
    static ref TURN: AtomicBool = AtomicBool::default();
}

/// Every access is a place where another thread may go first: each operation of `shuttle` is one.
fn lock() -> MutexGuard<'static, Memory> {
    TURN.load(Ordering::Relaxed);
    MEMORY.lock().expect("a thread failed before")
}

/// For each word the first of its values that may be seen; 0 for words it does not reach to.
#[derive(Clone, Debug, Default)]
struct View(Vec<usize>);

impl View {
    fn of(&self, word: usize) -> usize {
        self.0.get(word).copied().unwrap_or(0)
    }

    fn raise(&mut self, word: usize, place: usize) {
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] = self.0[word].max(place);
    }

    fn join(&mut self, other: &Self) {
        for (word, place) in other.0.iter().enumerate() {
            self.raise(word, *place);
        }
    }
}

/// A stored value, and what becomes visible to who acquires it.
#[derive(Debug, Default)]
struct Stored {
    bytes: [u8; 2],
    shows: View,
}

#[derive(Debug, Default)]
struct Thread {
    seen: View,
    /// Values that relaxed loads would have shown, were there a fence behind them.
    behind: View,
    /// Values that relaxed stores show, because of the fence before them.
    fenced: View,
}

#[derive(Debug, Default)]
struct Memory {
    names: BTreeMap<usize, usize>,
    words: Vec<Vec<Stored>>,
    threads: Vec<(ThreadId, Thread)>,
    /// Values that all fences together have shown.
    fences: View,
}

impl Memory {
    fn me(&mut self) -> &mut Thread {
        let id = thread::current().id();
        let known = self.threads.iter().position(|(other, _)| *other == id);
        let place = known.unwrap_or(self.threads.len());
        if known.is_none() {
            self.threads.push((id, Thread::default()));
        }
        &mut self.threads[place].1
    }

    fn word(&mut self, addr: usize) -> usize {
        let next = self.words.len();
        let word = *self.names.entry(addr).or_insert(next);
        if word == next {
            self.words.push(vec![Stored::default()]);
        }
        word
    }

    fn load(&mut self, addr: usize, bytes: &mut [u8], order: Ordering) {
        for (at, half) in bytes.chunks_mut(2).enumerate() {
            let word = self.word(addr + 2 * at);
            let (oldest, newest) = (self.me().seen.of(word), self.words[word].len() - 1);
            let mut random = thread_rng();
            let place = if oldest == newest || random.gen_bool(0.5) {
                newest
            } else {
                random.gen_range(oldest..=newest)
            };
            let stored = &self.words[word][place];
            half.copy_from_slice(&stored.bytes);
            let shows = stored.shows.clone();
            let me = self.me();
            me.seen.raise(word, place);
            match order {
                Ordering::Relaxed => me.behind.join(&shows),
                _ => me.seen.join(&shows),
            }
        }
    }

    fn store(&mut self, addr: usize, bytes: &[u8], order: Ordering) {
        for (at, half) in bytes.chunks(2).enumerate() {
            let word = self.word(addr + 2 * at);
            let place = self.words[word].len();
            let me = self.me();
            me.seen.raise(word, place);
            let mut shows = match order {
                Ordering::Relaxed => me.fenced.clone(),
                _ => me.seen.clone(),
            };
            shows.raise(word, place);
            let bytes = [half[0], half[1]];
            self.words[word].push(Stored { bytes, shows });
        }
    }

    fn fence(&mut self) {
        let mut fences = std::mem::take(&mut self.fences);
        let me = self.me();
        me.seen.join(&me.behind);
        fences.join(&me.seen);
        me.seen = fences.clone();
        me.fenced = fences.clone();
        self.fences = fences;
    }
}
