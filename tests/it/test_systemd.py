"""The installed daemon under a real systemd: socket activation, restart, watchdog, reload, stop.

Rows of the fault list are the functions L<n>_...; rig.py makes the machine. EBB_KILLS sets how
often the daemon is killed under load (8)."""
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import ebbd
import rig
import wire
from harness import Failed, Skip, check, check_eq, check_in, main, steady, test, wait_until

UNIT = "ebbd.service"
SOCKETS = ("ebbd.socket", "ebbd-admin.socket")
RIG, WHY_NOT = None, None


def machine():
    """The one rig of this program, booted by the first test that wants it."""
    global RIG, WHY_NOT
    if WHY_NOT:
        raise WHY_NOT
    if not RIG:
        try:
            RIG = rig.Rig()
        except Skip as e:
            WHY_NOT = e
            raise
        shutil.copy(ebbd.tiny_pack(), RIG.path("/var/lib/ebb/tiny.ebb"))
        shutil.copy(ebbd.slow_pack(), RIG.path("/var/lib/ebb/slow.ebb"))
    return RIG


class Service(ebbd.Daemon):
    """The installed daemon, settled by /etc/ebb/NAME.yaml; it starts from nothing each time."""

    def __init__(self, pack="tiny", settings=None, drop_in=None, name=None):
        self.rig = machine()
        self.unit = "ebbd@%s.service" % name if name else UNIT
        self.sockets = ["ebbd@%s.socket" % name, "ebbd-admin@%s.socket" % name] if name else SOCKETS
        self.folder = "/run/ebb/" + name if name else "/run/ebb"
        self.socket = self.rig.path(self.folder + "/ebb.sock")
        self.admin = self.rig.path(self.folder + "/admin.sock")
        self.config_inside = "/etc/ebb/%s.yaml" % (name or "ebb")
        self.config = self.rig.path(self.config_inside)
        self.settings = {
            "model": {"path": "/var/lib/ebb/%s.ebb" % pack},
            "socket": {"path": self.folder + "/ebb.sock", "admin_path": self.folder + "/admin.sock"},
            "serve": {"threads": 2, "ctx": 8192},
        }
        for section, keys in (settings or {}).items():
            self.settings.setdefault(section, {}).update(keys)
        self.clear()
        if drop_in:
            self.rig.drop_in(UNIT, drop_in)
        self.write_config()

    def clear(self):
        self.rig.ctl("stop", *self.sockets, self.unit)
        self.rig.ctl("reset-failed")
        self.rig.forget()

    def start(self, seconds=60):
        self.rig.ctl("start", self.unit, timeout=seconds)

    def listen(self):
        self.rig.ctl("start", *self.sockets)

    def show(self, name):
        return self.rig.show(self.unit, name)

    def pid(self):
        """Of the daemon, as numbered out here."""
        pids = self.rig.pids(self.unit)
        return pids[0] if len(pids) == 1 else 0

    def log(self):
        return self.rig.log(self.unit)

    def __exit__(self, kind, *_):
        if kind:
            print("    end of the log: " + self.log()[-2000:])
        self.clear()


@test
def installed():
    """Everything is where systemd and people look for it, and nothing of an operator's is."""
    with tempfile.TemporaryDirectory() as dest:
        prefix = rig.install(dest)
        top = dest + prefix
        for name in ("ebb", "ebbd", "ebb-pack"):
            check(os.access("%s/bin/%s" % (top, name), os.X_OK), name)
        units = top + "/lib/systemd/system/"
        for name in ("ebbd.service", "ebbd@.service", "ebbd.socket", "ebbd@.socket",
                     "ebbd-admin.socket", "ebbd-admin@.socket"):
            check(os.path.exists(units + name), name)
            text = open(units + name).read()
            check_eq(text.count("@"), text.count("@%i") + text.count("@system-service")
                     + text.count("@privileged") + text.count("@resources")
                     + text.count("@chown"), name + ": every name is filled in")
        check_in("ExecStart=%s/bin/ebbd " % prefix, open(units + "ebbd.service").read())
        for name in ("10-notify-reload.conf", "20-memory-pressure.conf"):
            for unit in ("ebbd.service.d/", "ebbd@.service.d/"):
                places = [x for x in (units + unit, top + "/share/ebb/systemd/" + unit)
                          if os.path.exists(x + name)]
                check_eq(len(places), 1, name)
        for name in ("lib/sysusers.d/ebb.sysusers.conf", "lib/tmpfiles.d/ebb.tmpfiles.conf",
                     "share/ebb/ebb.yaml"):
            check(os.path.exists(top + "/" + name), name)
        check(not os.path.exists(dest + "/etc"), "no settings are overwritten")


