#!/usr/bin/env python3
"""The data path benchmark over many orders of its functions, beside another revision's.

Where the linker puts a function decides by some per cent what it costs behind a system call, when
the processor has forgotten it. So one build against one other tells layouts apart as much as code.
Each revision is compiled once; its objects are linked again with their functions in random orders,
and the builds take turns. What is compared are medians over the orders.

    layouts.py [--orders N] [--against REVISION] [ROW...]

ROWs are those of the benchmark (tx, rx, hash, cut); tx and rx if there are none. The table goes to
target/bench/layouts.json too: of each row the ratio to the bare call (or to the device without
hashes) as the median, least and most of all orders, and medians of both revisions as a ratio.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

# Set for the linker's part: the folder that keeps what it was given.
KEEP = "LAYOUTS_KEEP"
# Columns of a row of the benchmark: what it is of, and its ratio.
NAME, RATIO = slice(0, 4), 6
TURN = 600  # seconds that one run may take


def link(arguments):
    """The linker, which keeps its objects: rustc deletes them."""
    folder = Path(os.environ[KEEP])
    folder.mkdir(parents=True, exist_ok=True)
    kept = []
    for number, argument in enumerate(arguments):
        if os.path.isfile(argument):
            copy = folder / f"{number}-{os.path.basename(argument)}"
            shutil.copy(argument, copy)
            argument = str(copy)
        kept.append(argument)
    (folder / "arguments.json").write_text(json.dumps(kept))
    return subprocess.call(["cc", *arguments])


def compile_objects(tree, target, name):
    """Compiles the benchmark of `tree` and returns the folder of its objects."""
    folder = target / "layouts" / name
    shutil.rmtree(folder, ignore_errors=True)
    environment = dict(os.environ, **{KEEP: str(folder)})
    environment["CARGO_TARGET_DIR"] = str(target / "layouts" / "build" / name)
    # A flag that changes nothing makes cargo link again what is up to date.
    marker = f"-Cmetadata={os.getpid()}"
    command = ["cargo", "rustc", "-q", "--profile", "bench", "-p", "tests", "--bench", "datapath"]
    command += ["--", f"-Clinker={Path(__file__).resolve()}", marker]
    subprocess.run(command, cwd=tree, env=environment, check=True)
    return folder


def relink(folder, order):
    """Links objects again, their functions in a random order; returns the program."""
    arguments = json.loads((folder / "arguments.json").read_text())
    program = folder / f"datapath-{order}"
    arguments[arguments.index("-o") + 1] = str(program)
    # GNU ld cannot do this; rustc brings LLVM's.
    if "-fuse-ld=lld" not in arguments:
        arguments.append("-fuse-ld=lld")
    arguments.append(f"-Wl,--shuffle-sections=.text*={order}")
    subprocess.run(["cc", *arguments], check=True)
    return program


def measure(program, rows, found):
    """Runs the benchmark, and adds the ratio of each of its rows to those that were found."""
    command = [program, "--bench", *rows]
    # What it complains of goes to the terminal.
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TURN, check=True)
    for line in output.stdout.splitlines():
        columns = line.split()
        try:
            ratio = float(columns[RATIO])
        except (IndexError, ValueError):
            continue
        found.setdefault(" ".join(columns[NAME]), []).append(ratio)


def report(new, old):
    """Prints the medians, and returns them."""
    rows = []
    for name, ratios in new.items():
        median = statistics.median(ratios)
        row = {"row": name, "median": median, "least": min(ratios), "most": max(ratios)}
        text = f"{name:<28} {median:6.3f}  {min(ratios):.3f}-{max(ratios):.3f}"
        if name in old:
            row["old"] = statistics.median(old[name])
            row["new_to_old"] = median / row["old"]
            text += f"  before {row['old']:6.3f}  ratio {row['new_to_old']:6.3f}"
        print(text)
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--orders", type=int, default=10)
    parser.add_argument("--against", metavar="REVISION")
    parser.add_argument("rows", nargs="*", metavar="ROW")
    options = parser.parse_args()
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target")).resolve()
    sides = [(compile_objects(Path.cwd(), target, "new"), {})]
    if options.against:
        tree = target / "layouts" / "tree"
        git = ["git", "worktree"]
        # A run that was interrupted left it, or its benchmark wrote figures there.
        shutil.rmtree(tree, ignore_errors=True)
        subprocess.run([*git, "prune"], check=True)
        subprocess.run([*git, "add", "-q", "--force", "--detach", tree, options.against], check=True)
        try:
            sides.append((compile_objects(tree, target, "old"), {}))
        finally:
            subprocess.run([*git, "remove", "--force", tree], check=True)
    for order in range(1, options.orders + 1):
        for folder, found in sides:
            program = relink(folder, order)
            measure(program, options.rows or ["tx", "rx"], found)
            program.unlink()
        print(f"order {order} of {options.orders}", file=sys.stderr)
    rows = report(sides[0][1], sides[1][1] if options.against else {})
    path = target / "bench" / "layouts.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    if KEEP in os.environ:
        sys.exit(link(sys.argv[1:]))
    try:
        main()
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        sys.exit(f"layouts.py: {error}")
