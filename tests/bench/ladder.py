"""Judges a pack's ladders and orders to compare with by `ebb-pack eval --ladder`, and prints a
markdown table; called by ladder.sh."""
import argparse
import json
import os
import subprocess
import sys


MEANING = {
    "oracle": "each layer's KL measured on the judged text",
    "kl": "KL of each layer on the calibration text",
    "jaccard": "Jaccard loss of the likeliest words, calibration text",
    "lsaq": "LSAQ as published",
    "front": "front layers first",
    "back": "back layers first",
}


def ebb(a, *args):
    r = subprocess.run([a.ebb_pack, *args], stdout=subprocess.PIPE)
    if r.returncode != 0:
        sys.exit(r.returncode)
    return json.loads(r.stdout)


def row(*cells):
    print("| " + " | ".join(cells) + " |")


def share(ladder):
    if ladder["share"] is None:
        return ""
    text = "%.0f %%" % (100 * ladder["share"])
    if ladder["share_error"] is not None:
        text += " +- %.0f" % (100 * ladder["share_error"])
    return text


def table(d):
    randoms = [l for l in d["ladders"] if l["name"].startswith("random:")]
    rows = [(l["area"], l["name"], MEANING.get(l["name"], ""), share(l))
            for l in d["ladders"] if l not in randoms]
    if randoms:
        areas = [l["area"] for l in randoms]
        rows.append((d["random"]["area"], "random", "mean of %d, %.5f to %.5f" % (
            len(areas), min(areas), max(areas)), "0 %"))
    row("order", "", "mean KL", "share of random to oracle")
    row("---", "---", "---:", "---:")
    for area, name, meaning, said in sorted(rows):
        row("`%s`" % name, meaning, "%.5f" % area, said)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--ebb-pack", required=True)
    p.add_argument("--pack", required=True)
    p.add_argument("--source", required=True)
    p.add_argument("--text", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--windows", default="64")
    p.add_argument("--points", default="11")
    p.add_argument("--randoms", type=int, default=5)
    p.add_argument("--threads", required=True)
    p.add_argument("--json", action="store_true", help="the last line is JSON")
    a = p.parse_args()

    names = list(ebb(a, "inspect", a.pack, "--json")["ladders"])
    names += ["oracle", "front", "back"] + ["random:%d" % (i + 1) for i in range(a.randoms)]
    files = [os.path.join(a.out, "ladder." + kind) for kind in ("csv", "svg")]
    d = ebb(a, "eval", a.pack, "--json", "--text", a.text, "--source", a.source, "--windows",
            a.windows, "--points", a.points, "--threads", a.threads, "--ladder", ",".join(names),
            "--csv", files[0], "--svg", files[1])
    table(d)
    print()
    print("%s: every unit from %s to %s, %.1f to %.1f MB, mean of nine even sizes; %d windows of %s; "
          "the source's perplexity there is %.2f. Points: %s, picture: %s." % (
              os.path.basename(a.source), d["section"]["from"], d["section"]["to"],
              d["section"]["top_bytes"] / 1e6, d["section"]["bottom_bytes"] / 1e6, d["windows"],
              os.path.basename(a.text), d["reference_ppl"], *files))
    if a.json:
        print(json.dumps(d))


main()
