"""Adds up what meson's tests said: tests/tally.py TESTLOG.json...

Each test program ends with "N passed, N failed[, N skipped]". A program that failed without saying
so (a crash, a timeout, a sanitizer's report) counts as one failure. Prints the output of each
program that failed, the skips with their reasons, and last the three sums.
"""
import json
import re
import sys

COUNT = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?\s*$", re.M)
SHOWN_LINES = 60


def tally(path):
    """Sums over one log; None if there is none to read."""
    sums = [0, 0, 0]
    n_programs = 0
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            lines = f.readlines()
    except OSError as e:
        print("    no test log: %s" % e)
        return None
    for line in lines:
        test = json.loads(line)
        n_programs += 1
        text = test.get("stdout") or ""
        counts = COUNT.findall(text)
        said = [int(n or 0) for n in counts[-1]] if counts else [0, 0, 0]
        result = test["result"]
        if result in ("OK", "EXPECTEDFAIL"):
            if not counts:
                said = [1, 0, 0]
        elif result == "SKIP":
            if not counts:
                said = [0, 0, 1]
        elif said[1] == 0:
            said[1] = 1
        for i in range(3):
            sums[i] += said[i]
        if said[1]:
            print("--- %s: %s (exit %s)" % (test["name"], result, test.get("returncode")))
            whole = text.rstrip().split("\n") + (test.get("stderr") or "").rstrip().split("\n")
            print("\n".join("    " + x for x in whole[-SHOWN_LINES:] if x))
        else:
            for skip in re.findall(r"^skip .*$", text, re.M):
                print("    %s: %s" % (test["name"], skip))
    if n_programs == 0:
        print("    the log names no test")
        return None
    return sums


def main(paths):
    total = [0, 0, 0]
    for path in paths:
        sums = tally(path)
        if sums is None:
            sums = [0, 1, 0]
        total = [a + b for a, b in zip(total, sums)]
    print("%d %d %d" % tuple(total))


main(sys.argv[1:])
