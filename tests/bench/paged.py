"""What streaming layers from disk costs, with a reader whose rate is bounded, so that the figures
do not depend on the disk.

    python3 tests/bench/paged.py --pack PACK.ebb [--ladder NAME] [--build DIR] [--rate MiB/S]
                                 [--tokens N] [--threads N] [--moves N] [--json]

Starts an ebbd of its own on the pack and prints a table:

    resident   every unit at its last resident rung: what the position writes, and how fast
    budget     memory.limit at one third of the bytes of all high planes, for weights, KV cache,
               scratch and staging together: the same text, and its rate against what the disk
               allows, rate limit / bytes read for a token
    all paged  every unit that may go to disk is there, the way of AirLLM, with the same reader: no
               unit but what cannot page is resident. Its own way, which reads the next layer only
               when it wants it and keeps no head, is the last line, as arithmetic: at best the
               rate limit / bytes of all units

Then the limit moves up and down under load while RSS is sampled every 10 ms: the table's last
lines say by how much it exceeded the limit, less what the process itself takes, once 300 ms (the
time there is to give memory back) had passed; and what the streaming left in the page cache.
"""
import argparse
import ctypes
import json
import mmap
import os
import random
import statistics
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ARGS = argparse.ArgumentParser(description=__doc__.split("\n")[0])
ARGS.add_argument("--pack", required=True)
ARGS.add_argument("--ladder", default="jaccard")
ARGS.add_argument("--build", default=os.path.join(HERE, "..", "..", "build"))
ARGS.add_argument("--rate", type=float, default=200, help="of the reader, MiB/s")
ARGS.add_argument("--tokens", type=int, default=32)
ARGS.add_argument("--threads", type=int, default=0, help="0: one for each CPU")
ARGS.add_argument("--moves", type=int, default=200, help="of the limit")
ARGS.add_argument("--reps", type=int, default=3)
ARGS.add_argument("--json", action="store_true", help="the last line is JSON")
A = ARGS.parse_args()

# The test harness reads its own options.
sys.argv = [sys.argv[0], "--build", A.build]
sys.path.insert(0, os.path.join(HERE, "..", "it"))
import ebbd  # noqa: E402
from harness import Failed, wait_until  # noqa: E402

MIB = 1 << 20
PROMPT = "The history of the lighthouse begins"
RATE = int(A.rate * MIB)
PAGE = os.sysconf("SC_PAGESIZE")
GRACE_S = 0.3


def settings(**paging):
    return {"serve": {"ctx": 512, "slots": 1, "threads": A.threads, "prompt_chunk": 16},
            "precision": {"ladder": A.ladder}, "kv": {"prefix_limit": "0B"}, "paging": dict({"enabled": "on"}, **paging),
            "memory": {"hold": "10ms", "step": "0ms", "margin": "0B", "reserve": "16MiB"}}


def stream(d, tokens=None):
    return d.stream(PROMPT, max_tokens=tokens or A.tokens, ignore_eos=True)


def rate_of(d, text=None):
    """Median decode rate of some streams, the status amid one, and their text."""
    rates, status = [], None
    for _ in range(A.reps):
        s = stream(d)
        for _ in s:
            if len(s.pieces) == A.tokens // 2:
                status = d.status()
        if s.error or (text is not None and s.text != text):
            raise Failed("another text: %r %r, not %r" % (s.error, s.text, text))
        # The first token is of the prompt's step.
        timings = s.last["timings"]
        rates.append((timings["predicted_n"] - 1) * 1e3 / timings["predicted_ms"])
        text = s.text
    return statistics.median(rates), status, text


def statm_rss(pid):
    with open("/proc/%d/statm" % pid) as f:
        return int(f.read().split()[1]) * PAGE


def held(status):
    return sum(status[k] for k in ("resident_bytes", "kv_bytes", "scratch_bytes", "slack_bytes"))


def own_bytes(d):
    """What the process takes beside all that it counts."""
    return statm_rss(d.process.pid) - held(d.status())


