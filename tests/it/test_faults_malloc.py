"""Row M1 of the fault list: the daemon's N-th allocation fails, N = 1, 2, ... until none does, once
and from the N-th on. What core/ allocates is failed in its unit tests too; here it is the whole
daemon, with libuv, cJSON and libyaml in it."""
import json
import signal
import socket
import time

import ebbd
import wire
from fail_malloc import CALLS, FAILED, LIVE, UV_ABORTS, Malloc
from harness import Failed, check, check_eq, main, steady, test, wait_until

NO_MEMORY = 69
MOST = 5000  # allocations of one operation: more is a fault of the test
SETTINGS = {"kv": {"prefix_limit": "0B"}, "memory": {"hold": "0ms", "step": "0ms"}}


def failing(settings=None, pack=None):
    d = ebbd.Daemon(pack or ebbd.tiny_pack(), SETTINGS, start=False)
    for section, keys in (settings or {}).items():
        d.settings.setdefault(section, {}).update(keys)
    d.write_config()
    return d, Malloc(d)


def healthy(d):
    """200, 503 while it loads; None: no answer soon, or none at all."""
    try:
        return d.get("/health", timeout=0.3).status
    except (OSError, Failed):
        return None


# --- the start ---

def ends_or_serves(d, m, n, forever):
    """Starts with the n-th allocation failing. True if none has failed."""
    with open(d.log_path, "w"):
        pass
    m.arm(n, forever)
    d.spawn()
    what = "allocation %d%s" % (n, " and all later ones" if forever else "")
    end = time.monotonic() + 30
    while d.process.poll() is None and healthy(d) != 200:
        if m[FAILED] and forever and "ready: " in d.log():
            break  # it has come that far, and has no memory left to answer
        check(time.monotonic() < end, what + ": it neither serves nor ends: " + d.log())
        time.sleep(0.001)
    n_failed = m.disarm()
    if d.process.poll() is None:
        wait_until(lambda: healthy(d) == 200, 10, what + ": it serves when there is memory again")
        d.stop()
    elif d.process.returncode == -signal.SIGABRT:
        check(m[UV_ABORTS], what + ": abort(): " + d.log())
        return n_failed == 0
    else:
        check_eq(d.process.returncode, NO_MEMORY, what + ": " + d.log())
        check(any(x.startswith(("<3>", "ebbd: ")) for x in d.log().splitlines()),
              what + ": it says why: " + d.log())
    return n_failed == 0


def start(forever):
    d, m = failing()
    n, n_uv = 1, 0
    while not ends_or_serves(d, m, n, forever):
        n_uv += m[UV_ABORTS]
        n += 1
        check(n < MOST, "it never starts without a failure")
    print("    start, %s: %d injected, %d ended in order or served, %d in libuv's own abort()" % (
        "from N on" if forever else "once", n - 1, n - 1 - n_uv, n_uv))
    check(n > 100, "allocations were failed")


@test
@steady
def M1_start_once():
    start(False)


@test
@steady
def M1_start_forever():
    start(True)


# --- requests ---

def once(call):
    """(status, error message) of a request; (None, None): no answer."""
    try:
        reply = call()
    except (OSError, Failed, socket.timeout):
        return None, None
    return reply.status, None if reply.status == 200 else reply.error()[1]


def survives(d, m, name, call, forever):
    """Each allocation of a request fails in turn; the daemon lives, nothing is lost, and the next
    request is answered as always."""
    def good():
        return json.loads(d.complete("hello", max_tokens=4).body)["choices"][0]["text"]

    want = good()
    base = settled(m)
    n, seen = 0, {}
    while True:
        n += 1
        what = "%s, allocation %d%s" % (name, n, " and all later ones" if forever else "")
        m.arm(n, forever)
        status, message = once(call)
        n_failed = m.disarm()
        check(d.process.poll() is None, what + ": it is gone: " + d.log()[-1000:])
        if n_failed == 0:
            check_eq(status, 200, what)
            break
        check(status in (None, 200, 500, 503), "%s: %r %r" % (what, status, message))
        seen[status] = seen.get(status, 0) + 1
        check_eq(good(), want, what + ": the next request")
        wait_until(lambda: m[LIVE] <= base, 10,
                   "%s: %d blocks are back to %d" % (what, m[LIVE], base))
        check(n < MOST, what)
    d.check_log()
    print("    %s, %s: %d injected, %d survived; answers: %s" % (
        name, "from N on" if forever else "once", n - 1, n - 1,
        ", ".join("%s %d" % (k or "none", v) for k, v in sorted(seen.items(), key=str))))
    check(n > 5, name + ": allocations were failed")
    return n - 1


