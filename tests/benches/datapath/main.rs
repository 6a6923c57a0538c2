//! Cost that the device adds to the system calls that move frames through a tap.
//!
//! Everything runs in one process in a user and network namespace of its own, on real taps. A
//! measurement is a paired: the device and a bare loop of the same system calls do the same frames
//! over the same buffers in turn, in slices of less than a millisecond, so that whatever else the
//! machine does hits both. Printed are medians of the ratios of the rounds with their quartiles;
//! nanoseconds are only for orientation.
//!
//! ```text
//!   paired     two sides in turn, medians                     driver       a driver's ring and buffers over an engine
//!   host       namespace, packet socket, bare calls           tx, rx     the paired measurements on the tap
//!   alloc      counts allocations                             ring       the engines over a backend that does nothing
//!   frames     what travels                                   calls      other system calls for the same
//!   report     the table                                      echo       round trips through the real worker thread
//!   rx_hash    receive with hashes against the same without
//!                                                             pairs      two pairs against one
//! ```
//!
//! `cargo bench -p tests --bench datapath -- [tx] [rx] [cut] [hash] [ring] [calls] [echo] [pairs]`;
//! no word means all of them. The table of `tx`, `rx` and `cut` is written to
//! `target/bench/datapath.json` too.

mod alloc;
mod calls;
mod driver;
mod echo;
mod frames;
mod host;
mod paired;
mod pairs;
mod report;
mod ring;
mod rx;
mod rx_cut;
mod rx_hash;
mod tx;

use report::Report;

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| word == name);
    if let Err(error) = host::enter_private_network() {
        eprintln!("datapath: no private network namespace: {error}");
        std::process::exit(1);
    }
    let mut report = Report::default();
    if wanted("tx") {
        tx::run(&mut report);
    }
    if wanted("rx") {
        rx::run(&mut report);
    }
    if wanted("rx") || wanted("cut") {
        rx_cut::run(&mut report);
    }
    if !report.is_empty() {
        match report.save() {
            Ok(path) => println!("\nwritten to {}", path.display()),
            Err(error) => eprintln!("datapath: the figures cannot be written: {error}"),
        }
    }
    if wanted("hash") {
        rx_hash::run();
    }
    if wanted("ring") {
        ring::run();
    }
    if wanted("calls") {
        calls::run();
    }
    if wanted("echo") {
        echo::run();
    }
    if wanted("pairs") {
        pairs::run();
    }
}
