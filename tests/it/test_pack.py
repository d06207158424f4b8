#!/usr/bin/env python3
"""ebb-pack as its user meets it: commands, exit codes, JSON, and what a kill leaves behind."""
import json
import os
import random
import signal
import subprocess
import tempfile
import time

from harness import check, check_eq, main, program, test

TMP = tempfile.TemporaryDirectory(prefix="ebb-pack-")
EXIT_HELP = ["0 ", "1 ", "2 ", "65", "66", "69", "71", "74", "75", "77"]


def at(name):
    return os.path.join(TMP.name, name)


def run(*args, stdin=b"", env=None, **kw):
    return subprocess.run([program("ebb-pack"), *args], input=stdin, capture_output=True, timeout=120, env=env, **kw)


def model(name="tiny.gguf", *args):
    path = at(name)
    if not os.path.exists(path):
        subprocess.run([program("tiny_model"), path, *args], check=True)
    return path


def text(name="text.txt", n=6000, seed=1):
    rng = random.Random(seed)
    with open(at(name), "w") as f:
        f.write("".join(rng.choice("abcdefghij klmnop qrstu vwxyz.\n") for _ in range(n)))
    return at(name)


def pack():
    path = at("tiny.ebb")
    if not os.path.exists(path):
        r = run("build", model(), "-o", path, "--calib", text(), "--windows", "2", "--no-swsc")
        check_eq(r.returncode, 0, r.stderr)
    return path


def expect(code, words, *args, **kw):
    r = run(*args, **kw)
    said = r.stderr.decode(errors="replace")
    check_eq(r.returncode, code, said)
    check_eq(r.stdout, b"")
    for word in [words] if isinstance(words, str) else words:
        check(word in said, "%r is not in %r" % (word, said))
    return said


@test
def help_and_version():
    for args in (["--help"], ["-h"], ["build", "--help"], ["inspect", "-h"], ["verify", "--help"],
                 ["eval", "--help"], ["tokenize", "--help"], ["plan", "--help"]):
        r = run(*args)
        check_eq(r.returncode, 0)
        said = r.stdout.decode()
        check(said.startswith(("ebb-pack", "Usage:")), said[:40])
        for code in EXIT_HELP:
            check("\n  %s " % code in said or "\n  %s" % code in said, "%s: no exit code %s" % (args, code))
        check(max(map(len, said.split("\n"))) <= 100, "a line is too long")
    for args in (["--version"], ["build", "--version"]):
        r = run(*args)
        check_eq(r.returncode, 0)
        check(r.stdout.startswith(b"ebb-pack "), r.stdout)


