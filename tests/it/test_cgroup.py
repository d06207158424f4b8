"""Memory cgroups as they are found, on a fake root with the real daemon: version 1, a path that is not
below the mount, one that is never known, one that changes; and sensors that flap."""
import os
import re
import shutil
import subprocess
import time

import cage
import ebbd
from harness import check, check_eq, check_in, main, program, steady, test, wait_until

MIB = 1 << 20
SETTINGS = {"memory": {"hold": "100ms", "step": "0ms", "margin": "1MiB", "reserve": "64MiB",
                       "emergency": "0B", "changes": 240},
            "kv": {"prefix_limit": "0B"}, "sense": {"interval": "20ms"}}
V1 = "sys/fs/cgroup/memory"
STAT = "inactive_file 0\nactive_file 0\nworkingset_refault_file 0\npgmajfault 0\n"


def daemon(prepare, settings=None):
    d = ebbd.Daemon(ebbd.wide_pack(), SETTINGS, start=False)
    for section, keys in (settings or {}).items():
        d.settings.setdefault(section, {}).update(keys)
    d.write_config()
    prepare(d)
    d.start()
    return d


def left(d):
    return d.status()["memory"]["cgroup_left_bytes"]


def lines(d, word, since=0):
    return [x for x in d.log()[since:].splitlines() if word in x]


def finding(d, name):
    """What `ebb doctor` says of one thing, looking at the same root."""
    r = subprocess.run([program("ebb"), "--socket", d.socket, "--admin", d.admin, "--root", d.root,
                        "doctor"], capture_output=True, text=True)
    m = re.search(r"^(ok|note|BAD) +%s +(.*(?:\n +.*)*)" % name, r.stdout, re.M)
    check(m, "a finding %s: %s" % (name, r.stdout + r.stderr))
    return m.group(1), m.group(2)


def put_v1(d, path, limit, usage, stat=None):
    folder = V1 + path + "/"
    d.put(folder + "memory.limit_in_bytes", "%d\n" % limit)
    d.put(folder + "memory.usage_in_bytes", "%d\n" % usage)
    if stat:
        d.put(folder + "memory.stat", stat)


@test
@steady
def version_1_is_followed():
    """As Docker has it on an older system: what lacks there goes, and comes back."""
    def prepare(d):
        d.put("proc/self/cgroup", "11:cpuset,memory:/docker/x\n1:name=systemd:/docker/x\n")
        put_v1(d, "", (1 << 63) - 4096, 900 * MIB)
        put_v1(d, "/docker", (1 << 63) - 4096, 700 * MIB)
        put_v1(d, "/docker/x", 500 * MIB, 100 * MIB)
    with daemon(prepare) as d:
        check_eq((left(d), d.status()["position"]), (400 * MIB, 0))
        full, half, events = d.status()["resident_bytes"], d.low_bytes() // 2, d.follow()
        put_v1(d, "/docker/x", 500 * MIB, 500 * MIB + half)
        wait_until(lambda: full - d.status()["resident_bytes"] >= half, 10, "it sheds")
        reasons = lambda: [x["reason"] for _, e, x in list(events) if e == "position"]
        wait_until(reasons, 10, "the event")  # it is sent once the bytes are back
        check_eq(reasons()[0], "cgroup")
        put_v1(d, "/docker/x", 500 * MIB, 500 * MIB + half,
               "total_inactive_file %d\ntotal_active_file %d\n" % (200 * MIB, 100 * MIB))
        d.wait_position(0)
        check_eq(left(d), 300 * MIB - half)
        put_v1(d, "/docker", 701 * MIB, 700 * MIB)
        wait_until(lambda: left(d) == MIB, 10, "the one above is nearer")
        verdict, text = finding(d, "cgroup")
        check_eq(verdict, "ok")
        check_in("version 1, memory.limit_in_bytes of " + d.root, text)


