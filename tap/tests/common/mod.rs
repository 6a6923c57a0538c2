//! Real taps without root: each test runs in a user and network namespace of its own.
//!
//! A namespace can be entered only by a process of a single thread, which a test harness is not.
//! So [`isolated`] starts the test binary again, under `unshare` and for the one test, and
//! there runs the body. Everything the body does to interfaces ends with its process.
#![allow(dead_code, unreachable_pub)] // Each test binary uses its part of this module.
#![allow(unsafe_code)] // Raw requests, to set up what the crate itself refuses to set up.

use std::any::type_name;
use std::ffi::{c_char, c_int, c_short};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::{env, mem, thread};

use tap::{Tap, TapOptions};

/// Set in the process that runs the body, to the name of the test.
const INSIDE: &str = "TEST_IN_NAMESPACE";

/// Runs `body`, a closure written in the test function, in namespaces of its own.
pub fn isolated<F: FnOnce()>(body: F) {
    in_namespaces(&["--user", "--map-root-user", "--net"], body);
}

/// As [`isolated`], with a device node that only the host's root can make: without that user there
/// is nothing to test, and `body` does not run.
pub fn isolated_as_root<F: FnOnce()>(body: F) {
    let map = std::fs::read_to_string("/proc/self/uid_map").expect("the map of user numbers");
    let is_root = map.split_whitespace().eq(["0", "0", "4294967295"])
        // SAFETY: takes and touches no memory.
        && unsafe { libc::geteuid() } == 0;
    if is_root {
        in_namespaces(&["--net", "--mount"], body);
    } else {
        eprintln!("not run: a device node can be made by the host's root only");
    }
}

/// Two descriptors of a new macvtap's device, which is up on one end of a veth pair.
pub fn macvtap() -> [OwnedFd; 2] {
    let script = "mount -t sysfs sys /sys && ip link add mv0 type veth peer name mv1 && \
        ip link add link mv0 name mvt0 type macvtap mode bridge && ip link set mvt0 up && \
        mount -t tmpfs tmp /tmp && \
        mknod /tmp/mvt0 c $(cat /sys/class/net/mvt0/tap*/dev | tr : ' ')";
    let status = Command::new("sh").args(["-ec", script]).status();
    assert!(
        status.expect("a shell").success(),
        "these tests need `ip`, and a kernel with veth and macvtap: `modprobe macvtap`"
    );
    [(); 2].map(|()| {
        let device = OpenOptions::new().read(true).write(true).open("/tmp/mvt0");
        device.expect("open").into()
    })
}

fn in_namespaces<F: FnOnce()>(namespaces: &[&str], body: F) {
    let test = test_name::<F>();
    if env::var(INSIDE).is_ok_and(|inside| inside == test) {
        OpenOptions::new().read(true).write(true).open("/dev/net/tun").expect(
            "these tests need /dev/net/tun: as root, `modprobe tun` and `chmod 0666 /dev/net/tun`",
        );
        return body();
    }
    let output = Command::new("unshare")
        .args(namespaces)
        .arg("--")
        .arg(env::current_exe().expect("the test binary has a path"))
        .args([&test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, &test)
        .output()
        .expect("these tests need `unshare`: install util-linux");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    // A binary that finds no test of the name succeeds too, so look for the one that passed.
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{test} failed in its namespace ({}). If that could not be made, allow user namespaces: \
         user.max_user_namespaces > 0, kernel.unprivileged_userns_clone = 1, \
         kernel.apparmor_restrict_unprivileged_userns = 0 (as far as they exist)\n{stdout}{stderr}",
        output.status
    );
}

/// The harness' name of the test in which a closure is written: its path without the crate.
fn test_name<F>() -> String {
    let path = type_name::<F>().trim_end_matches("::{{closure}}");
    let (_, test) = path.split_once("::").expect("a closure lives in a crate");
    test.to_owned()
}

/// Opens one queue, or fails the test with the whole chain of causes.
pub fn open(options: TapOptions) -> Tap {
    open_all(options).pop().expect("one queue")
}

