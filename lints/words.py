#!/usr/bin/env python3
"""Keeps the language of the workspace the field's.

Usage: words.py FOLDER...

Fails for documentation that does not open with what it describes, for names that have a standard term, and for
comments that are wider than the code.
"""

import re
import sys
from pathlib import Path

# A comment that documents an item opens with a noun phrase, or a verb with its object.
OPENER = re.compile(r"^\s*//[/!]\s+(?:- )?((?:What|Who|Whose|Whom|Whoever)\b.*|See the module's text.*)$")
# Nor does its first sentence open with a conjunction. Further on such a sentence may be a whole one.
CONJUNCTION = re.compile(r"^\s*//[/!]\s+(?:- )?((?:Whether|How|Where|Why)\b.*)$")

# "A tag is no id" means that it is not one; "there is no id" is something else.
IS_NO = re.compile(r"\b(there (?:\w+ )?)?(?:is|are|was|were|be) no (?!more\b|longer\b)\w+", re.I)

# Columns of a line of comment. Tables, drawings (which have gaps) and single words that are longer are let pass.
WIDTH = 100
COMMENT = re.compile(r"^\s*//[/!]?\s{1,2}(?!\|)(?!.*\S {2,}\S)\S+\s+\S")

# Names that were used here once, and the field's terms for them. A pattern matches the definition of a type, a
# function or a module, not every use of an English word.
TYPES = {
    "Live": "Shared",
    "Runtime": "ActiveDevice",
    "Remains": "DetachedResources",
    "Engines": "QueueFactory",
    "Terms": "NegotiatedConfig",
    "Work": "Worker",
    "PairParts": "QueuePairResources",
    "Kicked": "Engine",
    "Admit": "FrameFilter",
    "Private": "BounceBuffer",
    "TxLane": "TxPath",
    "RxLane": "RxPath",
    "Popped": "PoppedChain",
    "Epoch": "ReaderEpoch or MeterSet",
    "Lane": "Holding",
    "Line": "Timeline",
    "Booking": "Reservation",
    "Order": "Demand",
    "Seat": "ServedDevice",
    "Fate": "ShutdownOnDrop",
    "Plan": "DevicePlan",
    "Unsaid": "MissingLimits",
    "Contradiction": "ConflictingLimits",
    "Health": "DeviceStatus",
    "Saved": "DeviceState",
    "Slot": "WorkerHandle or Descriptor",
    "Budget": "DirectionLimit or LevelLimit",
}
# Of the names above, those that mean what they say in these folders: what an engine's call may do.
ALLOWED = {"Budget": {"engine"}}
CONSTANTS = {"COPIED": "COPYBREAK", "PLACE": "START_OFFSET"}
FUNCTIONS = {
    "rest": "prepare_sleep",
    "rouse": "after_wakeup",
    "restart": "reset_wait",
    "note": "on_event",
    "arm": "enable_notification",
    "disarm": "disable_notification",
    "settle": "drain",
    "abandon": "discard",
    "follow": "apply_policy",
    "feed": "apply_active_pairs",
    "place": "resume_from",
    "accept_again_and_again": "accept_loop",
    "converse_to_the_end": "session_loop",
    "tell_ring": "update_ring",
}
FILES = {
    "traits.rs": "transport.rs",
    "space.rs": "config_space.rs",
    "poll.rs": "epoll.rs",
    "lives.rs": "lifecycle.rs",
    "moves.rs": "migration.rs",
    "refusals.rs": "rejection.rs",
    "stories.rs": "scenarios.rs",
    "lab.rs": "testbed.rs",
    "bed.rs": "testbed.rs",
    "contest.rs": "paired.rs",
    "bell.rs": "doorbell.rs",
}


def one_of(words):
    return "|".join(map(re.escape, words))


DEFINITIONS = [
    (re.compile(rf"\b(?:struct|enum|trait|type|union)\s+({one_of(TYPES)})\b"), TYPES),
    (re.compile(rf"\b(?:const|static)\s+({one_of(CONSTANTS)})\b"), CONSTANTS),
    (re.compile(rf"\bfn\s+({one_of(FUNCTIONS)})\b"), FUNCTIONS),
    # A `Waker` is woken, as in std; a queue is marked.
    (re.compile(r"\bfn\s+(wake)\(&mut self\b"), {"wake": "mark_ready"}),
]


def problems(folder):
    """Yields a text for each line that is to be changed."""
    for path in sorted(Path(folder).rglob("*.rs")):
        if "target" in path.parts:
            continue
        # Traits of a snapshot are called so by what they are.
        if path.name in FILES and "snapshot" not in path.parts:
            yield f"{path}: a file of this kind is called {FILES[path.name]}"
        before = ""
        for number, line in enumerate(path.read_text().splitlines(), 1):
            first = not before.lstrip().startswith(("///", "//!"))
            before = line
            if opener := OPENER.match(line) or (first and CONJUNCTION.match(line)):
                yield f"{path}:{number}: opens with no noun or verb: {opener.group(1)[:60]}"
            if (phrase := IS_NO.search(line)) and not phrase.group(1):
                yield f"{path}:{number}: \"{phrase.group(0)}\" is said with \"not\""
            if len(line) > WIDTH and COMMENT.match(line):
                yield f"{path}:{number}: a comment of {len(line)} columns, of which {WIDTH} are to be had"
            for pattern, terms in DEFINITIONS:
                name = pattern.search(line)
                if name and not ALLOWED.get(name.group(1), set()) & set(path.parts):
                    yield f"{path}:{number}: {name.group(1)} is {terms[name.group(1)]}"


def main(folders):
    found = [problem for folder in folders for problem in problems(folder)]
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
