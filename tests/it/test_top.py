"""`ebb top`: on a terminal against real daemons and servers that misbehave, and without one."""
import json
import os
import select
import signal
import socket
import subprocess
import tempfile
import termios
import threading
import time

import ebbd
from harness import check, check_eq, check_in, main, program, test, wait_until
from screen import Terminal

FAST = ("--interval", "0.2")
STATUS = {"state": "ready", "level": 0, "model": "m", "hash": "h", "position": 1, "positions": 2,
          "units": {"full": 1, "high": 1}, "uptime_s": 100, "requests": {"active": 0},
          "memory": {"available_bytes": 1 << 30, "source": "meminfo"}, "version": "9"}
LADDER = {"steps": [{"unit": "layer 0", "index": 0, "from": "full", "to": "high"},
                    {"unit": "head", "index": 1, "from": "full", "to": "high"}]}


class Server:
    """Answers each path with whatever `answers` holds for it: (status, object or bytes)."""

    def __init__(self, path=None):
        self.path = path or os.path.join(tempfile.mkdtemp(dir=ebbd.TMP), "ebb.sock")
        self.answers = {"/ebb/status": (200, STATUS), "/ebb/ladder": (200, LADDER)}
        self.events = b""  # sent at once to each who follows events
        self.counts = {}
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(64)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(conn,), daemon=True).start()

    def answer(self, conn):
        try:
            data = b""
            while b"\r\n\r\n" not in data:
                more = conn.recv(65536)
                if not more:
                    return
                data += more
            target = data.split()[1].decode()
            self.counts[target] = self.counts.get(target, 0) + 1
            if target == "/ebb/events" and target not in self.answers:
                conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
                             + self.events)
                conn.recv(1)  # until the client goes
                return
            status, body = self.answers.get(target, (404, {}))
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            conn.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)
        except OSError:
            pass
        finally:
            conn.close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        os.unlink(self.path)


def run(*args, env=None, **more):
    return subprocess.run([program("ebb"), *args], capture_output=True, text=True, timeout=60,
                          env=dict(os.environ, TERM="xterm", **(env or {})), **more)


def fields(line):
    return dict(word.split("=") for word in line.split())


@test
def draws_a_daemon():
    with ebbd.Daemon(ebbd.drawn_pack()) as d, Terminal("top", "-s", d.socket, *FAST) as t:
        t.wait("ready", "0 of 4", "units     FFFF", "none yet", "system")
        check_eq(t.modes["?1049"], True, "the other screen")
        check_eq(t.modes["?25"], False, "no cursor")
        check({"30", "42"} <= t.colours, "the units have a background")
        d.chat("hello", max_tokens=3)
        t.wait("completed 1")
        # A change shows with its reason, in the bar and as an event.
        d.limit(1)
        t.wait("4 of 4", "position 0 -> 4", "operator")
        bar = [x for x in t.text().splitlines() if x.startswith("units")][0].split()[1]
        check_eq(len(bar), 4)
        check(set(bar) <= set("HSP"), "the bar is %s" % bar)
        d.limit("auto")
        t.wait("0 of 4", "units     FFFF")
        frames = t.n_frames
        wait_until(lambda: t.n_frames > frames + 3, 20, "frames go on")
        check_eq(t.raw.count(b"\x1b[2J"), 2, "cleared when it begins, and never again:")
        t.key(b"q")
        check_eq(t.ends(), 0)


@test
def every_way_out():
    s = Server()
    for end, want in ((b"q", 0), (b"Q", 0), (b"\x03", 0), (signal.SIGINT, 0),
                      (signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP),
                      (signal.SIGQUIT, -signal.SIGQUIT)):
        with Terminal("top", "-s", s.path, *FAST) as t:
            t.wait("units     FH")
            t.key(end) if isinstance(end, bytes) else t.p.send_signal(end)
            check_eq(t.ends(), want, "%r: " % (end,))
    # The terminal goes away, as when the connection to the board breaks.
    t = Terminal("top", "-s", s.path, *FAST)
    t.wait("units     FH")
    os.close(t.master)
    check_eq(t.p.wait(20), -signal.SIGHUP)
    os.close(t.slave)
    with Terminal("top", "-s", s.path, "--count", "3", *FAST) as t:
        check_eq(t.ends(), 0)
        check_eq(t.n_frames >= 3, True)
    s.close()


