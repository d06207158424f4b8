"""A daemon and its thermal zones, for the rows T of the fault list. The zones are read once a second,
so that a stage is entered after two of their readings; a machine that stands still makes them old,
which is why the tests are @steady."""
import ebbd
from harness import wait_until

TRIP = 85
THREADS = 4
UNKNOWN_STAGE = 2
SETTINGS = {"serve": {"threads": THREADS}, "heat": {"hold": "500ms"}, "sense": {"stale": "2s"}}


def started(zones, settings=None, env=None, pack=None):
    """A daemon that reads these zones ({number: (type, celsius)}), and has read them."""
    d = ebbd.Daemon(pack or ebbd.tiny_pack(), SETTINGS, start=False, env=env)
    for section, keys in (settings or {}).items():
        d.settings[section].update(keys)
    d.write_config()
    for number, (kind, celsius) in zones.items():
        d.set_zone(number, kind, celsius, passive=TRIP)
    d.start()
    wait_until(lambda: len(d.status()["thermal"]) == len(zones), 10, "the zones are read")
    return d


def stage(d):
    return d.status()["heat"]["stage"]


def wait_stage(d, n, seconds=20):
    wait_until(lambda: stage(d) == n, seconds, "heat stage %d" % n)


def seen_celsius(d, number):
    """What the daemon has read of a zone; None if it is unknown."""
    return next(z["celsius"] for z in d.status()["thermal"] if z["zone"] == number)


def moves(events):
    return [(x["from"], x["to"]) for _, e, x in list(events) if e == "heat"]
