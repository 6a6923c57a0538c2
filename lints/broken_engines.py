"""Engines that are broken on purpose: each has to be found by the simulated worlds within 100,000 steps.

Usage: broken_engines.py [PART], from the root of the repository. PART selects engines by their description. The sources
are copied to target/broken and changed there; nothing else is touched. docs/simulation.md has the table.
"""

import os
import re
import shutil
import subprocess
import sys

STEPS = 100_000
# Steps of each world of tests/tests/world.
LIFE = 5_000
TREE = os.path.join("target", "broken")

# Description, file, what stands there once, and what replaces it.
ENGINES = [
    (
        "split ring: no second look at the ring before sleep",
        "net-queue/src/ring/split.rs",
        "(idx != Ok(self.next_avail) && !awaits) || self.faulted()",
        "(idx.is_err() && !awaits) || self.faulted()",
    ),
    (
        "packed ring: no second look at the ring before sleep",
        "net-queue/src/ring/packed.rs",
        "(self.next_is_available() != Ok(false) && !awaits) || self.faulted()",
        "(self.next_is_available().is_err() && !awaits) || self.faulted()",
    ),
    (
        "split ring: event index one off",
        "net-queue/src/ring/event_index.rs",
        "new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)",
        "new.wrapping_sub(event).wrapping_sub(2) < new.wrapping_sub(old)",
    ),
    (
        "packed ring: event offset one off",
        "net-queue/src/ring/event_index.rs",
        "(end - i32::from(added)..end).contains(&slot)",
        "(end - i32::from(added) + 1..end).contains(&slot)",
    ),
    (
        "split ring: a place of the used ring is left out",
        "net-queue/src/ring/split.rs",
        "self.next_used = self.next_used.wrapping_add(element.places);",
        "self.next_used = self.next_used.wrapping_add(element.places + u16::from(element.id == 3));",
    ),
    (
        "no interrupt when a queue goes on",
        "net-device/src/worker/queue_pair.rs",
        "std::mem::take(first).then_some(index)",
        "(std::mem::take(first) && index > 99).then_some(index)",
    ),
    (
        "a backend without room is not waited for",
        "net-device/src/worker/queue_pair.rs",
        "self.rearm_backend |= matches!(done.stop, Stop::Backend);",
        "self.rearm_backend |= matches!(done.stop, Stop::Driver);",
    ),
    (
        "the timer of a limit is not set",
        "net-device/src/worker/queue_pair/queue.rs",
        "limit.wait_until(deadline, asked);",
        "let _ = (deadline, asked, &limit);",
    ),
    (
        "a restored queue goes on one entry late",
        "net-device/src/state.rs",
        "setup.cursor = ring.cursor;",
        "setup.cursor = ring.cursor;\n                setup.cursor.avail = setup.cursor.avail.wrapping_add(1) % setup.size;",
    ),
    (
        "a limit gives a token on credit",
        "rate-limiter/src/bucket.rs",
        "(self.level < need).then(",
        "(self.level + 2 * i128::from(self.period) < need).then(",
    ),
    (
        "a receive limit counts every other frame of a run",
        "net-queue/src/engine/rx/mod.rs",
        "if let Err(deadline) = self.limit.take(self.now, frame) {",
        "if frames % 2 == 0 && let Err(deadline) = self.limit.take(self.now, frame) {",
    ),
    (
        "a shared limit gets more back than was taken",
        "rate-limiter/src/group/meter.rs",
        "change(&self.tat, |tat| tat.saturating_sub(ns))",
        "change(&self.tat, |tat| tat.saturating_sub(ns + ns / 4))",
    ),
    (
        "a queue waits for a shared limit for too long",
        "rate-limiter/src/group/meter.rs",
        "if now < reservation.due {\n            return Ok(Some(open));",
        "if now < reservation.due {\n            return Ok(Some(open + 10 * (open - now)));",
    ),
    (
        "a worker without a table looks for what it cannot distribute",
        "net-device/src/worker/queue_pair/receive.rs",
        "steering.finish(false);\n                None",
        "None",
    ),
    (
        "split ring: the flag against interrupts is not seen",
        "net-queue/src/ring/split.rs",
        "flags.map_or(true, |flags| flags & NO_INTERRUPT == 0)",
        "flags.map_or(true, |flags| flags & NO_INTERRUPT < 2)",
    ),
    (
        "split ring: interrupts wherever the event index is",
        "net-queue/src/ring/split.rs",
        "event.map_or(true, |event| event_index::asks_for_index(event, old, new))",
        "event.map_or(true, |event| event == event || event_index::asks_for_index(event, old, new))",
    ),
    (
        "packed ring: interrupts in spite of the flag against them",
        "net-queue/src/ring/packed.rs",
        "DISABLE => false,",
        "DISABLE => added > 1,",
    ),
    (
        "packed ring: interrupts wherever the event offset is",
        "net-queue/src/ring/packed.rs",
        "event_index::asks_for_slot(event, self.used, added, self.size)",
        "event == event || event_index::asks_for_slot(event, self.used, added, self.size)",
    ),
    (
        "the control queue interrupts unasked",
        "net-queue/src/engine/ctrl/engine.rs",
        "let interrupt = self.ring.publish();",
        "let interrupt = self.ring.is_undecided() | self.ring.publish() | (frames > 0);",
    ),
    (
        "drops are counted once for a batch",
        "net-queue/src/counters.rs",
        "add(&self.drops[cause.index()], count);",
        "add(&self.drops[cause.index()], count.min(self.drops[cause.index()].load(Relaxed) % 2));",
    ),
    (
        "a suspended device goes on when its VMM resumes it",
        "net-device/src/device/pause.rs",
        "\n            && others.is_empty()\n",
        "\n",
    ),
    (
        "a suspended device shows what has changed",
        "net-device/src/shared/config_space.rs",
        "fields.frozen.unwrap_or_else(|| self.layout(fields))",
        "fields.frozen.filter(|_| fields.owed).unwrap_or_else(|| self.layout(fields))",
    ),
    (
        "a driver that suspends the device is not told of what was done",
        "net-device/src/worker/queue_pair.rs",
        "let interrupt = rx.engine.drain(limiter, filter, self.shared.now_ns()) | rx.notify();",
        "let interrupt = rx.engine.drain(limiter, filter, self.shared.now_ns());",
    ),
]


