"""Rows M2, M3, M4 and M6 of the fault list: functions M<n>_... (M1 is in test_faults_malloc.py.) All
but M4 are on a fake root, with the real daemon."""
import os
import re
import signal
import subprocess
import sys
import time

import cage
import ebbd
from harness import check, check_eq, check_in, main, steady, test, wait_until

MIB = 1 << 20
RESERVE = 64 * MIB
SETTINGS = {"memory": {"hold": "100ms", "step": "0ms", "margin": "1MiB", "reserve": "64MiB",
                       "emergency": "0B", "changes": 240},
            "kv": {"prefix_limit": "0B"}}
BASE = 16 * MIB  # of a process that holds no model


def started(settings=None, env=None, pack=None, prepare=None):
    d = ebbd.Daemon(pack or ebbd.wide_pack(), SETTINGS, start=False, env=env)
    for section, keys in (settings or {}).items():
        d.settings.setdefault(section, {}).update(keys)
    d.write_config()
    if prepare:
        prepare(d)
    d.start()
    return d


def falls(events):
    return [(t, x) for t, e, x in list(events) if e == "position" and x["to"] > x["from"]]


def regrow(d):
    """Up to the top at once: a limit that is lifted waits for no hold and no place in the hour."""
    d.set_available(ebbd.PLENTY)
    wait_until(lambda: d.status()["memory"]["available_bytes"] == ebbd.PLENTY, 10, "it is read")
    d.limit(held_bytes(d.status()))
    d.limit("auto")
    d.wait_position(0)


def quantile(values, q):
    v = sorted(values)
    return v[min(len(v) - 1, int(q * len(v)))]


# --- M2: step, ramp, spike ---

@test
@steady
def M2_step():
    """MemAvailable falls by half of the low planes, and that much comes back, again and again."""
    with started() as d:
        half = d.low_bytes() // 2
        events, full = d.follow(), d.status()["resident_bytes"]
        times = []
        for _ in range(20):
            del events[:]
            start = time.monotonic()
            d.set_available(RESERVE - half)
            at, x = wait_until(lambda: falls(events), 10, "it sheds")[0]
            d.set_available(RESERVE)  # what is returned is available again
            times.append((at - start) * 1e3)
            check_eq(x["reason"], "mem_available")
            check(half <= x["bytes"] < 2 * half, "it sheds what is wanted: %r" % x)
            check(full - d.status()["resident_bytes"] >= half, "the bytes are back")
            regrow(d)
        print("    MemAvailable to bytes returned: p50 %.0f ms, p99 %.0f ms, %d trials" % (
            quantile(times, 0.5), quantile(times, 0.99), len(times)))
        check(quantile(times, 0.5) < 2000, "soon")


@test
@steady
def M2_ramp():
    """MemAvailable sinks bit by bit, what is returned being available again: layer after layer goes,
    never more than is needed, and at the end all of them."""
    with started() as d:
        low, full = d.low_bytes(), d.status()["resident_bytes"]
        events = d.follow()
        for i in range(1, 41):
            taken = low * i // 40
            end = time.monotonic() + 10
            while True:
                freed = full - d.status()["resident_bytes"]
                d.set_available(RESERVE + freed - taken)
                if freed >= taken:
                    break
                check(time.monotonic() < end, "%d of %d bytes are wanted back" % (taken, low))
                ebbd.pause(0.02)
            check(freed - taken < low / 4, "no more than a layer is shed for nothing")
        moves = [(x["from"], x["to"]) for _, x in falls(events)]
        check(len(moves) > 2, "in several falls: %r" % moves)
        check_eq(d.status()["position"], d.status()["positions"])


def spike(d, put, restore, is_seen):
    """One reading of a value, and of no second one; False if it was there for too long to be sure."""
    put()
    wait_until_soon(is_seen)
    seen = time.monotonic()
    restore()
    return time.monotonic() - seen < 0.02


def wait_until_soon(fn):
    end = time.monotonic() + 5
    while not fn():
        check(time.monotonic() < end, "the spike is read")