class Sampler(threading.Thread):
    """RSS every 10 ms, with the largest limit in force within the grace before."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.limits, self.stop = pid, [(0.0, 1 << 62)], False
        self.lock = threading.Lock()
        self.samples = []

    def set(self, limit):
        with self.lock:
            self.limits.append((time.monotonic(), limit))

    def run(self):
        while not self.stop:
            rss, now = statm_rss(self.pid), time.monotonic()
            with self.lock:
                since = [v for t, v in self.limits if t >= now - GRACE_S]
                before = [v for t, v in self.limits if t < now - GRACE_S]
            self.samples.append((rss, max(since + before[-1:])))
            time.sleep(0.01)


def cached_bytes(path):
    """Of the file in the page cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
        n = len(m)
        view = (ctypes.c_ubyte * ((n + PAGE - 1) // PAGE))()
        libc.mmap.restype = ctypes.c_void_p
        p = libc.mmap(None, ctypes.c_size_t(n), mmap.PROT_READ, mmap.MAP_SHARED, f.fileno(),
                      ctypes.c_long(0))
        libc.mincore(ctypes.c_void_p(p), ctypes.c_size_t(n), view)
        libc.munmap(ctypes.c_void_p(p), ctypes.c_size_t(n))
        return sum(x & 1 for x in view) * PAGE


def drop_cache(path):
    with open(path, "rb") as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def move_limit(d, lowest, highest):
    """The limit up and down under load. RSS beyond it, less the process's own."""
    random.seed(1)
    own = own_bytes(d)
    sampler, stopping, ends = Sampler(d.process.pid), threading.Event(), []
    sampler.start()

    def load():
        while not stopping.is_set():
            s = stream(d).run()
            ends.append((s.finish, s.error))

    worker = threading.Thread(target=load)
    worker.start()
    for i in range(A.moves):
        limit = int(random.uniform(lowest, highest)) if i % 2 else lowest
        sampler.set(limit)
        d.limit(limit)
        time.sleep(random.uniform(0.02, 0.6))
    stopping.set()
    worker.join()
    sampler.stop = True
    sampler.join()
    own = max(own, own_bytes(d))
    if any(e != ("length", None) for e in ends):
        raise Failed("streams were lost: %r" % [e for e in ends if e != ("length", None)])
    over = max(rss - own - limit for rss, limit in sampler.samples)
    return {"moves": A.moves, "streams": len(ends), "samples": len(sampler.samples),
            "own_bytes": own, "worst_over_bytes": over}


def main():
    pack = os.path.abspath(A.pack)
    extents = ebbd.pack_extents(pack)
    high = sum(n for name, (_, n) in extents.items() if name.endswith(".high"))
    rows = []

    def row(name, tps, status, reads):
        allowed = RATE / reads if reads else None
        rows.append({"name": name, "position": status["position"], "units": status["units"],
                     "held_bytes": held(status), "bytes_per_token": reads, "tps": tps,
                     "allowed_tps": allowed, "share": tps / allowed if allowed else None})

    with ebbd.Daemon(pack, settings(rate_limit="%dB" % RATE)) as d:
        steps = d.ladder()["steps"]
        first = next(i for i, s in enumerate(steps) if s["to"] == "paged")
        sizes = [sum(s["bytes"] for s in steps)]
        for s in steps:
            sizes.append(sizes[-1] - s["bytes"])
        status = d.status()
        full_held = held(status)
        beside = full_held - sizes[status["position"]]
        kv = 0
        while kv == 0:
            for _ in stream(d):
                kv = max(kv, d.status()["kv_bytes"])

        d.limit(beside + kv + sizes[first])
        wait_until(lambda: d.status()["position"] <= first, 60, "the last resident position")
        tps, status, text = rate_of(d)
        if status["position"] != first:
            raise Failed("position %d, not %d" % (status["position"], first))
        row("resident", tps, status, 0)

        budget = high // 3
        if beside + kv + sizes[-1] > budget:
            raise Failed("a third of %d bytes is too little for scratch, KV cache, staging and "
                         "what cannot page: %d" % (high, beside + kv + sizes[-1]))
        d.limit(budget)
        tps, status, _ = rate_of(d, text)
        row("budget", tps, status, status["paging"]["bytes_per_token"])
        if held(status) > budget:
            raise Failed("%d bytes held, %d allowed" % (held(status), budget))

        d.limit(beside + kv + sizes[-1])
        drop_cache(pack)
        tps, status, _ = rate_of(d, text)
        left = cached_bytes(pack)
        row("all paged", tps, status, status["paging"]["bytes_per_token"])
        moved = move_limit(d, beside + kv + sizes[-1], full_held + kv)
    airllm = RATE / high

    print("pack %s, ladder %s; reader bounded at %.0f MiB/s; budget %.1f MiB, a third of the high "
          "planes' %.1f" % (os.path.basename(pack), A.ladder, A.rate, budget / MIB, high / MIB))
    print("%-10s %9s %10s %14s %10s %12s %7s" % ("", "position", "held MiB", "MiB from disk",
                                                  "tokens/s", "disk allows", "share"))
    for r in rows:
        print("%-10s %9d %10.1f %14.1f %10.2f %12s %7s" % (
            r["name"], r["position"], r["held_bytes"] / MIB, r["bytes_per_token"] / MIB, r["tps"],
            "%.2f" % r["allowed_tps"] if r["share"] else "-",
            "%.2f" % r["share"] if r["share"] else "-"))
    print("AirLLM's way, every byte for each token: at best %.2f tokens/s" % airllm)
    print("same text in every row; %.0f KiB of the pack in the page cache after streaming" % (
        left / 1024))
    print("limit moved %d times under load, %d streams whole; RSS in %d samples beyond limit and "
          "the process's own %.1f MiB: %.2f MiB" % (
              moved["moves"], moved["streams"], moved["samples"], moved["own_bytes"] / MIB,
              max(0, moved["worst_over_bytes"]) / MIB))
    if A.json:
        print(json.dumps({"rows": rows, "airllm_tps": airllm, "rate_bytes": RATE,
                          "budget_bytes": budget, "cached_bytes": left, "moved": moved}))


main()
