"""`ebb doctor` on fake machines: a stock Raspberry Pi 5, a systemd 257 machine with everything, one
with nothing, and what is wrong one thing at a time. Files are real, below --root; the daemon is this
program, which answers as one would."""
import json
import os
import shutil
import socket
import tempfile
import threading

import ebbd
from harness import check, check_eq, check_in, main, test
from screen import Terminal

MIB = 1 << 20
PID = os.getpid()
PSI = ("some avg10=0.00 avg60=0.00 avg300=0.00 total=1000\n"
       "full avg10=0.00 avg60=0.00 avg300=0.00 total=500\n")
VMSTAT = ("workingset_refault_file 10\npgmajfault 5\nallocstall_normal 0\npswpout 0\n"
          "allocstall_movable 0\n")
EVENTS = "low 0\nhigh %d\nmax 0\noom 0\noom_kill %d\n"
UNIT = "/sys/fs/cgroup/system.slice/ebbd.service/"
ZONE = "/sys/class/thermal/thermal_zone0/"
CPU = "/sys/devices/system/cpu/cpufreq/policy0/"
OF_PID = "/proc/%d/" % PID
MEMINFO = "MemTotal: 8000000 kB\nMemFree: 100 kB\nMemAvailable: 5000000 kB\n"
LIMITS = ("Limit                     Soft Limit           Hard Limit           Units\n"
          "Max open files            8192                 8192                 files\n")
MOUNTS = ("30 25 0:26 / /proc rw,nosuid - proc proc rw\n"
          "31 25 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n")

STATUS = {"state": "ready", "level": 0, "position": 0, "positions": 31,
          "resident_bytes": 200 * MIB, "kv_bytes": 10 * MIB, "scratch_bytes": 10 * MIB,
          "duty": 100, "memory": {"source": "watch"}, "paging": {"state": "on", "units": 0},
          "heat": {"stage": 0, "headroom_celsius": 20.5}, "reload": {"result": "ok"},
          "sources": [{"name": n, "state": "known", "why": "", "value": v} for n, v in (
              ("mem_available", "4882 MiB"), ("cgroup", "500 MiB left"),
              ("stall", "some 0.001 s, full 0.000 s in all (cgroup)"), ("refaults", "10 pages"),
              ("own_faults", "5"), ("heat", "50.0 C at soc-thermal"), ("cooling", "idle"),
              ("clock", "100.0 % of the greatest"))] + [
              {"name": "throttle", "state": "absent", "why": "no Raspberry Pi", "value": ""}]}

FULL = {
    "/proc/meminfo": MEMINFO, "/proc/vmstat": VMSTAT, "/proc/pressure/memory": PSI,
    "/proc/cmdline": "console=ttyS2 root=/dev/mmcblk0p2 rw psi=1\n",
    "/proc/self/cgroup": "0::/user.slice\n", "/proc/self/stat": "1 (a) R" + " 0" * 30 + "\n",
    "/proc/self/smaps": "00400000-00401000 r-xp\nSize: 4 kB\nKernelPageSize:        4 kB\n",
    "/proc/swaps": "Filename Type Size Used Priority\n",
    "/proc/device-tree/model": "Radxa ROCK 5B\0", "/proc/sys/kernel/osrelease": "6.12.0\n",
    "/proc/sys/vm/overcommit_memory": "0\n",
    "/sys/kernel/mm/lru_gen/enabled": "0x0007\n", "/sys/kernel/mm/lru_gen/min_ttl_ms": "0\n",
    "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
    UNIT + "memory.current": "300000000\n", UNIT + "memory.high": "max\n",
    UNIT + "memory.max": "%d\n" % (2048 * MIB), UNIT + "memory.events": EVENTS % (0, 0),
    ZONE + "type": "soc-thermal\n", ZONE + "temp": "50000\n", ZONE + "mode": "enabled\n",
    ZONE + "trip_point_0_type": "passive\n", ZONE + "trip_point_0_temp": "75000\n",
    ZONE + "trip_point_1_type": "critical\n", ZONE + "trip_point_1_temp": "115000\n",
    CPU + "scaling_max_freq": "2400000\n", CPU + "cpuinfo_max_freq": "2400000\n",
    CPU + "scaling_cur_freq": "1800000\n", CPU + "scaling_governor": "schedutil\n",
    CPU + "scaling_driver": "cpufreq-dt\n",
    "/usr/lib/aarch64-linux-gnu/systemd/libsystemd-shared-257.so": "x",
    OF_PID + "limits": LIMITS, OF_PID + "cgroup": "0::/system.slice/ebbd.service\n",
    OF_PID + "status": "Name:\tebbd\nVmLck:\t    3152 kB\nVmRSS:\t  300000 kB\n"
                       "VmSwap:\t       0 kB\n",
    OF_PID + "mountinfo": MOUNTS,
    OF_PID + "environ": "A=1\0MEMORY_PRESSURE_WATCH=/sys/fs/cgroup/x/memory.pressure\0B=2\0",
}