@test
def usage_errors():
    out = at("never.ebb")
    for words, args in (
        ("Usage", []),
        ("unknown command 'bild'", ["bild"]),
        ("SRC.gguf is missing", ["build", "-o", out]),
        ("-o OUT.ebb is missing", ["build", model()]),
        ("unknown option '--clib'", ["build", model(), "-o", out, "--clib", "x"]),
        ("--windows takes a number from 1 to 65536", ["build", model(), "-o", out, "--windows", "0"]),
        ("--windows takes a number", ["build", model(), "-o", out, "--windows", "+5"]),
        ("--threads takes a number from 1 to 64", ["build", model(), "-o", out, "--threads=99999999999999999999"]),
        ("--windows needs a value", ["build", model(), "-o", out, "--windows"]),
        ("--windows is given twice", ["build", model(), "-o", out, "--windows=2", "--windows", "3"]),
        ("--windows is at least 2", ["build", model(), "-o", out, "--calib", "x,self", "--windows", "1"]),
        ("TEXT, self or TEXT,self", ["build", model(), "-o", out, "--calib", "self,self"]),
        ("TEXT, self or TEXT,self", ["build", model(), "-o", out, "--calib", ",self"]),
        ("--form is of the rung swsc", ["build", model(), "-o", out, "--form", "svd-4", "--no-swsc"]),
        ("--resume takes no value", ["build", model(), "-o", out, "--resume=yes"]),
        ("one argument too many: 'c'", ["inspect", pack(), "c"]),
        ("--json takes no value", ["inspect", pack(), "--json=yes"]),
        ("--text FILE is missing", ["eval", pack(), "--rung", "full"]),
        ("one of them", ["eval", pack(), "--text", text()]),
        ("one of them", ["eval", pack(), "--text", text(), "--rung", "full", "--position", "0"]),
        ("--rung is full, high or swsc, not 'low'", ["eval", pack(), "--text", text(), "--rung", "low"]),
        ("--rung is full, high or swsc, not ''", ["eval", pack(), "--text", text(), "--rung", "high,"]),
        ("--rung is full, high or swsc, not 'paged'", ["eval", pack(), "--text", text(), "--rung", "full,paged"]),
        ("--position takes a number", ["eval", pack(), "--text", text(), "--position", "1,-1"]),
        ("--position takes a number", ["eval", pack(), "--text", text(), "--position", "9" * 50]),
        ("more than 64 positions", ["eval", pack(), "--text", text(), "--position", ",".join("0" * 65)]),
        ("more than 32 times", ["eval", pack(), "--text", text(), "--rung", "full"] + ["--compare", "x"] * 33),
        ("--compare is empty", ["eval", pack(), "--text", text(), "--rung", "full", "--compare="]),
        ("--text or --self-text", ["eval", pack(), "--text", text(), "--self-text", "2", "--rung", "full"]),
        ("--source is missing", ["eval", pack(), "--self-text", "2", "--rung", "full"]),
        ("--self-text takes a number", ["eval", pack(), "--self-text", "x", "--rung", "full"]),
    ):
        expect(2, words, *args)
    check(not os.path.exists(out), "a wrong command line made a file")


@test
def bad_inputs():
    out = at("bad.ebb")
    empty, binary, short = at("empty"), at("binary"), at("short")
    open(empty, "w").close()
    open(binary, "wb").write(os.urandom(5000))
    open(short, "w").write("only a few words")
    expect(66, "absent.gguf", "build", at("absent.gguf"), "-o", out)
    expect(65, "text.txt", "build", text(), "-o", out)
    expect(65, "empty", "build", model(), "-o", out, "--calib", empty)
    expect(65, "no UTF-8 text", "build", model(), "-o", out, "--calib", binary)
    expect(65, ["short", "one window takes 512"], "build", model(), "-o", out, "--calib", short)
    expect(66, "absent.txt", "build", model(), "-o", out, "--calib", at("absent.txt"))
    expect(65, "not a regular file", "build", model(), "-o", out, "--calib", TMP.name)
    expect(65, ["short", "one window"], "build", model(), "-o", out, "--calib", short + ",self", "--windows", "2")
    expect(66, "", "build", model(), "-o", at("no/folder.ebb"), "--calib", text())
    expect(65, "position 99", "eval", pack(), "--text", text(), "--position", "99")
    expect(65, "another model", "eval", pack(), "--text", text(), "--rung", "full", "--windows", "1",
           "--source", model("other.gguf", "--layers", "2"))
    expect(65, ["other.gguf", "another model"], "eval", pack(), "--text", text(), "--rung", "full",
           "--windows", "1", "--compare", model(), "--compare", model("other.gguf", "--layers", "2"))
    expect(66, "absent.gguf", "eval", pack(), "--text", text(), "--rung", "full", "--compare", at("absent.gguf"))
    expect(65, "text.txt", "eval", pack(), "--text", text(), "--rung", "full", "--compare", text())
    check(not [f for f in os.listdir(TMP.name) if f.startswith("bad.ebb")], "a failed build left files")


