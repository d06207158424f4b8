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


def places(a):
    """Positions to judge and what to call them: everything high; where the ladder lowers the head
    last, as this one does, the same with the head full, as llama.cpp keeps it; everything full."""
    steps = list(ebb(a, "inspect", a.pack, "--json")["ladders"].values())[0]
    n = len(steps)
    found = [(n, "ebb `high`")]
    if n > 1 and steps[-1]["unit"] == "head" and steps[-1]["from"] == "full":
        found.append((n - 1, "ebb `high`, its head `full`"))
    return found + [(0, "ebb `full`")]


def judge(a, where, *args):
    d = ebb(a, "eval", a.pack, "--json", "--source", a.source, "--threads", a.threads,
            "--position", ",".join(str(p) for p, _ in where), *args,
            *[word for f in a.others for word in ("--compare", f)])
    names = [name for _, name in where]
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

    where = places(a)
    text, on_text = judge(a, where, "--text", a.text, "--windows", a.windows)
    own, on_own = judge(a, where, "--self-text", str(SEED), "--windows", a.self_windows)
    table(on_text, on_own)
    print()
    print("%s: source's perplexity %.2f on %d windows of %s, %.3f on %d windows of its own." % (
        os.path.basename(a.source), text["source_ppl"], text["windows"], os.path.basename(a.text),
        own["source_ppl"], own["windows"]))
    if a.json:
        print(json.dumps({"text": text, "own": own}))


main()
