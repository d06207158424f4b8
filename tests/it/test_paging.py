"""Layers that are not in memory: read from disk in each step, slowly or not at all."""
import json
import os
import shutil
import threading
import time

import ebbd
from harness import check, check_eq, check_in, main, test, wait_until

LOW = 1024  # a limit under which everything goes to disk
TOKENS = 60
WHOLE = {"max_tokens": TOKENS, "ignore_eos": True}


def start(pack, ladder="deep", **paging):
    return ebbd.Daemon(pack, {"precision": {"ladder": ladder}, "paging": dict({"enabled": "on"}, **paging),
                              "serve": {"ctx": 1024, "drain_timeout": "1s"},
                              "memory": {"hold": "50ms", "step": "0ms", "margin": "0B"}})


def packs():
    return [ebbd.deep_pack(), ebbd.deep_pack(swsc=0)]


def copy(pack, d="copy"):
    path = os.path.join(ebbd.TMP, d + ".ebb")
    shutil.copyfile(pack, path)
    return path


def ask(d, **more):
    return d.complete("once upon a time", **dict(WHOLE, **more))


def text_of(reply, position=None):
    """Its text, checked to have been computed at one position."""
    check_eq(reply.status, 200, repr(reply.body))
    answer = reply.json()
    if position is not None:
        check_eq({p for _, p, _ in answer["ebb"]["epochs"]}, {position}, "positions")
    return answer["choices"][0]["text"]


def go_to(d, position):
    """Limits the daemon to a position and the KV of one of our requests. Until there is one, it
    may stand a little higher."""
    ladder = d.ladder()
    full = ladder["bytes"] + sum(s["bytes"] for s in ladder["steps"] if s["taken"])
    d.limit(d.beside + d.kv_room + full - sum(s["bytes"] for s in ladder["steps"][:position]))
    wait_until(lambda: stands(d.status(), position), 20, "position %d" % position)


def stands(status, position):
    return status["position"] <= position and status["target"] == status["position"]


def measure(d):
    """Bytes beside the ladder's, at rest, and of the KV of one of our requests."""
    s, ladder = d.status(), d.ladder()
    d.beside = s["scratch_bytes"] + s["resident_bytes"] - ladder["bytes"]
    d.kv_room = 0
    while d.kv_room == 0:  # it may be over before it is asked for
        for _ in d.stream("once upon a time", **WHOLE):
            d.kv_room = max(d.kv_room, d.status()["kv_bytes"])


@test
def every_position_answers_the_same_paged():
    """What a position writes does not depend on where its weights are: with forms the streamed
    units are those that `swsc` has in memory, without those of `high`."""
    for pack in packs():
        with start(pack) as d:
            measure(d)
            n = d.status()["positions"]
            texts = {}
            first = next(i for i, s in enumerate(d.ladder()["steps"]) if s["to"] == "paged")
            for position in (0, first, first + 1, first + 3, n, first + 2, first - 1, first, 0):
                go_to(d, position)
                text = text_of(ask(d), position)
                check_eq(texts.setdefault(max(0, min(position, first)), text), text,
                         "position %d" % position)
            check(len(texts) > 1, "positions differ: %r" % list(texts))
            s = d.status()["paging"]
            check(s["reads"] > TOKENS, "units were streamed: %r" % s)
            check_eq(s["failed_reads"], 0)


