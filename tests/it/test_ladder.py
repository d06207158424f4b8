#!/usr/bin/env python3
"""Ladders: `ebb-pack eval --ladder`, its table and its picture, `ebb-pack plan`, and that the daemon
holds to the byte what they say."""
import csv
import json
import os
import random
import subprocess
import tempfile
import xml.etree.ElementTree as ET

import ebbd
from harness import check, check_eq, check_in, main, program, test, wait_until

TMP = tempfile.TemporaryDirectory(prefix="ebb-ladder-")
SVG = "{http://www.w3.org/2000/svg}"


def at(name):
    return os.path.join(TMP.name, name)


def run(*args):
    return subprocess.run([program("ebb-pack"), *args], capture_output=True, text=True, timeout=300)


def answer(*args):
    r = run(*args, "--json")
    check_eq(r.returncode, 0, r.stderr)
    return json.loads(r.stdout)


def expect(code, words, *args):
    r = run(*args)
    check_eq(r.returncode, code, r.stderr)
    check_eq(r.stdout, "")
    for word in [words] if isinstance(words, str) else words:
        check_in(word, r.stderr)


def text():
    rng = random.Random(5)
    with open(at("text.txt"), "w") as f:
        f.write("".join(rng.choice("abcdefghij klmnop qrstu vwxyz.\n") for _ in range(8000)))
    return at("text.txt")


def evaluate(*args):
    return ["eval", ebbd.tiny_pack(), "--text", text(), "--windows", "3", *args]


@test
def curves():
    d = answer(*evaluate("--source", ebbd.tiny_gguf(), "--ladder",
                         "jaccard,lsaq,kl,front,back,random:1,random:2,oracle"))
    check_eq((d["windows"], d["tokens"], d["reference"]), (3, 3 * 256, "source"))
    names = [l["name"] for l in d["ladders"]]
    check_eq(names, ["jaccard", "lsaq", "kl", "front", "back", "random:1", "random:2",
                     "oracle"])
    full = answer("eval", ebbd.tiny_pack(), "--text", text(), "--windows", "3", "--source",
                  ebbd.tiny_gguf(), "--rung", "full,high")["positions"]
    for l in d["ladders"]:
        points = l["points"]
        for end, want in ((points[0], full[0]), (points[-1], full[1])):
            check_eq({k: end[k] for k in ("bytes", "ppl", "kl", "top1", "jaccard")},
                     {k: want[k] for k in ("bytes", "ppl", "kl", "top1", "jaccard")}, l["name"])
        check_eq([p["position"] for p in points], sorted({p["position"] for p in points}))
        for a, b in zip(points, points[1:]):
            check(a["bytes"] > b["bytes"], points)
            check(a["units"]["full"] > b["units"]["full"], points)
        check(all(0 <= p["jaccard"] <= 1 and sum(p["units"].values()) == 4 for p in points), points)
    check_eq((d["section"]["top_bytes"], d["section"]["bottom_bytes"]),
             (full[0]["bytes"], full[1]["bytes"]))
    area = {l["name"]: l["area"] for l in d["ladders"]}
    mean = (area["random:1"] + area["random:2"]) / 2
    check_eq(d["random"]["orders"], 2)
    check(abs(d["random"]["area"] - mean) < 1e-8, d["random"])
    for l in d["ladders"]:
        if l["name"].startswith("random"):
            check_eq((l["share"], l["share_error"]), (None, None))
        else:
            want = (mean - l["area"]) / (mean - area["oracle"])
            check(abs(l["share"] - want) < 1e-6, (l["name"], l["share"], want))
    check_eq([l["share"] for l in d["ladders"] if l["name"] == "oracle"], [1])


@test
def same_answer_for_any_company():
    """Threads, other ladders and their order change nothing."""
    args = ["--source", ebbd.tiny_gguf(), "--ladder"]
    one = answer(*evaluate(*args, "lsaq", "--threads", "1"))
    many = answer(*evaluate(*args, "back,random:7,lsaq,front", "--threads", "2"))
    check_eq(many["ladders"][2], one["ladders"][0])
    check_eq((one["random"], one["ladders"][0]["share"]), ({"orders": 0, "area": None}, None))
    again = answer(*evaluate(*args, "random:7,random:8"))
    check_eq(again["ladders"][0], many["ladders"][1])