@test
@steady
def a_limit_at_the_mount_is_followed():
    """A container whose path is not below its mount, as Docker and Kubernetes have it."""
    def top(d, current):
        d.put("sys/fs/cgroup/memory.current", "%d\n" % current)

    def prepare(d):
        d.put("sys/fs/cgroup/cgroup.controllers", "cpu memory\n")
        d.put("proc/self/cgroup", "0::/docker/x\n")
        d.put("sys/fs/cgroup/memory.max", "%d\n" % (500 * MIB))
        d.put("sys/fs/cgroup/memory.high", "max\n")
        d.put("sys/fs/cgroup/memory.stat", STAT)
        top(d, 100 * MIB)
    with daemon(prepare) as d:
        check_eq((left(d), d.status()["position"]), (400 * MIB, 0))
        full, half = d.status()["resident_bytes"], d.low_bytes() // 2
        top(d, 500 * MIB + half)
        wait_until(lambda: full - d.status()["resident_bytes"] >= half, 10, "it sheds")
        top(d, 100 * MIB)
        d.wait_position(0)
        verdict, text = finding(d, "cgroup")
        check_eq(verdict, "ok")
        check_in("ours is not below the mount", text)


@test
@steady
def never_known_is_not_plenty():
    """Memory is accounted, and ours is not to be seen: the lowest position, until it is."""
    def prepare(d):
        d.put("sys/fs/cgroup/cgroup.controllers", "cpu memory\n")
        d.put("proc/self/cgroup", "0::/docker/x\n")
    with daemon(prepare) as d:
        ebbd.pause(1)
        s = d.status()
        check_eq((s["position"], s["memory"]["reason"]), (s["positions"], "mem_unknown"))
        check_eq(left(d), None)
        check_eq(len(lines(d, "cgroup is unknown: ")), 1)
        verdict, text = finding(d, "cgroup")
        check_eq(verdict, "BAD")
        check_in("cgroupns", text)
        d.set_cgroup(current=30 * MIB, path="/docker/x")
        d.wait_position(0)
        # Its files come one after the other, and may be read half way.
        check(1 <= len(lines(d, "cgroup is known: no limit")) <= 2, "it is reported")


@test
@steady
def without_cgroups_nothing_waits():
    """A kernel that does not account memory by cgroups is no reason to hold back."""
    def prepare(d):
        d.put("sys/fs/cgroup/cgroup.controllers", "cpu pids\n")
        d.put("proc/self/cgroup", "0::/user.slice\n")
    with daemon(prepare) as d:
        check_eq(d.status()["position"], 0)
        check_eq(lines(d, "cgroup is"), [])
        check_in("cgroup_enable=memory", finding(d, "cgroup")[1])


@test
@steady
def a_place_that_changes_is_found_again():
    """Moved, removed, without its controller, only readable: known again soon, a line or two each."""
    with daemon(lambda d: d.set_cgroup(current=30 * MIB, high=100 * MIB, path="/a/b")) as d:
        d.set_cgroup(current=30 * MIB, max=200 * MIB, path="/c")
        d.put("proc/self/cgroup", "0::/a/b\n")
        wait_until(lambda: left(d) == 70 * MIB, 10, "ours")
        folder = os.path.join(d.root, "sys/fs/cgroup/")

        def lose_files():
            for name in os.listdir(folder + "a/b"):
                os.remove(folder + "a/b/" + name)
        d.set_cgroup(current=60 * MIB, max=360 * MIB, path="/a")
        d.put("proc/self/cgroup", "0::/a/b\n")
        steps = (("moved", lambda: d.put("proc/self/cgroup", "0::/c\n"), 170),
                 ("moved back", lambda: d.put("proc/self/cgroup", "0::/a/b\n"), 70),
                 ("no controller", lose_files, 300),
                 ("a controller", lambda: d.set_cgroup(current=30 * MIB, high=110 * MIB, path="/a/b"),
                  80),
                 ("removed", lambda: shutil.rmtree(folder + "a/b"), 300),
                 ("outside", lambda: d.put("proc/self/cgroup", "0::/../c\n"), None),
                 ("inside", lambda: d.put("proc/self/cgroup", "0::/c\n"), 170))
        for what, change, want in steps:
            log = len(d.log())
            change()
            wait_until(lambda: left(d) == (want and want * MIB), 10, what)
            ebbd.pause(0.3)
            said = lines(d, "cgroup is ", log)
            check(1 <= len(said) <= 3, "%s: %r" % (what, said))
        check_eq(d.complete("x", max_tokens=2).status, 200)