@test
def nothing_is_resident():
    """A limit below everything: it still answers, and tells what it reads."""
    for pack in packs():
        with start(pack) as d:
            measure(d)
            d.limit(LOW)
            d.wait_position(d.status()["positions"])
            check_eq(d.complete("x", max_tokens=2).status, 503, "no room for its KV")
            n = d.status()["positions"]
            smallest = sum(s["bytes"] for s in d.ladder()["steps"] if s["to"] == "paged")
            go_to(d, n)
            before, seen, metrics = d.status()["paging"], [], []
            stream = d.stream("once upon a time", **WHOLE)
            for piece in stream:
                seen.append(d.status())
                metrics.append(d.metrics())
            check_eq((stream.error, stream.last["ebb"]["position"]), (None, n))
            now, m = seen[1], metrics[1]
            check_eq(now["units"]["paged"], sum(now["units"].values()))
            check_eq(now["paging"]["state"], "streaming")
            check_eq(now["paging"]["bytes_per_token"], smallest)
            after = d.status()["paging"]
            tokens = (after["read_bytes"] - before["read_bytes"]) / smallest
            check(TOKENS - 1 <= tokens <= TOKENS + 4, "passes read: %g" % tokens)
            check_eq(m['ebb_bytes{rung="high"}'], 0)
            check_eq(m["ebb_paged_bytes_per_token"], smallest)
            check(d.metrics()["ebb_pages_read_total"] >= after["reads"], "pages are counted")
            check_in("paging", ebbd.ebb(d, "status").stdout)
            check_in("> paged", ebbd.ebb(d, "ladder").stdout)


@test
def batched_rows_share_a_read():
    with start(ebbd.deep_pack(swsc=0), rate_limit="30MiB") as d:
        measure(d)
        d.kv_room *= 4
        go_to(d, d.status()["positions"])
        alone = text_of(ask(d))
        before = d.status()["paging"]
        streams = [d.stream("once upon a time", **WHOLE) for _ in range(4)]
        workers = [threading.Thread(target=s.run) for s in streams]
        for w in workers:
            w.start()
        for w in workers:
            w.join()
        for s in streams:
            check_eq((s.text, s.error), (alone, None))
        after = d.status()["paging"]
        passes = (after["read_bytes"] - before["read_bytes"]) / after["bytes_per_token"]
        check(passes < 2 * TOKENS, "%g passes for four times %d tokens" % (passes, TOKENS))