@test
def judged_by_itself():
    d = answer(*evaluate("--ladder", "lsaq,front", "--points", "2"))
    check_eq(d["reference"], "position 0")
    for l in d["ladders"]:
        check_eq([p["position"] for p in l["points"]], [0, 4])
        first, last = l["points"]
        check_eq((first["kl"], first["top1"], first["jaccard"], first["ppl"]),
                 (0, 1, 0, d["reference_ppl"]))
        check(last["kl"] > 0 and last["jaccard"] > 0, last)


@test
def table_and_picture():
    csv_path, svg_path = at("t.csv"), at("t.svg")
    args = evaluate("--ladder", "lsaq,random:1,random:2", "--csv", csv_path, "--svg", svg_path)
    d = answer(*args)
    with open(csv_path, newline="") as f:
        rows = list(csv.DictReader(f))
    points = [(l["name"], p) for l in d["ladders"] for p in l["points"]]
    check_eq(len(rows), len(points))
    for row, (name, p) in zip(rows, points):
        check_eq((row["ladder"], int(row["position"]), int(row["bytes"])),
                 (name, p["position"], p["bytes"]))
        for key in ("bits_per_weight", "ppl", "kl", "top1", "jaccard"):
            check_eq(float(row[key]), p[key], key)
    root = ET.parse(svg_path).getroot()
    check_eq(root.tag, SVG + "svg")
    words = ["".join(x.itertext()) for x in root.iter(SVG + "text")]
    for word in ("lsaq", "random (2)", "resident weights and core vectors, MB"):
        check_in(word, words)
    check(any("KL divergence" in w for w in words), words)
    titles = [x.text for x in root.iter(SVG + "title")]
    for name in ("lsaq", "random:1", "random:2"):
        check_in(name, titles)
    with open(svg_path) as f:
        source = f.read()
    check("<script" not in source and "href" not in source and "url(" not in source, "it stands alone")
    check_eq(sorted(f for f in os.listdir(TMP.name) if f.startswith("t.")), ["t.csv", "t.svg"])
    people = run(*args)
    check_eq(people.returncode, 0, people.stderr)
    for word in ("ladder lsaq", "mean of 2 random", "Jaccard", "pack at position 0"):
        check_in(word, people.stdout)


@test
def wrong_ladders():
    e, pack, words = evaluate(), ebbd.tiny_pack(), text()
    for want, args in (
        ("--points takes a number from 2 to 32, not '0'", e + ["--ladder", "lsaq", "--points", "0"]),
        ("--points takes a number from 2 to 32", e + ["--ladder", "lsaq", "--points", "33"]),
        ("--points is of a ladder", e + ["--rung", "full", "--points", "3"]),
        ("a name is empty", e + ["--ladder", "lsaq,"]),
        ("--ladder is empty", e + ["--ladder="]),
        ("names 'lsaq' twice", e + ["--ladder", "lsaq,front,lsaq"]),
        ("random:SEED with a number", e + ["--ladder", "random:"]),
        ("random:SEED with a number", e + ["--ladder", "random:-1"]),
        ("random:SEED with a number", e + ["--ladder", "random:" + "9" * 19]),
        ("is too long", e + ["--ladder", "x" * 40]),
        ("more than 32 ladders", e + ["--ladder", ",".join("random:%d" % i for i in range(33))]),
        ("one of them", e + ["--ladder", "lsaq", "--rung", "full"]),
        ("--compare goes with", e + ["--ladder", "lsaq", "--compare", words]),
        ("--csv tells of ladders", e + ["--rung", "full", "--csv", at("x.csv")]),
        ("--svg tells of ladders", e + ["--rung", "full", "--svg", at("x.svg")]),
        ("same file", e + ["--ladder", "lsaq", "--svg", at("x"), "--csv", at("x")]),
    ):
        expect(2, want, *args)
    for name in ("kll", "random", "Front"):
        expect(65, ["no ladder '%s'" % name, "lsaq", "front, back, random:SEED, oracle"],
               *e, "--ladder", "front," + name)
    # Told before the long run, and nothing is left.
    for option in ("--csv", "--svg"):
        expect(66, "absent", *e, "--ladder", "lsaq", option, at("absent/file"))
        expect(65, "", *e, "--ladder", "lsaq", option, TMP.name)
    expect(65, "no ladder", *e, "--ladder", "nope", "--csv", at("never.csv"))
    expect(66, "absent.txt", "eval", pack, "--text", at("absent.txt"), "--ladder", "lsaq", "--csv",
           at("never.csv"))
    check(not [f for f in os.listdir(TMP.name) if f.startswith("never")], os.listdir(TMP.name))


