"""Sensors as boards have them, each of which once made the daemon act on heat that is not there, or
not at all: in the real daemon on a fake root. What is chosen on which board is in
tests/unit/test_boards.c."""
import os

import ebbd
from harness import check, check_eq, check_in, main, steady, test, wait_until
from heat import UNKNOWN_STAGE, stage, wait_stage

SETTINGS = {"serve": {"threads": 2}, "heat": {"hold": "500ms"}}
FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"


def zone(d, number, kind, celsius, *trips):
    """trips: (type, celsius), in the order of the board."""
    folder = "sys/class/thermal/thermal_zone%d/" % number
    for i, (trip, at) in enumerate(trips):
        d.put(folder + "trip_point_%d_temp" % i, "%d\n" % round(at * 1000))
        d.put(folder + "trip_point_%d_type" % i, trip + "\n")
    d.put(folder + "mode", "enabled\n")
    d.put(folder + "temp", "%d\n" % round(celsius * 1000))
    d.put(folder + "type", kind + "\n")


def board(zones, settings=None, files=None):
    d = ebbd.Daemon(ebbd.tiny_pack(), SETTINGS, start=False)
    for section, keys in (settings or {}).items():
        d.settings[section].update(keys)
    d.write_config()
    for rel, text in (files or {}).items():
        d.put(rel, text)
    for number, args in enumerate(zones):
        zone(d, number, *args)
    d.start()
    wait_until(lambda: len(d.status()["thermal"]) == len(zones), 10, "the zones are read")
    ebbd.pause(3)  # two readings, and more
    return d


def chosen(d):
    """{type: (trip, where it is from)} of the zones that count."""
    return {z["type"]: (z["trip_celsius"], z["trip_source"])
            for z in d.status()["thermal"] if z["wanted"]}


def serves(d, stage_wanted=0):
    check_eq(stage(d), stage_wanted, "the stage of heat")
    check_eq(d.complete("x", max_tokens=2).status, 200)


@test
@steady
def a_regulator_that_says_100_c():
    """A Jetson Nano."""
    zones = (("AO-therm", 41.5, ("critical", 105)),
             ("CPU-therm", 35, ("passive", 97), ("critical", 102.5)), ("GPU-therm", 34),
             ("PLL-therm", 34.5), ("PMIC-Die", 100), ("thermal-fan-est", 35))
    with board(zones) as d:
        serves(d)
        check_eq(chosen(d), {"CPU-therm": (97, "passive")})


@test
@steady
def a_zone_that_has_never_changed():
    """It may be a sensor that is stuck: slower, but no precision less and no refusal; once it
    changes it is believed."""
    with board((("cpu-thermal", 40, ("passive", 85)), ("soc-thermal", 100, ("passive", 85)))) as d:
        serves(d, UNKNOWN_STAGE)
        s = d.status()
        check_eq((s["position"], s["heat"]["doubtful"], s["heat"]["headroom_celsius"]),
                 (0, True, -15))
        check_in("15.0 C above the trip point, by a zone that has never changed", d.log())
        zone(d, 1, "soc-thermal", 99, ("passive", 85))
        wait_stage(d, 7)
        check_eq(d.complete("x", max_tokens=2).status, 503)
        check_eq(d.status()["heat"]["doubtful"], False)
        zone(d, 1, "soc-thermal", 50, ("passive", 85))
        wait_stage(d, 0)


@test
@steady
def a_charge_is_no_temperature():
    """97 % of a battery."""
    with board((("cpu-0-0-usr", 45), ("soc", 97))) as d:
        serves(d)
        check_eq(chosen(d), {"cpu-0-0-usr": (80, "default")})
    with board((("soc", 97), ("battery", 99))) as d:
        serves(d)
        check_eq(chosen(d), {})


@test
@steady
def trip_points_that_are_none():
    for trips, want in (((("passive", 0), ("critical", 110)), (80, "critical")),
                        ((("critical", 0),), (80, "default")),
                        ((("passive", 20), ("critical", 110)), (80, "critical"))):
        with board((("cpu-thermal", 45) + trips,)) as d:
            serves(d)
            check_eq(chosen(d), {"cpu-thermal": want})


