"""Precision that changes while tokens flow: limits, readings, streams that stay whole."""
import json
import os
import socket
import threading
import time

import ebbd
import wire
from harness import check, check_eq, check_in, main, test, wait_until

MIB = 1 << 20
LOW = 1024  # a limit under which every low plane goes


def first_swap(stream):
    """How many pieces came before the fingerprint first changed; None if it never did."""
    for i, piece in enumerate(stream.pieces):
        if piece[2] != stream.pieces[0][2]:
            return i
    return None


def same_until(a, b, n):
    check_eq([p[1] for p in a.pieces[:n]], [p[1] for p in b.pieces[:n]], "up to the first swap")


def whole(stream, tokens):
    """Every token once: the daemon's count, ours of the chunks, and an orderly end. A token of the
    tiny model is never empty and always whole characters, so each is one piece."""
    check_eq((stream.finish, stream.error), ("length", None))
    check_eq(stream.last["timings"]["predicted_n"], tokens)
    check_eq(len(stream.pieces), tokens, "pieces")
    times = [p[0] for p in stream.pieces]
    check_eq(times, sorted(times))
    epochs, positions_, firsts = zip(*stream.last["ebb"]["epochs"])
    check_eq(firsts[0], 0, "first token")
    for numbers in (epochs, firsts):
        check(all(a < b for a, b in zip(numbers, numbers[1:])), "plans in order: %r" % (numbers,))
    check_eq(stream.last["ebb"]["position"], positions_[-1])
    # What the chunks say, token by token, is what the list of plans says.
    told = [i for i in range(1, tokens) if stream.pieces[i][2] != stream.pieces[i - 1][2]]
    want = [f for f, a, b in zip(firsts[1:], positions_, positions_[1:]) if a != b]
    check_eq(told, want, "changes of the fingerprint")


def positions(d):
    return d.status()["positions"]


@test
def limit_and_back():
    with ebbd.Daemon(ebbd.slow_pack()) as d:
        full = d.status()
        low_bytes = d.low_bytes()
        rss = d.rss()
        d.limit(LOW)
        d.wait_position(full["positions"])
        high = d.status()
        check_eq(high["units"]["full"], 0)
        # The plan changes at once; the bytes are back when the step that runs is over.
        wait_until(lambda: full["resident_bytes"] - d.status()["resident_bytes"] == low_bytes, 10,
                   "resident_bytes falls by the low planes")
        wait_until(lambda: rss - d.rss() > 0.9 * low_bytes, 10,
                   "RSS falls by the low planes' %d bytes" % low_bytes)
        check(all(x["taken"] for x in d.ladder()["steps"]), "every step is taken")
        d.limit("auto")
        d.wait_position(0)
        wait_until(lambda: d.status()["resident_bytes"] == full["resident_bytes"], 10,
                   "resident_bytes as before")


@test
def every_position():
    """A limit between two positions gives the first one that fits; the same position computes the
    same text. A request's KV cache counts too, so that it may be computed lower than it came."""
    with ebbd.Daemon(ebbd.tiny_pack()) as d:
        steps = d.ladder()["steps"]
        s = d.status()
        whole_bytes = s["resident_bytes"] + s["kv_bytes"] + s["scratch_bytes"]
        texts = {}
        for p in list(range(len(steps) + 1)) * 2:
            freed = sum(x["bytes"] for x in steps[:p])
            for slack in (0, steps[p - 1]["bytes"] - 1 if p else 0):
                d.limit(whole_bytes - freed + slack)
                d.wait_position(p)
                s = d.status()
                check_eq(s["units"]["high"], p)
                check_eq([x["taken"] for x in d.ladder()["steps"]],
                         [i < p for i in range(len(steps))])
            got = d.complete("position", max_tokens=30)
            if got.status == 503:  # not even at the lowest position is there room for its KV cache
                check(p > 0, "refused at the top")
                continue
            got = got.json()
            text = got["choices"][0]["text"]
            check_eq(texts.setdefault(got["system_fingerprint"], text), text, "the same again")
        check(len(texts) > 1, "several positions: %r" % list(texts))


