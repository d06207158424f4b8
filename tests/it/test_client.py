"""`ebb` against a scripted server: every answer a daemon may give, also the ones that ebbd never
should, and the exit code and words for each."""
import json
import os
import pty
import signal
import socket
import subprocess
import tempfile
import threading
import time

from harness import check, check_eq, check_in, main, program, test, wait_until

TMP = tempfile.TemporaryDirectory(prefix="ebb-it-")


class Fake:
    """A server that gives each connection the next script: a function of (connection, request)."""

    def __init__(self, *scripts, name="ebb.sock"):
        self.dir = tempfile.mkdtemp(dir=TMP.name)
        self.path = os.path.join(self.dir, name)
        self.scripts = list(scripts)
        self.requests = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(8)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        for script in self.scripts:
            conn, _ = self.listener.accept()
            data = b""
            while b"\r\n\r\n" not in data:
                more = conn.recv(65536)
                if not more:
                    break
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            length = [int(x.split(b":")[1]) for x in head.split(b"\r\n")
                      if x.lower().startswith(b"content-length:")]
            while length and len(body) < length[0]:
                body += conn.recv(65536)
            self.requests.append((head.decode(), body.decode()))
            try:
                script(conn, body)
            except OSError:
                pass
            conn.close()
        self.listener.close()


def plain(status, obj, extra=""):
    body = json.dumps(obj).encode() if not isinstance(obj, bytes) else obj

    def script(conn, _):
        conn.sendall(b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
                     b"%s\r\n" % (status, len(body), extra.encode()) + body)
    return script


def raw(data):
    return lambda conn, _: conn.sendall(data)


def chunks(*events, end=True, pause=0.0, split=None):
    """An event stream; split: send the bytes in pieces of that size."""
    def script(conn, _):
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n")
        out = b""
        for e in events:
            text = e if isinstance(e, bytes) else b"data: " + (
                e.encode() if isinstance(e, str) else json.dumps(e).encode()) + b"\n\n"
            out += b"%x\r\n%s\r\n" % (len(text), text)
            if pause:
                conn.sendall(out)
                out = b""
                time.sleep(pause)
        if end:
            out += b"0\r\n\r\n"
        for i in range(0, len(out), split or max(1, len(out))):
            conn.sendall(out[i:i + (split or len(out))])
    return script


def delta(text, fingerprint="m-p0", **more):
    return dict({"choices": [{"index": 0, "delta": {"content": text}}],
                 "system_fingerprint": fingerprint}, **more)


def ebb(*args, fake=None, stdin="", env=None):
    where = ["--socket", fake.path] if fake else []
    return subprocess.run([program("ebb"), *where, *args], input=stdin, capture_output=True,
                          text=True, timeout=30, env=dict(os.environ, **(env or {})))


STATUS = {"state": "ready", "level": 1, "position": 12, "positions": 31,
          "budget_bytes": 96 << 20, "resident_bytes": 90 << 20, "kv_bytes": 4 << 20,
          "rss_bytes": 100 << 20, "units": {"full": 19, "high": 12, "swsc": 0, "paged": 0},
          "duty": 1.0, "threads": 2, "cpus": "0-1",
          "memory": {"source": "meminfo", "available_bytes": 812 << 20},
          "thermal": [], "requests": {"active": 1, "queued": 0}, "novel": {"x_bytes": 2048}}


@test
def usage():
    for args in ([], ["frobnicate"], ["complete"], ["status", "x"], ["complete", "a", "b"],
                 ["--bogus", "status"], ["-n", "0", "chat"], ["-n", "x", "chat"],
                 ["--temperature", "-1", "chat"], ["--temperature", "nan", "chat"],
                 ["--top-p", "1.5", "chat"], ["--seed", "-1", "chat"], ["--json", "chat"],
                 ["--count", "0", "events"], ["limit", "12 apples"]):
        r = ebb(*args)
        check_eq(r.returncode, 2, " ".join(args))
        check(r.stderr and not r.stdout, "words on standard error only")
    r = ebb("--help")
    check_eq(r.returncode, 0)
    for word in ("status", "chat", "complete", "ladder", "limit", "top", "events", "doctor", "75"):
        check_in(word, r.stdout)
    check_in("ebb ", ebb("--version").stdout)