@test
@steady
def M2_spike():
    """One reading that says shed, in MemAvailable or pressure: nothing is done. (What the own cgroup's
    limit says counts at once: test_guard.py.)"""
    settings = {"sense": {"interval": "100ms"}}
    with started(settings, prepare=lambda d: d.set_cgroup(
            current=30 * MIB, max=900 * MIB, pressure=(0, 0))) as d:
        events, n, total = d.follow(), 0, 0
        for _ in range(8):
            n += spike(d, lambda: d.set_available(RESERVE // 4),
                       lambda: d.set_available(ebbd.PLENTY),
                       lambda: d.status()["memory"]["available_bytes"] == RESERVE // 4)
            total += 90000  # most of one interval, and none of the next
            d.set_pressure(total, total, rel="sys/fs/cgroup/ebb/memory.pressure")
            wait_until(lambda: (d.status()["memory"]["stall_some_ratio"] or 0) > 0.3, 5, "it is read")
            n += 1
            ebbd.pause(0.3)
        check(n >= 10, "too few spikes were short enough: %d" % n)
        check_eq(falls(events), [], "%d spikes" % n)
        check_eq(d.status()["position"], 0)
        print("    %d spikes of one reading, 0 changes" % n)


@test
@steady
def M2_pressure():
    """Stalls that last: a part of the weights goes, and more while they last; never a paged layer."""
    for rel in ("proc/pressure/memory", "sys/fs/cgroup/ebb/memory.pressure"):
        with started(prepare=lambda d: d.set_cgroup(current=30 * MIB, pressure=(0, 0)) if
                     "cgroup" in rel else None) as d:
            events, start, times = d.follow(), time.monotonic(), []
            while time.monotonic() < start + 3:
                us = int((time.monotonic() - start) * 1e6 * 0.5)
                d.set_pressure(us, 0, rel=rel)
                ebbd.pause(0.005)
            told = falls(events)
            check(len(told) >= 3, "again and again: %r" % told)
            check(all(x["reason"] == "pressure" for _, x in told), told)
            check_eq(told[0][1]["from"], 0)
            check(told[0][1]["bytes"] < d.low_bytes() / 2, "a part: %r" % told[0][1])
            check_eq(d.status()["units"]["paged"], 0)
            print("    %s: the first bytes after %.0f ms, %d falls in 3 s" % (
                os.path.basename(rel), (told[0][0] - start) * 1e3, len(told)))


# --- M3: files that cannot be believed ---

# What is made of the text, given a word of the line that matters.
CASES = (
    ("missing", None),
    ("empty", lambda t, key: ""),
    ("cut in a line", lambda t, key: _until(t, key)[:-1]),
    ("no newline", lambda t, key: _until(t, key)),
    ("no number", lambda t, key: "".join("x" if c.isdigit() else c for c in t)),
    ("negative", lambda t, key: _numbers(t, lambda n: "-" + n)),
    ("beyond 64 bits", lambda t, key: _numbers(t, lambda n: "9" * 21)),
    ("NUL bytes", lambda t, key: "\0" * len(t)),
    ("a folder", os.mkdir),
    ("a pipe", os.mkfifo),
    ("long", lambda t, key: "x" * MIB),
)


def _until(text, key):
    """Up to the end of that line, without its newline."""
    return text[:text.index("\n", text.index(key))]


def _numbers(text, fn):
    """Each whole number by another one."""
    return re.sub(r"(?<![\w.])\d+(?![\w.])", lambda m: fn(m.group(0)), text)


# Path, the line that matters, source, and whether it is unknown without the file.
FILES = (
    ("proc/meminfo", "MemAvailable", "mem_available", True),
    ("proc/pressure/memory", "full", "stall", True),
    ("proc/vmstat", "pgmajfault", "refaults", True),
    ("sys/fs/cgroup/ebb/memory.current", "", "cgroup", True),
    ("sys/fs/cgroup/ebb/memory.max", "", "cgroup", True),
    ("sys/fs/cgroup/ebb/memory.high", "", "cgroup", True),
    ("sys/fs/cgroup/ebb/memory.stat", "inactive_file", "cgroup", True),
    ("sys/fs/cgroup/ebb/memory.events", "oom_kill", "cgroup", False),
)


# A reading in between finds nothing at all.
TWO_STEPS = (os.mkdir, os.mkfifo)


def break_file(path, case, key=""):
    with open(path) as f:
        text = f.read()
    if case is None:
        os.rename(path, path + ".kept")
        return
    if case in TWO_STEPS:
        os.rename(path, path + ".kept")
        case(path)
        return
    os.link(path, path + ".kept")
    with open(path + ".new", "w") as f:
        f.write(case(text, key))
    os.rename(path + ".new", path)


def mend_file(path):
    if os.path.isdir(path):
        os.rmdir(path)
    os.rename(path + ".kept", path)


def known(d, source):
    return d.metrics()['ebb_sensor_known{source="%s"}' % source] == 1


@test
@steady
def M3_each_file():
    """Each file in each state: its source is unknown, which /metrics tells and the log says once; no
    number of it is told; nothing changes; and it is known again with the file."""
    n = 0
    with started({"sense": {"interval": "10ms"}},
                 prepare=lambda d: d.set_cgroup(current=30 * MIB, high=950 * MIB,
                                                max=900 * MIB)) as d:
        wait_until(lambda: all(known(d, s) for _, _, s, _ in FILES), 10, "all is known")
        for rel, key, source, matters in FILES:
            path = os.path.join(d.root, rel)
            for name, case in CASES:
                what = "%s, %s" % (rel, name)
                log = len(d.log())
                break_file(path, case, key)
                if matters or case:
                    wait_until(lambda: not known(d, source), 5, what + ": unknown")
                    m, memory = d.metrics(), d.status()["memory"]
                    if source == "mem_available":
                        check("ebb_memory_available_bytes" not in m, what)
                        check_eq(memory["available_bytes"], None, what)
                    if source == "cgroup":
                        check("ebb_cgroup_left_bytes" not in m, what)
                        check_eq(memory["cgroup_left_bytes"], None, what)
                    if source == "stall":
                        check("ebb_psi_memory_some_ratio" not in m, what)
                else:
                    ebbd.pause(0.05)
                check_eq(d.status()["position"], 0, what + ": nothing is done about it")
                mend_file(path)
                wait_until(lambda: known(d, source), 5, what + ": known again")
                said = [x for x in d.log()[log:].splitlines() if x.startswith("<4>" + source + " is ")]
                most = 3 if case in TWO_STEPS else 1 if matters or case else 0
                check(min(most, 1) <= len(said) <= most, "%s: %d lines" % (what, len(said)))
                n += 1
        check_eq(d.complete("x", max_tokens=2).status, 200)
        print("    %d broken files, %d told" % (n, n))


@test
@steady
def M3_errors_of_reading():
    """EACCES and EIO, as root cannot be refused by a mode."""
    with started({"sense": {"interval": "10ms"}}, env=ebbd.preloaded("sick_read"),
                 prepare=lambda d: d.set_cgroup(current=30 * MIB, max=900 * MIB)) as d:
        for rel, _, source, _ in FILES:
            for code in (13, 5):
                path = os.path.join(d.root, rel)
                break_file(path, lambda t, key: "errno %d\n" % code)
                wait_until(lambda: not known(d, source), 5, "%s: unknown" % rel)
                check_eq(d.status()["position"], 0)
                mend_file(path)
                wait_until(lambda: known(d, source), 5, "%s: known again" % rel)


@test
@steady
def M3_other_forms():
    """Another order of the lines, a line without its unit, a last line without its newline."""
    with started({"sense": {"interval": "10ms"}}) as d:
        for text, want in (("MemAvailable: 70000 kB\nMemFree: 1 kB\nMemTotal: 9 kB\n", 70000 << 10),
                           ("MemTotal: 9 kB\nMemAvailable:    71000 kB\nX: 1\n", 71000 << 10),
                           ("MemTotal: 9 kB\nMemAvailable: 72000\n", None),
                           ("MemTotal: 9 kB\nMemAvailable: 73000 MB\n", None),
                           ("MemTotal: 9 kB\nMemAvailable: 74000 kB", None),
                           ("MemTotal: 9 kB\nMemAvailabl: 75000 kB\n", None),
                           ("MemTotal: 9 kB\nMemAvailable: 76 000 kB\n", None)):
            d.put("proc/meminfo", text)
            wait_until(lambda: d.status()["memory"]["available_bytes"] == want, 5, repr(text))
            check_eq(known(d, "mem_available"), want is not None, repr(text))


@test
@steady
def M3_unknown_is_not_plenty():
    """MemAvailable is low, and then nobody knows: what was shed stays shed, after sense.stale too, and
    the last ceiling stays the ceiling."""
    with started({"sense": {"stale": "2s"}}) as d:
        half, full = d.low_bytes() // 2, d.status()["resident_bytes"]
        d.set_available(RESERVE - half)
        wait_until(lambda: full - d.status()["resident_bytes"] >= half, 10, "it sheds")
        d.set_available(RESERVE)  # what was returned is available again, less what others took
        ebbd.pause(0.2)
        position, budget = d.status()["position"], d.status()["budget_bytes"]
        check(0 < position, "it has shed")
        path = os.path.join(d.root, "proc/meminfo")
        break_file(path, None)
        wait_until(lambda: not known(d, "mem_available"), 5, "unknown")
        wait_until(lambda: d.status()["memory"]["reason"] == "mem_unknown", 10, "it says so")
        ebbd.pause(2.5)
        s = d.status()
        check_eq((s["position"], s["memory"]["reason"]), (position, "mem_unknown"), "after sense.stale")
        check(s["budget_bytes"] is not None and abs(s["budget_bytes"] - budget) < 2 * MIB,
              "the ceiling is what it was: %r, %r" % (s["budget_bytes"], budget))
        mend_file(path)
        d.set_available(ebbd.PLENTY)
        d.wait_position(0)


@test
@steady
def M3_between_readings():
    """Readings further apart than sense.stale: between two of them memory is not unknown, and what was
    shed comes back."""
    with started({"sense": {"interval": "3s", "stale": "2s"}}) as d:
        full = d.status()["resident_bytes"]
        d.set_available(RESERVE - d.low_bytes() // 2)
        wait_until(lambda: d.status()["resident_bytes"] < full, 20, "it sheds")
        d.set_available(ebbd.PLENTY)
        d.wait_position(0, 20)


# --- M6: the budget falls ---

def held_bytes(s):
    return s["resident_bytes"] + s["kv_bytes"] + s["scratch_bytes"] + s["slack_bytes"]


def rss(d):
    with open("/proc/%d/statm" % d.process.pid) as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")


@test
@steady
def M6_lowered_on_reload():
    """memory.limit below what is resident, by a reload: no more than that is held from then on."""
    with started() as d:
        held = held_bytes(d.status())
        base = rss(d) - held
        worst = 0
        for share in (0.25, 0.5, 0.9):
            limit = int(held - share * d.low_bytes())
            d.settings["memory"]["limit"] = "%dKiB" % (limit >> 10)
            d.write_config()
            d.process.send_signal(signal.SIGHUP)
            wait_until(lambda: held_bytes(d.status()) <= limit, 10, "the bytes are back")
            end = time.monotonic() + 1
            while time.monotonic() < end:
                worst = max(worst, rss(d) - limit)
                time.sleep(0.01)
            s = d.status()
            check(s["position"] > 0 and s["budget_bytes"] <= limit, s["budget_bytes"])
            check_eq(d.complete("x", max_tokens=4).status, 200)
        print("    RSS over the budget, sampled at 10 ms: %.1f MiB, of which the process's own base is "
              "%.1f MiB" % (worst / MIB, base / MIB))
        check(worst <= BASE, "RSS is %.1f MiB over the budget" % (worst / MIB))


@test
@steady
def M6_below_the_floor():
    """Less than the smallest form of the model needs: requests get 503 and are told why, all that can
    be returned is, and with more memory it serves again."""
    with started() as d:
        full, low = d.status()["resident_bytes"], d.low_bytes()
        d.settings["memory"]["limit"] = "2MiB"
        d.write_config()
        d.process.send_signal(signal.SIGHUP)
        wait_until(lambda: full - d.status()["resident_bytes"] == low, 10, "all low planes go")
        s = d.status()
        check_eq((s["position"], s["level"], s["state"]), (s["positions"], 3, "ready"))
        reply = d.complete("x", max_tokens=4)
        check_eq(reply.status, 503)
        kind, message = reply.error()
        check_in("Memory is short", message)
        check_in("the budget is 2 MiB", message)
        check(int(reply.headers["retry-after"]) > 0, "when to come again")
        check_eq(d.get("/health").status, 200)
        del d.settings["memory"]["limit"]
        d.write_config()
        d.process.send_signal(signal.SIGHUP)
        d.wait_position(0)
        check_eq(d.complete("x", max_tokens=4).status, 200)


# --- M4: the real thing ---

@test
@steady
def M4_real_pressure():
    """A memory cgroup of its own with the daemon and a program that writes more than it has place for:
    the kernel's pressure brings precision down, the bytes go back, and nobody is killed."""
    with cage.Cage() as c:
        d = ebbd.Daemon(ebbd.wide_pack(), SETTINGS, start=False)
        d.settings["sense"].update({"root": "/", "rescan": "10s"})
        d.settings["memory"].update({"reserve": "0B", "changes": 2})
        d.write_config()
        d.wrap = c.wrap
        d.start()
        with d:
            full, low = d.status()["resident_bytes"], d.low_bytes()
            check_eq(d.status()["position"], 0)
            check_eq(d.status()["memory"]["source"], "cgroup")
            before, events = rss(d), d.follow()
            place = 24 * MIB
            c.limit(c.used() + place)
            start = time.monotonic()
            hog = subprocess.Popen(c.wrap + [sys.executable, "-c", cage.HOG, os.path.join(d.dir, "file"),
                                             str(4 * place)])
            try:
                told = wait_until(lambda: falls(events), 30, "precision falls: %r" % c.pressure())
                wait_until(lambda: full - d.status()["resident_bytes"] >= 0.9 * low, 30,
                           "the low planes go")
            finally:
                hog.kill()
                hog.wait()
                os.remove(os.path.join(d.dir, "file"))
            check_eq(told[0][1]["reason"], "pressure")
            check(before - rss(d) > 0.8 * low, "RSS falls: %d of %d" % (before - rss(d), low))
            check_eq(c.n_oom_kills(), 0)
            wait_until(lambda: d.complete("x", max_tokens=4).status == 200, 10, "it serves")
            print("    %s: the first bytes %.0f ms after the hog begins, %.1f MiB in all, no OOM kill" % (
                c.what, (told[0][0] - start) * 1e3, (before - rss(d)) / MIB))


main()
