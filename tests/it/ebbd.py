"""A private ebbd: its own folder, sockets, configuration, and a fake root for its sensors."""
import atexit
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import wire
from harness import BUILD, Failed, SOURCE, Skip, check, program, shared, wait_until

MIB = 1 << 20
TMP = tempfile.mkdtemp(prefix="ebb-it-")
atexit.register(shutil.rmtree, TMP, True)
SANITIZER = re.compile(r"ERROR: AddressSanitizer|ERROR: LeakSanitizer|WARNING: ThreadSanitizer|"
                       r"runtime error:|assertion failed")
PLENTY = 64 << 30
CALIBRATION = ("--calib", os.path.join(SOURCE, "README.md"), "--windows", "2", "--no-swsc")


def cached(name, inputs, make):
    """A file in the build folder, made again when one of its inputs is newer. Test programs may
    run at once, so it appears under its name in one step."""
    folder = os.path.join(BUILD, "it-models")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name)
    newest = max(os.path.getmtime(x) for x in inputs)
    if not os.path.exists(path) or os.path.getmtime(path) < newest:
        with tempfile.TemporaryDirectory(dir=folder) as tmp:
            part = os.path.join(tmp, name)
            make(part)
            os.rename(part, path)
    return path


def tiny_gguf(name="tiny", *options):
    """A model of tests/golden. Its words are noise, and it never ends by itself."""
    maker = program("tiny_model")
    return cached(name + ".gguf", [maker], lambda path: subprocess.run(
        [maker, path, "--ctx", "8192", *options], check=True, stdout=subprocess.DEVNULL))


def build_pack(gguf, out, *options):
    r = subprocess.run([program("ebb-pack"), "build", gguf, "-o", out, *options],
                       capture_output=True, text=True)
    if r.returncode != 0:
        raise Failed("ebb-pack build gives %d: %s" % (r.returncode, r.stderr[-2000:]))
    m = SANITIZER.search(r.stderr)
    if m:
        raise Failed("ebb-pack says %s" % r.stderr[m.start():][:4000])


def cached_pack(name, gguf, *options):
    return cached(name, [gguf, program("ebb-pack")],
                  lambda path: build_pack(gguf, path, *options))


def tiny_pack():
    return cached_pack("tiny.ebb", tiny_gguf(), *CALIBRATION)


def drawn_pack(variant=0):
    """A pack with the rung swsc and the ladder "deep" (full, high, swsc, paged), whose weights are
    drawn and not made from a model."""
    maker = program("tiny_model")
    return cached("drawn-%d.ebb" % variant, [maker], lambda path: subprocess.run(
        [maker, path, "--embd", "256", "--ff", "512", "--ctx", "8192", "--swsc", str(variant)], check=True))


def deep_pack(swsc=None):
    """A drawn pack of six layers whose ladder "deep" ends with everything paged; `swsc`: a variant
    of its forms, or None for a pack of planes alone."""
    maker = program("tiny_model")
    options = [] if swsc is None else ["--swsc", str(swsc)]
    name = "deep.ebb" if swsc is None else "deep-%d.ebb" % swsc
    return cached(name, [maker], lambda path: subprocess.run(
        [maker, path, "--layers", "6", "--embd", "256", "--ff", "1024", "--ctx", "8192"] + options,
        check=True))


def wide_pack():
    """Drawn weights of 20 MiB, of which the low planes are 9: bytes that show in RSS."""
    maker = program("tiny_model")
    return cached("wide.ebb", [maker], lambda path: subprocess.run(
        [maker, path, "--layers", "6", "--embd", "512", "--ff", "2048", "--ctx", "8192"],
        check=True))


def slow_pack():
    """A model of a few million weights: a token takes long enough to do something meanwhile."""
    gguf = tiny_gguf("slow", "--layers", "6", "--embd", "256", "--ff", "1024")
    return cached_pack("slow.ebb", gguf, *CALIBRATION)


def real_pack():
    """The real model, with a short calibration and planes alone: it is not its quality that is
    tested here, and the third rung takes minutes to make."""
    gguf = shared("models/smollm2-135m-offgrid-q8_0.gguf")
    text = shared("text/wiki.valid.txt")
    return cached_pack("real.ebb", gguf, "--calib", text, "--windows", "8", "--no-swsc")


