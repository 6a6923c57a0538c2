#!/usr/bin/env python3
"""Finds files of a crate that import each other in a circle.

Usage: file_cycles.py FOLDER...    of crates: their libraries, programs, examples, tests and benchmarks

Files import only from storeys below. A module that re-exports its children imports nothing by that; tests do not count.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from rust_files import Crate  # noqa: E402


def graph(crate):
    """Who imports from whom, with one path as it is written."""
    edges = {module: {} for module in crate.files}
    for module, file in crate.files.items():
        for home, written in crate.imports(file):
            edges[module].setdefault(home, written)
    return edges


def shortest_circle(edges, start):
    """The shortest way from `start` back to it, as a list of modules, or None."""
    before, queue = {}, [start]
    for module in queue:
        for target in edges[module]:
            if target == start:
                way = [module]
                while way[-1] != start:
                    way.append(before[way[-1]])
                return way[::-1]
            if target not in before:
                before[target] = module
                queue.append(target)
    return None


def circles(root):
    """Yields a text for every circle; one circle for files that several have in common."""
    crate = Crate(root)
    edges = graph(crate)
    told = set()
    for module in sorted(edges):
        way = shortest_circle(edges, module)
        if way is None or told.issuperset(way):
            continue
        told.update(way)
        steps = zip(way, way[1:] + way[:1])
        yield "".join(
            f"\n    {crate.files[one].path} uses {edges[one][other]}" for one, other in steps
        )


ROOTS = (
    "src/lib.rs",
    "src/main.rs",
    "src/bin/*.rs",
    "src/bin/*/main.rs",
    "examples/*.rs",
    "examples/*/main.rs",
    "tests/*.rs",
    "tests/*/main.rs",
    "benches/*.rs",
    "benches/*/main.rs",
    "fuzz_targets/*.rs",
)


def roots(folder):
    """The files from which cargo compiles a crate's library and programs."""
    return [root for pattern in ROOTS for root in sorted(folder.glob(pattern))]


def main(folders):
    found = []
    for folder in map(Path, folders):
        files = roots(folder)
        if not files:
            sys.exit(f"{folder} is not the folder of a crate")
        found += [circle for root in files for circle in circles(root)]
    for circle in found:
        print(f"files import each other in a circle:{circle}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
