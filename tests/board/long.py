#!/usr/bin/env python3
"""All trials of memory.high, and half an hour of a limit that moves, printed as tables (markdown).

Run by run.sh --long. Status 1 if what the project promises does not hold:
- the first bytes come back within 300 ms (p99 of all trials) beyond what the control took,
- the limit is kept within 1 s,
- the kernel holds no thread for more than 100 ms in all,
- no thread but ebb-sense causes an event `high`,
- streams are complete, and nothing is killed or restarted.
"""
import argparse
import atexit
import json
import math
import os
import signal
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "it")]

import cases
from guest import Guest, Lost, arch_of
from harness import Failed
from trial import CONTROL, LOADS, UNIT, Trials

SHARES = (80, 50, 30)
A_START = 2  # moves to each share before the daemon is started anew
NEVER = float("inf")
FIRST_MS, BELOW_MS, OVER_MS = 300, 1000, 100
ALLOWED = {"ebb-sense"}


def value(r, key):
    return NEVER if r[key] is None else r[key]


def p99(values):
    values = sorted(values)
    return values[max(0, math.ceil(0.99 * len(values)) - 1)]


def ms(x):
    return "never" if x == NEVER else "%.0f" % x


def over(r):
    return max(r["over_ms"].values(), default=0.0)


def others(r):
    return sorted(n for n in r["causes"] if n not in ALLOWED)


HEAD = ("| load | share | trials | first p99 | first worst | below p99 | below worst |"
        " held worst | PSI worst | high events | by others | incomplete | restarts |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|")


def row(load, share, rs):
    first = [value(r, "first_ms") for r in rs]
    below = [value(r, "below_ms") for r in rs]
    cells = [load, "%d %%" % share, len(rs), ms(p99(first)), ms(max(first)), ms(p99(below)),
             ms(max(below)), ms(max(map(over, rs))), ms(max(r["some_ms"] for r in rs)),
             sum(r["high"] for r in rs), sum(bool(others(r)) for r in rs),
             sum(r["incomplete"] for r in rs), sum(r["restarts"] for r in rs)]
    print("| " + " | ".join(str(c) for c in cells) + " |", flush=True)


def trials(t, load, n, by):
    """Moves to each share, n times, in pieces: the changes of an hour are counted anew after a start."""
    while n > 0:
        if t.cgroup != CONTROL:
            t.start_daemon()
        try:
            # Answers end within a series, but for the long prompts: one of these is waited for.
            yield from t.series(SHARES, min(n, A_START), by, load, wait=load == "prompt" and n <= A_START)
        except Lost as e:
            print("trials were lost: %s" % str(e)[-300:], file=sys.stderr)
        n -= A_START


def judge(control, rs):
    """What does not hold, as text."""
    floor = p99([value(r, "first_ms") for r in control])
    first = p99([value(r, "first_ms") for r in rs])
    wrong = []
    if first > floor + FIRST_MS:
        wrong.append("first bytes: p99 %s ms, control %s ms" % (ms(first), ms(floor)))
    slow = sum(value(r, "below_ms") > BELOW_MS for r in rs)
    held = sum(over(r) > OVER_MS for r in rs)
    strange = sum(bool(others(r)) for r in rs)
    incomplete = sum(r["incomplete"] for r in rs)
    dead = sum(r["restarts"] + r["oom_kill"] for r in rs)
    for n, what in ((slow, "above the limit for more than a second"),
                    (held, "a thread held for more than 100 ms"),
                    (strange, "events by other threads than ebb-sense"),
                    (incomplete, "incomplete answers"), (dead, "kills or restarts")):
        if n > 0:
            wrong.append("%s: %d of %d trials" % (what, n, len(rs)))
    return wrong