@test
def resizes():
    s = Server()
    with Terminal("top", "-s", s.path, "--interval", "60") as t:
        t.wait("units     FH", "events")
        for cols, rows, words in ((20, 5, ("ebb  ready  1 of 2", "units  FH")),
                                  (300, 100, ("units     FH", "events")), (1, 1, ("~",)),
                                  (80, 24, ("units     FH", "events"))):
            t.set_size(cols, rows)
            t.wait(*words)  # at once, not at the next look in a minute
        t.key(b"q")
        check_eq(t.ends(), 0)
    with Terminal("top", "-s", s.path, cols=0, rows=0) as t:  # a serial line
        t.cols, t.rows, t.grid = 80, 24, [[" "] * 80 for _ in range(24)]
        t.key(b"q")
        check_eq(t.ends(), 0)
    s.close()


@test
def stops_and_goes_on():
    s = Server()
    with Terminal("top", "-s", s.path, *FAST) as t:
        t.wait("units     FH")
        t.p.send_signal(signal.SIGTSTP)
        wait_until(lambda: not t.modes["?1049"], 20, "the terminal is given back")
        wait_until(lambda: "T" in open("/proc/%d/stat" % t.p.pid).read().split()[2], 20, "stopped")
        check(t.modes["?25"], "the cursor is back")
        t.p.send_signal(signal.SIGCONT)
        wait_until(lambda: t.modes["?1049"], 20, "the screen is ours again")
        t.wait("units     FH")
        # Stopped from elsewhere, and the terminal changed meanwhile.
        t.p.send_signal(signal.SIGSTOP)
        wait_until(lambda: "T" in open("/proc/%d/stat" % t.p.pid).read().split()[2], 20, "stopped")
        ours = termios.tcgetattr(t.slave)
        termios.tcsetattr(t.slave, termios.TCSANOW, t.before)
        t.p.send_signal(signal.SIGCONT)
        wait_until(lambda: termios.tcgetattr(t.slave) == ours, 20, "the modes are ours again")
        t.key(b"q")
        check_eq(t.ends(), 0)
    s.close()


@test
def answers_without_end():
    s = Server()
    many = {"x%d" % i: i for i in range(100000)}
    s.answers["/ebb/status"] = (200, dict(STATUS, requests=many, thermal=[many] * 3, speed=many))
    s.answers["/ebb/ladder"] = (200, {"steps": [[]] * 500000})
    with Terminal("top", "-s", s.path, *FAST) as t:
        t.wait("x1 1")
        t.key(b"q")
        check_eq(t.ends(), 0)
    s.answers["/ebb/status"] = (200, b" " * (17 << 20))
    with Terminal("top", "-s", s.path, *FAST) as t:
        check_eq(t.p.wait(20), 70)  # the first answer makes no sense
    s.close()


@test
def a_daemon_that_goes_and_comes():
    pack = ebbd.drawn_pack()
    d = ebbd.Daemon(pack)
    with Terminal("top", "-s", d.socket, *FAST) as t:
        t.wait("ready", "FFFF")
        d.stop()
        t.wait("no answer, trying again", "the daemon does not answer", "ebb.sock")
        check("available" not in t.text(), "nothing stale is shown")
        check("FFFF" not in t.text(), "nothing stale is shown")
        d.start()
        t.wait("ready", "FFFF", " again\n")
        d.limit(1)
        t.wait("position 0 -> 4")  # events are followed again
        d.process.kill()
        d.process.wait()
        t.wait("no answer, trying again")
        t.key(b"q")
        check_eq(t.ends(), 0)


@test
def loading_is_waited_for():
    s = Server()
    s.answers["/ebb/status"] = (503, {"error": {"message": "Loading model"}})
    with Terminal("top", "-s", s.path, *FAST) as t:
        t.wait("no answer", "503", "Loading model")
        s.answers["/ebb/status"] = (200, STATUS)
        t.wait("units     FH")
        s.answers["/ebb/status"] = (200, dict(STATUS, uptime_s=1, hash="other"))
        s.answers["/ebb/ladder"] = (200, {"steps": []})
        t.wait("units     FF", "the daemon has started again")
        s.answers["/ebb/status"] = (200, b"[]")
        t.wait("is not a JSON object")
        t.key(b"q")
        check_eq(t.ends(), 0)
    s.close()


