#!/usr/bin/env python3
"""ebb-bench as its user meets it: usage, exit codes, what it prints. Its figures are not judged here,
only that they agree with each other."""
import json
import os
import subprocess
import tempfile

from harness import check, check_eq, check_in, main, program, test

TMP = tempfile.TemporaryDirectory(prefix="ebb-bench-")
QUICK = ["-t", "2", "-p", "16", "-n", "8", "--reps", "2"]
SPREADS = ["prefill_tps", "decode_tps", "read_gbps", "plain_read_gbps", "read_ratio"]
SINGLE = {"model", "kernels", "threads", "position", "rung", "bytes_per_token", "prompt", "gen", "batch",
          "reps", "gap_median_ms", "gap_p99_ms", "gap_max_ms"}


def pack(name="tiny.ebb", *args):
    path = os.path.join(TMP.name, name)
    if not os.path.exists(path):
        subprocess.run([program("tiny_model"), path, "--embd", "256", "--ff", "512", *args], check=True)
    return path


def run(*args):
    return subprocess.run([program("ebb-bench"), *args], capture_output=True, timeout=120)


def measure(*args):
    r = run(*args, *QUICK, "--json")
    check_eq((r.returncode, r.stderr), (0, b""))
    check_eq(r.stdout.count(b"\n"), 1)
    return json.loads(r.stdout)


def expect(code, words, *args):
    r = run(*args)
    said = r.stderr.decode(errors="replace")
    check_eq((r.returncode, r.stdout), (code, b""), said)
    check(said.startswith("ebb-bench: "), said)
    check_in(words, said)


@test
def help_and_version():
    for flag in ("--help", "-h"):
        r = run(flag)
        check_eq(r.returncode, 0)
        for word in ("--position", "--cpu", "--chunk", "--reps", "\n  66 ", "\n  2 "):
            check_in(word, r.stdout.decode())
        check(max(map(len, r.stdout.decode().split("\n"))) <= 100, "a line is too long")
    r = run("--version")
    check_eq(r.returncode, 0)
    check(r.stdout.startswith(b"ebb-bench "), r.stdout)


@test
def usage_errors():
    for words, args in (
        ("PACK is missing", []),
        ("one argument too many: 'b'", ["a", "b"]),
        ("unknown option '--thread'", ["a", "--thread", "1"]),
        ("--threads takes a number from 1 to 64, not '0'", ["a", "-t", "0"]),
        ("--batch takes a number from 1 to 64, not '65'", ["a", "-b", "65"]),
        ("--reps takes a number", ["a", "--reps", "x"]),
        ("--chunk takes a number from 1 to 512", ["a", "--chunk", "513"]),
        ("--tokens needs a value", ["a", "-n"]),
        ("--position takes a number, full, high or swsc, not 'paged'", ["a", "--position", "paged"]),
        ("--position takes a number, full, high or swsc, not '-1'", ["a", "--position=-1"]),
        ("--position is empty", ["a", "--position="]),
        ("-b decodes", ["a", "-b", "2", "-n", "0"]),
        ("no kernel variant 'mmx'", ["a", "--cpu", "mmx"]),
    ):
        expect(2, words, *args)


@test
def wrong_packs():
    expect(66, "absent.ebb", os.path.join(TMP.name, "absent.ebb"))
    text = os.path.join(TMP.name, "text")
    with open(text, "w") as f:
        f.write("no pack, whatever its name is")
    expect(65, "text: ", text)
    with open(pack(), "rb") as f:
        data = bytearray(f.read())
    bad = os.path.join(TMP.name, "bad.ebb")
    data[-20000] ^= 1  # in the last extent: the head's low plane
    with open(bad, "wb") as f:
        f.write(data)
    expect(65, "bad.ebb: unit.head.low: checksum differs", bad, *QUICK)
    check_eq(measure(bad, "--position", "high")["rung"], "high")
    with open(bad, "wb") as f:
        f.write(data[:-1])
    expect(65, "bad.ebb: ", bad)
    expect(65, "position 99: the ladder has positions 0 to ", pack(), "--position", "99")
    expect(69, "the pack has no rung swsc", pack(), "--position", "swsc")


@test
def positions():
    swsc = pack("swsc.ebb", "--swsc", "0")
    full, zero = measure(swsc, "--position", "full"), measure(swsc)
    for d in (full, zero):
        check_eq((d["position"], d["rung"]), (0, "full"))
    high, third = measure(swsc, "--position", "high"), measure(swsc, "--position", "swsc")
    check_eq((high["rung"], third["rung"]), ("high", "swsc"))
    check(full["bytes_per_token"] > high["bytes_per_token"] > third["bytes_per_token"] > 0,
          (full, high, third))
    one = measure(swsc, "--position", "1")
    check_eq((one["position"], one["rung"]), (1, None))
    check(full["bytes_per_token"] > one["bytes_per_token"] > high["bytes_per_token"], one)


@test
def positions_on_disk():
    """The ladders that ebb-pack build makes go on to units that are not resident."""
    source, text, path = (os.path.join(TMP.name, n) for n in ("tiny.gguf", "text.txt", "built.ebb"))
    with open(text, "w") as f:
        f.write("".join(chr(97 + i * i % 23) + " " * (i % 5 == 0) for i in range(6000)))
    subprocess.run([program("tiny_model"), source], check=True)
    subprocess.run([program("ebb-pack"), "build", source, "-o", path, "--calib", text, "--fast"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    expect(65, "the ladder has positions 0 to 8", path, "--position", "9")
    expect(69, "position 5 has units on disk; the last one without is 4", path, "--position", "5")
    check_eq(measure(path, "--position", "4")["rung"], "high")


@test
def json_shape():
    d = measure(pack())
    check_eq(set(d), SINGLE | {k + s for k in SPREADS for s in ("", "_min", "_max")})
    check_eq((d["threads"], d["prompt"], d["gen"], d["batch"], d["reps"]), (2, 16, 8, 1, 2))
    for k in SPREADS:
        check(0 < d[k + "_min"] <= d[k] <= d[k + "_max"], (k, d))
    check(0 < d["gap_median_ms"] <= d["gap_p99_ms"] <= d["gap_max_ms"], d)
    reads = d["decode_tps"] * d["bytes_per_token"] * 1e-9
    check(abs(d["read_gbps"] / reads - 1) < 1e-3, d)
    four = measure(pack(), "-b", "4", "--cpu", "ref", "--chunk", "3")
    check_eq(set(four), set(d) | {"batch_tps", "batch_tps_min", "batch_tps_max"})
    check_eq((four["batch"], four["kernels"]), (4, "ref"))
    check(four["batch_tps"] > 0, four)


@test
def parts_left_out():
    d = json.loads(run(pack(), "-t", "1", "-p", "0", "-n", "0", "--reps", "1", "--json").stdout)
    check_eq([d[k] for k in SPREADS], [None, None, None, d["plain_read_gbps"], None])
    check_eq((d["gap_median_ms"], d["gap_max_ms"]), (None, None))
    check(d["plain_read_gbps"] > 0, d)


@test
def for_people():
    r = run(pack(), *QUICK, "-b", "3")
    check_eq((r.returncode, r.stderr), (0, b""))
    text = r.stdout.decode()
    for word in ("position 0, all full", "threads: 2", "prompt of 16", "decode of 8", "3 requests together",
                 "plain read", "GB/s"):
        check_in(word, text)
    check(max(map(len, text.split("\n"))) <= 80, text)


main()
