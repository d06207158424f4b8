"""Rows T1 and T2 of the fault list, in the real daemon on a fake root: functions T<n>_... What becomes
of zones that cannot be read is in test_faults_zones.py."""
import threading
import time

import ebbd
from harness import check, check_eq, check_in, main, steady, test, wait_until
from heat import THREADS, TRIP, moves, seen_celsius, stage, started, wait_stage

MARGIN = 8  # heat.margin's default, as is the next one
HYSTERESIS = 3
# Headroom below which a stage is entered, in parts of the margin; duty; parts of the threads; part
# of the ladder's bytes; whether new work is refused.
STAGES = ((None, 100, 1, 0, False), (1, 85, 1, 0, False), (0.75, 70, 1, 0, False),
          (0.5, 70, 0.75, 0, False), (0.25, 60, 0.5, 0, False), (0, 50, 0.5, 0.5, False),
          (-0.25, 35, 0.5, 1, False), (-0.5, 20, 0.5, 1, True))


def in_force(n, d):
    """Everything that a stage promises."""
    s = d.status()
    _, duty, threads, share, refuses = STAGES[n]
    check_eq(s["duty"], duty, "stage %d: duty" % n)
    check_eq(s["threads"], max(1, -(-THREADS * threads // 1)), "stage %d: threads" % n)
    steps = d.ladder()["steps"]
    want, freed, total = 0, 0, sum(x["bytes"] for x in steps)
    while freed < share * total:
        freed += steps[want]["bytes"]
        want += 1
    wait_until(lambda: d.status()["position"] == want, 20, "stage %d: position %d" % (n, want))
    reply = d.complete("x", max_tokens=2)
    check_eq(reply.status, 503 if refuses else 200, "stage %d: a request" % n)
    m = d.metrics()
    check_eq((m["ebb_heat_stage"], m["ebb_refusing"]), (n, refuses))
    if refuses:
        check(int(reply.headers["retry-after"]) > 0, "when to come again")
        check_in("hot", reply.error()[1].lower(), "it says why")


# --- T1: rise, step, fall ---

@test
@steady
def T1_rise_and_fall():
    """Each stage in turn on the way up, with all that it does; on the way down each again, one at a
    time, no sooner than the hold allows."""
    with started({0: ("cpu-thermal", 40)}) as d:
        events = d.follow()
        in_force(0, d)
        for n in range(1, len(STAGES)):
            d.set_zone(0, "cpu-thermal", TRIP - STAGES[n][0] * MARGIN + 0.5, passive=TRIP)
            wait_stage(d, n)
            in_force(n, d)
        check_eq(moves(events), [(n - 1, n) for n in range(1, len(STAGES))])
        del events[:]
        # Not cool enough: below the last edge, but by less than the hysteresis.
        d.set_zone(0, "cpu-thermal", TRIP - STAGES[-1][0] * MARGIN - HYSTERESIS + 0.5, passive=TRIP)
        wait_until(lambda: seen_celsius(d, 0) == TRIP + 1.5, 10, "it is read")
        ebbd.pause(2)
        check_eq(stage(d), len(STAGES) - 1, "within the hysteresis")
        d.set_zone(0, "cpu-thermal", 40, passive=TRIP)
        wait_stage(d, 0, 30)
        falls = [(t, x) for t, e, x in list(events) if e == "heat"]
        check_eq([(x["from"], x["to"]) for _, x in falls],
                 [(n, n - 1) for n in range(len(STAGES) - 1, 0, -1)])
        check(falls[-1][0] - falls[0][0] > 0.5 * (len(falls) - 1) - 0.3, "each waits for its hold")
        d.wait_position(0)
        in_force(0, d)


@test
@steady
def T1_step():
    """A leap is answered at once with the stage that it asks for, and not through all of them; one
    odd reading is not answered at all."""
    with started({0: ("cpu-thermal", 40)}) as d:
        events = d.follow()
        d.set_zone(0, "cpu-thermal", TRIP + 10, passive=TRIP)
        wait_until(lambda: seen_celsius(d, 0) == TRIP + 10, 10, "the spike is read")
        d.set_zone(0, "cpu-thermal", 40, passive=TRIP)
        wait_until(lambda: seen_celsius(d, 0) == 40, 10, "it is over")
        ebbd.pause(1.2)
        check_eq(moves(events), [], "one odd reading")
        start = time.monotonic()
        d.set_zone(0, "cpu-thermal", TRIP + 10, passive=TRIP)
        wait_stage(d, 7)
        took = time.monotonic() - start
        check_eq(moves(events), [(0, 7)])
        print("    from the file to the last stage: %.2f s" % took)
        check(took < 10, "soon")


# --- T2: oscillation ---

SWING_S = 20
SWING_HOLD_S = 2


def swing(d, amplitude, period, events, end):
    """The trip point +- amplitude, in leaps: the sensors' worst."""
    start, last = time.monotonic(), None
    while time.monotonic() < end:
        sign = 1 if (time.monotonic() - start) % period < period / 2 else -1
        if sign != last:
            d.set_zone(0, "cpu-thermal", TRIP + sign * amplitude, passive=TRIP)
            last = sign
        ebbd.pause(0.02)
    events += [(0, "end", {})]


@test
@steady
def T2_oscillation():
    """Swings around the trip point, of many periods at once: what is taken back waits for its hold,
    and longer each time that it was taken back too soon."""
    cases = [(a, p) for a in (1, 3) for p in (2, 4, 8)]
    daemons = []
    try:
        for _ in cases:
            daemons.append(started({0: ("cpu-thermal", 40)}, {
                "heat": {"hold": "%ds" % SWING_HOLD_S}, "serve": {"threads": 1}}))
        told = [d.follow() for d in daemons]
        end = time.monotonic() + SWING_S
        threads = [threading.Thread(target=swing, args=(d, a, p, t, end))
                   for d, t, (a, p) in zip(daemons, told, cases)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        most = 0
        for (amplitude, period), events in zip(cases, told):
            what = "+-%d C, %d s" % (amplitude, period)
            changes = [(t, x["from"], x["to"]) for t, e, x in events if e == "heat"]
            check(changes and changes[0][2] > changes[0][1], what + ": it has answered")
            eased = [t for t, a, b in changes if b < a]
            check(all(b == a - 1 for _, a, b in changes if b < a), what + ": one at a time")
            for t in eased:
                before = max((u for u, _, _ in changes if u < t), default=None)
                check(before and t - before > SWING_HOLD_S - 0.3, what + ": it waits for its hold")
            check(len(changes) <= SWING_S / SWING_HOLD_S, "%s: %r" % (what, changes))
            most = max(most, len(changes))
        print("    %d swings at once, %d s each: %d changes at most (hold %d s)" % (
            len(cases), SWING_S, most, SWING_HOLD_S))
        for d in daemons:
            d.stop()
    finally:
        for d in daemons:
            d.kill()


main()
