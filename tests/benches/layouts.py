#!/usr/bin/env python3
"""The data path benchmark over many orders of its functions, beside another revision's.

Where the linker puts a function decides by some per cent what it costs behind a system call, when
the processor has forgotten it. So one build against one other tells layouts apart as much as code.
Each revision is compiled once; its objects are linked again with their functions in random orders,
and the builds take turns. What is compared are medians over the orders.

    layouts.py [--orders N] [--against REVISION] [ROW...]
    layouts.py --ring [--orders N] [--against REVISION] [FILTER]

ROWs are those of the benchmark (tx, rx, hash, cut); tx and rx if there are none. With --ring it is
the benchmark of rings and engines alone instead, the rows that FILTER, a regular expression, names.
The table goes to target/bench/layouts.json too: of each row the ratio to the bare call (or to the
device without hashes), or nanoseconds, as the median, least and most of all orders, and medians of
both revisions as a ratio.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

# Set for the linker's part: the folder that keeps what it was given.
KEEP = "LAYOUTS_KEEP"
# Columns of a row of the data path's benchmark: what it is of, and its ratio.
NAME, RATIO = slice(0, 4), 6
# What criterion says of a row of the rings' benchmark, whose median is the second figure.
ROW = re.compile(r"^(\S+/\S+)?\s+time:\s+\[\S+ \S+ (\S+) (ns|µs|ms) \S+ \S+\]")
LONG_NAME = re.compile(r"^\S+/\S+$")
NANOSECONDS = {"ns": 1, "µs": 1e3, "ms": 1e6}
# Criterion need not measure long: there are many orders.
SHORT = ["--noplot", "--warm-up-time", "0.1", "--measurement-time", "0.4", "--sample-size", "20"]
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


def compile_objects(tree, target, name, ring):
    """Compiles a benchmark of `tree` and returns the folder of its objects."""
    folder = target / "layouts" / name
    shutil.rmtree(folder, ignore_errors=True)
    environment = dict(os.environ, **{KEEP: str(folder)})
    environment["CARGO_TARGET_DIR"] = str(target / "layouts" / "build" / name)
    # A flag that changes nothing makes cargo link again what is up to date.
    marker = f"-Cmetadata={os.getpid()}"
    # By their folders, since packages had other names.
    package, bench = ("net-queue", "ring") if ring else ("tests", "datapath")
    command = ["cargo", "rustc", "-q", "--profile", "bench", "--bench", bench]
    command += ["--manifest-path", f"{package}/Cargo.toml", "--", f"-Clinker={Path(__file__).resolve()}", marker]
    subprocess.run(command, cwd=tree, env=environment, check=True)
    return folder


def relink(folder, order):
    """Links objects again, their functions in a random order; returns the program."""
    arguments = json.loads((folder / "arguments.json").read_text())
    program = folder / f"order-{order}"
    arguments[arguments.index("-o") + 1] = str(program)
    # GNU ld cannot do this; rustc brings LLVM's.
    if "-fuse-ld=lld" not in arguments:
        arguments.append("-fuse-ld=lld")
    arguments.append(f"-Wl,--shuffle-sections=.text*={order}")
    subprocess.run(["cc", *arguments], check=True)
    return program


def datapath_rows(lines):
    """The rows of the data path's benchmark, with their ratios."""
    for line in lines:
        columns = line.split()
        try:
            yield " ".join(columns[NAME]), float(columns[RATIO])
        except (IndexError, ValueError):
            continue


def ring_rows(lines):
    """The rows of the rings' benchmark, with their nanoseconds."""
    name = None
    for line in lines:
        row = ROW.match(line)
        if row:
            yield row[1] or name, float(row[2]) * NANOSECONDS[row[3]]
        elif LONG_NAME.match(line):
            # It is followed by what it is the name of.
            name = line


def measure(program, options, found):
    """Runs the benchmark, and adds the figure of each of its rows to those that were found."""
    if options.ring:
        arguments, rows_of = [*SHORT, *(options.rows or ["^(tx|rx|header)/"])], ring_rows
    else:
        arguments, rows_of = options.rows or ["tx", "rx"], datapath_rows
    command = [program, "--bench", *arguments]
    # What it complains of goes to the terminal; criterion says there what it does, as well.
    chatter = subprocess.PIPE if options.ring else None
    output = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=chatter, text=True, timeout=TURN, check=True
    )
    for name, figure in rows_of(output.stdout.splitlines()):
        found.setdefault(name, []).append(figure)


def report(new, old):
    """Prints the medians, and returns them."""
    rows = []
    for name, figures in new.items():
        median = statistics.median(figures)
        row = {"row": name, "median": median, "least": min(figures), "most": max(figures)}
        text = f"{name:<28} {median:6.3f}  {min(figures):.3f}-{max(figures):.3f}"
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
    parser.add_argument("--ring", action="store_true")
    parser.add_argument("rows", nargs="*", metavar="ROW")
    options = parser.parse_args()
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target")).resolve()
    sides = [(compile_objects(Path.cwd(), target, "new", options.ring), {})]
    if options.against:
        tree = target / "layouts" / "tree"
        git = ["git", "worktree"]
        # A run that was interrupted left it, or its benchmark wrote figures there.
        shutil.rmtree(tree, ignore_errors=True)
        subprocess.run([*git, "prune"], check=True)
        subprocess.run([*git, "add", "-q", "--force", "--detach", tree, options.against], check=True)
        try:
            sides.append((compile_objects(tree, target, "old", options.ring), {}))
        finally:
            subprocess.run([*git, "remove", "--force", tree], check=True)
    for order in range(1, options.orders + 1):
        for folder, found in sides:
            program = relink(folder, order)
            measure(program, options, found)
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
        sys.exit(f"{error.stderr or ''}layouts.py: {error}")
