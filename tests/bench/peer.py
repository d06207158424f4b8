"""Runs llama-bench and ebb-bench in turns and compares them; called by peer.sh, whose head says what
is measured. Each figure is the median of the turns, with the least and the greatest; each ratio the
median of the ratios within the turns, as a machine that changes speed changes both sides of one."""
import argparse
import json
import os
import statistics
import subprocess
import sys

PAIRS = (("high", "q4_0"), ("full", "q8_0"))
BATCH = 4


def say(*args):
    print(*args, file=sys.stderr, flush=True)


def last_json(command, cpus=None):
    confine = (lambda: os.sched_setaffinity(0, cpus)) if cpus else None
    r = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=confine)
    if r.returncode != 0:
        sys.exit("%s ended with %d: %s" % (" ".join(command), r.returncode, r.stderr.strip()[-500:]))
    return json.loads(r.stdout)


def llama(a, form, threads, prompt, tokens, cpus=None):
    """{"prefill_tps", "decode_tps", "read_gbps"}; what it reads for a token is the whole model."""
    tests = last_json([a.llama_bench, "-m", getattr(a, form), "-t", str(threads), "-p", str(prompt), "-n",
                       str(tokens), "-r", "1", "-o", "json"], cpus)
    d = {}
    for t in tests:
        d["decode_tps" if t["n_gen"] else "prefill_tps"] = t["avg_ts"]
    d["read_gbps"] = d["decode_tps"] * tests[0]["model_size"] * 1e-9
    return d


def ebb(a, rung, threads, prompt, tokens, batch=1, cpus=None):
    return last_json([a.ebb_bench, a.pack, "--position", rung, "-t", str(threads), "-p", str(prompt), "-n",
                      str(tokens), "-b", str(batch), "--reps", "1", "--json"], cpus)


class Burner:
    """A neighbour that wants one CPU all the time, at the same priority."""

    def __init__(self, cpus):
        self.cpus = cpus

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, "-c", "while True: pass"],
                                        preexec_fn=lambda: os.sched_setaffinity(0, self.cpus))

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def turn(a, threads, cpus, v):
    """One turn: everything once. v: {key: [value of each turn]}."""

    def put(key, value):
        v.setdefault(key, []).append(value)

    for n in threads:
        for rung, form in PAIRS:
            theirs = llama(a, form, n, a.prompt, a.tokens)
            ours = ebb(a, rung, n, a.prompt, a.tokens, BATCH)
            for kind in ("decode", "prefill"):
                x, y = theirs[kind + "_tps"], ours[kind + "_tps"]
                put((kind, rung, n, "llama"), x)
                put((kind, rung, n, "ebb"), y)
                put((kind, rung, n, "ratio"), y / x)
            put(("batch", rung, n, "ebb"), ours["batch_tps"])
            put(("batch", rung, n, "ratio"), ours["batch_tps"] / ours["decode_tps"])
            put(("plain", n), ours["plain_read_gbps"])
            put(("reads", rung, n, "ebb"), ours["read_gbps"])
            put(("reads", rung, n, "ebb share"), ours["read_ratio"])
            put(("reads", rung, n, "llama"), theirs["read_gbps"])
            put(("reads", rung, n, "llama share"), theirs["read_gbps"] / ours["plain_read_gbps"])
    for name, program in (("llama", lambda: llama(a, "q4_0", 2, 0, a.tokens, cpus)),
                          ("ebb", lambda: ebb(a, "high", 2, 0, a.tokens, 1, cpus))):
        quiet = program()
        with Burner(cpus):
            burned = program()
        put(("contended", name, "quiet"), quiet["decode_tps"])
        put(("contended", name, "burned"), burned["decode_tps"])
        put(("contended", name, "ratio"), burned["decode_tps"] / quiet["decode_tps"])
        if name == "ebb":
            put(("gap", "quiet"), quiet["gap_max_ms"] / quiet["gap_median_ms"])
            put(("gap", "burned"), burned["gap_max_ms"] / burned["gap_median_ms"])


def cpu():
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.lower().startswith(("model name", "hardware")):
                return line.split(":", 1)[1].strip()
    return os.uname().machine


def cell(values, digits):
    return "%.*f (%.*f to %.*f)" % (digits, statistics.median(values), digits, min(values), digits, max(values))


def table(*rows):
    print()
    for i, row in enumerate(rows):
        print("| " + " | ".join(str(x) for x in row) + " |")
        if i == 0:
            print("|" + "---|" * len(row))