PI = {
    "/proc/meminfo": MEMINFO, "/proc/vmstat": VMSTAT,
    "/proc/cmdline": "reboot=w coherent_pool=1M 8250.nr_uarts=1 pci=pcie_bus_safe "
                     "cgroup_disable=memory numa_policy=interleave numa=fake=8 console=tty1\n",
    "/boot/firmware/cmdline.txt": "console=tty1 root=PARTUUID=1-02 rootwait\n",
    "/proc/self/cgroup": "0::/user.slice\n", "/proc/self/stat": "1 (a) R" + " 0" * 30 + "\n",
    "/proc/self/smaps": "00400000-00404000 r-xp\nKernelPageSize:       16 kB\n",
    "/proc/swaps": "Filename Type Size Used Priority\n/var/swap file 524272 0 -2\n",
    "/proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "/proc/sys/kernel/osrelease": "6.12.25+rpt-rpi-2712\n",
    "/proc/sys/vm/overcommit_memory": "0\n",
    "/sys/kernel/mm/lru_gen/enabled": "0x0003\n", "/sys/kernel/mm/lru_gen/min_ttl_ms": "0\n",
    "/sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never\n",
    "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io pids\n",
    "/sys/fs/cgroup/user.slice/cgroup.procs": "1\n",
    ZONE + "type": "cpu-thermal\n", ZONE + "temp": "81200\n", ZONE + "mode": "enabled\n",
    ZONE + "trip_point_0_type": "passive\n", ZONE + "trip_point_0_temp": "80000\n",
    ZONE + "trip_point_1_type": "critical\n", ZONE + "trip_point_1_temp": "110000\n",
    "/sys/devices/platform/soc@107c000000/firmware/get_throttled": "50005\n",
    CPU + "scaling_max_freq": "1500000\n", CPU + "cpuinfo_max_freq": "2400000\n",
    CPU + "scaling_cur_freq": "1500000\n", CPU + "scaling_governor": "ondemand\n",
    CPU + "scaling_driver": "cpufreq-dt\n",
    "/usr/lib/aarch64-linux-gnu/systemd/libsystemd-shared-252.so": "x",
    OF_PID + "limits": LIMITS, OF_PID + "cgroup": "0::/system.slice/ebbd.service\n",
}


class Server:
    """Listens as daemon and admin in a folder of its own; answers /health and /ebb/status."""

    def __init__(self, status):
        self.folder = tempfile.mkdtemp(dir=ebbd.TMP)
        self.path = os.path.join(self.folder, "ebb.sock")
        self.status = status
        self.listeners = [self.listen("ebb.sock"), self.listen("admin.sock")]
        os.chmod(self.path, 0o660)

    def listen(self, name):
        s = socket.socket(socket.AF_UNIX)
        s.bind(os.path.join(self.folder, name))
        s.listen(16)
        threading.Thread(target=self.serve, args=(s,), daemon=True).start()
        return s

    def serve(self, listener):
        while True:
            try:
                conn, _ = listener.accept()
                data = conn.recv(65536)
                body = {"status": "ok"} if b" /health " in data else self.status
                text = json.dumps(body).encode()
                if data:
                    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
                conn.close()
            except OSError:
                if listener.fileno() < 0:
                    return

    def close(self):
        for s in self.listeners:
            s.shutdown(socket.SHUT_RDWR)
            s.close()