@test
def the_limit_moves_under_load():
    """Up and down 200 times while tokens flow: every stream whole, and in the end the bytes gone."""
    for pack in packs():
        with start(pack) as d:
            measure(d)
            steps = d.ladder()["steps"]
            freed = sum(s["bytes"] for s in steps)
            stop = threading.Event()
            streams, failed = [], []

            def load():
                while not stop.is_set():
                    s = d.stream("once upon a time", **WHOLE).run()
                    streams.append(s)
                    if s.error or s.finish != "length":
                        failed.append((s.status, s.error, s.finish))

            worker = threading.Thread(target=load)
            worker.start()
            for i in range(200):
                part = (i * 7919) % 1000 / 1000
                d.limit(int(d.beside + 2 * d.kv_room + freed * part))
                time.sleep(0.01)
            stop.set()
            worker.join()
            check(streams, "streams ran")
            check_eq(failed, [])
            go_to(d, d.status()["positions"])
            wait_until(lambda: d.status()["resident_bytes"] < freed // 4, 10, "bytes are back")
            low = d.rss()
            d.limit("auto")
            d.wait_position(0)
            check(d.rss() - low > 0.9 * freed - (1 << 20), "the bytes had gone: %d of %d" % (
                d.rss() - low, freed))


def damage(path, unit, ladder_pack):
    """Another byte in the extents of a unit that may be streamed; returns how to undo it."""
    undo = []
    for name, (offset, n) in ebbd.pack_extents(ladder_pack).items():
        if name.startswith(unit + ".") and not name.endswith(".low"):
            with open(path, "r+b") as f:
                f.seek(offset + n // 2)
                byte = f.read(1)
                f.seek(offset + n // 2)
                f.write(bytes([byte[0] ^ 1]))
                undo.append((offset + n // 2, byte))
    return undo


@test
def a_damaged_unit_fails_requests_not_the_daemon():
    path = copy(ebbd.deep_pack(swsc=0))
    with start(path, rate_limit="40MiB") as d:
        measure(d)
        go_to(d, d.status()["positions"])
        text = text_of(ask(d))
        stream = d.stream("once upon a time", **WHOLE)
        pieces = iter(stream)
        next(pieces)
        undo = damage(path, "unit.001", path)
        for _ in pieces:
            pass
        check(stream.error, "a stream that has begun ends with an error event")
        for _ in range(3):
            reply = ask(d)
            check_eq(reply.status, 500, repr(reply.body))
        wait_until(lambda: d.status()["paging"]["state"] == "failing", 5, "it is told")
        check_eq(d.log().count("cannot be read, requests that need them fail"), 1, "log lines")
        check_in("unit.001.swsc: checksum differs", d.log())
        check_eq(d.get("/health").status, 200)
        with open(path, "r+b") as f:
            for at, byte in undo:
                f.seek(at)
                f.write(byte)
        check_eq(text_of(ask(d)), text, "it is tried again")
        wait_until(lambda: d.status()["paging"]["state"] == "streaming", 5, "that is told")
        check_eq(d.log().count("paged units can be read again"), 1, "log lines")


@test
def resident_units_keep_serving():
    """The file is cut short under the daemon: what is in memory goes on."""
    path = copy(ebbd.deep_pack(), "cut")
    with start(path) as d:
        measure(d)
        text = text_of(ask(d))
        os.truncate(path, os.path.getsize(path) // 3)
        check_eq(text_of(ask(d)), text)
        go_to(d, d.status()["positions"])
        reply = ask(d)
        check_eq(reply.status, 500, repr(reply.body))
        wait_until(lambda: "the file ends at byte" in d.log(), 5, "it is told")
        # Planes that cannot be read back are tried now and then, not all the time.
        d.limit("auto")
        time.sleep(1)
        check(d.metrics()["ebb_read_failed_total"] <= 3, "failed reads are spaced out")
        check_eq(d.get("/health").status, 200)


@test
def a_slow_disk_is_waited_for():
    """A rate of a few passes a second: the answer is the same, and the daemon answers others."""
    with start(ebbd.deep_pack(swsc=0), timeout="200ms") as d:
        measure(d)
        go_to(d, d.status()["positions"])
        want = d.complete("once upon a time", max_tokens=6).json()["choices"][0]["text"]
        rate = d.status()["paging"]["bytes_per_token"] * 4
        d.settings["paging"]["rate_limit"] = "%dB" % rate
        d.write_config()
        d.process.send_signal(1)
        wait_until(lambda: "reloaded" in d.log(), 10, "the rate is taken over")
        got, worst = [], 0
        worker = threading.Thread(target=lambda: got.append(
            d.complete("once upon a time", max_tokens=6)))
        before, start_s = d.status()["paging"], time.monotonic()
        worker.start()
        while worker.is_alive():
            t = time.monotonic()
            check_eq(d.get("/health").status, 200)
            worst = max(worst, time.monotonic() - t)
            time.sleep(0.02)
        took = time.monotonic() - start_s
        after = d.status()["paging"]
        check_eq(got[0].json()["choices"][0]["text"], want)
        check(took > 1, "six tokens and a prompt took %.2f s" % took)
        read = after["read_bytes"] - before["read_bytes"]
        check(read / took < 1.4 * rate, "the rate is kept: %d in %.2f s" % (read, took))
        check(after["wait_s"] > before["wait_s"] + 0.5, "the wait is counted")
        check(worst < 0.25, "health took %.3f s" % worst)
        # It ends when it is told to, in the middle of a wait.
        s = d.stream("once upon a time", **WHOLE)
        next(iter(s))
        d.stop(seconds=10)


@test
def memory_comes_back_amid_a_slow_step():
    """A step that waits for a slow disk does not keep the memory that a fall of the limit frees."""
    with start(ebbd.deep_pack(), timeout="20s") as d:
        measure(d)
        steps = d.ladder()["steps"]
        first = next(i for i, s in enumerate(steps) if s["to"] == "paged")
        go_to(d, first + 3)
        want = text_of(ask(d), first + 3)
        d.settings["paging"]["rate_limit"] = "%dB" % (3 * steps[first]["bytes"] // 4)
        d.write_config()
        d.process.send_signal(1)  # four seconds a step
        wait_until(lambda: "reloaded" in d.log(), 10, "the rate is taken over")
        stream = d.stream("once upon a time", max_tokens=3, ignore_eos=True)
        worker = threading.Thread(target=stream.run)
        worker.start()
        time.sleep(1)
        before, at = d.status()["resident_bytes"], time.monotonic()
        d.limit(d.beside + d.kv_room)
        wait_until(lambda: before - d.status()["resident_bytes"] >= 3 * steps[first]["bytes"], 10,
                   "the layers' bytes are back")
        took = time.monotonic() - at
        check(took < 1, "after %.2f s" % took)
        d.settings["paging"]["rate_limit"] = "0B"
        d.write_config()
        d.process.send_signal(1)
        worker.join()
        check_eq((stream.error, stream.finish), (None, "length"))
        check(want.startswith(stream.text), "the same text: %r, %r" % (stream.text, want))


@test
def paging_can_be_switched_off():
    with start(ebbd.deep_pack(swsc=0), enabled="off") as d:
        measure(d)
        check_eq([s["to"] for s in d.ladder()["steps"]].count("paged"), 0)
        n = d.status()["positions"]
        want = None
        d.limit(LOW)
        d.wait_position(n)
        check_eq(d.complete("x", max_tokens=2).status, 503)
        d.limit("auto")
        d.wait_position(0)
        go_to(d, n)
        want = text_of(ask(d))
        check_eq(d.status()["units"]["paged"], 0)
        check(want, "it answers at the last step")
    with ebbd.Daemon(ebbd.tiny_pack()) as d:
        check_eq(d.status()["paging"]["state"], "off")


@test
def built_packs_page():
    """The packer's own ladders end with paged layers, too."""
    for ladder in ("jaccard", "lsaq", "kl"):
        with start(ebbd.tiny_pack(), ladder) as d:
            measure(d)
            n = d.status()["positions"]
            steps = d.ladder()["steps"]
            first = next(i for i, s in enumerate(steps) if s["to"] == "paged")
            check(all(s["to"] == "paged" for s in steps[first:]), "paged steps come last")
            go_to(d, first)
            high = text_of(ask(d), first)
            go_to(d, n)
            check_eq(text_of(ask(d), n), high)


@test
def it_starts_at_any_position():
    for pack in packs():
        with start(pack) as d:
            measure(d)
            steps = d.ladder()["steps"]
            beside = d.beside + d.kv_room
        full = sum(s["bytes"] for s in steps)
        texts = set()
        for position in (len(steps), len(steps) - 2):
            freed = sum(s["bytes"] for s in steps[:position])
            with ebbd.Daemon(pack, {"precision": {"ladder": "deep"}, "serve": {"ctx": 1024},
                                    "paging": {"enabled": "on"},
                                    "memory": {"limit": beside + full - freed}}) as d:
                check(d.status()["position"] >= position - 2, "it starts low")
                texts.add(text_of(ask(d), position))
        check_eq(len(texts), 1)


@test
def events_tell():
    path = copy(ebbd.deep_pack(), "events")
    with start(path) as d:
        measure(d)
        seen = []

        def follow():
            import wire
            with wire.Conn(d.socket) as c:
                c.request("GET", "/ebb/events")
                check_eq(c.head()[0], 200)
                for _, event, data in c.events():
                    seen.append((event, json.loads(data)))

        threading.Thread(target=follow, daemon=True).start()
        time.sleep(0.2)
        go_to(d, d.status()["positions"])
        undo = damage(path, "unit.000", path)
        check_eq(ask(d).status, 500)
        wait_until(lambda: [x for e, x in seen if e == "paging"], 5, "an event: %r" % seen)
        state = [x for e, x in seen if e == "paging"][0]
        check_eq(state["state"], "failing")
        check_in("unit.000.high", state["error"])
        check(undo, "something was damaged")


main()
