"""Rows L of the fault list that need no service manager: functions L<n>_... (the others are in
test_systemd.py)."""
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time

import ebbd
import wire
from harness import (Failed, check, check_eq, check_in, main, program, steady, test,
                     wait_until)


def exits_within(d, limit, codes=(0,), kill=signal.SIGTERM):
    """Sends the signal, if any; the daemon must end in order, and in time."""
    start = time.monotonic()
    if kill:
        d.process.send_signal(kill)
    try:
        code = d.process.wait(60)
    except subprocess.TimeoutExpired:
        raise Failed("it does not end: " + d.log()[-1000:])
    took = time.monotonic() - start
    check(code in codes, "ends with %d: %s" % (code, d.log()[-1000:]))
    check(took <= limit, "ends after %.1f s" % took)
    check_eq(leftovers(d), [], "left behind")
    d.check_log()


def leftovers(d):
    """What a daemon may not leave: everything but what was there before, and its locks."""
    known = {"ebb.yaml", "log", "root", "ebb.sock.lock", "admin.sock.lock", "notify"}
    return sorted(set(os.listdir(d.dir)) - known)


# --- L1: SIGTERM while streaming ---

@test
@steady
def L1_eight_streams():
    """Short answers are finished, long ones end with an error event; each exactly once."""
    settings = {"serve": {"slots": 8, "ctx": 8192, "drain_timeout": "1500ms"}}
    with ebbd.Daemon(ebbd.slow_pack(), settings) as d:
        streams = [d.stream("s%d" % i, max_tokens=20 if i % 2 else 8000) for i in range(8)]
        threads = [threading.Thread(target=s.run) for s in streams]
        for t in threads:
            t.start()
        start = time.monotonic()
        d.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses(d), 10, "new requests are refused")
        check_eq(d.process.wait(60), 0)
        check(time.monotonic() - start < 1.5 + 2 + 5, "in time")
        for t in threads:
            t.join(30)
        check(all(s.is_done for s in streams), "every stream ends with [DONE]")
        check_eq(sorted("length" if s.finish else s.error["type"] for s in streams),
                 ["length"] * 4 + ["unavailable_error"] * 4)
        ends = re.findall(r"req-\S+: completion (?!.*queue)", d.log())
        check_eq(len(ends), len(set(ends)), "each is accounted for once")
        check_eq(len(ends), 8)
        d.check_log()


def refuses(d):
    try:
        return d.complete("x", max_tokens=1).status == 503
    except OSError:
        return True


# --- L2: signals at bad moments ---

@test
@steady
def L2_second_signal():
    for first, second in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT),
                          (signal.SIGINT, signal.SIGTERM)):
        d = ebbd.Daemon(ebbd.slow_pack(), {"serve": {"ctx": 8192, "drain_timeout": "60s"}})
        s = d.stream("long", max_tokens=8000)
        next(iter(s))
        d.process.send_signal(first)
        wait_until(lambda: "requests to finish" in d.log(), 10, "the drain")
        exits_within(d, 2, kill=second)
        s.close()


@test
@steady
def L2_during_start():
    """At any moment of the start: before main() nobody can help it, then it ends in order."""
    rng = random.Random(2)
    d = ebbd.Daemon(ebbd.slow_pack(), start=False)
    for i in range(40):
        open(d.log_path, "w").close()
        d.spawn()
        time.sleep(rng.uniform(0, 0.06))
        sig = (signal.SIGTERM, signal.SIGINT)[i % 2]
        exits_within(d, 2, (0,) if "starts with" in d.log() else (0, -sig), sig)
    # And while a slow disk still brings the weights, with requests that wait for them.
    d.settings["paging"]["rate_limit"] = "1MiB"
    d.write_config()
    for i in range(4):
        d.spawn()
        conn = wait_until(lambda: connected(d), 60, "it listens")
        conn.request("POST", "/v1/completions", {"prompt": "x", "max_tokens": 3})
        time.sleep(rng.uniform(0, 0.5))
        exits_within(d, 2, kill=(signal.SIGTERM, signal.SIGINT)[i % 2])
        conn.close()


def connected(d):
    try:
        return wire.Conn(d.socket)
    except OSError:
        return None