@test
def unreachable():
    r = ebb("--socket", TMP.name + "/none.sock", "status")
    check_eq(r.returncode, 69)
    check_in("none.sock", r.stderr)
    stale = os.path.join(TMP.name, "stale.sock")
    s = socket.socket(socket.AF_UNIX)
    s.bind(stale)
    s.close()
    check_eq(ebb("--socket", stale, "status").returncode, 69)
    check_eq(ebb("--socket", "/" + "a" * 120, "status").returncode, 2)
    check_eq(ebb("status", env={"EBB_SOCKET": TMP.name + "/env.sock"}).returncode, 69)
    check_in("env.sock", ebb("status", env={"EBB_SOCKET": TMP.name + "/env.sock"}).stderr)


@test
def a_queue_that_is_full():
    path = TMP.name + "/full.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen(0)
        held = []
        while True:
            c = socket.socket(socket.AF_UNIX)
            c.setblocking(False)
            held.append(c)
            try:
                c.connect(path)
            except BlockingIOError:
                break
        r = ebb("-s", path, "status")
        check_eq(r.returncode, 75, r.stderr)
        check_in("queue is full", r.stderr)
        for c in held:
            c.close()


@test
def status():
    r = ebb("status", fake=Fake(plain(200, STATUS)))
    check_eq(r.returncode, 0, r.stderr)
    for text in ("ready, level 1 guarded", "12 of 31: 19 full, 12 high", "96.0 MiB", "meminfo",
                 "available 812.0 MiB", "active 1", "novel", "2.0 KiB",
                 "2 threads, CPUs 0-1, duty"):
        check_in(text, r.stdout)
    r = ebb("status", "--json", fake=Fake(plain(200, STATUS)))
    check_eq(json.loads(r.stdout), STATUS)


@test
def ladder():
    steps = [{"unit": u, "from": "full", "to": "high", "bytes": 1 << 20, "cost": 0.01 * i,
              "taken": i < 1} for i, u in enumerate([7, "head"])]
    answer = {"name": "lsaq", "position": 1, "steps": steps}
    r = ebb("ladder", fake=Fake(plain(200, answer)))
    check_eq(r.returncode, 0, r.stderr)
    check_in("ladder lsaq, position 1 of 2", r.stdout)
    check_eq([x.split()[-1] for x in r.stdout.splitlines()[2:]], ["yes", "-"])
    check_in("head", r.stdout)
    check_eq(json.loads(ebb("ladder", "-j", fake=Fake(plain(200, answer))).stdout), answer)


@test
def limit():
    for text, want in (("96MiB", 96 << 20), ("auto", "auto"), ("1.5GiB", 3 << 29)):
        f = Fake(plain(200, {"position": 3}), name="admin.sock")
        r = ebb("limit", text, "--socket", os.path.join(f.dir, "ebb.sock"))
        check_eq(r.returncode, 0, r.stderr)
        head, body = f.requests[0]
        check_in("POST /ebb/limit HTTP/1.1", head)
        check_eq(json.loads(body), {"bytes": want})
        check_in("position 3", r.stdout)
    r = ebb("limit", fake=Fake(plain(200, STATUS)))
    check_in("available 812.0 MiB", r.stdout)


@test
def refusals():
    error = {"error": {"message": "no \x1b[31mroom", "type": "t", "param": None, "code": 1}}
    for http, code in ((400, 65), (404, 65), (413, 65), (403, 77), (429, 75), (500, 70),
                       (501, 70), (503, 75), (302, 70)):
        r = ebb("status", fake=Fake(plain(http, error)))
        check_eq(r.returncode, code, "HTTP %d" % http)
        check_in("room", r.stderr)
    r = ebb("complete", "x", fake=Fake(plain(503, error, "Retry-After: 2\r\n")))
    check_eq(r.returncode, 75)
    check_in("again in 2 s", r.stderr)
    check_eq(ebb("status", fake=Fake(plain(500, b"<html>"))).returncode, 70)


