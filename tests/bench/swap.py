"""What a swap costs: how long until the memory is back, and the longest gap between tokens.

    python3 tests/bench/swap.py --pack PACK.ebb [--share S] [--build DIR] [--reps N] [--threads N]
                                [--json]

Starts an ebbd of its own on the pack, and in each repetition lets a greedy stream of 400 tokens
run, lowers the limit until every low plane has gone, or with --share as many bytes as a share of
theirs, and takes the limit back. Of a pack with a third form the former is all there is: every
layer comes down to it, and is streamed until it is there. Prints, over all repetitions:
milliseconds from the limit's request until RSS is down by 99 % of these bytes; the longest gap between two tokens, against the median, of the swapped streams and of as
many undisturbed ones run in turns with them; and checks that each stream is whole.
"""
import argparse
import json
import os
import statistics
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ARGS = argparse.ArgumentParser(description=__doc__.split("\n")[0])
ARGS.add_argument("--pack", required=True)
ARGS.add_argument("--build", default=os.path.join(HERE, "..", "..", "build"))
ARGS.add_argument("--share", type=float, default=1, help="of the low planes' bytes, 0 to 1")
ARGS.add_argument("--reps", type=int, default=20)
ARGS.add_argument("--threads", type=int, default=0, help="0: one for each CPU")
ARGS.add_argument("--json", action="store_true", help="the last line is JSON")
A = ARGS.parse_args()

# The test harness reads its own options.
sys.argv = [sys.argv[0], "--build", A.build]
sys.path.insert(0, os.path.join(HERE, "..", "it"))
import ebbd  # noqa: E402
from harness import Failed  # noqa: E402

MIB = 1 << 20
TOKENS = 400
PROMPT = "The history of the lighthouse begins"
SETTINGS = {"serve": {"ctx": 1024, "threads": A.threads}, "kv": {"prefix_limit": "0B"},
            "memory": {"hold": "200ms", "step": "0ms", "margin": "1MiB", "reserve": "16MiB"}}


class Fall(threading.Thread):
    """Lowers the limit and watches RSS until the low planes' bytes are back."""

    def __init__(self, d, low_bytes):
        super().__init__()
        self.d, self.low_bytes = d, low_bytes
        status = d.status()
        held = sum(status[k] for k in ("resident_bytes", "kv_bytes", "scratch_bytes",
                                       "slack_bytes"))
        self.limit = MIB if A.share >= 1 else held - int(low_bytes)
        self.answer_ms = self.fall_ms = None
        self.fell_at = None

    def run(self):
        path = "/proc/%d/statm" % self.d.process.pid
        page = os.sysconf("SC_PAGESIZE")

        def rss():
            with open(path) as f:
                return int(f.read().split()[1]) * page

        before = rss()
        start = self.fell_at = time.monotonic()
        limiter = threading.Thread(target=self.ask, args=(start,))
        limiter.start()
        while before - rss() < 0.99 * self.low_bytes:
            if time.monotonic() - start > 30:
                break
            time.sleep(0.001)
        else:
            self.fall_ms = (time.monotonic() - start) * 1e3
        limiter.join()

    def ask(self, start):
        self.d.limit(self.limit)
        self.answer_ms = (time.monotonic() - start) * 1e3


def gaps_ms(stream):
    times = [p[0] for p in stream.pieces]
    return [(b - a) * 1e3 for a, b in zip(times, times[1:])]


def swapped(d, low_bytes):
    s, fall, n = d.stream(PROMPT, max_tokens=TOKENS), None, 0
    for _ in s:
        n += 1
        if n == TOKENS // 4:
            fall = Fall(d, low_bytes)
            fall.start()
        if n == TOKENS // 2:
            threading.Thread(target=d.limit, args=("auto",)).start()
    fall.join()
    return s, fall


def quantile(values, q):
    v = sorted(values)
    return v[min(len(v) - 1, int(q * len(v)))]


def main():
    with ebbd.Daemon(os.path.abspath(A.pack), SETTINGS) as d:
        low_bytes = int(d.low_bytes() * A.share)
        reference = d.stream(PROMPT, max_tokens=TOKENS).run().text
        falls, ratios, calm_ratios, longest, medians = [], [], [], [], []
        for i in range(A.reps):
            calm = d.stream(PROMPT, max_tokens=TOKENS).run()
            if calm.text != reference:
                raise Failed("an undisturbed stream differs")
            s, fall = swapped(d, low_bytes)
            d.wait_position(0, 60)
            if fall.fall_ms is None:
                raise Failed("RSS did not fall by %d bytes" % low_bytes)
            at = next(j for j, p in enumerate(s.pieces) if p[2] != s.pieces[0][2])
            before = "".join(p[1] for p in s.pieces[:at])
            if not reference.startswith(before):
                raise Failed("the text before the swap differs")
            g, c = gaps_ms(s), gaps_ms(calm)
            falls.append(fall.fall_ms)
            longest.append(max(g))
            medians.append(statistics.median(g))
            ratios.append(max(g) / statistics.median(g))
            calm_ratios.append(max(c) / statistics.median(c))
            print("%2d: memory back in %.0f ms, longest gap %.1f ms, median %.2f ms (%.1fx; "
                  "undisturbed %.1fx)" % (i + 1, falls[-1], longest[-1], medians[-1], ratios[-1],
                                          calm_ratios[-1]), file=sys.stderr, flush=True)
        result = {"reps": A.reps, "low_bytes": low_bytes,
                  "fall_ms": {"median": statistics.median(falls), "p99": quantile(falls, 0.99),
                              "max": max(falls)},
                  "gap_ms": {"median": statistics.median(medians), "longest": max(longest)},
                  "gap_ratio": {"median": statistics.median(ratios), "max": max(ratios)},
                  "calm_ratio": {"median": statistics.median(calm_ratios),
                                 "max": max(calm_ratios)}}
    print("%.1f MiB go, %d repetitions" % (low_bytes / MIB, A.reps))
    print("limit to memory returned: median %.0f ms, p99 %.0f ms, max %.0f ms" % (
        result["fall_ms"]["median"], result["fall_ms"]["p99"], result["fall_ms"]["max"]))
    print("longest gap between tokens: median %.1fx, worst %.1fx the median gap (%.2f ms); "
          "undisturbed median %.1fx, worst %.1fx" % (
              result["gap_ratio"]["median"], result["gap_ratio"]["max"],
              result["gap_ms"]["median"], result["calm_ratio"]["median"],
              result["calm_ratio"]["max"]))
    if A.json:
        print(json.dumps(result))


main()