def make_root(files):
    root = tempfile.mkdtemp(dir=ebbd.TMP)
    for rel, text in files.items():
        if text is None:
            continue
        os.makedirs(os.path.dirname(root + rel), exist_ok=True)
        if isinstance(text, tuple):
            os.symlink(text[0], root + rel)
            continue
        with open(root + rel, "w") as f:
            f.write(text)
    return root


def doctor(files, status, json_too=True):
    """(exit status, {check: [(verdict, finding, advice)]}, text)"""
    root, s = make_root(files), Server(status)
    args = ("doctor", "--root", root)
    text = ebbd.ebb(type("D", (), {"socket": s.path}), *args)
    check_eq(text.stderr, "")
    r = ebbd.ebb(type("D", (), {"socket": s.path}), *args, "--json")
    found = {}
    for x in json.loads(r.stdout):
        check_eq("advice" in x and x["verdict"] == "ok", False, "advice where all is well: ")
        found.setdefault(x["check"], []).append((x["verdict"], x["finding"], x.get("advice", "")))
    check_eq(r.returncode, text.returncode)
    s.close()
    shutil.rmtree(root)
    return r.returncode, found, text.stdout


def expect(found, name, verdict, *words):
    check(name in found, "no finding %s among %s" % (name, sorted(found)))
    all_text = " ".join(" ".join(x) for x in found[name])
    check_eq([x[0] for x in found[name]], [verdict] * len(found[name]), "%s (%s): " % (name, all_text))
    for w in words:
        check_in(w, all_text, name + ": ")


def one_thing(change, name, verdict, *words, status=None, code=None):
    """The full machine with some files changed (None: removed; a tuple: a link to that)."""
    r, found, _ = doctor(dict(FULL, **change), dict(STATUS, **(status or {})))
    expect(found, name, verdict, *words)
    check_eq(r, (1 if verdict == "BAD" else 0) if code is None else code)


@test
def a_machine_with_everything():
    r, found, text = doctor(FULL, STATUS)
    bad = [(k, x) for k, v in found.items() for x in v if x[0] != "ok"]
    check_eq(bad, [])
    check_eq(r, 0)
    check(text.endswith("all well\n"), text)
    expect(found, "watch", "ok", "in use")
    expect(found, "source", "ok", "service manager")
    expect(found, "pressure", "ok", "some 0.001 s")
    expect(found, "zone", "ok", "soc-thermal: 50.0 C, slowed from 75.0 C", "115.0 C",
           "not to reach 75.0 C (what the kernel slows it down to)")
    expect(found, "cores", "ok", "nothing says which of them are big")
    expect(found, "cpu quota", "ok", "no limit")
    expect(found, "cpufreq", "ok", "1800 MHz now, at most 2400 of 2400 MHz, governor schedutil")
    expect(found, "memory.max", "ok", "2.0 GiB at /system.slice/ebbd.service", "220.0 MiB")
    expect(found, "limits", "ok", "8192 files")
    expect(found, "board", "ok", "ROCK 5B, kernel 6.12.0")
    expect(found, "pages", "ok", "4096")


@test
def a_stock_raspberry_pi():
    # Of the daemon: no list of sources (an older one), meminfo alone, under-voltage.
    status = dict(STATUS, memory={"source": "meminfo"})
    del status["sources"]
    r, found, text = doctor(PI, status)
    check_eq(r, 1)
    expect(found, "source", "note", "MemAvailable alone")
    expect(found, "pressure", "note", "add psi=1 to the one line of /boot/firmware/cmdline.txt",
           "stock kernel has it built in, and off")
    expect(found, "cgroup", "note", "cgroup_disable=memory (the firmware adds it",
           "add cgroup_enable=memory to the one line of /boot/firmware/cmdline.txt")
    expect(found, "throttle", "BAD", "under-voltage now", "throttled now", "supply")
    expect(found, "zone", "note", "cpu-thermal: 81.2 C, slowed from 80.0 C", "fan")
    expect(found, "cpufreq", "note", "at most 1500 of 2400 MHz", "capped")
    expect(found, "pages", "ok", "16384 bytes", "Raspberry Pi 5")
    expect(found, "swap", "note", "1 on disk", "worse than paging", "swapoff")
    expect(found, "watch", "ok", "systemd 252 does not know MemoryPressureWatch=")
    expect(found, "huge pages", "ok", "always")
    expect(found, "board", "ok", "Raspberry Pi 5 Model B")
    check("own_faults" not in found, "faults of the doctor itself are not told")
    check_in("BAD   throttle", text)
    check("all well" not in text, text)