@test
def the_ladder_is_read_once():
    s = Server()
    r = run("top", "-s", s.path, "--count", "5", *FAST)
    check_eq(r.returncode, 0, r.stderr)
    check_eq((s.counts["/ebb/status"], s.counts["/ebb/ladder"]), (5, 1))
    check("/ebb/events" not in s.counts, "lines follow no events")
    s.close()


@test
def hostile_words():
    s = Server()
    evil = "\x1b]0;own\x07\x1b[2J\x1b[31mred\r\n\x9b1m\u009b5m\u202e\u6a21 %s%n"
    s.answers["/ebb/status"] = (200, dict(
        STATUS, model=evil, state=evil, units={evil: 2}, requests={evil: 1},
        thermal=[{"type": evil, "celsius": 1}], heat={"throttled": [evil]},
        memory={"source": evil, "reason": evil}, paging={"state": evil}))
    data = json.dumps({"x": evil, evil: 1}, ensure_ascii=False).encode("utf-8")
    s.events = (b"event: \x1b[1mname\x07\ndata: " + data.replace(b"\n", b"\\n") + b"\n\n"
                b"event: position\ndata: {\"from\":1,\"to\":2,\"reason\":\"\\u001b[3m\"}\n\n")
    with Terminal("top", "-s", s.path, *FAST, cols=200, rows=60) as t:
        t.wait("position 1 -> 2", "[1mname", "]0;own", "%s%n")
        t.key(b"q")
        check_eq(t.ends(), 0)
    s.answers["/ebb/status"] = (503, {"error": {"message": evil}})
    with Terminal("top", "-s", s.path, *FAST) as t:
        t.wait("no answer", "[31mred")
        t.key(b"q")
        check_eq(t.ends(), 0)
    s.close()


@test
def a_storm_of_events():
    s = Server()
    s.events = b"event: position\ndata: {\"from\":1,\"to\":2}\n\n" * 20000
    with Terminal("top", "-s", s.path, "--interval", "60") as t:
        t.wait("position 1 -> 2")
        t.key(b"q")
        check_eq(t.ends(), 0)
        check(t.n_frames < 200, "%d frames" % t.n_frames)
    s.events, s.answers["/ebb/events"] = b"", (503, {})
    with Terminal("top", "-s", s.path, *FAST) as t:
        t.wait("units     FH", "the daemon does not let us follow them now")
        t.key(b"q")
        check_eq(t.ends(), 0)
    s.close()


@test
def a_daemon_that_is_stuck():
    """It takes connections and never answers: q must not wait for it."""
    s = Server()
    with Terminal("top", "-s", s.path, *FAST) as t:
        t.wait("units     FH")
        os.rename(s.path, s.path + ".old")
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(s.path)
            silent.listen(64)
            check(select.select([silent], [], [], 20)[0], "it calls")
            t.key(b"q")
            check_eq(t.ends(seconds=4), 0)
    s.listener.close()


@test
def colours_are_a_choice():
    s = Server()
    for term, env, has_colour in (("xterm", {}, True), ("xterm", {"NO_COLOR": "1"}, False),
                                  ("xterm", {"NO_COLOR": ""}, True), ("vt220", {}, False)):
        with Terminal("top", "-s", s.path, "--count", "2", *FAST, term=term, env=env) as t:
            check_eq(t.ends(), 0)
            check_eq(bool(t.colours - {"0"}), has_colour, "%s %r: " % (term, env))
    with Terminal("top", "-s", s.path, "--count", "2", *FAST, term="dumb", cols=900) as t:
        check_eq(t.p.wait(20), 0)
        wait_until(lambda: t.raw.count(b"\n") == 2, 10, "two lines")
        check_in("state=ready", t.text())
        check(b"\x1b" not in t.raw, "no sequences")
    s.close()