def drawn():
    """A pack with the rung swsc, and the ladder `deep`: high, swsc, then paged."""
    path = at("drawn.ebb")
    if not os.path.exists(path):
        subprocess.run([program("tiny_model"), path, "--embd", "256", "--ff", "512", "--swsc", "0"],
                       check=True)
    return path


@test
def lower_section():
    args = ["eval", drawn(), "--text", text(), "--windows", "2", "--ladder", "deep,back,random:3,oracle"]
    for section, top, bottom, low in (
        (["--from", "high"], "high", "swsc", [4, 5, 6, 7]),
        (["--from", "full"], "full", "high", [0, 1, 2, 3, 4]),
    ):
        d = answer(*args, *section)
        check_eq((d["section"]["from"], d["section"]["to"]), (top, bottom))
        for l in d["ladders"]:
            first, last = l["points"][0], l["points"][-1]
            check_eq((first["bytes"], last["bytes"]),
                     (d["section"]["top_bytes"], d["section"]["bottom_bytes"]), l["name"])
            if bottom == "swsc":
                check_eq(last["units"], {"full": 0, "high": 1, "swsc": 3, "paged": 0})
            check_eq(last["ppl"], d["ladders"][0]["points"][-1]["ppl"])
        check_eq([p["position"] for p in d["ladders"][0]["points"]], low)
    expect(2, "--from is full or high, not 'swsc'", *args, "--from", "swsc")
    expect(2, "--from is of a ladder", *evaluate("--rung", "full", "--from", "high"))
    expect(69, "no unit of the pack has the rung swsc", *evaluate("--ladder", "lsaq", "--from", "high"))


# ---- plans ----

def plan(size, *args):
    return answer("plan", ebbd.tiny_pack(), "--bytes", str(size), *args)