@test
@steady
def L2_during_swap():
    """With half of the weights on their way in or out, and a stream in between."""
    rng = random.Random(3)
    for _ in range(8):
        d = ebbd.Daemon(ebbd.slow_pack(), {"serve": {"ctx": 8192, "drain_timeout": "0s"}})
        s = d.stream("long", max_tokens=8000)
        next(iter(s))
        d.limit(1 << 20)
        d.wait_position(d.status()["positions"])
        d.limit("auto")
        time.sleep(rng.uniform(0, 0.1))
        exits_within(d, 2)
        s.close()


@test
@steady
def L2_during_reload():
    for signals in ((signal.SIGHUP, signal.SIGTERM), (signal.SIGTERM, signal.SIGHUP),
                    (signal.SIGHUP, signal.SIGHUP, signal.SIGINT)):
        d = ebbd.Daemon(ebbd.tiny_pack())
        for sig in signals:
            d.process.send_signal(sig)
        exits_within(d, 2, kill=None)


# --- L3: SIGHUP ---

BAD = (
    # what it is, the text, where the fault is
    ("a syntax error", "serve: [\n", ":"),
    ("an unknown key", "serve:\n  slot: 4\n", ":2:3: "),
    ("a wrong type", "serve:\n  slots: many\n", ":2:10: "),
    ("out of range", "serve:\n  slots: 0\n", ":2:10: "),
    ("an empty file", "", ":1:1: model.path is missing"),
    ("64 KiB and one byte", "#" * (64 * 1024 + 1), ": "),
    ("aliases", "serve: &a\n  slots: 4\nkv: *a\n", ":1:"),
)


def reload(d, m):
    """SIGHUP; returns what the manager was told from RELOADING to READY."""
    m.take()
    d.process.send_signal(signal.SIGHUP)
    wait_until(lambda: any("READY" in x for x in m.hear()), 20, "READY")
    return m.take()


@test
def L3_bad_files():
    """A bad file changes nothing, and says where it is bad: in the log, to the manager, in the
    status and in the metrics; a good one ends that."""
    d = ebbd.Daemon(ebbd.tiny_pack(), start=False)
    m = ebbd.Manager(d)
    d.start()
    with d:
        good = open(d.config).read()
        check(any(x.get("READY") == "1" for x in m.hear()), "READY after the start")
        check_eq(d.status()["reload"], None)

        def fails(what, place):
            before = d.log()
            said = reload(d, m)
            now = time.monotonic()
            pair = [x for x in said if "RELOADING" in x or "READY" in x]
            check_eq([("RELOADING" in x, "READY" in x) for x in pair],
                     [(True, False), (False, True)], what)
            check(0 <= now - int(pair[0]["MONOTONIC_USEC"]) / 1e6 < 30, "MONOTONIC_USEC")
            told = pair[1]["STATUS"]
            check(told.startswith("reload failed"), told)
            check_in("; serving tiny-test-model", told)
            check_in(d.config + place, told, what)
            lines = [x for x in d.log()[len(before):].splitlines() if x.startswith("<3>")]
            check_eq(len(lines), 1, what + ": error lines")
            check_in(d.config + place, lines[0], what)
            state = d.status()["reload"]
            check_eq(state["result"], "failed")
            check_in(d.config + place, state["error"])
            check(0 <= state["age_s"] < 30, state)
            metrics = d.metrics()
            check_eq(metrics["ebb_config_last_reload_successful"], 0)
            check(any(k.startswith("ebb_config_last_reload_info{") and place in k
                      for k in metrics), "the message in the metrics")
            check(hash_of(d) == kept, what + ": the old settings stay")

        kept = hash_of(d)
        for what, text, place in BAD:
            d.write_config(text)
            fails(what, place)
        os.remove(d.config)
        fails("no file", ": cannot open it")
        os.mkdir(d.config)
        fails("a folder", ": not a regular file")
        os.rmdir(d.config)
        os.mkfifo(d.config)
        fails("a pipe", ": not a regular file")
        os.remove(d.config)
        d.write_config(good.replace(d.pack, d.dir + "/none.ebb"))
        fails("a missing model", ": model.path: cannot open " + d.dir + "/none.ebb")

        d.write_config(good + "kv:\n  prefix_limit: 1MiB\n")
        said = reload(d, m)
        check(said[-1]["STATUS"].startswith("serving tiny-test-model"), said)
        state = d.status()["reload"]
        check_eq((state["result"], state["error"]), ("ok", None))
        check_eq(d.metrics()["ebb_config_last_reload_successful"], 1)
        d.settings["serve"]["ctx"] = 256
        d.write_config()
        reload(d, m)
        check_eq(d.status()["reload"]["needs_restart"], "serve.ctx")