@test
def the_same_put_right():
    cmdline = PI["/proc/cmdline"].strip() + " psi=1 cgroup_enable=memory\n"
    status = dict(STATUS, memory={"source": "cgroup"})
    del status["sources"]
    _, found, _ = doctor(dict(PI, **{
        "/proc/cmdline": cmdline, "/proc/pressure/memory": PSI,
        "/sys/fs/cgroup/user.slice/memory.current": "1\n",
        "/sys/fs/cgroup/user.slice/memory.high": "max\n",
        "/sys/fs/cgroup/user.slice/memory.max": "max\n",
        "/sys/fs/cgroup/user.slice/memory.events": EVENTS % (0, 0),
        "/sys/fs/cgroup/user.slice/memory.stat":
            "inactive_file 0\nactive_file 0\nworkingset_refault_file 0\npgmajfault 0\n",
        "/sys/devices/platform/soc@107c000000/firmware/get_throttled": "50000\n"}), status)
    expect(found, "pressure", "ok", "full")
    expect(found, "cgroup", "ok", "no limit")
    expect(found, "throttle", "note", "under-voltage since boot")


@test
def a_machine_with_nothing():
    status = {"state": "ready", "memory": {"source": None}}
    r, found, _ = doctor({}, status)
    check_eq(r, 1)
    expect(found, "source", "BAD", "no reading of memory")
    expect(found, "meminfo", "BAD", "ProcSubset=pid")
    expect(found, "pressure", "note", "psi=1")
    expect(found, "cgroup", "note", "cgroup_enable=memory")
    expect(found, "vmstat", "note")
    expect(found, "thermal", "note", "virtual machine")
    expect(found, "limits", "note", "cannot read")
    expect(found, "watch", "ok", "no systemd")
    expect(found, "pages", "ok", "unknown")
    for absent in ("cooling", "clock", "throttle", "lru_gen", "huge pages"):
        expect(found, absent, "ok")
    # And without a daemon.
    root = make_root({})
    r = ebbd.ebb(type("D", (), {"socket": ebbd.TMP + "/none.sock"}), "doctor", "--root", root)
    check_eq(r.returncode, 1)
    check_in("BAD   socket", r.stdout)
    check_in("BAD   meminfo", r.stdout)


@test
def stalls_and_command_lines():
    def absent(name, why="no such file"):
        return {"sources": [{"name": name, "state": "absent", "why": why, "value": ""}]}
    line, grub = "/proc/cmdline", "/etc/default/grub"
    one_thing({line: "quiet psi=0\n"}, "pressure", "note", "change psi=0 to psi=1", grub,
              status=absent("stall"))
    one_thing({line: "psi=0 psi=on\n"}, "pressure", "note", "without CONFIG_PSI",
              status=absent("stall"))
    one_thing({line: "psi=1 psi=off\n"}, "pressure", "note", "change psi=0", status=absent("stall"))
    one_thing({line: None}, "pressure", "note", "add psi=1", status=absent("stall"))
    one_thing({line: "cgroup_disable=io,memory\n"}, "cgroup", "note", "was started with",
              status=absent("cgroup"))
    one_thing({line: "cgroup_disable=memory cgroup_enable=memory\n"}, "cgroup", "note",
              "limits of the unit do nothing", status=absent("cgroup"))
    one_thing({line: "cgroup_enable=memory cgroup_disable=memoryx\n"}, "cgroup", "note",
              "limits of the unit do nothing", status=absent("cgroup"))
    one_thing({line: "quiet\n", "/boot/cmdline.txt": "x\n"}, "pressure", "note", "/boot/cmdline.txt",
              status=absent("stall"))
    one_thing({}, "pressure", "note", "unknown: it hangs", status={"sources": [
        {"name": "stall", "state": "unknown", "why": "it hangs", "value": ""}]})
    one_thing({}, "meminfo", "BAD", "gone", status=absent("mem_available", "gone"))