def measure(a, save):
    """Every result as a line of JSON to `save`."""
    root = os.environ["BOARD_ROOT"]
    g = Guest("long-%s-%d" % (arch_of(root), os.getpid()))
    # The emulator is no child that would end with this program.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    atexit.register(g.stop)
    g.boot(arch_of(root), root, os.environ["BOARD_PAYLOAD"])
    about = {"date": time.strftime("%Y-%m-%d"), "system": g.check("uname -rm").strip()}
    t = Trials(g)
    t.start_daemon()
    t.start_noise()

    def put(r):
        save.write(json.dumps(dict(r, **about)) + "\n")
        save.flush()

    for load in filter(None, a.loads.split(",")):
        if load == "control":
            c = Trials(g, CONTROL)
            c.start_control(150)
            for r in trials(c, "idle", a.trials, "file"):
                put(dict(r, load=load))
            c.stop_control()
        else:
            for r in trials(t, load, a.trials, a.by):
                put(r)
    if a.two > 0:
        try:
            shares, moves = cases.two_daemons(g, 60 * a.two)
            put({"load": "two", "minutes": a.two, "shares": shares, "moves": moves})
        except (Failed, Lost) as e:
            put({"load": "two", "minutes": a.two, "fault": str(e)})
    if a.minutes > 0:
        t.start_daemon()
        try:
            moves, above = cases.moving(g, 60 * a.minutes)
            put({"load": "moving", "minutes": a.minutes, "moves": moves, "above": above})
        except (Failed, Lost) as e:
            put({"load": "moving", "minutes": a.minutes, "fault": str(e)})


def tell(rs):
    """The tables; status."""
    print("%s, %s; milliseconds; beside a neighbour that forks ten times a second\n"
          % (rs[0]["date"], rs[0]["system"]))
    print(HEAD)
    of = {load: [r for r in rs if r["load"] == load] for load in ("control",) + LOADS + ("moving", "two")}
    for load in ("control",) + LOADS:
        for share in SHARES:
            some = [r for r in of[load] if r["share"] == share]
            if some:
                row(load, share, some)
    daemon = [r for load in LOADS for r in of[load]]
    wrong = judge(of["control"], daemon) if of["control"] and daemon else []
    for m in of["moving"]:
        if "fault" in m:
            wrong.append("moving limit: " + m["fault"])
        else:
            print("\n%(minutes)d minutes of a limit that moves every 5 s: %(moves)d moves, above it at"
                  " the end of %(above)d; nothing killed, nothing restarted" % m)
    for m in of["two"]:
        if "fault" in m:
            wrong.append("two daemons: " + m["fault"])
        else:
            print("\nTwo daemons with room for less than both hold: %s of their shares, %d moves in %d"
                  " minutes" % (" and ".join("%.0f %%" % (100 * x) for x in m["shares"]), m["moves"],
                                m["minutes"]))
    by_hand = sum(r.get("by_hand", 0) for r in daemon)
    if by_hand > 0:
        print("\nrestarted by hand, as it did not come back: %d" % by_hand)
    for w in wrong:
        print("does not hold: " + w)
    return 1 if wrong else 0


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--trials", type=int, default=20)
    p.add_argument("--minutes", type=int, default=30, help="of a limit that moves")
    p.add_argument("--two", type=int, default=10, help="minutes of two daemons side by side")
    p.add_argument("--loads", default=",".join(("control",) + LOADS))
    p.add_argument("--by", choices=("systemd", "file"), default="systemd")
    p.add_argument("--save", metavar="FILE", help="results, a line of JSON each; kept if given")
    p.add_argument("--tell", metavar="FILE", nargs="+", help="only the tables of saved results")
    a = p.parse_args()
    if not a.tell:
        with open(a.save, "w") if a.save else tempfile.NamedTemporaryFile("w") as save:
            measure(a, save)
            with open(save.name) as f:
                sys.exit(tell([json.loads(line) for line in f]))
    sys.exit(tell([json.loads(line) for name in a.tell for line in open(name)]))


if __name__ == "__main__":
    main()