def pack_extents(pack):
    """{name: (offset, bytes)} of a pack's tensors, read from its GGUF header."""
    import struct
    with open(pack, "rb") as f:
        data = f.read(64 * MIB)
    pos = 8

    def u32():
        nonlocal pos
        pos += 4
        return struct.unpack_from("<I", data, pos - 4)[0]

    def u64():
        nonlocal pos
        pos += 8
        return struct.unpack_from("<Q", data, pos - 8)[0]

    def text():
        nonlocal pos
        n = u64()
        pos += n
        return data[pos - n:pos].decode()

    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def value(kind):
        nonlocal pos
        if kind == 8:
            return text()
        if kind == 9:
            inner, n = u32(), u64()
            if inner == 8:
                for _ in range(n):
                    text()
            else:
                pos += n * sizes[inner]
            return None
        pos += sizes[kind]
        return struct.unpack_from("<I", data, pos - 4)[0] if kind == 4 else None

    n_tensors, n_keys = u64(), u64()
    align = 32
    for _ in range(n_keys):
        key = text()
        got = value(u32())
        if key == "general.alignment":
            align = got
    tensors = []
    for _ in range(n_tensors):
        name = text()
        dims = [u64() for _ in range(u32())]
        u32()
        n = 1
        for d in dims:
            n *= d
        tensors.append((name, u64(), n))
    start = (pos + align - 1) // align * align
    return {name: (start + offset, n) for name, offset, n in tensors}


