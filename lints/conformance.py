#!/usr/bin/env python3
"""Holds docs/conformance.md against the code.

Usage: conformance.py [WORKSPACE]

Fails for an id in the code without a row, for a row that names a place that is not there, or a test that is not there or
has a namesake, and for a MUST of an offered feature without a test. What cannot be otherwise is said to be so "By construction".
"""

import re
import sys
from collections import Counter
from pathlib import Path

ID = re.compile(r"\b((?:NET|VQ|DEV)-[A-Z]+-\d+)\b")
ID_IN_NAME = re.compile(r"_((?:net|vq|dev)_[a-z]+(?:_\d+)+)")
TEST = re.compile(r"#\[test\](?:\s*(?:#\[[^\]]*\]|//[^\n]*))*\s*fn (\w+)")
FEATURE = re.compile(r"\b[A-Z][A-Z0-9_]+\b")


def sources(root):
    """The Rust files of the workspace."""
    for path in sorted(root.rglob("*.rs")):
        if "target" not in path.relative_to(root).parts:
            yield path, path.read_text()


def ids_in(text):
    """Ids that a file speaks of, in its comments and in the names of its tests."""
    yield from ID.findall(text)
    for name in ID_IN_NAME.findall(text):
        area, group, *numbers = name.split("_")
        for number in numbers:
            yield f"{area}-{group}-{number}".upper()


def rows(text):
    """The rows of all tables, as (id, level, places, last column)."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 6 and re.fullmatch(r"[A-Z]+(-[A-Z]+)?-\d+", cells[0]):
            yield cells[0], cells[2], re.findall(r"`([^`]+)`", cells[4]), cells[5]


def problems(root):
    """Yields a text for everything that is wrong."""
    table = list(rows((root / "docs/conformance.md").read_text()))
    known = {row[0] for row in table}
    for name in sorted(known):
        if sum(row[0] == name for row in table) > 1:
            yield f"{name} has two rows"
    tests = Counter()
    for path, text in sources(root):
        tests.update(TEST.findall(text))
        for name in sorted(set(ids_in(text)) - known):
            yield f"{path.relative_to(root)}: {name} has no row in docs/conformance.md"
    offered = (root / "net-device/src/features.rs").read_text()
    for name, level, places, shown in table:
        for place in places:
            if not (root / place).exists():
                yield f"{name}: there is no {place}"
        named = re.findall(r"`([^`]+)`", shown)
        for test in named:
            if test not in tests:
                yield f"{name}: there is no test {test}"
            elif tests[test] > 1:
                yield f"{name}: there are {tests[test]} tests {test}, and which is meant nobody knows"
        if named:
            continue
        features = FEATURE.findall(shown)
        if "MUST" in level and not features and not shown.startswith("By construction: "):
            yield f"{name}: a MUST without a test, and no feature that is not offered"
        for feature in features:
            if re.search(rf"VIRTIO_(NET_)?F_{feature}\b", offered):
                yield f"{name}: {feature} is known to net-device/src/features.rs, and there is no test"


def main(arguments):
    root = Path(arguments[0] if arguments else ".").resolve()
    found = list(problems(root))
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
