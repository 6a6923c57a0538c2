#!/usr/bin/env python3
"""Holds the runbook of docs/operations.md against the warnings and errors in the code.

Usage: log_lines.py [WORKSPACE]

Fails for a line of the log that the runbook does not have, and for one that it has and the code does not. What varies
stands as "…"; the device's name in front is left out.
"""

import re
import sys
from pathlib import Path

CRATES = ("vhost-user-net", "net-device", "net-queue", "tap")
LINE = re.compile(
    r'(?:log_limited!\s*\([^;]*?\b(?:Warn|Error),\s*|\b(?:warn|error)!\s*\(\s*)"((?:[^"\\]|\\.)*)"', re.S
)
ROW = re.compile(r"^\| `([^`]+)` \|")


def without_comments(text):
    """The code of a file."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("//"))


def lines_of(text):
    """The log lines that a file can write, as the runbook has them."""
    for message in LINE.findall(without_comments(text)):
        message = re.sub(r"\\\n\s*", "", message)
        message = re.sub(r"(\{[^{}]*\})+", "…", message)
        yield re.sub(r"^…: ", "", message)


def written(root):
    """All log lines of the daemon, and where they are."""
    found = {}
    for crate in CRATES:
        for path in sorted((root / crate / "src").rglob("*.rs")):
            if "tests" not in path.parts and path.stem != "tests":
                found.update((line, path) for line in lines_of(path.read_text()))
    return found


def documented(text):
    """The rows of the runbook."""
    section = text.split("## Runbook\n", 1)[-1].split("\n## ", 1)[0]
    return {match[1] for match in map(ROW.match, section.splitlines()) if match}


def main(root):
    """Says what is missing on either side."""
    code, rows = written(root), documented((root / "docs/operations.md").read_text())
    faults = [f"{code[line]}: not in the runbook of docs/operations.md: {line}" for line in code.keys() - rows]
    faults += [f"docs/operations.md: the runbook has a line that nothing writes: {line}" for line in rows - code.keys()]
    for fault in sorted(faults):
        print(fault)
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
