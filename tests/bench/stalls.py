"""What the governor gives up for stalls of a known length, in a cgroup with one busy process.

    python3 tests/bench/stalls.py [--build DIR] [--trials N] [--lengths MS,MS,...] [--interval MS]

The daemon does nothing; beside it, in a memory cgroup with a real limit, a program writes more than
it has place for, until the cgroup's memory.pressure has counted so much time in which a task waited
(asked every 2 ms), and is killed. For each trial: the time that some and that all waited, how long
that took, and how much of the weights had gone 1.5 s later. That needs root and a memory controller.
"""
import argparse
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ARGS = argparse.ArgumentParser(description=__doc__.split("\n")[0])
ARGS.add_argument("--build", default=os.path.join(HERE, "..", "..", "build"))
ARGS.add_argument("--trials", type=int, default=8)
ARGS.add_argument("--lengths", default="20,50,200,1000", help="of the stalls, ms")
ARGS.add_argument("--interval", type=int, default=100, help="sense.interval, ms")
A = ARGS.parse_args()

# The test harness reads its own options.
sys.argv = [sys.argv[0], "--build", A.build]
sys.path.insert(0, os.path.join(HERE, "..", "it"))
import cage  # noqa: E402
import ebbd  # noqa: E402
from harness import Failed, Skip  # noqa: E402

MIB = 1 << 20
PLACE = 24 * MIB
SETTINGS = {"memory": {"hold": "30s", "reserve": "0B"}, "sense": {"interval": "%dms" % A.interval}}


def waited(c):
    """For which some and all tasks did, in us."""
    return [int(x.split()[0]) for x in c.pressure().split("total=")[1:3]]


def stall(c, path, ms):
    """Has something wait for so long in all. Returns how long some and all waited, and in what time."""
    before, first = waited(c), None
    hog = subprocess.Popen(c.wrap + [sys.executable, "-c", cage.HOG, path, str(4 * PLACE)])
    try:
        begin = time.monotonic()
        while True:
            some, full = (now - then for now, then in zip(waited(c), before))
            now = time.monotonic()
            first = first or (now if some > 1000 else None)
            if some >= ms * 1000:
                return some / 1e3, full / 1e3, (now - first) * 1e3
            if now - begin > 60:
                raise Failed("nothing waits: %s" % c.pressure())
            time.sleep(0.002)
    finally:
        hog.kill()
        hog.wait()
        os.remove(path)


def trial(pack, ms):
    with cage.Cage() as c:
        d = ebbd.Daemon(pack, SETTINGS, start=False)
        d.settings["sense"]["root"] = "/"
        d.write_config()
        d.wrap = c.wrap
        d.start()
        with d:
            time.sleep(0.3)
            weights = d.status()["resident_bytes"]
            c.limit(c.used() + PLACE)
            times = stall(c, os.path.join(d.dir, "file"), ms)
            time.sleep(1.5)
            return times + (100 * (1 - d.status()["resident_bytes"] / weights),)


def spread(values):
    values = sorted(values)
    return "%.0f to %.0f" % (values[0], values[-1])


def main():
    pack = ebbd.wide_pack()
    for ms in map(int, A.lengths.split(",")):
        some, full, spans, gone = zip(*(trial(pack, ms) for _ in range(A.trials)))
        steps = sorted(set(round(x) for x in gone))
        print("%d ms (%s), %d trials: some waited %s ms, all %s ms, in %s ms; gone: %s" % (
            ms, cage.Cage.what, A.trials, spread(some), spread(full), spread(spans),
            ", ".join("%d %% in %d" % (x, sum(round(y) == x for y in gone)) for x in steps)))


try:
    main()
except Skip as e:
    print("cannot be measured here: %s" % e)
    sys.exit(77)