@test
def first_connection_starts():
    with Service() as d:
        d.listen()
        check_eq(d.show("ActiveState"), "inactive")
        modes = d.rig.run("stat", "-c", "%a %U %G", "/run/ebb/ebb.sock", "/run/ebb/admin.sock")
        check_eq(modes.stdout.splitlines(), ["660 ebb ebb", "600 ebb ebb"])
        reply = d.complete("x", max_tokens=2)
        check_eq(reply.status, 200, "the first request waits for the model")
        wait_until(lambda: d.show("ActiveState") == "active", 60, "the service is up")
        check_in("serving tiny-test-model", d.show("StatusText"))
        check_eq(d.limit("auto")["position"], 0)
        lines = d.rig.journal(UNIT)
        check(any(p == 6 and "ready: serving" in text for p, text in lines), "its priority")
        check(not any(text.startswith("<") for _, text in lines), "prefixes are taken off")


@test
def sandbox_hides_no_sensor():
    """What a daemon outside of the sandbox can read of the machine, one inside can."""
    with Service() as d:
        d.start()
        inside = sources(d)
    with ebbd.Daemon(ebbd.tiny_pack(), {"sense": {"root": "/", "rescan": "10s"}}) as d:
        outside = sources(d)
    # Each is in a cgroup of its own.
    for name in set(outside) - {"cgroup", "stall"}:
        check_eq(inside.get(name), outside[name], name)


def sources(d):
    """{name: state} once every source has answered or failed."""
    def settled():
        all_of = d.status()["sources"]
        return None if any("yet" in x["why"] for x in all_of) else all_of
    return {x["name"]: x["state"] for x in wait_until(settled, 60, "the first readings")}


@test
def restart_keeps_clients():
    """Who connects while nobody is there waits and is answered."""
    with Service() as d:
        d.start()
        d.rig.ctl("stop", d.unit)
        check_eq(d.show("ActiveState"), "inactive")
        with wire.Conn(d.socket) as c:
            c.request("GET", "/ebb/status")
            check_eq(c.reply().status, 200)
        wait_until(lambda: d.show("ActiveState") == "active", 60, "the service is up")
        answers, done = [], threading.Event()

        def ask():
            while not done.is_set():
                answers.append(d.get("/health", timeout=60).status)
        t = threading.Thread(target=ask)
        t.start()
        for _ in range(3):
            d.rig.ctl("restart", d.unit)
        done.set()
        t.join()
        check(answers and set(answers) <= {200, 503}, set(answers))


@test
def without_sockets():
    with Service() as d:
        try:
            d.rig.ctl("mask", "--runtime", *SOCKETS)
            d.start()
            check_eq(d.get("/health").status, 200)
            check_eq(d.limit("auto")["position"], 0)
            d.rig.ctl("stop", d.unit)
            check(not os.path.exists(d.socket), "our own socket goes with us")
        finally:
            d.rig.ctl("unmask", "--runtime", *SOCKETS)


@test
def bad_settings_are_given_up():
    """A connection that waits would start a daemon with bad settings for ever: after some tries it
    is refused, and with good settings and a start all is well again."""
    with Service() as d:
        good = open(d.config).read()
        d.write_config("serve:\n  slots: many\n")
        d.listen()
        conn = wire.Conn(d.socket)
        wait_until(lambda: d.rig.show(SOCKETS[0], "ActiveState") == "failed", 60,
                   "the socket is given up")
        check_in(d.rig.show(SOCKETS[0], "Result"), ("service-start-limit-hit", "trigger-limit-hit"))
        lines = [(p, text) for p, text in d.rig.journal(UNIT) if "ebb.yaml:2:10" in text]
        check(1 <= len(lines) <= 20, "%d starts" % len(lines))
        check_eq({p for p, _ in lines}, {3}, "errors to journalctl -p err")
        conn.close()
        try:
            wire.Conn(d.socket)
            raise Failed("it still listens")
        except (ConnectionRefusedError, FileNotFoundError):
            pass
        d.write_config(good)
        d.rig.ctl("reset-failed")
        d.start()
        check_eq(d.get("/health").status, 200)


@test
def instances():
    with Service(name="two") as two, Service() as one:
        two.listen()
        one.start()
        check_eq(two.get("/ebb/status").status, 200)
        wait_until(lambda: two.show("ActiveState") == "active", 60, "the second is up")
        check_eq(one.get("/health").status, 200)
        check_eq(two.limit("auto")["position"], 0)
        check("socket.path says" not in two.log(), two.log())
        one.rig.ctl("stop", *SOCKETS, one.unit)
        check_eq(two.get("/health").status, 200, "the other one goes on")


