//! The network device for any virtual machine monitor: a vhost-user back-end.
//!
//! vhost-user moves a virtio device out of the monitor. The monitor (the *front-end*) connects to a Unix socket,
//! passes the files that hold the guest's memory and the event descriptors of each ring, and from then on the guest
//! and this process (the *back-end*) talk through shared memory.
//!
//! ```text
//!   front-end --- socket ---> connection   whole messages, never a wait inside
//!                                  |
//!                                wire      bytes and descriptors -> one checked Request
//!                                  |
//!                 memory  log <- session -> vring     what was said, and what follows from it
//!                                  |
//!                              net_device   the device: rings, frames, workers
//!                                  |
//!   front-end <- eventfds -- interrupts
//! ```
//!
//! | module | knows |
//! |---|---|
//! | [`args`] | the command line |
//! | [`limits`] | rate limits as words |
//! | [`group`] | budgets that devices share |
//! | [`daemon`] | the devices of the process, each with its thread |
//! | [`control`] | an operator's commands to the running daemon |
//! | [`listener`] | a socket to listen at: its path, who may connect, when to accept |
//! | [`serve`] | where front-ends come from, one conversation after the other, the thread's one wait |
//! | [`connection`] | one socket: messages in pieces, replies that wait |
//! | [`wire`] | the format: every request, every field checked |
//! | [`session`] | what a front-end has negotiated, and what the device is told |
//! | [`vring`] | one ring: what is known of it, and whether it runs |
//! | [`memory`] | the files that hold guest memory; whose address is where |
//! | [`log`] | the bitmap of written pages, for live migration |
//! | [`interrupts`] | event descriptors from the device's workers to the front-end |
//! | [`pcap`] | frames to a file |
//! | [`sys`] | system calls: all of the `unsafe` |
//!
//! # Trust
//!
//! Neither guest nor front-end is trusted. A malformed message ends its connection, and nothing else; what a message
//! brought along is closed with it. Memory is mapped only where its file is; a front-end that shrinks the file
//! afterwards breaks its own rings, or loses its dirty log and with that its connection. Other devices go on.
//!
//! A descriptor is used only for what the kernel alone knows it to be: memory in tmpfs or hugetlbfs, events in an
//! eventfd or a pipe; calls may go to a pair of sockets as well. Any other is closed before anything is asked of it.

pub mod args;
pub mod connection;
pub mod control;
pub mod daemon;
pub mod group;
pub mod interrupts;
pub mod limits;
pub mod listener;
pub mod log;
pub mod memory;
pub mod pcap;
pub mod serve;
pub mod session;
pub mod sys;
pub mod vring;
pub mod wire;