def copy_sources():
    shutil.rmtree(TREE, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True)
    for path in filter(None, listed.stdout.split("\0")):
        if os.path.isfile(path) and not path.startswith("fuzz/corpus"):
            target = os.path.join(TREE, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            # With the time of now: what was built of the copy before is older.
            shutil.copy(path, target)
    # Cargo knows a package of a workspace by its place in there and its version: without another one it would take what it
    # built of broken sources for what the whole ones need.
    manifest = os.path.join(TREE, "Cargo.toml")
    whole = read(manifest)
    marked = re.sub(r'^version = "([^"]*)"$', r'version = "\1+broken"', whole, count=1, flags=re.MULTILINE)
    if marked == whole:
        sys.exit(f"{manifest} has no version of the workspace")
    write(manifest, marked)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def simulate(steps):
    """The first thing that the worlds find, and after how many steps; None if they find nothing."""
    env = {**os.environ, "CARGO_TARGET_DIR": os.path.abspath("target"), "SIMULATE_STEPS": str(steps), "RUST_BACKTRACE": "0"}
    env.pop("SIMULATE_SEED", None)
    env.pop("SIMULATE_TRACE", None)
    command = ["cargo", "test", "-q", "-p", "tests", "--test", "world"]
    built = subprocess.run([*command, "--no-run"], cwd=TREE, env=env, capture_output=True, text=True)
    if built.returncode != 0:
        sys.exit(built.stderr)
    run = subprocess.run([*command, "--", "nothing"], cwd=TREE, env=env, capture_output=True, text=True)
    found = re.search(r"(.*)\nin step (\d+) of seed (\d+)", run.stdout + run.stderr)
    if run.returncode == 0 or not found:
        return None
    what, step, seed = found.groups()
    return (int(seed) - 1) * LIFE + int(step), what


def main(part=""):
    copy_sources()
    try:
        missed = try_all(part)
    finally:
        shutil.rmtree(TREE, ignore_errors=True)
    if missed:
        sys.exit(f"not found: {', '.join(missed)}")


def try_all(part):
    """Prints the table; descriptions of the engines in which nothing was found."""
    missed = []
    for description, path, before, after in ENGINES:
        if part not in description:
            continue
        path = os.path.join(TREE, path)
        whole = read(path)
        if whole.count(before) != 1:
            sys.exit(f"{path} has {before!r} not once: the broken engine has to follow the code")
        write(path, whole.replace(before, after))
        found = simulate(STEPS)
        write(path, whole)
        if found:
            print(f"| {description} | {found[0]} | {found[1]} |", flush=True)
        else:
            print(f"| {description} | not found | |", flush=True)
            missed.append(description)
    return missed


if __name__ == "__main__":
    main(*sys.argv[1:])