def percentile(values, p):
    return sorted(values)[min(len(values) - 1, int(len(values) * p / 100))]


class Load:
    """Clients that stream without end. A stream that breaks is begun again; a connection that is
    refused is counted."""

    def __init__(self, d, n):
        self.d, self.refused, self.finished = d, 0, 0
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(n)]
        for t in self.threads:
            t.start()

    def run(self):
        while not self.is_over.is_set():
            try:
                self.d.stream("load", max_tokens=64).run()
                self.finished += 1
            except (ConnectionRefusedError, FileNotFoundError):
                self.refused += 1
            except (OSError, Failed):
                time.sleep(0.02)

    def stop(self):
        self.is_over.set()
        for t in self.threads:
            t.join()


@test
@steady
def L4_killed_under_load():
    with Service() as d:
        d.start()
        load, times = Load(d, 4), []
        n = int(os.environ.get("EBB_KILLS", "8"))
        try:
            for i in range(n):
                before = load.finished
                wait_until(lambda: load.finished > before, 60, "the load is served")
                os.kill(wait_until(d.pid, 10, "one process"), 9)
                start = time.monotonic()
                wait_until(lambda: healthy(d, load), 60, "health after kill %d" % i)
                times.append(time.monotonic() - start)
                if i % 10 == 9:
                    d.rig.ctl("reset-failed", d.unit)  # twenty restarts a minute are too many
        finally:
            load.stop()
        print("     %d kills, %d connects refused, time to health p50 %.2f s, p99 %.2f s"
              % (n, load.refused, percentile(times, 50), percentile(times, 99)))
        check_eq(load.refused, 0, "refused connects")
        check(n > 9 or int(d.show("NRestarts")) == n, "NRestarts")


def healthy(d, load):
    try:
        return d.get("/health", timeout=60).status == 200
    except (ConnectionRefusedError, FileNotFoundError):
        load.refused += 1
    except (OSError, Failed):
        pass
    return False


QUICK = "[Service]\nWatchdogSec=2\n"


def running(d):
    """Starts it and a long stream; returns the stream and the process."""
    d.start()
    s = d.stream("long", max_tokens=8000)
    next(iter(s))
    return s, d.pid()


@test
@steady
def L7_stuck_step():
    """A step that stands still: a line that says where, then a restart."""
    with Service("slow", drop_in=QUICK) as d:
        s, pid = running(d)
        with rig.Frozen(pid, rig.thread_of(pid, "ebb-infer")) as thread:
            start = time.monotonic()
            wait_until(thread.reap, 60, "the watchdog's end")
            took = time.monotonic() - start
        s.close()
        wait_until(lambda: d.show("NRestarts") == "1", 30, "a restart")
        wait_until(lambda: other_health(d) is None, 60, "health")
        print("     stopped after %.2f s, WatchdogSec=2" % took)
        check(took < 10, "%.1f s" % took)
        # The journal may be behind what it was told.
        wait_until(lambda: "has made no progress for " in d.log(), 20, "a line about it")
        check_in("t (tracing stop), wchan ptrace_stop, syscall", d.log())


@test
@steady
def L7_stuck_and_back():
    """/health says 503 while it lasts; a thread that goes on in time costs nobody anything."""
    with Service("slow", drop_in="[Service]\nWatchdogSec=12\n") as d:
        s, pid = running(d)
        with rig.Frozen(pid, rig.thread_of(pid, "ebb-infer")):
            reply = wait_until(lambda: other_health(d), 60, "/health says that it is stuck")
            check_in("no progress", reply.error()[1])
            check_eq(d.status()["state"], "stuck")
        wait_until(lambda: other_health(d) is None, 60, "health")
        check_in("goes on", d.log())
        check_eq(d.show("NRestarts"), "0")
        s.close()


def other_health(d):
    """What /health says while it is not 200; False while nobody answers."""
    try:
        reply = d.get("/health", timeout=60)
    except (OSError, Failed):
        return False
    return None if reply.status == 200 else reply