@test
def plans():
    """Down each ladder, at its sizes and one byte below them."""
    d = json.loads(run("inspect", ebbd.tiny_pack(), "--json").stdout)
    for name, steps in d["ladders"].items():
        top = plan("1GiB", "--ladder", name)
        check_eq([top[k] for k in ("position", "loss", "bound", "gap", "price")], [0, 0, 0, 0, 0])
        check_eq(top["bytes"] - top["core_bytes"],
                 sum(u["rungs"]["full"]["bytes"] for u in d["units"]))
        size, loss, low = top["bytes"], 0, set()
        for i, s in enumerate(steps):
            below = plan(size - 1, "--ladder", name)
            size, loss = size - s["bytes"], loss + s["cost"]
            exact = plan(size, "--ladder", name)
            for p in (below, exact):
                check_eq((p["position"], p["positions"], p["bytes"]), (i + 1, len(steps), size))
                check(abs(p["loss"] - loss) < 1e-5, p)
                if p["bound"] is None:
                    check(s["to"] == "paged", p)
                    continue
                check(p["bound"] <= p["loss"] and p["gap"] >= 0, p)
                # Ladders of hull edges are the best plans of their own sizes.
                check(p["gap"] == 0 or p is below or name == "lsaq", p)
            low.add(s["unit"])
            check_eq({u["name"] for u in exact["units"] if u["rung"] != "full"}, low)
            check_eq(sum(u["bytes"] for u in exact["units"]) + exact["core_bytes"], size)
            check_eq(sum(exact["rungs"].values()), len(d["units"]))
        expect(1, ["%d bytes are too few" % (size - 1), "takes %d " % size], "plan",
               ebbd.tiny_pack(), "--bytes", str(size - 1), "--ladder", name)
    check_eq(plan("1GiB")["ladder"], "jaccard")
    people = run("plan", ebbd.tiny_pack(), "--bytes", "%dKiB" % (top["bytes"] // 1024))
    check_eq(people.returncode, 0, people.stderr)
    for word in ("ladder    jaccard", "position  0 of", "bound", "layer 0", "head", "core vectors"):
        check_in(word, people.stdout)


@test
def paged_plans():
    """Below every unit's smallest form something is paged, and there is no bound."""
    steps = json.loads(run("inspect", drawn(), "--json").stdout)["ladders"]["deep"]
    top = answer("plan", drawn(), "--bytes", "1GiB", "--ladder", "deep")
    size = top["bytes"]
    for i, s in enumerate(steps):
        size -= s["bytes"]
        p = answer("plan", drawn(), "--bytes", str(size), "--ladder", "deep")
        check_eq((p["position"], p["bytes"]), (i + 1, size))
        check_eq(sum(u["bytes"] for u in p["units"]) + p["core_bytes"], size)
        check_eq([p[k] is None for k in ("bound", "gap", "price")], [s["to"] == "paged"] * 3)
        check(p["rungs"]["paged"] == max(0, i - 6), p["rungs"])
    check_in("paging costs time", run("plan", drawn(), "--bytes", str(size), "--ladder", "deep").stdout)


@test
def wrong_plans():
    p = ebbd.tiny_pack()
    for want, args in (
        ("PACK is missing", ["plan", "--bytes", "1"]),
        ("--bytes N is missing", ["plan", p]),
        ("--bytes takes a number of bytes", ["plan", p, "--bytes", "12MB"]),
        ("--bytes takes a number of bytes", ["plan", p, "--bytes", "-1"]),
        ("--bytes takes a number of bytes", ["plan", p, "--bytes", "MiB"]),
        ("--bytes takes a number of bytes", ["plan", p, "--bytes", "1.5GiB"]),
        ("--bytes takes a number of bytes", ["plan", p, "--bytes", "99999999999GiB"]),
        ("--bytes takes a number of bytes", ["plan", p, "--bytes", "9" * 30]),
        ("--bytes is given twice", ["plan", p, "--bytes", "1", "--bytes", "2"]),
    ):
        expect(2, want, *args)
    expect(1, "0 bytes are too few", "plan", p, "--bytes", "0")
    expect(65, ["no ladder 'front'", "lsaq"], "plan", p, "--bytes", "1GiB", "--ladder", "front")
    expect(66, "absent", "plan", at("absent.ebb"), "--bytes", "1GiB")
    expect(65, "text.txt", "plan", text(), "--bytes", "1GiB")


@test
def the_daemon_holds_it():
    """At positions all along the ladder resident_bytes is what plan says, and so are the units."""
    with ebbd.Daemon(ebbd.tiny_pack()) as d:
        s = d.status()
        ladder, steps = s["ladder"], d.ladder()["steps"]
        other = s["kv_bytes"] + s["scratch_bytes"]
        size = s["resident_bytes"]
        check_eq(plan(size, "--ladder", ladder)["position"], 0)
        for i, step in enumerate(steps):
            if step["to"] == "paged":
                break
            size -= step["bytes"]
            want = plan(size, "--ladder", ladder)
            d.limit(size + other)
            d.wait_position(want["position"])
            check_eq(want["position"], i + 1)
            wait_until(lambda: d.status()["resident_bytes"] == want["bytes"], 10,
                       "resident_bytes is %d at position %d" % (want["bytes"], i + 1))
            got = d.status()["units"]
            check_eq({k: v for k, v in got.items() if v}, {k: v for k, v in want["rungs"].items() if v})
        d.limit("auto")
        d.wait_position(0)


main()