@test
def lines():
    with ebbd.Daemon(ebbd.drawn_pack()) as d:
        r = run("top", "-s", d.socket, "--count", "3", *FAST)
        check_eq((r.returncode, r.stderr), (0, ""))
        all_lines = [fields(x) for x in r.stdout.splitlines()]
        check_eq(len(all_lines), 3)
        for f in all_lines:
            check_eq((f["answer"], f["state"], f["position"], f["positions"], f["full"],
                      f["budget_bytes"].isdigit() or f["budget_bytes"], f["error"]),
                     ("yes", "ready", "0", "4", "4", True, "-"))
            check_eq(list(f), list(all_lines[0]))
        r = run("top", "-s", d.socket, "--json", "--count", "2", *FAST)
        trees = [json.loads(x) for x in r.stdout.splitlines()]
        check_eq(len(trees), 2)
        check_eq(trees[0]["rungs"], {"head": "full", "0": "full", "1": "full", "2": "full"})
        check_in("T", trees[0]["time"])
        check_eq(trees[1]["position"], 0)
        # --json on a terminal too.
        with Terminal("top", "-s", d.socket, "--json", "--count", "1", cols=4000) as t:
            check_eq(t.p.wait(20), 0)
            wait_until(lambda: b"\n" in t.raw, 10, "a line")
            check_eq(json.loads(t.raw)["positions"], 4)


@test
def lines_of_one_that_goes():
    s = Server()
    args = [program("ebb"), "top", "-s", s.path, *FAST]
    p = subprocess.Popen(args, stdout=subprocess.PIPE, text=True)
    check_in("answer=yes", p.stdout.readline())
    s.close()
    while "answer=yes" in (line := p.stdout.readline()):
        pass
    check_eq(fields(line)["state"], "-")
    check_in("ebb.sock", fields(line)["error"])
    s = Server(s.path)
    while "answer=no" in (line := p.stdout.readline()):
        pass
    check_eq(fields(line)["state"], "ready")
    p.send_signal(signal.SIGINT)
    check_eq(p.wait(20), 0)
    p.stdout.close()
    # The exit status is that of the last look.
    p = subprocess.Popen(args + ["--json", "--count", "4"], stdout=subprocess.PIPE, text=True)
    check_eq(json.loads(p.stdout.readline())["state"], "ready")
    s.close()
    rest = [json.loads(x) for x in p.stdout]
    check_eq(p.wait(20), 69)
    check_eq((rest[-1]["state"], sorted(rest[-1])), ("unreachable", ["error", "state", "time"]))
    p.stdout.close()


@test
def a_reader_that_goes():
    s = Server()
    p = subprocess.Popen([program("ebb"), "top", "-s", s.path, *FAST], stdout=subprocess.PIPE)
    p.stdout.readline()
    p.stdout.close()
    check_eq(p.wait(20), -signal.SIGPIPE)
    with open("/dev/full", "w") as full:
        r = subprocess.run([program("ebb"), "top", "-s", s.path], stdout=full,
                           stderr=subprocess.PIPE, text=True, timeout=20)
    check_eq(r.returncode, 70)
    check_in("cannot write", r.stderr)
    s.close()


@test
def wrong_ways_to_begin():
    for args in (("--interval", "0.1"), ("--interval", "61"), ("--interval", "nan"),
                 ("--interval", "1s"), ("--count", "0"), ("--count", "-1"), ("x",)):
        r = run("top", *args)
        check_eq(r.returncode, 2, " ".join(args))
        check(r.stderr and not r.stdout, "words on standard error only")
    none = os.path.join(ebbd.TMP, "none.sock")
    check_eq(run("top", "-s", none).returncode, 69)
    with Terminal("top", "-s", none) as t:
        check_eq(t.p.wait(20), 69)
        wait_until(lambda: "Start ebbd" in t.text(), 10, "what to do")
        check("?1049" not in t.was_on, "the screen was never taken")
    s = Server()
    s.answers["/ebb/status"] = (403, {})
    check_eq(run("top", "-s", s.path).returncode, 77)
    s.answers["/ebb/status"] = (500, {})
    check_eq(run("top", "-s", s.path).returncode, 70)
    s.close()
    check_in("--interval", run("--help").stdout)


main()