@test
@steady
def a_real_limit_is_read():
    """A cgroup of this machine, of the version that it has; a limit set later is seen without a new
    look, and is taken away."""
    with cage.Cage() as c:
        d = ebbd.Daemon(ebbd.wide_pack(), SETTINGS, start=False)
        d.settings["sense"].update({"root": "/", "rescan": "60min"})
        d.settings["memory"]["reserve"] = "0B"
        d.write_config()
        d.wrap = c.wrap
        d.start()
        with d:
            before = left(d)
            place = 100 * MIB
            c.limit(c.used() + place)
            wait_until(lambda: left(d) not in (None, before), 10, "it is read")
            check(place / 2 < left(d) < 2 * place, "left: %r" % left(d))
            c.limit(c.used() + 2 * place)
            wait_until(lambda: left(d) > place * 1.5, 10, "it is read again")
            print("    %s: %r" % (c.what, finding_of(d, "cgroup")))
            # Moved, and the old one removed: its descriptors say so, or would answer for ever.
            old = c.v1 or c.v2
            other = old + "-b"
            os.mkdir(other)
            try:
                write(other + ("/memory.limit_in_bytes" if c.v1 else "/memory.max"), 300 * MIB)
                write(other + "/cgroup.procs", d.process.pid)
                wait_until(lambda: os.path.basename(other) in finding_of(d, "cgroup"), 10, "moved")
                if c.v1:
                    c.remove(old)
                ebbd.pause(0.5)
                check(100 * MIB < left(d) <= 300 * MIB, "left: %r" % left(d))
                check_eq(len(lines(d, "cgroup is unknown")), 0)
                d.stop()
            finally:
                d.kill()
                c.remove(other)


def write(path, value):
    with open(path, "w") as f:
        f.write("%d" % value)


def finding_of(d, name):
    return next(x["value"] for x in d.status()["sources"] if x["name"] == name)


@test
@steady
def what_flaps_is_counted():
    """A source that fails at every second reading and one that goes and comes back: a line at once,
    then one each sense.report, with a count, and the last one is true."""
    with daemon(lambda d: d.set_zone(0, "cpu-thermal", 40), {"sense": {"report": "1500ms"}}) as d:
        wait_until(lambda: d.metrics()['ebb_sensor_known{source="heat"}'] == 1, 10, "it is read")
        temp = os.path.join(d.root, "sys/class/thermal/thermal_zone0/temp")
        log, start = len(d.log()), time.monotonic()
        for i in range(130):
            if i % 2:
                d.put("proc/pressure/memory", "")
            else:
                d.set_pressure(0, 0)
            if i % 26 == 0:  # it is read each second
                os.rename(temp, temp + ".kept")
            elif i % 26 == 13:
                os.rename(temp + ".kept", temp)
            ebbd.pause(0.05)
        d.set_pressure(0, 0)
        most = int((time.monotonic() - start) / 1.5) + 2

        def last(source):
            said = lines(d, ">" + source, log)
            return said[-1] if said else ""
        for source in ("stall", "heat"):
            wait_until(lambda: " known: " in last(source), 10,
                       "the last line on %s says that it is known" % source)
        ebbd.pause(2)
        for source in ("stall", "heat"):
            said = lines(d, ">" + source, log)
            check(2 <= len(said) <= most + 1, "%s: %d lines: %r" % (source, len(said), said))
            counts = [int(n) for n in re.findall(r"(\d+) changes in \d+ s, now ", "".join(said))]
            print("    %s: %d lines, %d changes counted" % (source, len(said), sum(counts)))
            if source == "stall":
                check(sum(counts) > 10, "they are counted: %r" % said)


main()
