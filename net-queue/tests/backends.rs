//! The example's backends, run as a test.

#[path = "../examples/backends/main.rs"]
mod example;

#[test]
fn frames_go_out_and_come_back_through_backends_in_safe_code() {
    example::main();
}