@test
def the_pressure_file():
    psi = {"memory": {"source": "system"}}
    env = OF_PID + "environ"
    one_thing({env: "A=1\0"}, "watch", "note", "systemd 257", "20-memory-pressure.conf", status=psi)
    one_thing({env: "MEMORY_PRESSURE_WATCH=/dev/null\0"}, "watch", "note",
              "MemoryPressureWatch=on", status=psi)
    one_thing({}, "watch", "note", "/sys/fs/cgroup/x/memory.pressure, and it is not in use",
              status=psi)
    one_thing({OF_PID + "fd/3": ("/sys/fs/cgroup/x/memory.pressure",)}, "watch", "ok",
              "holds /sys/fs/cgroup/x/memory.pressure open", status=psi)
    one_thing({OF_PID + "fd/3": ("/sys/fs/cgroup/y/memory.pressure",)}, "watch", "note",
              "not in use", status=psi)
    one_thing({env: None}, "watch", "note", "daemon's user or root", status=psi)
    one_thing({env: "XMEMORY_PRESSURE_WATCH=/a\0"}, "watch", "note", "does not ask", status=psi)
    one_thing({OF_PID + "mountinfo": MOUNTS.replace("/sys/fs/cgroup rw", "/sys/fs/cgroup ro")},
              "control groups", "ok", "ProtectControlGroups=")
    one_thing({OF_PID + "mountinfo": MOUNTS.replace("proc proc rw", "proc proc rw,subset=pid")},
              "ProcSubset", "BAD", "remove ProcSubset=pid")


@test
def limits_of_the_unit():
    one_thing({UNIT + "memory.high": "%d\n" % (210 * MIB)}, "memory.high", "BAD",
              "the kernel slows it down", "raise MemoryHigh= of /system.slice/ebbd.service")
    one_thing({UNIT + "memory.high": "%d\n" % (230 * MIB)}, "memory.high", "note")
    one_thing({OF_PID + "status": "VmLck:\t       0 kB\nVmSwap:\t       0 kB\n"}, "program", "note",
              "raise LimitMEMLOCK=")
    one_thing({UNIT + "memory.max": "%d\n" % (100 * MIB)}, "memory.max", "BAD", "kills the daemon")
    one_thing({"/sys/fs/cgroup/system.slice/memory.max": "%d\n" % (50 * MIB)}, "memory.max", "BAD",
              "50.0 MiB at /system.slice")
    one_thing({UNIT + "memory.events": EVENTS % (7, 0)}, "memory.events", "note", "7 times")
    one_thing({UNIT + "memory.events": EVENTS % (7, 2)}, "memory.events", "BAD", "killed 2 times")
    one_thing({OF_PID + "cgroup": "0::/user.slice/session-1.scope\n"}, "unit", "note", "by hand")
    v1 = {"/sys/fs/cgroup/cgroup.controllers": None,
          OF_PID + "cgroup": "9:memory:/system.slice/ebbd.service\n"
                             "1:name=systemd:/system.slice/ebbd.service\n",
          "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
          "/sys/fs/cgroup/memory/system.slice/ebbd.service/cgroup.procs": "77\n",
          "/sys/fs/cgroup/memory/system.slice/memory.limit_in_bytes": "%d\n" % (100 * MIB)}
    one_thing(v1, "memory.limit_in_bytes", "BAD", "100.0 MiB at /system.slice", "version 1 have no")
    one_thing(v1, "unit", "ok", "cgroup /system.slice/ebbd.service", code=1)
    v1["/sys/fs/cgroup/memory/system.slice/memory.limit_in_bytes"] = "9223372036854771712\n"
    one_thing(v1, "memory.limit_in_bytes", "ok", "no MemoryMax= is set")
    unknown = [dict(x, state="unknown", value="", why="y") if x["name"] == "cgroup" else x
               for x in STATUS["sources"]]
    one_thing({}, "cgroup", "BAD", "unknown: y", "--cgroupns=private", status={"sources": unknown})
    one_thing({OF_PID + "limits": LIMITS.replace("8192 ", "64   ")}, "limits", "note",
              "LimitNOFILE=")
    one_thing({OF_PID + "status": "VmRSS:\t1 kB\nVmSwap:\t  20480 kB\n"}, "swapped", "note",
              "20.0 MiB of the daemon", "MemorySwapMax=0")


