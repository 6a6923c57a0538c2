//! A vhost-user back-end: the virtio network device for any virtual machine monitor.
//!
//! vhost-user moves a virtio device out of the monitor. The monitor (the *front-end*) connects to a
//! Unix socket, passes the files that hold the guest's memory and the event descriptors of each
//! ring, and from then on the guest and this process (the *back-end*) talk through shared memory.
//!
//! ```text
//!   daemon      command line -> plan -> served devices, each: listener, front-ends, operator
//!                                            |
//!   protocol    connection -> wire -> session -> vring, memory table, dirty log
//!                                            |
//!                                       net_device    rings, frames, workers
//! ```
//!
//! | module | knows |
//! |---|---|
//! | [`daemon`] | the process: options, devices, sockets, an operator's commands |
//! | [`inspect`] | snapshots in files |
//! | [`protocol`] | one front-end: messages, and what follows from them |
//! | [`sys`] | descriptors and mappings of a front-end, signals, sockets |
//!
//! # Trust
//!
//! Neither guest nor front-end is trusted. A malformed message ends its connection, and nothing
//! else; what a message brought along is closed with it. Memory is mapped only where its file is; a
//! front-end that shrinks the file afterwards breaks its own rings, or loses its dirty log and with
//! that its connection. Other devices go on.
//!
//! A descriptor is used only for what the kernel alone knows it to be: memory in tmpfs or
//! hugetlbfs, events in an eventfd or a pipe; calls may go to a pair of sockets as well. Any other
//! is closed before anything is asked of it.

pub mod daemon;
pub mod inspect;
pub mod protocol;
pub mod sys;