@test
@steady
def L7_slow_step():
    """Slow is not stuck: with its thread held most of the time a prompt chunk takes longer than
    the watchdog waits, and its phases go on."""
    settings = {"serve": {"slots": 1, "threads": 1, "prompt_chunk": 512}}
    with Service("slow", settings, QUICK) as d:
        d.start()
        pid = d.pid()
        tid = rig.thread_of(pid, "ebb-infer")
        before = rig.cpu_seconds(pid, tid)
        n = d.complete("fast " * 400, max_tokens=1).json()["usage"]["prompt_tokens"]
        chunk = (rig.cpu_seconds(pid, tid) - before) / n * 512
        replies = []
        t = threading.Thread(target=lambda: replies.append(
            d.complete("slow " * 400, max_tokens=1)))
        with rig.Frozen(pid, tid) as thread:
            t.start()
            start = time.monotonic()
            while t.is_alive() and time.monotonic() < start + 60:
                time.sleep(min(0.5, 0.002 * 6 / chunk))  # so that a chunk takes some 6 s
                thread.let_run(0.002)
        t.join(60)
        took = time.monotonic() - start
        check_eq(d.show("NRestarts"), "0")
        check(replies and replies[0].status == 200, "the request is answered")
        n = replies[0].json()["usage"]["prompt_tokens"]
        print("     %d prompt tokens in chunks of 512: %.1f s" % (n, took))
        check(took / -(-n // 512) > 2, "the chunks were slow enough to show something")


@test
@steady
def L8_stuck_loop():
    with Service("slow", drop_in=QUICK) as d:
        s, pid = running(d)
        with rig.Frozen(pid, pid) as thread:
            start = time.monotonic()
            wait_until(thread.reap, 30, "the watchdog's end")
            took = time.monotonic() - start
        s.close()
        wait_until(lambda: d.show("NRestarts") == "1", 30, "a restart")
        wait_until(lambda: other_health(d) is None, 60, "health")
        print("     stopped after %.2f s, WatchdogSec=2 and TimeoutAbortSec=5" % took)


@test
def L3_reload():
    """`systemctl reload` returns with a good file and with a bad one, and the status says which."""
    with Service() as d:
        d.start()
        good = open(d.config).read()
        d.write_config(good + "kv:\n  prefix_limit: lots\n")
        d.rig.ctl("reload", UNIT, timeout=30)
        place = "%s:%d:17: " % (d.config_inside, good.count("\n") + 2)
        wait_until(lambda: place in d.show("StatusText"), 30, "the status tells " + place)
        check_in("serving tiny-test-model", d.show("StatusText"))
        check_eq(d.show("ActiveState"), "active")
        check(any(p == 3 and place in text for p, text in d.rig.journal(UNIT)), "an error line")
        d.write_config(good)
        d.rig.ctl("reload", UNIT, timeout=30)
        wait_until(lambda: "reload failed" not in d.show("StatusText"), 30, "a good status")
        check_eq(d.status()["reload"]["result"], "ok")
        check_eq(d.show("NRestarts"), "0")


@test
@steady
def L1_stop_with_streams():
    """Eight streams end correctly, and the daemon within TimeoutStopSec - 5 s; some are finished,
    the others cut off by serve.drain_timeout."""
    with Service("slow", {"serve": {"slots": 8, "drain_timeout": "3s"}}) as d:
        d.start()
        limit = seconds(d.show("TimeoutStopUSec"))
        streams = [d.stream("s%d" % i, max_tokens=20 if i % 2 else 8000, ignore_eos=True)
                   for i in range(8)]
        threads = [threading.Thread(target=s.run) for s in streams]
        for t in threads:
            t.start()
        start = time.monotonic()
        d.rig.ctl("stop", *SOCKETS, UNIT, timeout=limit + 30)
        took = time.monotonic() - start
        for t in threads:
            t.join(30)
        check(all(s.is_done for s in streams), "every stream has its end")
        check_eq(sorted(s.finish or s.error["type"] for s in streams),
                 ["length"] * 4 + ["unavailable_error"] * 4)
        print("     stopped within %.2f s, TimeoutStopSec=%d" % (took, limit))
        check(took <= limit - 5, "soon enough")
        check_eq(d.show("Result"), "success")
        check_eq(d.show("ExecMainStatus"), "0")


@test
def L13_no_proc():
    """Not even a /proc. Here and not in test_faults_life.py, as it needs root, and sanitizers need
    a /proc."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"]).returncode != 0:
        raise Skip("taking /proc away needs root")
    d = ebbd.Daemon(ebbd.tiny_pack(), {"sense": {"root": "/", "rescan": "10s"}}, start=False)
    d.wrap = ["unshare", "--mount", "bash", "-c",
              'mount --make-rprivate / && mount -t tmpfs none /proc && exec "$0" "$@"']
    d.start()
    with d:
        ebbd.check_unknown(d)


def seconds(text):
    """"1min 30s", as systemctl shows it."""
    units = {"ms": 0.001, "s": 1, "min": 60}
    return sum(float(n) * units[u] for n, u in re.findall(r"([\d.]+)(ms|s|min)\b", text))


main(lambda: RIG and RIG.stop())