def stream_with_swaps(d, prompt, tokens, times):
    """A stream during which the limit falls and goes back `times` times."""
    s = d.stream(prompt, max_tokens=tokens)
    n, at, fell = 0, max(1, tokens // (4 * times)), False
    for _ in s:
        n += 1
        if n >= at and times > 0:
            fell = not fell
            d.limit(LOW if fell else "auto")
            times -= not fell
            at = n + max(1, tokens // 8)
    return s


@test
def stream_through_a_swap():
    with ebbd.Daemon(ebbd.slow_pack(), {"serve": {"ctx": 2048}}) as d:
        reference = d.stream("once", max_tokens=400).run()
        check_eq(first_swap(reference), None, "no swap yet")
        s = stream_with_swaps(d, "once", 400, 1)
        whole(s, 400)
        at = first_swap(s)
        check(at, "it swapped")
        same_until(s, reference, at)
        check(s.last["ebb"]["epochs"], "epochs are told: %r" % s.last["ebb"])
        d.wait_position(0)
        check_eq(d.stream("once", max_tokens=400).run().text, reference.text, "back at full")


@test
def streams_keep_their_own():
    """Four streams at once through swaps: each whole, each as before up to its first swap."""
    with ebbd.Daemon(ebbd.tiny_pack(), {"serve": {"slots": 4, "ctx": 2048}}) as d:
        prompts = ["one", "two two", "three three three", "4" * 40]
        alone = [d.stream(p, max_tokens=1500).run() for p in prompts]
        streams = [d.stream(p, max_tokens=1500) for p in prompts]
        workers = [threading.Thread(target=s.run) for s in streams]
        for w in workers:
            w.start()
        for _ in range(5):
            d.limit(LOW)
            time.sleep(0.02)
            d.limit("auto")
            time.sleep(0.05)
        for w in workers:
            w.join()
        for s, want in zip(streams, alone):
            whole(s, 1500)
            same_until(s, want, first_swap(s))


@test
def memory_readings():
    """A falling MemAvailable sheds; a rising one grows only after the hold."""
    with ebbd.Daemon(ebbd.tiny_pack(), {"memory": {"hold": "700ms"}}) as d:
        n = positions(d)
        d.set_available(4 * MIB)
        d.wait_position(n, 10)
        d.set_available(ebbd.PLENTY)
        start = time.monotonic()
        time.sleep(0.2)
        check_eq(d.status()["position"], n, "it holds")
        d.wait_position(0, 30)
        check(time.monotonic() - start >= 0.6, "not before the hold is over")
        memory = d.status()["memory"]
        check_eq((memory["source"], memory["available_bytes"]), ("system", ebbd.PLENTY))


@test
def a_watch_that_ends():
    """The status names what is still read, and not what has gone."""
    with ebbd.Daemon(ebbd.tiny_pack(), start=False) as d:
        path = os.path.join(d.dir, "pressure.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(1)
        d.env = {"MEMORY_PRESSURE_WATCH": path}
        d.start()
        peer, _ = listener.accept()
        check_eq(d.status()["memory"]["source"], "watch")
        peer.close()
        listener.close()
        wait_until(lambda: d.status()["memory"]["source"] == "system", 10, "the system's is named")
        check_in("pressure is read, not told", d.log())


@test
def cgroup_limit_lowered():
    """Below what is held: as much as is over it goes, without any other sign."""
    with ebbd.Daemon(ebbd.tiny_pack()) as d:
        d.set_cgroup(current=30 * MIB, high=64 * MIB)
        wait_until(lambda: d.status()["memory"]["cgroup_left_bytes"] == 34 * MIB, 10, "it is read")
        check_eq(d.status()["position"], 0)
        d.set_cgroup(current=30 * MIB, high=30 * MIB - d.low_bytes() // 2)
        wait_until(lambda: d.status()["position"] > 0, 10, "planes go")
        check_in(": cgroup, returned", d.log())


@test
def broken_readings():
    """Nonsense in the file is not plenty, and does not hurt."""
    with ebbd.Daemon(ebbd.tiny_pack()) as d:
        path = os.path.join(d.root, "proc/meminfo")
        for text in ("", "MemAvailable:", "MemAvailable: x kB\n", "MemAvailable: -5 kB\n",
                     "MemAvailable: 99999999999999999999 kB\n", "\0" * 100, "x" * 100000,
                     "MemAvailable: 5 furlongs\n"):
            with open(path + ".new", "w") as f:
                f.write(text)
            os.rename(path + ".new", path)
            time.sleep(0.12)
            check_eq(d.complete("x", max_tokens=2).status, 200, repr(text[:30]))
        d.set_available(ebbd.PLENTY)
        d.wait_position(0, 60)


@test
def pressure_is_told():
    """What the service manager's file tells is looked at at once, between two readings."""
    with ebbd.Daemon(ebbd.tiny_pack(), {"sense": {"interval": "1min"}}, start=False) as d:
        fifo = os.path.join(d.dir, "pressure")
        os.mkfifo(fifo)
        d.env = {"MEMORY_PRESSURE_WATCH": fifo, "MEMORY_PRESSURE_WRITE": "c29tZQA="}
        d.start()
        n = positions(d)
        time.sleep(1)  # the first reading is over, and the next one a minute away
        d.set_available(4 * MIB)
        time.sleep(0.3)
        check_eq(d.status()["position"], 0, "nobody has looked")
        fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)  # fails if the daemon has not opened it
        os.write(fd, b"x")
        os.close(fd)
        d.wait_position(n, 30)


@test
def pressure_is_not_told():
    """A source that cannot be used is one warning; one that ends is another."""
    with ebbd.Daemon(ebbd.tiny_pack(), start=False) as d:
        d.env = {"MEMORY_PRESSURE_WATCH": d.dir + "/none"}
        d.start()
        check_in("/none: No such file or directory; pressure is read, not told", d.log())
    with ebbd.Daemon(ebbd.tiny_pack(), start=False) as d:
        path = d.dir + "/told"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(1)
        d.env = {"MEMORY_PRESSURE_WATCH": path}
        d.start()
        listener.accept()[0].close()
        wait_until(lambda: "/told: the other side has closed it" in d.log(), 30, "it is told")
        check_eq(d.complete("x", max_tokens=2).status, 200)
        check_eq(d.log().count("the other side has closed it"), 1)


@test
def events_tell():
    with ebbd.Daemon(ebbd.tiny_pack()) as d:
        seen = []
        follows = threading.Event()

        def follow():
            with wire.Conn(d.socket) as c:
                c.request("GET", "/ebb/events")
                check_eq(c.head()[0], 200)
                follows.set()
                for _, event, data in c.events():
                    seen.append((event, json.loads(data)))

        threading.Thread(target=follow, daemon=True).start()
        check(follows.wait(30), "the events begin")
        n = positions(d)
        d.limit(LOW)
        d.wait_position(n)
        d.limit("auto")
        d.wait_position(0)
        wait_until(lambda: any(x.get("to") == 0 for _, x in seen), 10, "events: %r" % seen)
        swaps = [x for e, x in seen if e == "position"]
        check_eq((swaps[0]["from"], swaps[0]["to"]), (0, n))
        for a, b in zip(swaps, swaps[1:]):
            check_eq(b["from"], a["to"], "no swap is missing")


@test
def limit_program():
    with ebbd.Daemon(ebbd.tiny_pack()) as d:
        r = ebbd.ebb(d, "limit", "1KiB")
        check_eq(r.returncode, 0, r.stderr)
        d.wait_position(positions(d))
        check_eq(ebbd.ebb(d, "limit", "auto").returncode, 0)
        d.wait_position(0)
        check_eq(ebbd.ebb(d, "limit").returncode, 0)


@test
def storm():
    """Limits as fast as they come, streams all the while: nothing is lost and all comes to rest."""
    with ebbd.Daemon(ebbd.tiny_pack(), {"serve": {"slots": 2, "ctx": 4096},
                                        "memory": {"hold": "10ms", "step": "0ms"}}) as d:
        s = d.stream("storm", max_tokens=3000)
        worker = threading.Thread(target=s.run)
        worker.start()
        end = time.monotonic() + 2
        while time.monotonic() < end:
            d.limit(LOW)
            d.limit("auto")
        worker.join()
        whole(s, 3000)
        d.wait_position(0)
        d.check_log()


main()