@test
def settings_of_the_kernel():
    swaps = FULL["/proc/swaps"]
    thp = "/sys/kernel/mm/transparent_hugepage/enabled"
    one_thing({"/proc/swaps": swaps + "/dev/zram0 partition 1 0 100\n"}, "swap", "note", "zram",
              "do not compress")
    one_thing({"/proc/swaps": swaps + "/dev/zram0 partition 1 0 100\n/dev/sda2 partition 1 0 -2\n"},
              "swap", "note", "1 on disk, and zram")
    one_thing({"/proc/swaps": swaps + "/dev/sda2 partition 1 0 -2\n",
               UNIT + "memory.swap.max": "0\n"}, "swap", "ok", "closed to the daemon")
    one_thing({"/proc/swaps": swaps + "/dev/sda2 partition 1 0 -2\n",
               UNIT + "memory.swap.max": "max\n"}, "swap", "note", "swapoff")
    one_thing({"/sys/kernel/mm/lru_gen/min_ttl_ms": "1000\n"}, "lru_gen", "note",
              "kills at once", "last 1000 ms", "memory.reserve")
    one_thing({"/sys/kernel/mm/lru_gen/enabled": "0x0000\n"}, "lru_gen", "note", "and off")
    one_thing({"/proc/sys/vm/overcommit_memory": "2\n"}, "overcommit", "note", "strict accounting")
    one_thing({thp: "always madvise [never]\n"}, "huge pages", "note", "echo madvise")
    one_thing({"/proc/self/smaps": "KernelPageSize: 64 kB\n"}, "pages", "note", "65536 bytes")
    one_thing({CPU + "scaling_governor": "powersave\n"}, "cpufreq", "note", "ondemand")
    one_thing({CPU + "scaling_governor": "powersave\n", CPU + "scaling_driver": "intel_pstate\n"},
              "cpufreq", "ok")
    one_thing({"/proc/meminfo": "MemTotal: 1000000 kB\nMemAvailable: 50000 kB\n"}, "memory", "note",
              "48.8 MiB of 976.6 MiB")
    one_thing({ZONE + "temp": "what\n"}, "zone", "note", "no temperature now")


def zones(*all_zones):
    """Files of thermal zones: (type, degrees, trips of (kind, degrees))."""
    files = {name: None for name in FULL if name.startswith(ZONE)}
    for n, (kind, celsius, *trips) in enumerate(all_zones):
        folder = ZONE.replace("zone0", "zone%d" % n)
        files[folder + "type"] = kind + "\n"
        files[folder + "temp"] = "%d\n" % round(celsius * 1000)
        for i, (trip, at) in enumerate(trips):
            files[folder + "trip_point_%d_type" % i] = trip + "\n"
            files[folder + "trip_point_%d_temp" % i] = "%d\n" % round(at * 1000)
    return files