/// Opens all queues, or fails the test with the whole chain of causes.
pub fn open_all(options: TapOptions) -> Vec<Tap> {
    options
        .open()
        .unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// An error and its causes, as a user would be shown them.
pub fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

fn ok(result: c_int) -> c_int {
    assert!(result >= 0, "{}", io::Error::last_os_error());
    result
}

fn ifreq(name: &str) -> libc::ifreq {
    // SAFETY: zero is a value of every field.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    request
}

/// Opens a tun or tap with any flags, as another program would.
pub fn raw_tun(name: &str, flags: c_int) -> OwnedFd {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .expect("open");
    let mut request = ifreq(name);
    request.ifr_ifru.ifru_flags = flags as c_short;
    // SAFETY: TUNSETIFF reads and writes the one `ifreq`.
    ok(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) });
    file.into()
}

/// As [`raw_tun`], for an interface that outlives its descriptor.
pub fn raw_persistent(name: &str, flags: c_int) {
    let fd = raw_tun(name, flags);
    // SAFETY: TUNSETPERSIST takes a number.
    ok(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETPERSIST, 1) });
}

/// As [`raw_persistent`], for an interface that belongs to this user.
pub fn raw_owned(name: &str, flags: c_int) {
    let fd = raw_tun(name, flags);
    // SAFETY: both requests take a number.
    unsafe {
        ok(libc::ioctl(
            fd.as_raw_fd(),
            libc::TUNSETOWNER,
            libc::geteuid(),
        ));
        ok(libc::ioctl(fd.as_raw_fd(), libc::TUNSETPERSIST, 1));
    }
}

/// Makes the kernel answer the tun driver's request for a filter as macvtap does, from here on
/// and for this whole process.
pub fn refuse_filters() {
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    let skip_unless = |k: u32, jf: u8| libc::sock_filter {
        jf,
        ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k)
    };
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let answer = |k| statement(libc::BPF_RET | libc::BPF_K, k);
    // struct seccomp_data { nr: int, arch: u32, instruction_pointer: u64, args: [u64; 6] }; the
    // lower half of the second argument is what an `ioctl` asks.
    let request = 16 + 8 + if cfg!(target_endian = "little") { 0 } else { 4 };
    let mut filter = [
        load(0),
        skip_unless(libc::SYS_ioctl as u32, 3),
        load(request),
        skip_unless(libc::TUNATTACHFILTER as u32, 1),
        answer(libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program lives through the call, which copies it.
    unsafe {
        ok(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        ok(libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        ));
    }
}

fn control_socket(family: c_int, kind: c_int) -> OwnedFd {
    // SAFETY: `socket` takes no memory, and the new descriptor is nobody else's.
    unsafe { OwnedFd::from_raw_fd(ok(libc::socket(family, kind | libc::SOCK_CLOEXEC, 0))) }
}

/// The flags of an interface, as `ip link` would show them.
pub fn flags(name: &str) -> c_int {
    let socket = control_socket(libc::AF_INET, libc::SOCK_DGRAM);
    let mut request = ifreq(name);
    // SAFETY: SIOCGIFFLAGS reads and writes the one `ifreq`, whose union is integers.
    unsafe {
        ok(libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCGIFFLAGS as _,
            &mut request,
        ));
        c_int::from(request.ifr_ifru.ifru_flags as u16)
    }
}

/// Sets all flags of an interface.
pub fn set_flags(name: &str, flags: c_int) {
    let socket = control_socket(libc::AF_INET, libc::SOCK_DGRAM);
    let mut request = ifreq(name);
    request.ifr_ifru.ifru_flags = flags as c_short;
    // SAFETY: SIOCSIFFLAGS reads the one `ifreq`.
    ok(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &mut request) });
}

/// The index of an interface, if there is one of this name.
pub fn index(name: &str) -> Option<u32> {
    let name = std::ffi::CString::new(name).expect("no NUL");
    // SAFETY: a NUL-terminated string that lives through the call.
    Some(unsafe { libc::if_nametoindex(name.as_ptr()) }).filter(|&index| index != 0)
}

