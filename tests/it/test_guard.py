"""The guard: what happens between two readings, when memory.high of the own cgroup says so. The
sensors are read once a minute here, so whatever acts sooner is the guard."""
import os
import subprocess
import time

import ebbd
from harness import check, check_eq, check_in, main, program, test, wait_until

MIB = 1 << 20
HELD = 500 * MIB  # what the fake cgroup says
SETTINGS = {"sense": {"interval": "1min", "stale": "2min"}, "memory": {"reserve": "0B"},
            "kv": {"prefix_limit": "0B"}}


def started(paths=("/ebb",), trace=False):
    d = ebbd.Daemon(ebbd.wide_pack(), SETTINGS, start=False)
    d.settings.setdefault("log", {})["trace"] = os.path.join(d.dir, "trace") if trace else ""
    d.write_config()
    for path in paths:
        d.set_cgroup(HELD, path=path)
    d.start()
    check_eq(d.status()["position"], 0)
    return d


def set_high(d, high, path="/ebb"):
    d.put("sys/fs/cgroup%s/memory.high" % path, "%d\n" % high)


def asked(d):
    """A request, after a reload: that reads the sensors, which the minute would not."""
    d.process.send_signal(1)
    return d.complete("a", max_tokens=1).status


def decisions(trace):
    with open(trace) as f:
        return [x.rstrip("\n").split(",") for x in f if x.startswith("G")]


def cpu_ticks(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


@test
def what_is_over_goes_between_two_readings_and_no_stream_with_it():
    with started(trace=True) as d:
        trace = os.path.join(d.dir, "trace")
        events, full = d.follow(), d.status()["resident_bytes"]
        stream = d.stream("a b c", max_tokens=200, ignore_eos=True)
        set_high(d, HELD - 1)
        falls = wait_until(lambda: [x for _, e, x in list(events)
                                    if e == "position" and x["to"] > x["from"]], 20, "it sheds")
        check_eq(falls[0]["reason"], "cgroup")
        check_eq(falls[0]["limit"], HELD - 1)
        set_high(d, 2 * HELD)
        wait_until(lambda: d.status()["resident_bytes"] < full, 20, "the bytes are back")
        check_eq(stream.run().finish, "length")
        # The next reading writes the trace: a reload makes one.
        d.process.send_signal(1)
        wait_until(lambda: decisions(trace), 20, "the trace has its decision")
        check_eq(int(decisions(trace)[0][2]), 1)
        d.stop()
        r = subprocess.run([program("ebb-sim"), trace], capture_output=True, text=True, timeout=60)
        check_eq(r.returncode, 0)
        check_in("decisions of the guard", r.stdout)


@test
def below_the_floor_it_refuses_and_rests():
    with started() as d:
        n = d.status()["positions"]
        set_high(d, 1 * MIB)
        d.wait_position(n)
        wait_until(lambda: asked(d) == 503, 60, "work is refused")
        check_in("emory", str(d.complete("a", max_tokens=1).body))
        before, log = cpu_ticks(d.process.pid), len(d.log())
        time.sleep(3)
        check(cpu_ticks(d.process.pid) - before < 60, "it does not spin")
        check(d.log()[log:].count("\n") < 5, "it does not fill the log")
        set_high(d, 2 * HELD)
        wait_until(lambda: asked(d) == 200, 60, "work is taken again")


@test
def a_limit_of_a_parent_counts():
    with started(("/slice", "/slice/ebb")) as d:
        set_high(d, HELD - 1, "/slice")
        wait_until(lambda: d.status()["position"] > 0, 20, "it sheds for the parent's limit")


main()