@test
@steady
def a_raspberry_pi_5():
    """84 C, where its firmware throttles; the kernel knows only where it switches off."""
    trips = (("critical", 110), ("active", 50), ("active", 60), ("active", 67.5), ("active", 75))
    with board((("cpu-thermal", 84) + trips,)) as d:
        zone(d, 0, "cpu-thermal", 84.5, *trips)  # of a sensor that lives
        wait_stage(d, 7)
        check_eq(chosen(d), {"cpu-thermal": (80, "critical")})
    # With a trip point that was set too high the firmware is what speaks.
    set_high = {"heat": {"trip": "95C"}}
    with board((("cpu-thermal", 84) + trips,), set_high, {FIRMWARE: "80000\n"}) as d:
        zone(d, 0, "cpu-thermal", 83.5, *trips)
        serves(d, 0)
        check_eq(d.status()["heat"]["cooling"], False)
        d.put(FIRMWARE, "80008\n")
        wait_stage(d, 1)
        check_eq(d.status()["heat"]["cooling"], True)
        check_in("the clock is throttled", d.log())
        zone(d, 0, "cpu-thermal", 80, *trips)
        d.put(FIRMWARE, "80005\n")  # a weak supply
        wait_stage(d, 0)
        check_eq(d.status()["heat"]["cooling"], False)


# --- CPUs ---

@test
@steady
def a_quota_of_cpus():
    """Half a CPU: one thread. It is followed while the daemon runs."""
    d = ebbd.Daemon(ebbd.tiny_pack(), SETTINGS, start=False)
    d.put("sys/fs/cgroup/cgroup.controllers", "cpu memory\n")
    d.put("proc/self/cgroup", "0::/a/ebb\n")
    d.put("sys/fs/cgroup/a/ebb/cpu.max", "max 100000\n")
    d.put("sys/fs/cgroup/a/cpu.max", "50000 100000\n")
    with d:
        d.start()
        wait_until(lambda: d.status()["threads"] == 1, 10, "one thread")
        s = d.status()
        check_eq((s["threads_max"], s["cpu_quota"]), (2, 0.5))
        check_eq(d.metrics()["ebb_cpu_quota"], 0.5)
        check_eq(d.complete("x", max_tokens=2).status, 200)
        d.put("sys/fs/cgroup/a/cpu.max", "150000 100000\n")
        wait_until(lambda: d.status()["threads"] == 2, 10, "two threads")
        d.put("sys/fs/cgroup/a/ebb/cpu.max", "100000 100000\n")
        wait_until(lambda: d.status()["threads"] == 1, 10, "one thread again")
        d.put("sys/fs/cgroup/a/ebb/cpu.max", "max 100000\n")
        d.put("sys/fs/cgroup/a/cpu.max", "max 100000\n")
        wait_until(lambda: d.status()["threads"] == 2, 10, "no limit")
        check_eq(d.status()["cpu_quota"], None)
        said = [x.split("the cgroup ", 1)[1] for x in d.log().splitlines() if "CPUs" in x and
                "the cgroup " in x]
        check_eq(said, ["/a may use 0.50 CPUs (cpu.max): at most 1 of 2 threads compute",
                        "/a may use 1.50 CPUs (cpu.max): at most 2 of 2 threads compute",
                        "/a/ebb may use 1.00 CPUs (cpu.max): at most 1 of 2 threads compute",
                        "may use all CPUs again: 2 threads"])


@test
@steady
def a_quota_of_version_1():
    d = ebbd.Daemon(ebbd.tiny_pack(), SETTINGS, start=False)
    d.put("proc/self/cgroup", "4:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n")
    d.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n")  # a mount of its own
    d.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    with d:
        d.start()
        wait_until(lambda: d.status()["threads"] == 1, 10, "one thread")
        check_eq(d.status()["cpu_quota"], 0.5)


@test
def a_little_core_by_its_clock():
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        return
    d = ebbd.Daemon(ebbd.tiny_pack(), {"serve": {"threads": 0}}, start=False)
    for cpu in os.sched_getaffinity(0):
        khz = 2400000 if cpu == cpus[1] else 800000
        d.put("sys/devices/system/cpu/cpu%d/cpufreq/cpuinfo_max_freq" % cpu, "%d\n" % khz)
    with d:
        d.start()
        s = d.status()
        check_eq((s["threads_max"], s["cpus"]), (1, str(cpus[1])))
        check(" 1 threads on CPUs %d" % cpus[1] in d.log(), d.log()[-500:])


main()