@test
def damaged_packs():
    with open(pack(), "rb") as f:
        good = f.read()
    bad = at("damaged.ebb")
    rng = random.Random(2)
    for i in range(40):
        data = bytearray(good)
        where = rng.randrange(len(data))
        data[where] ^= 1 << rng.randrange(8)
        with open(bad, "wb") as f:
            f.write(data)
        r = run("verify", bad)
        check(r.returncode in (65, 69), "bit flipped at %d: %d %s" % (where, r.returncode, r.stderr))
        check(b"damaged.ebb" in r.stderr, r.stderr)
    for n in (0, 1, 100, len(good) // 2, len(good) - 1):
        with open(bad, "wb") as f:
            f.write(good[:n])
        check_eq(run("verify", bad).returncode, 65, "cut to %d bytes" % n)
    with open(bad, "wb") as f:
        f.write(good + b"\0")
    check_eq(run("verify", bad).returncode, 65, "one byte more")
    r = run("verify", pack())
    check_eq(r.returncode, 0)
    check(b"whole" in r.stdout, r.stdout)


@test
def inspect():
    d = json.loads(run("inspect", pack(), "--json").stdout)
    names = ["layer 0", "layer 1", "layer 2", "head"]
    check_eq([u["name"] for u in d["units"]], names)
    for u in d["units"]:
        full, high = u["rungs"]["full"], u["rungs"]["high"]
        check_eq(set(full), {"bytes", "kl", "jaccard", "error"})
        check(0 < 10 * full["error"] < high["error"] < 0.1, u)
        check(full["bytes"] > high["bytes"] > 0, u)
        check(0 <= u["importance"]["lsaq"] <= 1, u)
        check((full["kl"], full["jaccard"]) == (0, 0) and high["kl"] > 0 and 0 < high["jaccard"] < 1, u)
    check_eq(list(d["ladders"]), ["jaccard", "lsaq", "kl"])
    for name, steps in d["ladders"].items():
        steps, paged = steps[:4], steps[4:]
        check_eq([s["unit"] for s in paged], [s["unit"] for s in steps])
        check(all((s["from"], s["to"], s["cost"]) == ("high", "paged", 0) for s in paged), paged)
        check_eq(sorted(s["unit"] for s in steps), sorted(names))
        price = [s["cost"] / (1 if name == "lsaq" else s["bytes"]) for s in steps]
        check(all(a <= b for a, b in zip(price, price[1:])), steps)
        check(all((s["from"], s["to"]) == ("full", "high") for s in steps), steps)
    check_eq(d["ladders"]["lsaq"][3]["unit"], "head")
    check_eq(d["source"]["name"], "tiny.gguf")
    check_eq(len(d["source"]["sha256"]), 64)
    check("text=text.txt windows=2" in d["calibration"], d["calibration"])
    people = run("inspect", pack()).stdout.decode()
    for word in names + ["lsaq", "jaccard", "kl", "calibration", d["source"]["sha256"]]:
        check(word in people, word)


@test
def rung_swsc():
    """A drawn pack with the third rung, in each variant of forms: what the commands say of it."""
    for variant in range(7):
        path = model("drawn-%d.ebb" % variant, "--embd", "256", "--ff", "512", "--swsc", str(variant))
        check_eq(run("verify", path).returncode, 0)
        d = json.loads(run("inspect", path, "--json").stdout)
        forms, layers, head = d["swsc"]["forms"], d["units"][:3], d["units"][3]
        check_eq([f["matrix"] for f in forms][:3], ["attn_q", "attn_k", "attn_v"])
        check_eq(sorted(f["base"] for f in forms), ["channels"] * 2 + ["none"] + ["segments"] * 4)
        check(d["swsc"]["books_bytes"] > 0, d["swsc"])
        check(all(f["bits_per_weight"] > 0 for f in forms), forms)
        check(all(u["rungs"]["swsc"]["bytes"] < u["rungs"]["high"]["bytes"] for u in layers), layers)
        check("swsc" not in head["rungs"], head)
        check_eq([s["to"] for s in d["ladders"]["deep"]], ["high"] * 4 + ["swsc"] * 3 + ["paged"] * 4)
        people = run("inspect", path).stdout.decode()
        for word in ["swsc bytes", "rung swsc:", "segments of 4, k 4096, one book for all layers",
                     "one basis for two layers", "whole channels", "swsc>paged"]:
            check(word in people, word)
    args = ["eval", at("drawn-0.ebb"), "--text", text(), "--windows", "1"]
    d = json.loads(run(*args, "--json", "--rung", "swsc,high").stdout)
    low, high = d["positions"]
    books = json.loads(run("inspect", at("drawn-0.ebb"), "--json").stdout)["swsc"]["books_bytes"]
    check_eq((low["rung"], low["position"], high["rung"], high["position"]), ("swsc", None, "high", 4))
    check_eq((d["position"], d["layer_bits_per_weight"]), (None, low["layer_bits_per_weight"]))
    check(low["layer_bits_per_weight"] < high["layer_bits_per_weight"], d)
    check(low["bits_per_weight"] < high["bits_per_weight"], d)
    check(books < low["bytes"] < high["bytes"], d)
    check(b"all swsc" in run(*args, "--rung", "swsc").stdout)
    expect(69, "the pack has no rung swsc", "eval", pack(), "--text", text(), "--rung", "swsc")


@test
def third_rung():
    """What build makes of it: the gate's forms for every layer, in all ladders below the high planes."""
    path = at("third.ebb")
    r = run("build", model(), "-o", path, "--calib", text(), "--windows", "2")
    check_eq(r.returncode, 0, r.stderr)
    check(b"bits a weight, fitted on 2 windows" in r.stdout, r.stdout)
    check_eq(run("verify", path).returncode, 0)
    d = json.loads(run("inspect", path, "--json").stdout)
    for form, kind in zip(d["swsc"]["forms"], d["gate"], strict=True):
        taken = [c for c in kind["candidates"] if c["name"] == kind["winner"]]
        check_eq((form["matrix"], len(taken), taken[0]["can_win"]), (kind["kind"], 1, True))
        way = kind["winner"].split("-")[0]
        check_eq(form["base"], "none" if way in ("svd", "basis") else way)
        check(abs(form["bits_per_weight"] - taken[0]["bits"]) < 1e-3, (form, taken))
    for u in d["units"][:3]:
        high, swsc = u["rungs"]["high"], u["rungs"]["swsc"]
        check(0 < swsc["bytes"] < high["bytes"] and swsc["kl"] > high["kl"], u)
        check(high["error"] < swsc["error"] < 0.2, u)
    check("swsc" not in d["units"][3]["rungs"], d["units"][3])
    for steps in d["ladders"].values():
        check_eq(sorted(s["unit"] for s in steps if s["to"] == "swsc"), ["layer 0", "layer 1", "layer 2"])
    r = run("eval", path, "--text", text(), "--source", model(), "--windows", "1", "--json", "--rung", "swsc,high")
    low, high = json.loads(r.stdout)["positions"]
    check(low["bytes"] < high["bytes"] and low["kl"] > high["kl"] > 0, (low, high))
    fast = run("build", model(), "-o", at("fast-only.ebb"), "--calib", text(), "--fast")
    check_eq(fast.returncode, 0, fast.stderr)
    check(json.loads(run("inspect", at("fast-only.ebb"), "--json").stdout).get("swsc") is None)


@test
def importance():
    d = json.loads(run("inspect", pack(), "--json").stdout)
    names = [u["name"] for u in d["units"]]
    for score in ("lsaq", "jaccard", "kl"):
        by_rank = sorted(d["units"], key=lambda u: u["rank"][score])
        check_eq([u["rank"][score] for u in by_rank], [1, 2, 3, 4])
        values = [u["importance"][score] for u in by_rank]
        check(values == sorted(values, reverse=True), values)
    for u in d["units"]:
        high = u["rungs"]["high"]
        check_eq((u["importance"]["kl"], u["importance"]["jaccard"]), (high["kl"], high["jaccard"]))
    pairs = [a["scores"] for a in d["agreement"]]
    check_eq(pairs, [["lsaq", "jaccard"], ["lsaq", "kl"], ["jaccard", "kl"]])
    check(all(-1 <= a["tau"] <= 1 for a in d["agreement"]), d["agreement"])
    people = run("inspect", pack(), "--importance").stdout.decode()
    lines = people.splitlines()
    check_eq(lines[0].split(), ["unit", "lsaq", "rank", "jaccard", "rank", "kl", "rank"])
    check_eq([" ".join(x.split()[:-6]) for x in lines[1:5]], names)
    check_eq(lines[3].split()[-1], str(d["units"][2]["rank"]["kl"]))
    check("Kendall" in people, people)


@test
def gate():
    """What a drawn pack's gate says: six kinds took a form, the last one none."""
    path = model("gate.ebb", "--embd", "256", "--ff", "512", "--swsc", "0")
    d = json.loads(run("inspect", path, "--json").stdout)
    check_eq(len(d["gate"]), 7)
    check_eq(d["gate_target"], 3)
    for kind in d["gate"][:6]:
        check_eq((kind["winner"], kind["margin"]), ("segments-4-256", 0.25))
        check_eq([c["name"] for c in kind["candidates"]], ["segments-4-256", "groups-2"])
        check_eq([c["can_win"] for c in kind["candidates"]], [True, False])
        check_eq(kind["candidates"][0]["bits"], 2.25)
    last = d["gate"][6]
    check_eq((last["kind"], last["winner"], last["margin"]), ("ffn_down", None, None))
    check_eq(last["candidates"][0]["error"], None)
    people = run("inspect", path, "--gate").stdout.decode()
    for word in ["3.00 bits", "segments-4-256", "1.0000 %", "25 % more", "nothing keeps", "1.0000*",
                 "50.0000!"]:
        check(word in people, word)
    check(b"gate:" in run("inspect", path).stdout)
    expect(69, "no forms were compared", "inspect", pack(), "--gate")
    expect(2, "one at a time", "inspect", pack(), "--gate", "--importance")


@test
def another_version():
    """A pack of another version is refused by name before anything else of it is believed."""
    with open(pack(), "rb") as f:
        data = bytearray(f.read())
    at_key = data.index(b"ebb.version") + len(b"ebb.version") + 4
    for version in (1, 9):
        data[at_key] = version
        with open(at("other.ebb"), "wb") as f:
            f.write(data)
        for args in (["inspect", at("other.ebb"), "--importance"], ["verify", at("other.ebb")]):
            r = run(*args)
            check_eq(r.returncode, 69, r.stderr)
            check(b"pack version %d is not supported" % version in r.stderr, r.stderr)


@test
def short_text():
    """A calibration text shorter than one window says so, and leaves nothing."""
    with open(at("short.txt"), "w") as f:
        f.write("a few words, not a window of them")
    r = run("build", model(), "-o", at("short.ebb"), "--calib", at("short.txt"))
    check_eq(r.returncode, 65, r.stderr)
    check(b"one window takes 512" in r.stderr, r.stderr)
    check(not os.path.exists(at("short.ebb")), "a pack was made")


@test
def source_hash_is_sha256():
    want = subprocess.run(["sha256sum", model()], capture_output=True, check=True).stdout.split()[0]
    d = json.loads(run("inspect", pack(), "--json").stdout)
    check_eq(d["source"]["sha256"], want.decode())


@test
def evaluate():
    args = ["eval", pack(), "--text", text(), "--windows", "2", "--json"]
    full = json.loads(run(*args, "--rung", "full", "--source", model()).stdout)
    check({"ppl", "kl", "top1", "bits_per_weight", "bytes", "windows"} <= set(full), full)
    check_eq(full["windows"], 2)
    high = json.loads(run(*args, "--rung", "high", "--source", model()).stdout)
    check(high["kl"] > full["kl"] > 0, (high, full))
    check(high["bytes"] < full["bytes"], (high, full))
    last = json.loads(run(*args, "--position", "4", "--source", model(), "--threads", "1").stdout)
    check_eq(last, high)
    alone = json.loads(run(*args, "--rung", "full").stdout)
    check_eq(alone["ppl"], full["ppl"])
    check_eq((alone["kl"], alone["top1"]), (None, None))
    check_eq([u["name"] for u in full["units"]], ["layer 0", "layer 1", "layer 2", "head"])
    for u in full["units"]:
        check(u["high_error"] > u["full_error"] > 0, u)


@test
def evaluate_together():
    args = ["eval", pack(), "--text", text(), "--windows", "2", "--json", "--source", model()]
    high, full = (json.loads(run(*args, "--rung", r).stdout) for r in ("high", "full"))
    d = json.loads(run(*args, "--rung", "high,full", "--compare", model(), "--compare",
                       model("half.gguf", "--type", "f16")).stdout)
    check_eq(d["positions"], high["positions"] + full["positions"])
    check_eq([p["rung"] for p in d["positions"]], ["high", "full"])
    check_eq((d["ppl"], d["bytes"], d["position"]), (high["ppl"], high["bytes"], 4))
    same, half = d["compare"]
    check_eq((same["file"], same["kl"], same["top1"]), (model(), 0, 1))
    check(0 < half["kl"] < full["kl"], half)
    check_eq((same["bits_per_weight"], half["bits_per_weight"]), (8.5, 16))
    people = run(*[a for a in args if a != "--json"], "--position", "0,1,4", "--compare", model())
    for word in ("position 0, all full", "position 1 ", "position 4, all high", "tiny.gguf", "top-1"):
        check(word in people.stdout.decode(), people)


@test
def evaluate_own_text():
    args = ["eval", pack(), "--rung", "high", "--windows", "2", "--json", "--source", model()]
    a, b, c = (json.loads(run(*args, "--self-text", seed, "--threads", n).stdout)
               for seed, n in (("2", "1"), ("2", "2"), ("3", "2")))
    check_eq(a, b)
    check(a["ppl"] != c["ppl"], "the seed changes nothing")
    check_eq(a["windows"], 2)


@test
def tokenize():
    for path in (model(), pack()):
        r = run("tokenize", path, stdin=b"ab <|im_end|>\xff\n")
        check_eq(r.returncode, 0, r.stderr)
        ids = [int(i) for i in r.stdout.split()]
        check(r.stdout.endswith(b"\n") and r.stdout == (" ".join(map(str, ids)) + "\n").encode(), r.stdout)
        check(len(ids) > 5, "the special token was parsed: %s" % ids)
    check_eq(run("tokenize", model(), stdin=b"").stdout, b"\n")
    expect(65, "damaged", "tokenize", damaged_header())


def damaged_header():
    path = at("damaged-header.ebb")
    with open(pack(), "rb") as f:
        data = bytearray(f.read())
    data[data.index(b"ebb.calibration") + 40] ^= 1
    with open(path, "wb") as f:
        f.write(data)
    return path


@test
def full_disk_for_output():
    with open("/dev/full", "w") as full:
        r = subprocess.run([program("ebb-pack"), "inspect", pack()], stdout=full, stderr=subprocess.PIPE)
    check_eq(r.returncode, 74, r.stderr)


@test
def threads_and_self_text():
    packs = []
    for n in ("1", "2"):
        out = at("self%s.ebb" % n)
        r = run("build", model(), "-o", out, "--windows", "3", "--threads", n)
        check_eq(r.returncode, 0, r.stderr)
        with open(out, "rb") as f:
            packs.append(f.read())
    check(packs[0] == packs[1], "the pack depends on the thread count")
    check(b"text=self windows=3" in packs[0], "calibration is not told")


@test
def calibration_choices():
    said = {}
    for name, args in (("self", ["--calib", "self"]), ("mixed", ["--calib", text() + ",self"]),
                       ("swapped", ["--calib", "self," + text()]), ("fast", ["--fast", "--calib", text()])):
        out = at(name + ".ebb")
        r = run("build", model(), "-o", out, "--windows", "3", *args)
        check_eq(r.returncode, 0, r.stderr)
        said[name] = json.loads(run("inspect", out, "--json").stdout)
    check("text=self windows=3 window=512 " in said["self"]["calibration"], said["self"]["calibration"])
    check("text=text.txt,self windows=3 own=1 window=512 " in said["mixed"]["calibration"], said["mixed"]["calibration"])
    check_eq(said["mixed"], said["swapped"])
    check("windows=3 window=128 " in said["fast"]["calibration"], said["fast"]["calibration"])
    check_eq([said[n]["method"] for n in ("self", "mixed", "fast")], ["feedback", "feedback", "fast"])
    check_eq(said["fast"]["units"][0]["rungs"]["high"]["error"], None)
    check("clip search only" in run("inspect", at("fast.ebb")).stdout.decode(), "inspect does not say that it is fast")


@test
def nothing_to_calibrate_on():
    """A matrix whose inputs are all zero is packed without feedback, and everybody says so."""
    src, out = at("dead.gguf"), at("dead.ebb")
    with open(model("f32.gguf", "--type", "f32"), "rb") as f:
        data = bytearray(f.read())
    name = b"blk.1.ffn_norm.weight"
    where = data.index(name) + len(name)
    where += 4 + 8 + 4  # dimensions, length, type
    offset = int.from_bytes(data[where:where + 8], "little")
    start = data_section(data)
    data[start + offset:start + offset + 4 * 64] = bytes(4 * 64)
    with open(src, "wb") as f:
        f.write(data)
    r = run("build", src, "-o", out, "--calib", text(), "--windows", "2")
    check_eq(r.returncode, 0, r.stderr)
    for mat in ("ffn_gate", "ffn_up", "ffn_down"):
        check("warning: layer 1, %s:" % mat in r.stderr.decode(), r.stderr)
    check("3 matrices without error feedback" in r.stdout.decode(), r.stdout)
    d = json.loads(run("inspect", out, "--json").stdout)
    check_eq(d["fallback"], [{"unit": "layer 1", "matrix": m} for m in ("ffn_gate", "ffn_up", "ffn_down")])
    check("layer 1, ffn_down: no error feedback" in run("inspect", out).stdout.decode(), "inspect hides it")
    check_eq(run("verify", out).returncode, 0)


def data_section(data):
    """Of a tiny model: its tensors' bytes end the file, the last being padded like the others."""
    head = data.index(b"blk.2.ffn_down.weight")
    norm = data.index(b"output_norm.weight", head)
    at_ = norm + len(b"output_norm.weight") + 4 + 8 + 4 + 8  # the table ends with it
    return (at_ + 31) // 32 * 32


@test
def full_disk():
    """A limit on file size is an error that leaves nothing, like a full disk."""
    out = at("limited.ebb")
    for blocks in (0, 20, 150):
        r = subprocess.run(["bash", "-c", 'ulimit -f "$0"; exec "$@"', str(blocks), program("ebb-pack"), "build",
                            model(), "-o", out, "--windows", "2"], capture_output=True, timeout=120)
        check_eq(r.returncode, 74, r.stderr)
        check(b"File too large" in r.stderr, r.stderr)
        check_eq([f for f in os.listdir(TMP.name) if f.startswith("limited.ebb")], [])


@test
def killed_build():
    """A kill at any moment leaves the old pack as it was; the next build takes the rest away, or
    goes on with it to the same bytes."""
    out, src = at("killed.ebb"), model("big.gguf", "--layers", "6", "--embd", "128", "--ff", "256")
    args = [program("ebb-pack"), "build", src, "-o", out, "--calib", text(), "--windows", "4",
            "--no-gate"]
    r = subprocess.run(args[:4] + [at("whole.ebb")] + args[5:], capture_output=True)
    check_eq(r.returncode, 0, r.stderr)
    with open(out, "wb") as f:
        f.write(b"old")
    rng = random.Random(3)
    for resume in ([], ["--resume"]):
        for _ in range(6):
            p = subprocess.Popen(args + resume, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(rng.uniform(0.01, 1.0))
            p.send_signal(signal.SIGKILL)
            if p.wait() == 0:
                break  # it was done already
            with open(out, "rb") as f:
                check_eq(f.read(), b"old")
        r = subprocess.run(args + resume, capture_output=True)
        check_eq(r.returncode, 0, r.stderr)
        check_eq(run("verify", out).returncode, 0)
        with open(out, "rb") as f, open(at("whole.ebb"), "rb") as g:
            check(f.read() == g.read(), "the bytes depend on the interruptions")
        check_eq([f for f in os.listdir(TMP.name) if f.startswith("killed.ebb.")], [])
        with open(out, "wb") as f:
            f.write(b"old")


main()
