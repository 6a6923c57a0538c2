//! The program as a whole, with a device that moves in the middle of each stream.

use std::process::Command;

#[test]
fn both_streams_are_finished_on_another_tap() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_virtio-net-demo"));
    let done = program
        .args(["--seconds", "1", "--pings", "1", "--snapshot"])
        .output()
        .expect("it was built");
    let text = String::from_utf8_lossy(&done.stdout);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert_eq!(text.matches("restored on another tap").count(), 2, "{text}");
    assert!(text.contains("traffic flows both ways"), "{text}");
}