def settled(m):
    """Blocks that live when nothing goes on."""
    last = [None, 0]

    def same():
        last[1] = last[1] + 1 if m[LIVE] == last[0] else 0
        last[0] = m[LIVE]
        return last[1] >= 10
    wait_until(same, 10, "the count of blocks rests")
    return last[0]


def requests(d):
    def stream():
        s = wire.Stream(d.socket, "/v1/completions", {"prompt": "x", "max_tokens": 4}, timeout=0.5)
        s.run()
        return wire.Reply(200 if s.finish else 503, {}, b'{"error":{"type":"x","message":"y"}}')

    soon = {"timeout": 0.5}
    return (
        ("completion", lambda: d.post("/v1/completions", {"prompt": "hello", "max_tokens": 4},
                                      **soon)),
        ("chat", lambda: d.post("/v1/chat/completions", {
            "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}, **soon)),
        ("stream", stream),
        ("status", lambda: d.get("/ebb/status", **soon)),
        ("metrics", lambda: d.get("/metrics", **soon)),
    )


def all_requests(forever):
    d, m = failing()
    d.start()
    with d:
        for name, call in requests(d):
            if name == "chat" and once(call)[0] != 200:
                continue
            survives(d, m, name, call, forever)


@test
@steady
def M1_requests_once():
    all_requests(False)


@test
@steady
def M1_requests_forever():
    all_requests(True)


# --- swap, page-in, reload ---

@test
@steady
def M1_swap():
    """Down and up with each allocation of it failing: the layers that could not be read are read
    later, and what is computed is what it was."""
    for forever in (False, True):
        d, m = failing(pack=ebbd.slow_pack())
        d.start()
        with d:
            want = json.loads(d.complete("hello", max_tokens=4).body)["choices"][0]["text"]
            low, n, n_trials = d.status()["positions"], 1, 0
            while True:
                d.limit(1 << 20)
                d.wait_position(low)
                m.arm(n, forever)
                try:
                    wire.call(d.admin, "POST", "/ebb/limit", {"bytes": "auto"}, timeout=0.5)
                    back = True
                except (OSError, Failed):
                    back = False
                if not forever or not back:
                    time.sleep(0.05)
                n_failed, n_calls = m.disarm(), m[CALLS]
                check(d.process.poll() is None, "allocation %d: it is gone" % n)
                d.limit("auto")
                d.wait_position(0)
                if n_failed == 0:
                    check(n_calls > 5, "it has read")
                    break
                n_trials += 1
                n += 5 if forever else 3  # a read that failed is tried again a second later
            got = json.loads(d.complete("hello", max_tokens=4).body)["choices"][0]["text"]
            check_eq(got, want, "after all")
            print("    swap, %s: %d injected, %d survived" % (
                "from N on" if forever else "once", n_trials, n_trials))
            check(n > 10, "allocations were failed")


@test
@steady
def M1_paging():
    """Steps that bring each layer from disk: a request may fail, the next one does not."""
    d, m = failing({"paging": {"enabled": "on"}, "precision": {"ladder": "deep"}},
                   ebbd.deep_pack())
    d.start()
    with d:
        d.limit(d.status()["scratch_bytes"] + (2 << 20))
        wait_until(lambda: d.status()["units"]["paged"] > 0, 20, "layers are paged")
        for forever in (False, True):
            survives(d, m, "paged completion", requests(d)[0][1], forever)


@test
@steady
def M1_reload():
    """The new settings or the old ones, and it says which."""
    for forever in (False, True):
        d, m = failing()
        d.start()
        with d:
            base = settled(m)
            n, n_old, n_trials, queue = 1, 0, 0, 64
            while True:
                queue += 1
                d.settings["serve"]["queue"] = queue
                d.write_config()
                before = d.log()
                m.arm(n, forever)
                d.process.send_signal(signal.SIGHUP)
                wait_until(lambda: "reload" in d.log()[len(before):], 10, "it reloads")
                n_failed = m.disarm()
                check(d.process.poll() is None, "allocation %d: it is gone" % n)
                s = d.status()["reload"]
                if n_failed and s["result"] == "failed":
                    n_old += 1
                    check("memory" in s["error"], s)
                if n_failed == 0:
                    check_eq(s["result"], "ok")
                    break
                n_trials += 1
                n += 23 if forever else 13  # a reload may be had once a second
            wait_until(lambda: m[LIVE] <= base + 2, 10, "no block is lost")
            print("    reload, %s: %d injected, %d survived, %d with the old settings" % (
                "from N on" if forever else "once", n_trials, n_trials, n_old))
            check(n_trials > 3, "allocations were failed")


main()