@test
def zones_of_boards():
    jetson = zones(("CPU-therm", 35, ("passive", 97), ("critical", 102.5)), ("GPU-therm", 34),
                   ("PMIC-Die", 100), ("thermal-fan-est", 35))
    one_thing(jetson, "other zones", "ok", "GPU-therm (not the processor), PMIC-Die (a power "
              "regulator), thermal-fan-est (a fan)")
    one_thing(jetson, "zone", "ok", "CPU-therm: 35.0 C", "not to reach 97.0 C")
    one_thing(zones(("cpu", 45), ("soc", 97)), "other zones", "ok",
              "soc (perhaps a battery's charge)")
    odd = zones(("acpitz", 45, ("passive", 20), ("critical", 110)))
    one_thing(odd, "trip", "note", "a passive trip point of 20.0 C is ignored",
              "80.0 C counts instead (10 C below where it is switched off, and 80 C at most)",
              "heat.trip")
    one_thing(zones(("cpu", 45, ("critical", 0))), "trip", "note", "critical trip point of 0.0 C",
              "80.0 C counts instead (as no trip point is known)")
    one_thing(zones(("cpu-thermal", 84, ("critical", 110))), "zone", "note",
              "84.0 C, switched off at 110.0 C; not to reach 80.0 C", "heat sink or a fan")
    # What the daemon goes by counts, where it says it.
    theirs = {"type": "cpu-thermal", "zone": 0, "wanted": True, "trip_celsius": 60,
              "trip_source": "set", "changed": False}
    pi = zones(("cpu-thermal", 65, ("critical", 110)))
    one_thing(pi, "zone", "note", "not to reach 60.0 C (heat.trip)", status={"thermal": [theirs]})
    one_thing(pi, "stuck zone", "note", "no other temperature since", "heat.zones",
              status={"thermal": [theirs]})
    one_thing(pi, "other zones", "ok", "cpu-thermal (not in heat.zones)",
              status={"thermal": [dict(theirs, wanted=False)]})
    for strange in ({"thermal": 7}, {"thermal": [None, 7, {}]}, {"thermal": [
            dict(theirs, zone=1)]}, {"thermal": [dict(theirs, trip_celsius="x", wanted="y")]}):
        one_thing(pi, "zone", "ok", "not to reach 80.0 C", status=strange)


