"""A daemon's trace computed again: ebb-sim must come to each of its decisions."""
import os
import resource
import subprocess

import ebbd
from harness import check, check_eq, main, program, test, wait_until

MIB = 1 << 20


def sim(*args):
    return subprocess.run([program("ebb-sim"), *args], capture_output=True, text=True, timeout=120)


def lines(trace, letter):
    with open(trace) as f:
        return [x.rstrip("\n").split(",") for x in f if x.startswith(letter)]


def run_through(d):
    """Moves all that the governor looks at; the names of the reasons that it must give."""
    n = d.status()["positions"]
    d.set_available(4 * MIB)  # an emergency, as that is a quarter of the reserve
    d.wait_position(n)
    d.set_available(ebbd.PLENTY)
    d.wait_position(0)
    d.limit(1024)
    d.wait_position(n)
    d.limit("auto")
    d.wait_position(0)
    # Tasks that wait all the time, as long as it takes to be seen twice.
    total = 0
    while d.status()["position"] == 0:
        total += 40000
        d.set_pressure(total, total // 2)
    d.wait_position(0)
    d.set_zone(0, "cpu-thermal", 95, passive=80)
    wait_until(lambda: d.status()["position"] == n, 60, "heat lowers precision")
    d.settings["memory"]["hold"] = "250ms"  # another line of settings
    d.write_config()
    d.process.send_signal(1)
    d.set_zone(0, "cpu-thermal", 40, passive=80)
    d.wait_position(0)
    d.put("proc/meminfo", "MemAvailable: x kB\n")  # unknown, and so nothing grows
    d.set_available(ebbd.PLENTY)
    return {"start", "room", "operator", "pressure", "heat"}


@test
def a_trace_that_may_not_grow_ends_and_nothing_else():
    with ebbd.Daemon(ebbd.tiny_pack(), start=False) as d:
        trace = os.path.join(d.dir, "trace")
        d.settings.setdefault("log", {})["trace"] = trace
        d.write_config()
        d.start()
        # The log is a file too, and must stay below the limit.
        wait_until(lambda: os.path.getsize(trace) > os.path.getsize(d.log_path) + 4096, 60, "the trace grows")
        limit = os.path.getsize(trace) + 300
        resource.prlimit(d.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        wait_until(lambda: "the trace ends here" in d.log(), 30, "the end of the trace is logged")
        check("File too large; the trace ends here" in d.log(), "why: %s" % d.log()[-500:])
        check_eq(os.path.getsize(trace), limit)
        check_eq(d.complete("hello", max_tokens=2).status, 200)


@test
def a_real_trace():
    with ebbd.Daemon(ebbd.tiny_pack(), start=False) as d:
        trace = os.path.join(d.dir, "trace")
        d.settings.setdefault("log", {})["trace"] = trace
        d.settings["heat"] = {"hold": "200ms"}
        d.set_zone(0, "cpu-thermal", 40, passive=80)
        d.write_config()
        d.start()
        want = run_through(d)
        d.stop()
    calls = lines(trace, "C")
    reasons = {x[-1] for x in calls}
    check(want <= reasons, "reasons: %r" % reasons)
    check_eq(len(lines(trace, "S")), 2, "settings are written once, and when they change")
    r = sim(trace)
    check_eq(r.returncode, 0, r.stdout + r.stderr)
    check_eq(r.stdout, "%d calls, %d the same\n" % (len(calls), len(calls)))

    # What was decided, as CSV and as a picture.
    svg = trace + ".svg"
    r = sim(trace, "--csv", "--svg", svg)
    check_eq(r.returncode, 0, r.stderr)
    rows = r.stdout.splitlines()
    check_eq(rows[0], "time_s,position,stage,level,budget_mib,reason")
    check({x.split(",")[-1] for x in rows[1:]} <= reasons, "no other reason")
    with open(svg) as f:
        check(f.read().startswith("<svg "), "a picture")

    # Another answer is found, with its line.
    with open(trace) as f:
        text = f.read().splitlines(True)
    at = next(i for i, x in enumerate(text) if x.endswith(",heat\n"))
    text[at] = text[at].replace(",heat\n", ",pressure\n")
    with open(trace, "w") as f:
        f.writelines(text)
    r = sim(trace)
    check_eq(r.returncode, 1)
    check_eq(r.stdout, "%d calls, %d the same\n" % (len(calls), len(calls) - 1))
    check("%s:%d: " % (trace, at + 1) in r.stderr, r.stderr)
    check("pressure; computed" in r.stderr, r.stderr)


@test
def worlds_and_back():
    """A simulated run records what replays; a file gives the same each time."""
    folder = ebbd.TMP
    trace, world = os.path.join(folder, "world.trace"), os.path.join(folder, "world.csv")
    r = sim("--world", "storm:for_s=600", "--trace", trace)
    check_eq(r.returncode, 0, r.stderr)
    check("in the worst hour" in r.stdout, r.stdout)
    r = sim(trace)
    check_eq(r.returncode, 0, r.stdout + r.stderr)
    with open(world, "w") as f:
        f.write("time_s,left_mib,stall_percent,celsius\n0,1024,0,45\n10,360,,\n20,,5,70\n"
                "30,1024,0,45\n120,1024,0,45\n")
    first = sim(world, "--csv", "--set", "memory.hold=5s")
    check_eq(first.returncode, 0, first.stderr)
    check("mem_available" in first.stdout and "room" in first.stdout, first.stdout)
    check_eq(sim(world, "--csv", "--set", "memory.hold=5s").stdout, first.stdout)
    r = sim("--world", "step:for_s=120", "--pack", ebbd.drawn_pack(), "--set",
            "precision.ladder=deep", "--set", "memory.reserve=300MiB")
    check_eq(r.returncode, 0, r.stderr)


@test
def refusals():
    path = os.path.join(ebbd.TMP, "bad.csv")
    with open(path, "w") as f:
        f.write("time_s,left_mib,stall_percent,celsius\n0,nan,,\n")
    r = sim(path)
    check_eq((r.returncode, r.stdout), (65, ""))
    check("%s:2: left_mib is not a number" % path in r.stderr, r.stderr)
    for args, code in (((), 2), (("--world", "nothing"), 2), (("--world", "step:x=1"), 2),
                       ((os.path.join(ebbd.TMP, "none"),), 66), (("--set", "a=1", path), 2),
                       (("--world", "step", "--pack", path), 65), ((ebbd.TMP,), 74),
                       (("--world", "step", "--svg", "/dev/full"), 74),
                       (("--world", "step", "--trace", "/dev/full"), 74)):
        r = sim(*args)
        check_eq(r.returncode, code, "%r: %s" % (args, r.stderr))
        check(r.stderr.startswith("ebb-sim: "), r.stderr)


main()