@test
def nonsense():
    for data in (b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
                 b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"x" * 20000,
                 b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                 b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"):
        r = ebb("status", fake=Fake(raw(data)))
        check(r.returncode in (69, 70), "%r gives %d" % (data[:40], r.returncode))
        check(r.stderr, "silent on %r" % data[:40])


@test
def chat_once():
    events = (b": ping\n\n", {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
              delta("Hel"), delta("lo, \u00e9", "m-p9"),
              {"choices": [{"delta": {}, "finish_reason": "stop"}], "system_fingerprint": "m-p9",
               "timings": {"predicted_n": 2, "predicted_per_second": 5, "prompt_n": 3},
               "ebb": {"position": 9}}, "[DONE]")
    for split in (None, 1, 7):
        f = Fake(chunks(*events, split=split))
        r = ebb("chat", "--once", "hi", "--system", "be brief", "-n", "5", "-t", "0", fake=f)
        check_eq((r.returncode, r.stdout, r.stderr), (0, "Hello, \u00e9\n", ""))
        check_eq(json.loads(f.requests[0][1]),
                 {"stream": True, "max_tokens": 5, "temperature": 0,
                  "messages": [{"role": "system", "content": "be brief"},
                               {"role": "user", "content": "hi"}]})
    r = ebb("chat", "-v", "--once", "hi", fake=Fake(chunks(*events)))
    check_in("m-p0 -> m-p9", r.stderr)
    check_in("5.0 tokens/s, 1 swaps, position 9", r.stderr)
    answer = {"choices": [{"message": {"content": "Hello"}}]}
    f = Fake(plain(200, answer))
    check_eq(json.loads(ebb("chat", "--json", "--once", "hi", fake=f).stdout), answer)
    check("stream" not in json.loads(f.requests[0][1]), "a plain request")


@test
def complete():
    f = Fake(chunks({"choices": [{"text": "one"}]}, {"choices": [{"text": " two"}]}, "[DONE]"))
    r = ebb("complete", "zero", "--seed", "7", "--top-k", "3", "--top-p", "0.5", fake=f)
    check_eq((r.returncode, r.stdout), (0, "one two\n"), r.stderr)
    check_eq(json.loads(f.requests[0][1]),
             {"stream": True, "prompt": "zero", "seed": 7, "top_k": 3, "top_p": 0.5})


@test
def broken_streams():
    error = {"error": {"message": "memory emergency", "code": 503}}
    r = ebb("chat", "--once", "x", fake=Fake(chunks(delta("a"), error, "[DONE]")))
    check_eq(r.returncode, 75)
    check_in("memory emergency", r.stderr)
    check_eq(r.stdout, "a\n")
    r = ebb("chat", "--once", "x", fake=Fake(chunks(delta("a"), end=False)))
    check_eq((r.returncode, r.stdout.strip()), (69, "a"))
    r = ebb("chat", "--once", "x", fake=Fake(chunks(delta("a"))))
    check_eq(r.returncode, 69)
    check_in("too early", r.stderr)


@test
def conversation():
    done = "[DONE]"
    full = {"error": {"message": "too long", "type": "exceed_context_size_error"}}
    f = Fake(chunks(delta("A1"), done), chunks(delta("A2"), done), plain(400, full),
             chunks(delta("A3"), done))
    r = ebb("chat", fake=f, stdin="Q1\n\nQ2\nQ3")
    check_eq((r.returncode, r.stdout), (0, "A1\nA2\nA3\n"), r.stderr)
    check_in("Forgetting", r.stderr)
    told = [[m["content"] for m in json.loads(b)["messages"]] for _, b in f.requests]
    check_eq(told, [["Q1"], ["Q1", "A1", "Q2"], ["Q1", "A1", "Q2", "A2", "Q3"],
                    ["Q2", "A2", "Q3"]])


def on_terminal(fake, *args):
    """`ebb` on a pseudo terminal: its process and the master side."""
    master, slave = pty.openpty()
    p = subprocess.Popen([program("ebb"), "--socket", fake.path, *args], stdin=slave, stdout=slave,
                         stderr=slave, start_new_session=True)
    os.close(slave)
    seen = bytearray()

    def read():
        try:
            while True:
                seen.extend(os.read(master, 4096))
        except OSError:
            pass
    threading.Thread(target=read, daemon=True).start()
    return p, master, seen


@test
def terminal():
    f = Fake(chunks(*[delta("tick ")] * 200, pause=0.05),
             chunks(delta("\x1b]0;own\x07plain\u009b1m"), "[DONE]"))
    p, master, seen = on_terminal(f, "chat")
    wait_until(lambda: b"> " in seen, 10, "a prompt")
    os.write(master, b"first\n")
    wait_until(lambda: b"tick tick" in seen, 10, "an answer")
    p.send_signal(signal.SIGINT)
    wait_until(lambda: b"[stopped]" in seen, 10, "the answer stops")
    check(p.poll() is None, "the program lives")
    os.write(master, b"second\n")
    wait_until(lambda: b"plain" in seen, 10, "another answer")
    check(b"\x1b]0;own" not in seen and b"\x9b" not in seen, "control characters are left out")
    told = [m["role"] for m in json.loads(f.requests[1][1])["messages"]]
    check_eq(told, ["user", "assistant", "user"])
    p.send_signal(signal.SIGINT)
    wait_until(lambda: b"Ctrl-D ends the conversation" in seen, 10, "a hint")
    os.write(master, b"\x04")
    check_eq(p.wait(10), 0)
    os.close(master)


@test
def interrupted_once():
    f = Fake(chunks(*[delta("tick ")] * 200, pause=0.05))
    p, master, seen = on_terminal(f, "chat", "--once", "x")
    wait_until(lambda: b"tick" in seen, 10, "an answer")
    p.send_signal(signal.SIGINT)
    check_eq(p.wait(10), 130)
    os.close(master)


@test
def events():
    stream = (b"event: swap\ndata: {\"position\": 3, \"freed_bytes\": 2048}\n\n", b": ping\n\n",
              b"event: limit\ndata: {\"bytes\": 1}\n\n")
    r = ebb("events", "--count", "2", fake=Fake(chunks(*stream)))
    check_eq(r.returncode, 0, r.stderr)
    check_in("swap  position 3, freed 2.0 KiB", r.stdout)
    r = ebb("events", "--count", "2", "--json", fake=Fake(chunks(*stream)))
    check_eq([json.loads(x) for x in r.stdout.splitlines()],
             [{"position": 3, "freed_bytes": 2048, "event": "swap"},
              {"bytes": 1, "event": "limit"}])
    check_eq(ebb("events", fake=Fake(chunks(*stream))).returncode, 69)
    f = Fake(chunks(*stream, b": wait\n\n" * 40, pause=0.5))
    p = subprocess.Popen([program("ebb"), "--socket", f.path, "events"], stdout=subprocess.PIPE)
    check(p.stdout.readline(), "an event")
    p.send_signal(signal.SIGINT)
    check_eq(p.wait(10), 0)
    p.stdout.close()


@test
def doctor():
    root = tempfile.mkdtemp(dir=TMP.name)
    os.makedirs(root + "/proc/pressure")
    with open(root + "/proc/meminfo", "w") as f:
        f.write("MemTotal: 1000000 kB\nMemFree: 5 kB\nMemAvailable: 50000 kB\n")
    healthy = [lambda conn, _: None, plain(200, {"status": "ok"}), plain(200, STATUS)]
    r = ebb("doctor", "--root", root, fake=Fake(*healthy))
    check_eq(r.returncode, 0, r.stdout + r.stderr)
    for text in ("ready", "48.8 MiB of 976.6 MiB", "psi=1", "cgroup_enable=memory", "12 of 31"):
        check_in(text, r.stdout)
    r = ebb("doctor", "--json", "--root", root, fake=Fake(*healthy))
    found = {x["check"]: x["verdict"] for x in json.loads(r.stdout)}
    check_eq((found["socket"], found["health"], found["memory"]), ("ok", "ok", "note"))
    r = ebb("doctor", "--root", root, "--socket", TMP.name + "/none.sock")
    check_eq(r.returncode, 1)
    check_in("BAD   socket", r.stdout)
    check_in("start ebbd", r.stdout)
    os.remove(root + "/proc/meminfo")
    r = ebb("doctor", "--root", root, fake=Fake(*healthy))
    check_eq(r.returncode, 1)
    check_in("BAD   meminfo", r.stdout)
    r = ebb("doctor", "--root", root,
            fake=Fake(lambda conn, _: None, plain(500, {}), plain(500, {})))
    check_eq(r.returncode, 1)


main(TMP.cleanup)
