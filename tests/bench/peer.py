"""Runs llama-bench and ebb-bench in turns and compares them; called by peer.sh."""
import argparse
import json
import os
import statistics
import subprocess
import sys


def say(*args):
    print(*args, file=sys.stderr, flush=True)


def llama(a, threads):
    out = subprocess.run(
        [a.llama_bench, "-m", a.q4, "-t", str(threads), "-p", "0", "-n", str(a.tokens), "-r", "1",
         "-o", "json"], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return float(json.loads(out)[0]["avg_ts"])


def ours(a, threads):
    out = subprocess.run(
        [a.ebb_bench, a.pack, "--position", "high", "-t", str(threads), "-p", "0",
         "-n", str(a.tokens), "--reps", "1", "--json"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(json.loads(out.strip().splitlines()[-1])["decode_tps"])


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values),
            "all": values}


def cpu():
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.lower().startswith(("model name", "hardware")):
                return line.split(":", 1)[1].strip()
    return os.uname().machine


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--llama-bench", required=True)
    p.add_argument("--q4", required=True)
    p.add_argument("--ebb-bench", required=True)
    p.add_argument("--pack", required=True)
    p.add_argument("--reps", type=int, default=5)
    p.add_argument("--tokens", type=int, default=128)
    p.add_argument("--threads", default="1 2")
    p.add_argument("--json", action="store_true", help="the last line is JSON")
    a = p.parse_args()

    result = {"cpu": cpu(), "tokens": a.tokens, "reps": a.reps, "q4_bytes": os.path.getsize(a.q4),
              "threads": {}}
    for threads in [int(x) for x in a.threads.split()]:
        theirs, mine = [], []
        for i in range(a.reps):
            theirs.append(llama(a, threads))
            mine.append(ours(a, threads))
            say("%d threads, %d of %d: llama.cpp %.1f, ebb %.1f tokens/s"
                % (threads, i + 1, a.reps, theirs[-1], mine[-1]))
        ratios = [m / t for m, t in zip(mine, theirs)]
        result["threads"][str(threads)] = {"llama": summary(theirs), "ebb": summary(mine),
                                           "ratio": statistics.median(ratios),
                                           "ratio_min": min(ratios), "ratio_max": max(ratios)}
    print("%s, %d tokens, %d turns each" % (result["cpu"], a.tokens, a.reps))
    print("%-8s %28s %28s %22s" % ("threads", "llama.cpp Q4_0 tokens/s", "ebb high tokens/s",
                                   "ratio"))
    for threads, r in result["threads"].items():
        print("%-8s %10.1f (%6.1f-%7.1f) %11.1f (%6.1f-%7.1f) %8.2f (%4.2f-%5.2f)" % (
            threads, r["llama"]["median"], r["llama"]["min"], r["llama"]["max"],
            r["ebb"]["median"], r["ebb"]["min"], r["ebb"]["max"], r["ratio"], r["ratio_min"],
            r["ratio_max"]))
    if a.json:
        print(json.dumps(result))


main()