def show(a, threads, v):
    print("%s, %d CPUs; prompt of %d, %d tokens, %d turns: median (least to greatest)"
          % (cpu(), len(os.sched_getaffinity(0)), a.prompt, a.tokens, a.reps))
    rows = [("tokens/s", "threads", "llama.cpp", "ebb", "ratio")]
    for kind in ("decode", "prefill"):
        for rung, form in PAIRS:
            for n in threads:
                k = (kind, rung, n)
                rows.append(("%s, `%s` against %s" % (kind, rung, form.upper()), n, cell(v[k + ("llama",)], 1),
                             cell(v[k + ("ebb",)], 1), cell(v[k + ("ratio",)], 2)))
    table(*rows)
    table(("%d requests together" % BATCH, "threads", "tokens/s", "against one"),
          *[("`%s`" % rung, n, cell(v["batch", rung, n, "ebb"], 1), cell(v["batch", rung, n, "ratio"], 2))
            for rung, _ in PAIRS for n in threads])
    table(("decoding reads, GB/s", "threads", "plain read", "llama.cpp", "share", "ebb", "share"),
          *[("`%s`, %s" % (rung, form.upper()), n, cell(v["plain", n], 1),
             cell(v["reads", rung, n, "llama"], 1), cell(v["reads", rung, n, "llama share"], 2),
             cell(v["reads", rung, n, "ebb"], 1), cell(v["reads", rung, n, "ebb share"], 2))
            for rung, form in PAIRS for n in threads])
    table(("2 threads, another process burns one of two CPUs", "quiet", "burned", "ratio"),
          *[(text, cell(v["contended", name, "quiet"], 1), cell(v["contended", name, "burned"], 1),
             cell(v["contended", name, "ratio"], 2))
            for name, text in (("llama", "llama.cpp Q4_0, tokens/s"), ("ebb", "ebb `high`, tokens/s"))],
          ("ebb, longest gap between tokens, in median gaps", cell(v["gap", "quiet"], 1),
           cell(v["gap", "burned"], 1), ""))


def rounded(values):
    return float("%.4g" % statistics.median(values))


def summary(a, threads, v):
    d = {}
    for kind in ("decode", "prefill"):
        for rung, form in PAIRS:
            d["%s_%s_vs_%s" % (kind, rung, form)] = {str(n): rounded(v[kind, rung, n, "ratio"]) for n in threads}
    d["contended"] = {name: rounded(v["contended", name, "ratio"]) for name in ("ebb", "llama")}
    d["contended"]["ebb_gap"] = rounded(v["gap", "burned"])
    d["contended"]["ebb_gap_max"] = float("%.4g" % max(v["gap", "burned"]))
    d["batch_vs_one"] = {rung: {str(n): rounded(v["batch", rung, n, "ratio"]) for n in threads} for rung, _ in PAIRS}
    d["read_vs_plain"] = {rung: {str(n): rounded(v["reads", rung, n, "ebb share"]) for n in threads}
                          for rung, _ in PAIRS}
    d["machine"] = {"cpu": cpu(), "tokens": a.tokens, "prompt": a.prompt, "reps": a.reps}
    d["all"] = {" ".join(map(str, k)): [float("%.6g" % x) for x in values] for k, values in v.items()}
    return d


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--llama-bench", required=True)
    p.add_argument("--q4_0", required=True)
    p.add_argument("--q8_0", required=True)
    p.add_argument("--ebb-bench", required=True)
    p.add_argument("--pack", required=True)
    p.add_argument("--reps", type=int, default=5)
    p.add_argument("--tokens", type=int, default=128)
    p.add_argument("--prompt", type=int, default=512)
    p.add_argument("--threads", default="1 2")
    p.add_argument("--json", action="store_true", help="the last line is JSON")
    a = p.parse_args()

    threads = [int(x) for x in a.threads.split()]
    # The contended part takes place on two CPUs, however many there are.
    cpus = sorted(os.sched_getaffinity(0))[:2]
    v = {}
    for i in range(a.reps):
        turn(a, threads, cpus, v)
        say("turn %d of %d: decode, ebb high / llama.cpp Q4_0: %s" % (i + 1, a.reps, ", ".join(
            "%.1f / %.1f tokens/s (%d)" % (v["decode", "high", n, "ebb"][i], v["decode", "high", n, "llama"][i], n)
            for n in threads)))
    show(a, threads, v)
    if a.json:
        print(json.dumps(summary(a, threads, v)))


main()
