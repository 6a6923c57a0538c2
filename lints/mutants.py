"""Share of the faults that cargo-mutants put in and tests noticed; fails below 95 %."""

import json
import sys

WANTED = 0.95


def main(path):
    with open(path, encoding="utf-8") as file:
        outcomes = json.load(file)
    noticed = outcomes["caught"] + outcomes["timeout"]
    missed = outcomes["missed"]
    if noticed + missed == 0:
        sys.exit("no fault was put in")
    share = noticed / (noticed + missed)
    print(f"{noticed} of {noticed + missed} faults noticed, {share:.1%}")
    if share < WANTED:
        sys.exit(f"below {WANTED:.0%}")


if __name__ == "__main__":
    main(sys.argv[1])
