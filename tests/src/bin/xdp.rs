//! Program of an interface that passes every frame (XDP), for a guest: `xdp INTERFACE` attaches it,
//! says so, and keeps it there until it is ended.
#![allow(unsafe_code)]

use std::env;
use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::thread;

/// Commands of `bpf(2)`, a type of programs and its place, from `linux/bpf.h`.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;

/// `r0 = XDP_PASS`, and the end.
const PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];

/// The first fields of `bpf_attr` for a program.
#[repr(C)]
struct Program {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

/// The first fields of `bpf_attr` for a link.
#[repr(C)]
struct Link {
    program: u32,
    interface: u32,
    place: u32,
    flags: u32,
}

fn main() -> ExitCode {
    let Some(interface) = env::args().nth(1) else {
        eprintln!("usage: xdp INTERFACE");
        return ExitCode::from(2);
    };
    match attach(&interface) {
        Ok(_link) => {
            println!("attached");
            loop {
                thread::park();
            }
        }
        Err(error) => {
            eprintln!("xdp: {interface}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Attaches the program; it stays as long as what is returned.
fn attach(interface: &str) -> io::Result<OwnedFd> {
    let index = fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"))?;
    let index = index.trim().parse().map_err(io::Error::other)?;
    let program = bpf(
        BPF_PROG_LOAD,
        &Program {
            kind: BPF_PROG_TYPE_XDP,
            count: PASS.len() as u32,
            instructions: PASS.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
        },
    )?;
    bpf(
        BPF_LINK_CREATE,
        &Link {
            program: program.as_raw_fd() as u32,
            interface: index,
            place: BPF_XDP,
            flags: 0,
        },
    )
}

/// Calls `bpf(2)` for a descriptor.
fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads so many bytes of attributes, which live through the call, as does
    // what they point to.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            mem::size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both commands return a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(result as libc::c_int) })
}