@test
def cpus_that_may_be_used():
    unit = "/sys/fs/cgroup/system.slice/"
    allowed = {OF_PID + "status": "Name:\tebbd\nCpus_allowed_list:\t0-1\nVmSwap:\t       0 kB\n"}
    clock = "/sys/devices/system/cpu/cpu%d/cpufreq/cpuinfo_max_freq"
    capacity = "/sys/devices/system/cpu/cpu%d/cpu_capacity"
    one_thing(dict(allowed, **{clock % 0: "800000\n", clock % 1: "2400000\n"}), "cores", "ok",
              "CPUs 1, the big ones by cpuinfo_max_freq: cores to compute on: 1")
    one_thing(dict(allowed, **{capacity % 0: "1024\n", capacity % 1: "1024\n"}), "cores", "ok",
              "CPUs 0-1, all alike by cpu_capacity: cores to compute on: 2")
    one_thing({unit + "cpu.max": "50000 100000\n"}, "cpu quota", "note",
              "0.50 CPUs by cpu.max at /system.slice: threads that compute: 1", "CPUQuota=",
              status={"threads_max": 2})
    one_thing({unit + "cpu.max": "250000 100000\n"}, "cpu quota", "ok", "compute: 2 at most",
              status={"threads_max": 2})
    one_thing({unit + "cpu.max": "max 100000\n"}, "cpu quota", "ok", "no limit")
    one_thing({unit + "cpu.max": "what\n"}, "cpu quota", "note", "unknown")
    one_thing({OF_PID + "cgroup": "4:cpu:/x\n0::/system.slice/ebbd.service\n",
               "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
               "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, "cpu quota", "note",
              "cpu.cfs_quota_us at /", status={"threads_max": 2})


@test
def wrapped_on_a_terminal():
    root, s = make_root(PI), Server(dict(STATUS, memory={"source": "meminfo"}, sources=[]))
    whole = ebbd.ebb(type("D", (), {"socket": s.path}), "doctor", "--root", root).stdout
    for cols in (30, 60, 100, 200):
        with Terminal("-s", s.path, "doctor", "--root", root, cols=cols, rows=200) as t:
            check_eq(t.p.wait(20), 1)
            t.wait("bad,", "to note")
            rows = [x for x in t.text().splitlines() if x]
            check_eq(max(len(x) for x in rows) <= cols, True)
            for x in rows[:-1] if cols > 50 else []:
                check(x[:5].strip() in ("ok", "note", "BAD") or x.startswith(" " * 21), x)
            # Wrapped between words, and none is lost; a path may be longer than a narrow row.
            if cols >= 100:
                check_eq(" ".join(t.text().split()), " ".join(whole.split()))
    s.close()


@test
def what_the_status_says():
    one_thing({}, "precision", "BAD", "over the budget (mem_available)", "smaller model",
              status={"level": 3, "position": 31,
                      "memory": {"source": "watch", "reason": "mem_available"}})
    one_thing({}, "precision", "note", "31 of 31", status={"position": 31})
    one_thing({}, "paging", "BAD", "dmesg", status={"paging": {"state": "failing"}})
    one_thing({}, "heat", "note", "stage 3, duty 40%, headroom -",
              status={"heat": {"stage": 3}, "duty": 40})
    one_thing({}, "peer", "ok", "two (pid 7) shares memory: weight 300, holds 120.0 MiB; it rises",
              status={"peers": [{"name": "two", "pid": 7, "weight": 300, "rising": True,
                                 "held_bytes": 120 << 20}]})
    one_thing({}, "reload", "note", "line 3: unknown key",
              status={"reload": {"result": "failed", "error": "line 3: unknown key"}})
    one_thing({}, "source", "note", "page faults", status={"memory": {"source": "vmstat"}})
    one_thing({}, "source", "BAD", "telepathy", status={"memory": {"source": "telepathy"}})


@test
def hostile_files_and_words():
    evil = "\x1b]0;own\x07\x1b[2J\x9b1m%s%n" + "A" * 5000
    files = {k: evil for k in FULL}
    files.pop("/usr/lib/aarch64-linux-gnu/systemd/libsystemd-shared-257.so")
    files[OF_PID + "environ"] = "MEMORY_PRESSURE_WATCH=" + evil
    files[OF_PID + "cgroup"] = "0::/../" + evil + "\n"
    files["/usr/lib/x/systemd/libsystemd-shared-999999999.so"] = ""
    files["/proc/swaps"] = "\n" + evil + "\n\n\n" + evil
    status = dict(STATUS, memory={"source": evil, "reason": evil}, paging={"state": evil},
                  peers=[{"name": evil, "pid": evil}, 7, {"rising": True}], reload={"result": "failed", "error": evil}, sources=[
                      {"name": evil, "state": "known", "value": evil},
                      {"name": evil, "state": evil, "why": evil}, {"name": "stall"}, 7, None])
    r, found, _ = doctor(files, status)
    check_eq(r, 1)
    expect(found, "pages", "ok", "unknown")
    root, s = make_root(files), Server(status)
    with Terminal("-s", s.path, "doctor", "--root", root, cols=4000, rows=100) as t:
        check_eq(t.p.wait(20), 1)
        t.wait("to note")
    # Folders and a FIFO in the place of files: it neither hangs nor takes them for answers.
    for rel in ("/proc/meminfo", "/proc/swaps", "/proc/cmdline"):
        os.remove(root + rel)
        os.mkfifo(root + rel)
    os.remove(root + "/proc/vmstat")
    os.mkdir(root + "/proc/vmstat")
    del status["sources"]
    r = ebbd.ebb(type("D", (), {"socket": s.path}), "doctor", "--root", root)
    check_eq(r.returncode, 1)
    check_in("BAD   meminfo", r.stdout)
    check_in("note  vmstat", r.stdout)
    s.close()


@test
def a_real_daemon():
    with ebbd.Daemon(ebbd.drawn_pack()) as d:
        r = ebbd.ebb(d, "doctor", "--json")
        found = {x["check"]: x["verdict"] for x in json.loads(r.stdout)}
        for name in ("socket", "admin socket", "health", "precision", "limits", "meminfo"):
            check_eq(found[name], "ok", name + ": ")
        check(all(x["finding"] for x in json.loads(r.stdout)), "words")


main()