class Daemon:
    """settings: {"serve": {"slots": 1}, ...}, laid over settings good for tests."""

    def __init__(self, pack, settings=None, start=True, folder=None, env=None):
        self.env = env or {}
        self.dir = folder or tempfile.mkdtemp(dir=TMP)
        self.pack = pack
        self.socket = os.path.join(self.dir, "ebb.sock")
        self.admin = os.path.join(self.dir, "admin.sock")
        self.config = os.path.join(self.dir, "ebb.yaml")
        self.log_path = os.path.join(self.dir, "log")
        self.root = os.path.join(self.dir, "root")
        self.set_available(PLENTY)
        self.set_vmstat()
        self.set_pressure(0, 0)
        self.settings = {
            "model": {"path": pack},
            "socket": {"path": self.socket, "admin_path": self.admin},
            "serve": {"threads": 2, "ctx": 512},
            "memory": {"hold": "300ms", "step": "10ms", "margin": "1MiB", "reserve": "16MiB",
                       "peers": ""},
            "sense": {"root": self.root, "interval": "50ms", "rescan": "10ms", "report": "0s"},
            "paging": {"enabled": "off"},
        }
        for section, keys in (settings or {}).items():
            self.settings.setdefault(section, {}).update(keys)
        self.write_config()
        self.process = None
        self.given = {}
        self.wrap = []  # words in front of the command
        if start:
            self.start()

    def write_config(self, text=None):
        if text is None:
            text = "".join("%s:\n%s" % (s, "".join("  %s: %s\n" % (k, json.dumps(v))
                                                   for k, v in keys.items()))
                           for s, keys in self.settings.items())
        with open(self.config, "w") as f:
            f.write(text)

    def command(self):
        """What is run, and the descriptors for it: with the sockets of `given` ({name: socket}) as
        a service manager hands them over."""
        words = self.wrap + [program("ebbd"), "--config", self.config]
        if not self.given:
            return words, ()
        # Above those that they are to become.
        fds = [fcntl.fcntl(s.fileno(), fcntl.F_DUPFD, 10) for s in self.given.values()]
        moves = " ".join("%d<&%d %d<&-" % (3 + i, fd, fd) for i, fd in enumerate(fds))
        given = "LISTEN_PID=$$ LISTEN_FDS=%d LISTEN_FDNAMES=%s" % (len(fds), ":".join(self.given))
        return ["bash", "-c", 'export %s; exec "$0" "$@" %s' % (given, moves)] + words, fds

    def spawn(self):
        log = open(self.log_path, "ab")
        words, fds = self.command()
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        pass_fds=fds, env=dict(os.environ, **self.env))
        log.close()
        for fd in fds:
            os.close(fd)
        atexit.register(self.kill)

    def start(self):
        self.spawn()
        wait_until(self.is_ready, 120, "ebbd answers /health")

    def is_ready(self):
        if self.process.poll() is not None:
            raise Failed("ebbd ended with %d: %s" % (self.process.returncode, self.log()[-2000:]))
        try:
            return self.get("/health").status == 200
        except (OSError, Failed):
            return False

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self, sig=signal.SIGTERM, seconds=60):
        """Ends it, and fails if it did not end well."""
        self.process.send_signal(sig)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed("ebbd did not end within %g s: %s" % (seconds, self.log()[-2000:]))
        self.check_log()
        if code != 0:
            raise Failed("ebbd ends with %d: %s" % (code, self.log()[-2000:]))
        for name, path in (("api", self.socket), ("admin", self.admin)):
            check(os.path.exists(path) == (name in self.given),
                  "%s is %s" % (path, "gone" if name in self.given else "left behind"))

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process and self.process.poll() is None:
            if kind is None:
                self.stop()
            else:
                self.kill()
                print("    end of the log: " + self.log()[-1500:])

    def check_log(self):
        m = SANITIZER.search(self.log())
        if m:
            raise Failed("the log says %r: %s" % (m.group(0), self.log()[m.start():][:4000]))

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    # --- what it is asked ---

    def get(self, target, timeout=120):
        return wire.call(self.socket, "GET", target, timeout=timeout)

    def post(self, target, body, timeout=120, headers=()):
        return wire.call(self.socket, "POST", target, body, timeout, headers)

    def status(self):
        return self.get("/ebb/status").json()

    def ladder(self):
        return self.get("/ebb/ladder").json()

    def follow(self):
        """Listens to /ebb/events from now on: a list that grows by (time, event, data)."""
        seen, conn = [], wire.Conn(self.socket, timeout=None)
        conn.request("GET", "/ebb/events")
        check(conn.head()[0] == 200, "it tells events")

        def run():
            try:
                for now, event, data in conn.events():
                    seen.append((now, event, json.loads(data)))
            except (OSError, Failed):
                pass  # the daemon has ended
        threading.Thread(target=run, daemon=True).start()
        wait_until(lambda: seen, 10, "the first event")
        return seen

    def metrics(self):
        """{name{labels}: value} of /metrics, each line checked for its form."""
        reply = self.get("/metrics")
        check(reply.headers["content-type"].startswith("text/plain; version=0.0.4"),
              "content type")
        text = reply.body.decode()
        check(text.endswith("\n"), "a final newline")
        values, typed, closed, last = {}, {}, set(), None
        for line in text.splitlines():
            m = re.fullmatch(r"# (HELP|TYPE) ([a-z_]+) (.+)", line)
            if m:
                if m.group(1) == "TYPE":
                    check(m.group(2) not in typed, "TYPE of %s twice" % m.group(2))
                    typed[m.group(2)] = m.group(3)
                continue
            m = re.fullmatch(r'([a-z_]+)(\{(?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+\})? '
                             r"(-?[0-9.e+-]+|NaN|[+-]Inf)", line)
            check(m, "not a sample: %r" % line)
            name = m.group(1)
            family = name if name in typed else re.sub("_(bucket|sum|count)$", "", name)
            check(family in typed, "no TYPE for %s" % name)
            if family != last:
                check(family not in closed, "%s is not in one piece" % family)
                closed.add(last)
                last = family
            if typed[family] == "counter":
                check(name.endswith("_total"), "counter %s does not end in _total" % name)
            key = name + (m.group(2) or "")
            check(key not in values, "%s twice" % key)
            values[key] = float(m.group(3))
        return values

    def limit(self, value):
        reply = wire.call(self.admin, "POST", "/ebb/limit", {"bytes": value})
        check(reply.status == 200, "limit: %d %r" % (reply.status, reply.body))
        return reply.json()

    def chat(self, text, **more):
        body = {"messages": [{"role": "user", "content": text}], "temperature": 0}
        return self.post("/v1/chat/completions", dict(body, **more))

    def complete(self, prompt, **more):
        return self.post("/v1/completions", dict({"prompt": prompt, "temperature": 0}, **more))

    def stream_chat(self, text, **more):
        body = {"messages": [{"role": "user", "content": text}], "temperature": 0}
        return wire.Stream(self.socket, "/v1/chat/completions", dict(body, **more))

    def stream(self, prompt, **more):
        return wire.Stream(self.socket, "/v1/completions",
                           dict({"prompt": prompt, "temperature": 0}, **more))

    # --- what is done to it ---

    def put(self, rel, text):
        """A file below the fake root, replaced in one step as the kernel's would change."""
        path = os.path.join(self.root, rel)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        new = "%s.%d" % (path, threading.get_ident())  # a test may have several writers
        with open(new, "w") as f:
            f.write(text)
        os.rename(new, path)

    def set_available(self, available, total=128 << 30):
        self.put("proc/meminfo",
                 "MemTotal:       %8d kB\nMemFree:        %8d kB\nMemAvailable:   %8d kB\n"
                 "Buffers:               0 kB\nCached:                0 kB\n"
                 "SwapTotal:             0 kB\nSwapFree:              0 kB\n"
                 % (total >> 10, available >> 10, available >> 10))

    def set_pressure(self, some_us, full_us, rel="proc/pressure/memory"):
        """Totals since boot: how long some and all tasks waited for memory."""
        self.put(rel, "some avg10=0.00 avg60=0.00 avg300=0.00 total=%d\n"
                      "full avg10=0.00 avg60=0.00 avg300=0.00 total=%d\n" % (some_us, full_us))

    def set_vmstat(self, refaults=0, alloc_stalls=0, major_faults=0, swap_outs=0):
        self.put("proc/vmstat",
                 "workingset_refault_anon 0\nworkingset_refault_file %d\npswpin 0\npswpout %d\n"
                 "allocstall_dma 0\nallocstall_normal %d\npgmajfault %d\n"
                 % (refaults, swap_outs, alloc_stalls, major_faults))

    def set_cgroup(self, current, high=None, max=None, path="/ebb", inactive_file=0,
                   active_file=0, high_events=0, ooms=0, pressure=None):
        """Puts the daemon into a cgroup; a limit of None is none. pressure: (some_us, full_us)."""
        folder = "sys/fs/cgroup" + path.rstrip("/") + "/"
        self.put(folder + "memory.current", "%d\n" % current)
        for name, limit in (("high", high), ("max", max)):
            self.put(folder + "memory." + name, "max\n" if limit is None else "%d\n" % limit)
        self.put(folder + "memory.stat",
                 "anon 0\nfile 0\ninactive_file %d\nactive_file %d\nworkingset_refault_file 0\n"
                 "pgmajfault 0\n" % (inactive_file, active_file))
        self.put(folder + "memory.events", "low 0\nhigh %d\nmax 0\noom %d\noom_kill %d\n"
                                           "oom_group_kill 0\n" % (high_events, ooms, ooms))
        if pressure:
            self.set_pressure(*pressure, rel=folder + "memory.pressure")
        self.put("sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n")
        self.put("proc/self/cgroup", "0::%s\n" % path)

    def set_zone(self, number, kind, temp_c, passive=None, hot=None, critical=None):
        """A thermal zone; temp_c None: its sensor gives nothing that could be a temperature."""
        folder = "sys/class/thermal/thermal_zone%d/" % number
        trips = [(k, c) for k, c in (("passive", passive), ("hot", hot), ("critical", critical))
                 if c is not None]
        for i, (trip, celsius) in enumerate(trips):
            self.put(folder + "trip_point_%d_temp" % i, "%d\n" % round(celsius * 1000))
            self.put(folder + "trip_point_%d_type" % i, trip + "\n")
        for i in range(len(trips), 3):
            for name in ("type", "temp"):
                left = os.path.join(self.root, folder, "trip_point_%d_%s" % (i, name))
                if os.path.exists(left):
                    os.remove(left)
        self.put(folder + "temp", "\n" if temp_c is None else "%d\n" % round(temp_c * 1000))
        self.put(folder + "type", kind + "\n")

    def remove_zone(self, number):
        shutil.rmtree(os.path.join(self.root, "sys/class/thermal/thermal_zone%d" % number))

    def rss(self):
        with open("/proc/%d/smaps_rollup" % self.process.pid) as f:
            return int(re.search(r"^Rss:\s+(\d+) kB", f.read(), re.M).group(1)) << 10

    def wait_position(self, position, seconds=60):
        wait_until(lambda: self.status()["position"] == position, seconds,
                   "position %d" % position)

    def low_bytes(self):
        return sum(n for name, (_, n) in pack_extents(self.pack).items() if name.endswith(".low"))