/// Keeps interfaces made from here on free of the IPv6 frames that the kernel sends by itself.
pub fn without_ipv6() {
    match std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {} // a kernel without IPv6
        result => result.expect("the setting belongs to the namespace"),
    }
}

/// Deletes an interface whoever uses it, as `ip link delete` does.
pub fn delete(index: u32) {
    const RTM_DELLINK: u16 = 17;
    const NLM_F_REQUEST_ACK: u16 = 1 | 4;
    // struct nlmsghdr { len, type, flags, seq, pid }, struct ifinfomsg { family, type, index,
    // flags, change }.
    let mut message = Vec::new();
    message.extend(32u32.to_ne_bytes());
    message.extend(RTM_DELLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend([0; 8 + 4]);
    message.extend(index.to_ne_bytes());
    message.extend([0; 8]);
    let socket = control_socket(libc::AF_NETLINK, libc::SOCK_RAW);
    let mut answer = [0u8; 64];
    // SAFETY: both buffers live through the calls and are as long as said.
    let received = unsafe {
        libc::send(
            socket.as_raw_fd(),
            message.as_ptr().cast(),
            message.len(),
            0,
        );
        libc::recv(
            socket.as_raw_fd(),
            answer.as_mut_ptr().cast(),
            answer.len(),
            0,
        )
    };
    assert!(received >= 20, "netlink answered {received} bytes");
    assert_eq!(answer[16..20], [0; 4], "RTM_DELLINK was refused");
}

/// Runs `body` in a thread that is in yet another network namespace.
pub fn in_other_namespace<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    in_thread(|| {
        // SAFETY: no memory is passed; the thread ends with the namespace still its own.
        ok(unsafe { libc::unshare(libc::CLONE_NEWNET) });
        body()
    })
}

/// Runs `body` in a thread that has no capability at all.
pub fn without_capabilities<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    in_thread(|| {
        // Header: version 3, this thread. Data: two sets of effective, permitted, inheritable.
        let header = [0x2008_0522u32, 0];
        let data = [0u32; 6];
        // SAFETY: the kernel reads as many integers as version 3 of the call has.
        let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        body()
    })
}

fn in_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(body).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Waits until the tap has a frame. The limit only ends a test that would hang.
pub fn wait_readable(tap: &Tap) {
    let mut poll = libc::pollfd {
        fd: tap.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one `pollfd` that lives through the call.
    let ready = unsafe { libc::poll(&mut poll, 1, 10_000) };
    assert_eq!(ready, 1, "no frame came");
}

/// Reads frames until one satisfies `wanted`; others are the kernel's own chatter.
pub fn read_until(tap: &Tap, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut frame = vec![0; 65_536];
    loop {
        match tap.read(&mut frame) {
            Ok(length) if wanted(&frame[..length]) => return frame[..length].to_vec(),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_readable(tap),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads everything that is queued now and counts what satisfies `wanted`.
pub fn drain(tap: &Tap, wanted: impl Fn(&[u8]) -> bool) -> usize {
    let mut frame = vec![0; 65_536];
    let mut count = 0;
    loop {
        match tap.read(&mut frame) {
            Ok(length) => count += usize::from(wanted(&frame[..length])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return count,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Sends frames out of an interface, as its host would.
pub struct Sender(OwnedFd);

impl Sender {
    pub fn on(name: &str) -> Self {
        // SAFETY: zero is a value of every field.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index(name).expect("it is there") as c_int;
        let socket = control_socket(libc::AF_PACKET, libc::SOCK_RAW);
        let len = mem::size_of_val(&address) as libc::socklen_t;
        // SAFETY: an address of this length, which the kernel copies.
        ok(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) });
        Self(socket)
    }

    pub fn send(&self, frame: &[u8]) {
        // SAFETY: the kernel reads the one slice.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }
}

/// Runs a command of the shell's.
pub fn shell(script: &str) {
    let status = Command::new("sh").args(["-ec", script]).status();
    assert!(status.expect("a shell").success(), "{script}");
}
