"""How long ebbd takes from its start to being ready, beside a plain read of the bytes that it then
holds.

    python3 tests/bench/load.py --pack PACK.ebb [--build DIR] [--reps N] [--threads N] [--json]

Each repetition, cold (the pack is put out of the page cache before) and warm: a plain read of the
extents of position 0 in pieces of 1 MiB into fresh memory, which a program that keeps them cannot do
without; the same into one buffer again and again, as dd does; and a daemon of its own, from exec
to its READY=1. Prints medians, least and greatest, the ratios within the repetitions, how much of
the pack is in the page cache after each, and how much of the daemon's time went on the extents.
"""
import argparse
import ctypes
import json
import mmap
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ARGS = argparse.ArgumentParser(description=__doc__.split("\n")[0])
ARGS.add_argument("--pack", required=True)
ARGS.add_argument("--build", default=os.path.join(HERE, "..", "..", "build"))
ARGS.add_argument("--reps", type=int, default=15)
ARGS.add_argument("--threads", type=int, default=0, help="0: one for each CPU")
ARGS.add_argument("--json", action="store_true", help="the last line is JSON")
A = ARGS.parse_args()

# The test harness reads its own options.
sys.argv = [sys.argv[0], "--build", A.build]
sys.path.insert(0, os.path.join(HERE, "..", "it"))
import ebbd  # noqa: E402
from harness import program  # noqa: E402

PIECE = 1 << 20
PACK = os.path.realpath(A.pack)
EXTENTS = [x for name, x in ebbd.pack_extents(PACK).items()
           if name in ("core", "books") or name.endswith((".high", ".low"))]
N_BYTES = sum(n for _, n in EXTENTS)
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p


def forget(fd):
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def cached_share():
    """How much of the pack is in the page cache."""
    n = os.path.getsize(PACK)
    pages = (n + mmap.PAGESIZE - 1) // mmap.PAGESIZE
    seen = (ctypes.c_ubyte * pages)()
    with open(PACK, "rb") as f:
        at = LIBC.mmap(None, ctypes.c_size_t(n), 1, 2, f.fileno(), ctypes.c_long(0))
    LIBC.mincore(ctypes.c_void_p(at), ctypes.c_size_t(n), seen)
    LIBC.munmap(ctypes.c_void_p(at), ctypes.c_size_t(n))
    return sum(x & 1 for x in seen) / pages


def plain(fd, keeps):
    """Seconds to read the extents."""
    start = time.monotonic()
    memory = mmap.mmap(-1, N_BYTES if keeps else PIECE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    view, done = memoryview(memory), 0
    for offset, n in EXTENTS:
        for at in range(0, n, PIECE):
            want = min(PIECE, n - at)
            to = done if keeps else 0
            got = os.preadv(fd, [view[to:to + want]], offset + at)
            if got != want:
                sys.exit("%s: short read" % PACK)
            done += want
    seconds = time.monotonic() - start
    view.release()
    memory.close()
    return seconds


def daemon(d):
    """Seconds from exec to READY=1, those that the daemon says its extents took, and of CPU time."""
    path = os.path.join(d.dir, "notify")
    said = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    said.bind(path)
    said.settimeout(120)
    with open(d.log_path, "wb") as log:
        start = time.monotonic()
        p = subprocess.Popen([program("ebbd"), "--config", d.config], stdin=subprocess.DEVNULL, stdout=log,
                             stderr=log, env=dict(os.environ, NOTIFY_SOCKET=path))
        try:
            while b"READY=1" not in said.recv(4096):
                pass
            seconds = time.monotonic() - start
        except TimeoutError:
            sys.exit("ebbd is not ready after 120 s: " + d.log()[-1000:])
        finally:
            p.send_signal(signal.SIGTERM)
            used = os.wait4(p.pid, 0)[2]
            p.returncode = 0
            said.close()
            os.unlink(path)
    extents = float(re.search(r"loaded in ([0-9.]+) s", d.log()).group(1))
    return seconds, extents, used.ru_utime + used.ru_stime


def cell(values, unit, digits):
    return "%7.*f (%.*f to %.*f)%s" % (digits, statistics.median(values), digits, min(values), digits, max(values), unit)


def main():
    d = ebbd.Daemon(PACK, {"serve": {"threads": A.threads, "ctx": 2048}}, start=False)
    fd = os.open(PACK, os.O_RDONLY)
    v = {state: {} for state in ("cold", "warm")}
    for _ in range(A.reps):
        for state in ("cold", "warm"):
            def prepare():
                if state == "cold":
                    forget(fd)

            def put(key, value):
                v[state].setdefault(key, []).append(value)

            prepare()
            put("fresh", plain(fd, True))
            put("cached_plain", cached_share())
            prepare()
            put("reused", plain(fd, False))
            prepare()
            seconds, extents, cpu = daemon(d)
            put("ready", seconds)
            put("extents", extents)
            put("cpu", cpu)
            put("cached_ebbd", cached_share())
            put("ratio", v[state]["ready"][-1] / v[state]["fresh"][-1])
            put("ratio_reused", v[state]["ready"][-1] / v[state]["reused"][-1])
    os.close(fd)
    print("%.1f MiB resident of %s, %d repetitions: median (least to greatest)"
          % (N_BYTES / (1 << 20), os.path.basename(PACK), A.reps))
    for state, x in v.items():
        ms = {k: [s * 1e3 for s in x[k]] for k in ("fresh", "reused", "ready", "extents", "cpu")}
        print("\n%s" % state)
        print("  plain read, kept        %s" % cell(ms["fresh"], " ms", 0))
        print("  plain read, one buffer  %s" % cell(ms["reused"], " ms", 0))
        print("  ebbd, exec to ready     %s" % cell(ms["ready"], " ms", 0))
        print("    of it the extents     %s" % cell(ms["extents"], " ms", 0))
        print("    CPU time to its end   %s" % cell(ms["cpu"], " ms", 0))
        print("  ebbd / plain, kept      %s" % cell(x["ratio"], "", 2))
        print("  ebbd / plain, one buffer%s" % cell(x["ratio_reused"], "", 2))
        print("  of the pack in the page cache after it: plain %.0f %%, ebbd %.0f %%"
              % (100 * statistics.median(x["cached_plain"]), 100 * statistics.median(x["cached_ebbd"])))
    if A.json:
        print(json.dumps({"bytes": N_BYTES, "reps": A.reps,
                          **{state: {k: statistics.median(x) for k, x in r.items()} for state, r in v.items()}}))


main()