class Manager:
    """A service manager's socket: what the daemon has said to it, message by message."""

    def __init__(self, d):
        self.path = os.path.join(d.dir, "notify")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.setblocking(False)
        self.said = []
        d.env["NOTIFY_SOCKET"] = self.path

    def hear(self):
        while True:
            try:
                text = self.sock.recv(4096).decode()
            except BlockingIOError:
                return self.said
            self.said.append(dict(line.split("=", 1) for line in text.split("\n") if line))

    def take(self):
        said = self.hear()
        self.said = []
        return said


def preloaded(name):
    """The environment in which a daemon has tests/it/<name>.c loaded before it."""
    with open(program("ebbd"), "rb") as f:
        if re.search(rb"__(asan|tsan|msan)_init", f.read()):
            raise Skip("a sanitizer has its own malloc() and read()")
    path = os.path.join(BUILD, "tests", "lib%s.so" % name)
    check(os.path.exists(path), path + " is not built")
    return {"LD_PRELOAD": path}


def ebb(daemon, *args):
    """The client, pointed at a daemon."""
    return subprocess.run([program("ebb"), "--socket", daemon.socket, *args], capture_output=True,
                          text=True, timeout=120)


def check_unknown(d):
    """With nothing to read about the machine it serves, and says of each source that it is not
    known."""
    s, m = d.status(), d.metrics()
    check(s["memory"]["source"] is None, s["memory"])
    check(s["thermal"] == [], s["thermal"])
    states = {x["name"]: x["state"] for x in s["sources"]}
    for name, state in states.items():
        check(state != "known" and m['ebb_sensor_known{source="%s"}' % name] == 0, name)
    check(len(states) >= 9, "each source is listed")
    check("ebb_memory_available_bytes" not in m, "what is unknown is not a number")
    check(d.complete("x", max_tokens=4).status == 200, "it serves")


def source_file(rel):
    return os.path.join(SOURCE, rel)


def pause(seconds):
    """For what can only be shown by nothing happening."""
    time.sleep(seconds)