def hash_of(d):
    """What the settings have led to, as far as it can be seen."""
    s = d.status()
    return (s["position"], s["memory"]["reserve_bytes"], s["memory"]["limit_bytes"],
            s["requests"]["slots"])


@test
@steady
def L3_hundred_signals():
    d = ebbd.Daemon(ebbd.tiny_pack(), start=False)
    m = ebbd.Manager(d)
    d.start()
    with d:
        m.take()
        start = time.monotonic()
        for _ in range(100):
            d.process.send_signal(signal.SIGHUP)
            time.sleep(0.009)
        check(time.monotonic() - start < 1.5, "a hundred signals in a second")
        wait_until(lambda: any("READY" in x for x in m.hear()), 10, "a reload")
        time.sleep(1.5)  # and whatever comes after
        n = sum("RELOADING" in x for x in m.hear())
        check(1 <= n <= 2, "%d reloads" % n)
        check_eq(d.metrics()['ebb_config_reloads_total{result="ok"}'], n)


# --- L5, L6: sockets and locks ---

@test
def L5_stale_socket():
    """A crash leaves its socket; the next start takes it away. A living one's is never touched,
    not even with its lock file gone."""
    with ebbd.Daemon(ebbd.tiny_pack()) as d:
        d.kill()
        try:
            wire.Conn(d.socket)
            raise Failed("nobody listens, and yet it connects")
        except ConnectionRefusedError:
            pass
        d.start()
        inode = os.stat(d.socket).st_ino
        os.remove(d.socket + ".lock")
        os.remove(d.admin + ".lock")
        r = subprocess.run([program("ebbd"), "--config", d.config], capture_output=True, text=True,
                           timeout=60)
        check_eq(r.returncode, 75, r.stderr)
        check_eq(os.stat(d.socket).st_ino, inode, "the socket")
        check_eq(d.get("/health").status, 200)


@test
@steady
def L6_two_at_once():
    """A hundred races, from nothing and over what a killed daemon left: one serves, the other says
    75."""
    d, n = ebbd.Daemon(ebbd.tiny_pack(), start=False), 100
    worst = 0.0
    for i in range(n):
        pair = [subprocess.Popen([program("ebbd"), "--config", d.config],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL) for _ in range(2)]
        start = time.monotonic()
        try:
            loser = wait_until(lambda: next((p for p in pair if p.poll() is not None), None), 30,
                               "one ends")
            worst = max(worst, time.monotonic() - start)
            check_eq(loser.returncode, 75, "race %d" % i)
            winner = pair[1 - pair.index(loser)]
            d.process = winner
            wait_until(d.is_ready, 30, "the other one serves")
        finally:
            for p in pair:
                p.send_signal(signal.SIGKILL if i % 2 else signal.SIGTERM)
            codes = [p.wait(30) for p in pair]
        check_eq(sorted(codes), sorted([75, -9 if i % 2 else 0]), "race %d" % i)
    print("     %d races, the loser ended within %.2f s" % (n, worst))
    check(worst < 1, "soon")


# --- L13: nothing there ---

@test
def L13_no_sources():
    """No memory, pressure, cgroup or heat to read, no manager, a home that cannot be written."""
    d = ebbd.Daemon(ebbd.tiny_pack(), start=False)
    shutil.rmtree(d.root)
    os.mkdir(d.root)
    d.env = {"HOME": "/proc", "XDG_RUNTIME_DIR": "/proc", "TMPDIR": "/proc"}
    d.start()
    with d:
        ebbd.check_unknown(d)


main()
