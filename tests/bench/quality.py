"""Judges a pack and other GGUF files with `ebb-pack eval`, on a text and on windows that the model
writes itself, and prints a markdown table; called by quality.sh."""
import argparse
import json
import os
import subprocess


SEED = 2  # of the own text; packs are calibrated with 1


def ebb(a, *args):
    out = subprocess.run([a.ebb_pack, *args], check=True, stdout=subprocess.PIPE).stdout
    return json.loads(out)


def rungs(a):
    """What of ebb is judged: every unit at a rung, of swsc and head `high` if the pack has it."""
    has_swsc = any("swsc" in u["rungs"] for u in ebb(a, "inspect", a.pack, "--json")["units"])
    return ["full", "high"] + ["swsc"] * has_swsc


def judge(a, names, *args):
    d = ebb(a, "eval", a.pack, "--json", "--source", a.source, "--threads", a.threads,
            "--rung", ",".join(names), *args, *[w for f in a.others for w in ("--compare", f)])
    names = ["ebb `%s`" % name for name in names]
    names += ["llama.cpp " + os.path.splitext(os.path.basename(f))[0] for f in a.others]
    return d, dict(zip(names, d["positions"] + d["compare"]))


def row(*cells):
    print("| " + " | ".join(cells) + " |")


def table(on_text, on_own):
    row("form", "MB", "bits a weight", "perplexity", "KL", "top-1", "own text: perplexity", "KL",
        "top-1")
    row("---", *["---:"] * 8)
    for name, s in sorted(on_text.items(), key=lambda item: item[1]["bytes"]):
        o = on_own[name]
        row(name, "%.1f" % (s["bytes"] / 1e6), "%.2f" % s["bits_per_weight"],
            "%.2f" % s["ppl"], "%.4f" % s["kl"], "%.3f" % s["top1"],
            "%.3f" % o["ppl"], "%.4f" % o["kl"], "%.3f" % o["top1"])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--ebb-pack", required=True)
    p.add_argument("--pack", required=True)
    p.add_argument("--source", required=True)
    p.add_argument("--text", required=True)
    p.add_argument("--windows", default="128")
    p.add_argument("--self-windows", default="32")
    p.add_argument("--threads", required=True)
    p.add_argument("--json", action="store_true", help="the last line is JSON")
    p.add_argument("others", nargs="*")
    a = p.parse_args()

    names = rungs(a)
    text, on_text = judge(a, names, "--text", a.text, "--windows", a.windows)
    own, on_own = judge(a, names, "--self-text", str(SEED), "--windows", a.self_windows)
    table(on_text, on_own)
    print()
    print("%s: source's perplexity %.2f on %d windows of %s, %.3f on %d windows of its own." % (
        os.path.basename(a.source), text["source_ppl"], text["windows"], os.path.basename(a.text),
        own["source_ppl"], own["windows"]))
    if a.json:
        print(json.dumps({"text": text, "own": own}))


main()
