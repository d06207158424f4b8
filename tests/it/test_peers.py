"""Several daemons of one machine: shares, turns, and what is left by one that dies."""
import os
import tempfile
import threading

import ebbd
from harness import Failed, check, check_eq, check_in, main, test, wait_until

MIB = 1 << 20
RESERVE = 16 * MIB
PLENTY = 1 << 30
HOLD = 0.3
SLACK = MIB // 2  # more than the margin to grow into a share, less than a step
MEMORY = {"hold": "300ms", "hold_limit": "300ms", "step": "0ms", "margin": "256KiB",
          "reserve": "16MiB", "changes": 240, "emergency": "0B"}


class Machine:
    """One memory for several daemons: what they hold is missing in each one's MemAvailable."""

    def __init__(self, total=PLENTY):
        self.total = total  # for them all, beside the reserve
        self.daemons = []
        self.file = os.path.join(tempfile.mkdtemp(dir=ebbd.TMP), "peers")
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def start(self, weight=100, **settings):
        d = ebbd.Daemon(ebbd.wide_pack(),
                        dict({"memory": dict(MEMORY, peers=self.file, weight=weight),
                              "sense": {"interval": "200ms"}}, **settings), start=False)
        d.held = 0
        self.daemons.append(d)
        d.set_available(self.left())
        d.start()
        return d

    def left(self):
        return max(0, self.total + RESERVE - sum(d.held for d in self.daemons))

    def run(self):
        while not self.is_over.wait(0.01):
            for d in list(self.daemons):
                try:
                    d.held = held(d)
                except (OSError, Failed, KeyError, ValueError):
                    pass  # it starts or ends
            for d in list(self.daemons):
                d.set_available(self.left())

    def kill(self, d):
        self.daemons.remove(d)
        d.kill()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.is_over.set()
        self.thread.join()
        for d in self.daemons:
            d.__exit__(kind)


def held(d):
    s = d.status()
    return s["resident_bytes"] + s["kv_bytes"] + s["scratch_bytes"]


def bytes_at(d, position):
    """All that it holds there, at rest."""
    ladder = d.ladder()
    taken = sum(s["bytes"] for s in ladder["steps"] if s["taken"])
    return held(d) + taken - sum(s["bytes"] for s in ladder["steps"][:position])


def moves(d):
    m = d.metrics()
    return [m['ebb_precision_swaps_total{direction="%s"}' % x] for x in ("down", "up")]


def know(machine, *daemons):
    wait_until(lambda: all(len(d.status()["peers"]) == len(machine.daemons) - 1 for d in daemons),
               30, "they know of each other")


def settle(*wanted):
    """Each daemon at its share, within a tenth, and for several holds nothing moves."""
    def is_there():
        return all(0.9 * share <= held(d) <= share for d, share in wanted)

    def is_settled():
        if not is_there():
            return False
        before = [moves(d) for d, _ in wanted]
        ebbd.pause(5 * HOLD)
        return is_there() and before == [moves(d) for d, _ in wanted]
    try:
        wait_until(is_settled, 60, "shares")
    except Failed:
        raise Failed("not within 60 s: " + ", ".join(
            "%.2f of %.2f MiB (%s)" % (held(d) / MIB, share / MIB, d.status()["memory"])
            for d, share in wanted))


@test
def a_squeeze_is_shared():
    with Machine() as machine:
        one, two = machine.start(), machine.start()
        know(machine, one, two)
        check_eq([d.status()["position"] for d in (one, two)], [0, 0])
        share = bytes_at(one, 3) + SLACK
        machine.total = 2 * share
        settle((one, share), (two, share))
        for d, other in ((one, two), (two, one)):
            s = d.status()
            check(abs(s["memory"]["share_bytes"] - share) < 0.05 * share, s["memory"])
            check_eq([(p["name"], p["pid"], p["weight"]) for p in s["peers"]],
                     [("ebb", other.process.pid, 100)])
            m = d.metrics()
            check(m["ebb_share_bytes"] == s["memory"]["share_bytes"] and m["ebb_peers"] == 1, m)
            check_in("peer ", ebbd.ebb(d, "status").stdout)
        machine.total = PLENTY
        for d in (one, two):
            d.wait_position(0)


@test
def shares_go_by_weight():
    deep = {"precision": {"ladder": "deep"}, "paging": {"enabled": "on"}}
    with Machine() as machine:
        one, three = machine.start(100, **deep), machine.start(300, **deep)
        know(machine, one, three)
        # A position of one's whose bytes are no more than a third of what the other could use.
        n = len(one.ladder()["steps"])
        share = max(x for x in (bytes_at(one, p) + SLACK for p in range(n + 1))
                    if 3 * x < bytes_at(three, 0))
        machine.total = 4 * share
        settle((one, share), (three, 3 * share))


@test
def one_that_dies_leaves_its_share():
    with Machine() as machine:
        one, two = machine.start(), machine.start()
        know(machine, one, two)
        share = bytes_at(one, 3) + SLACK
        machine.total = 2 * share
        settle((one, share), (two, share))
        machine.kill(two)
        # What the dead one held is room at once, that it is gone is seen at the next look.
        wait_until(lambda: one.status()["peers"] == [], 30, "the dead one is forgotten")
        check_eq(one.status()["memory"]["share_bytes"], None)
        one.wait_position(0)
        check("ebb_share_bytes" not in one.metrics(), "without others there is no share")
        again = machine.start()  # in the place of the dead one
        settle((one, share), (again, share))


@test
def a_full_machine_takes_one_more():
    """One alone holds all that there is: it makes way before the next one decides where to start."""
    with Machine() as machine:
        one = machine.start()
        machine.total = bytes_at(one, 0) + SLACK
        two = machine.start(precision={"ladder": "deep"}, paging={"enabled": "on"})
        know(machine, one, two)
        check(two.status()["memory"]["share_bytes"] < machine.total, "it has a share")
        wait_until(lambda: one.status()["position"] > 0, 30, "the first one gives way")


@test
def without_the_file_it_is_alone():
    for path in ("/proc/none/peers", ebbd.TMP):
        with ebbd.Daemon(ebbd.tiny_pack(), {"memory": {"peers": path}}) as d:
            s = d.status()
            check_eq((s["memory"]["share_bytes"], s["peers"]), (None, []))
            lines = [x for x in d.log().splitlines() if "memory.peers" in x]
            check_eq(len(lines), 1, repr(lines))
            check_eq(d.complete("x", max_tokens=4).status, 200)


main()
