"""ebbd's life: start, stop, signals, sockets, settings, and packs that are not what they should
be."""
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import ebbd
import wire
from harness import Failed, check, check_eq, check_in, main, program, test, wait_until


def run_ebbd(*args, seconds=60):
    r = subprocess.run([program("ebbd"), *args], capture_output=True, text=True, timeout=seconds)
    check(not ebbd.SANITIZER.search(r.stderr), r.stderr[-4000:])
    return r


@test
def options():
    d = ebbd.Daemon(ebbd.tiny_pack(), start=False)
    r = run_ebbd("--config", d.config, "--check-config")
    check_eq(r.returncode, 0, r.stderr)
    r = run_ebbd("--config", d.config, "--print-config")
    check_eq(r.returncode, 0, r.stderr)
    check_in(d.socket, r.stdout)
    check_in("memory:", r.stdout)
    again = os.path.join(d.dir, "printed.yaml")
    with open(again, "w") as f:
        f.write(r.stdout)
    check_eq(run_ebbd("--config", again, "--print-config").stdout, r.stdout, "printed, read again")
    check_eq(run_ebbd("--help").returncode, 0)
    check_in("ebbd ", run_ebbd("--version").stdout)
    check_eq(run_ebbd("--frobnicate").returncode, 64)


@test
def bad_settings():
    d = ebbd.Daemon(ebbd.tiny_pack(), start=False)
    good = open(d.config).read()
    for text, place in (("serve:\n  slot: 4\n", ":2:3"), ("serve:\n  slots: many\n", ":2:10"),
                        ("serve:\n  slots: 0\n", ":2:10"), ("serve: [\n", ":"),
                        ("model:\n  path: a\nmodel:\n  path: b\n", ":3:1"), ("", "model.path")):
        d.write_config(text)
        r = run_ebbd("--config", d.config)
        check(r.returncode not in (0, -11, -6), "%r gives %d" % (text, r.returncode))
        check_in(place, r.stderr, repr(text))
        check(not os.path.exists(d.socket), "no socket is made")
    r = run_ebbd("--config", d.dir + "/none.yaml")
    check(r.returncode > 0, "a missing file")
    check_in("none.yaml", r.stderr)
    d.write_config(good)
    d.start()
    d.stop()


@test
def unknown_ladder():
    d = ebbd.Daemon(ebbd.tiny_pack(), {"precision": {"ladder": "oracle"}}, start=False)
    r = run_ebbd("--config", d.config)
    check_eq(r.returncode, 78, r.stderr)
    check_in("the pack has no ladder 'oracle' (precision.ladder); it has: jaccard, lsaq, kl", r.stderr)
    for name in ("jaccard", "lsaq", "kl"):
        with ebbd.Daemon(ebbd.tiny_pack(), {"precision": {"ladder": name}}) as d:
            check_eq(d.ladder()["name"], name)


@test
def books_are_resident():
    pack = ebbd.drawn_pack()
    extents = {name: n for name, (_, n) in ebbd.pack_extents(pack).items()}
    check(extents["books"] > 0 and "unit.002.swsc" in extents, extents)
    with ebbd.Daemon(pack, {"precision": {"ladder": "jaccard"}}) as d:
        check_eq(d.status()["resident_bytes"], sum(n for name, n in extents.items() if not name.endswith(".swsc")))
        check_eq(d.complete("books", max_tokens=8).status, 200)


def answer(d):
    try:
        return d.get("/health")
    except OSError:
        return None


@test
def waits_while_loading():
    """Who asks while the weights are still read waits in the queue: with socket activation it may
    be this very request that has started the daemon."""
    settings = {"paging": {"rate_limit": "3MiB"}, "serve": {"slots": 1, "queue": 2}}
    d = ebbd.Daemon(ebbd.slow_pack(), settings, start=False)
    d.spawn()
    with d:
        reply = wait_until(lambda: answer(d), 60, "an answer")
        check_eq((reply.status, reply.error()[1]), (503, "Loading model"))
        check_eq(d.status()["state"], "loading")
        replies = []
        threads = [threading.Thread(target=lambda: replies.append(d.complete("x", max_tokens=3)))
                   for _ in range(3)]
        for t in threads:
            t.start()
        wait_until(lambda: d.status()["requests"]["queued"] == 3, 10, "three wait")
        check_eq(d.complete("x", max_tokens=3).status, 503, "the queue is full")
        check_eq(d.status()["state"], "loading")
        for t in threads:
            t.join(60)
        check_eq([r.status for r in replies], [200] * 3)
        m = d.metrics()
        check_eq((m["ebb_generations_accepted_total"], m["ebb_generations_completed_total"],
                  m["ebb_generations_refused_total"]), (4, 3, 1))


@test
def long_load():
    """The manager hears that weights still come, and then that all is ready."""
    d = ebbd.Daemon(ebbd.slow_pack(), {"paging": {"rate_limit": "600KiB"}}, start=False)
    m = ebbd.Manager(d)
    d.start()
    with d:
        said = m.take()
        check("READY" in said[-1] and "serving" in said[-1]["STATUS"], said)
        check(len(said) > 1, "signs of life")
        for x in said[:-1]:
            check_eq(x.get("EXTEND_TIMEOUT_USEC"), "60000000", x)
            check_in("loading", x["STATUS"])


@test
def stops_while_loading():
    """With requests that wait: those that have not left are told by the end of the connection."""
    d = ebbd.Daemon(ebbd.slow_pack(), {"paging": {"rate_limit": "1MiB"}}, start=False)
    d.spawn()
    wait_until(lambda: answer(d), 60, "an answer")
    conns = [wire.Conn(d.socket) for _ in range(3)]
    for c in conns:
        c.request("POST", "/v1/completions", {"prompt": "x", "max_tokens": 3})
    wait_until(lambda: d.status()["requests"]["queued"] == 3, 10, "three wait")
    conns[0].close()
    wait_until(lambda: d.status()["requests"]["queued"] == 2, 10, "one has left")
    d.stop(seconds=10)
    check(all(c.at_end() for c in conns[1:]), "an end, and nothing else")


@test
def drains():
    # A stream whose reader has stopped is still there when the signal comes, and is finished once
    # it reads again.
    settings = {"serve": {"ctx": 8192, "buffer_limit": "4KiB"}}
    with ebbd.Daemon(ebbd.tiny_pack(), settings) as d:
        want = d.stream("drain", max_tokens=3000).run().text
        s = d.stream("drain", max_tokens=3000)
        it = iter(s)
        next(it)
        d.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses(d), 10, "new requests are refused")
        for _ in it:
            pass
        check_eq((s.text, s.finish), (want, "length"), "the stream is whole")
        check_eq(d.process.wait(30), 0)
        d.check_log()
        check(not os.path.exists(d.socket), "the socket is gone")


def refuses(d):
    try:
        return d.complete("x", max_tokens=1).status == 503
    except OSError:
        return True


@test
def drain_ends():
    with ebbd.Daemon(ebbd.slow_pack(), {"serve": {"ctx": 8192, "drain_timeout": "300ms"}}) as d:
        s = d.stream("long", max_tokens=8000)
        it = iter(s)
        next(it)
        d.process.send_signal(signal.SIGTERM)
        for _ in it:
            pass
        check(s.error and s.is_done, "an error event, then [DONE]")
        check_eq(d.process.wait(20), 0)
        d.check_log()


@test
def second_signal():
    with ebbd.Daemon(ebbd.slow_pack(), {"serve": {"ctx": 8192, "drain_timeout": "60s"}}) as d:
        s = d.stream("long", max_tokens=8000)
        next(iter(s))
        d.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        check(d.process.poll() is None, "it drains")
        start = time.monotonic()
        d.process.send_signal(signal.SIGTERM)
        d.process.wait(20)
        check(time.monotonic() - start < 10, "at once")
        check_eq(d.process.returncode, 0)
        s.close()


@test
def sigint_while_idle():
    d = ebbd.Daemon(ebbd.tiny_pack())
    d.stop(signal.SIGINT)


@test
def two_daemons():
    with ebbd.Daemon(ebbd.tiny_pack()) as d:
        for _ in range(3):
            start = time.monotonic()
            r = run_ebbd("--config", d.config)
            check_eq(r.returncode, 75, r.stderr)
            check(time.monotonic() - start < 10, "soon")
        check_eq(d.get("/health").status, 200, "the first one lives")
        d.stop()


@test
def stale_socket():
    with ebbd.Daemon(ebbd.tiny_pack()) as d:
        d.kill()
        check(os.path.exists(d.socket), "a killed daemon leaves its socket")
        d.start()
        check_eq(d.complete("x", max_tokens=2).status, 200)
        d.stop()


@test
def not_our_socket():
    d = ebbd.Daemon(ebbd.tiny_pack(), start=False)
    with open(d.socket, "w") as f:
        f.write("precious")
    r = run_ebbd("--config", d.config)
    check(r.returncode > 0, "refused")
    check_eq(open(d.socket).read(), "precious")
    os.remove(d.socket)
    os.symlink(d.dir + "/elsewhere", d.socket)
    r = run_ebbd("--config", d.config)
    check(r.returncode > 0 and os.path.islink(d.socket), "a link is refused and kept")
    os.remove(d.socket)
    d.settings["socket"]["path"] = d.dir + "/missing/ebb.sock"
    d.write_config()
    r = run_ebbd("--config", d.config)
    check(r.returncode > 0, "no such folder")
    check_in("missing", r.stderr)


@test
def foreign_listener():
    """A live socket that is not ours, without our lock, is not taken over."""
    d = ebbd.Daemon(ebbd.tiny_pack(), start=False)
    other = socket.socket(socket.AF_UNIX)
    other.bind(d.socket)
    other.listen(1)
    r = run_ebbd("--config", d.config)
    check(r.returncode > 0, "refused")
    probe = socket.socket(socket.AF_UNIX)
    probe.connect(d.socket)
    probe.close()
    other.close()


def listening(path, kind=socket.SOCK_STREAM):
    s = socket.socket(socket.AF_UNIX, kind)
    s.bind(path)
    s.listen(16)
    return s


@test
def given_sockets():
    """Sockets that a service manager has bound: who connects early waits, what is there stays."""
    d = ebbd.Daemon(ebbd.tiny_pack(), start=False)
    api, admin = listening(d.socket), listening(d.admin)
    d.given = {"admin": admin, "api": api}
    with wire.Conn(d.socket) as early:
        early.request("GET", "/ebb/status")
        d.start()
        check_eq(early.reply().status, 200)
    with d:
        d.limit("auto")
        check_eq(wire.call(d.socket, "POST", "/ebb/limit", {"bytes": "auto"}).status, 403,
                 "the admin's endpoint on the clients' socket")
        r = run_ebbd("--config", d.config)
        check_eq(r.returncode, 75, r.stderr)
        d.stop()
        # Between two daemons nobody is refused.
        with wire.Conn(d.socket) as waits:
            waits.request("GET", "/ebb/status")
            d.start()
            check_eq(waits.reply().status, 200)
        d.kill()
        d.start()
    api.close()
    admin.close()


@test
def one_given_socket():
    d = ebbd.Daemon(ebbd.tiny_pack(), start=False)
    elsewhere = d.dir + "/other.sock"
    d.given = {"api": listening(elsewhere)}
    d.spawn()
    wait_until(lambda: os.path.exists(d.admin), 60, "the other one is made")
    check_eq(wire.call(elsewhere, "GET", "/ebb/status").status, 200)
    check(not os.path.exists(d.socket), "no second one is made")
    check_in("socket.path says " + d.socket, d.log())
    d.process.send_signal(signal.SIGTERM)
    check_eq(d.process.wait(30), 0)
    check(os.path.exists(elsewhere) and not os.path.exists(d.admin), "the own one goes")
    d.check_log()


@test
def wrong_given_sockets():
    d = ebbd.Daemon(ebbd.tiny_pack(), start=False)
    for given, text in (({"api": listening(d.dir + "/a", socket.SOCK_SEQPACKET)}, "descriptor 3"),
                        ({"web": listening(d.dir + "/b")}, "'web'"),
                        ({"api": socket.socket(socket.AF_INET)}, "Unix stream socket")):
        d.given = given
        d.spawn()
        check_eq(d.process.wait(60), 78, text)
        check_in(text, d.log())
        check(not os.path.exists(d.socket) and not os.path.exists(d.admin), "no socket is made")


@test
def reload():
    with ebbd.Daemon(ebbd.slow_pack()) as d:
        check_eq(d.status()["position"], 0)
        steps = d.status()["positions"]
        good = dict(d.settings["memory"])
        d.settings["memory"]["limit"] = "1MiB"
        d.write_config()
        d.process.send_signal(signal.SIGHUP)
        d.wait_position(steps)
        size = len(d.log())
        for text in ("serve:\n  slots: many\n", "x", "", "a" * 70000):
            d.write_config(text)
            d.process.send_signal(signal.SIGHUP)
            wait_until(lambda: len(d.log()) > size, 10, "a line in the log")
            size = len(d.log())
            check_eq(d.status()["position"], steps, "nothing changes")
        check_in("ebb.yaml:2:10", d.log())
        d.settings["memory"] = good
        d.write_config()
        d.process.send_signal(signal.SIGHUP)
        d.wait_position(0)
        for _ in range(20):
            d.process.send_signal(signal.SIGHUP)
        check_eq(d.complete("x", max_tokens=2).status, 200)


def flipped(pack, out, at):
    shutil.copy(pack, out)
    with open(out, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 0x10]))
    return out


@test
def bad_packs():
    pack = ebbd.tiny_pack()
    extents = ebbd.pack_extents(pack)
    d = ebbd.Daemon(pack, start=False)
    bad = os.path.join(d.dir, "bad.ebb")
    d.settings["model"]["path"] = bad
    d.write_config()

    def refused(what):
        r = run_ebbd("--config", d.config)
        check(0 < r.returncode < 128, "%s: ends with %d" % (what, r.returncode))
        check(r.stderr.strip(), "%s: silent" % what)
        check(not os.path.exists(d.socket), "no socket")
        return r.stderr

    for name, (offset, n) in extents.items():
        if name == "embd":
            continue  # its rows are checked one by one, as they are read
        flipped(pack, bad, offset + n // 2)
        check_in(name, refused("a flipped byte in " + name))
    for at in (0, 5, 9, 20, 200, 1000, min(o for o, _ in extents.values()) - 9):
        flipped(pack, bad, at)
        refused("a flipped byte at %d" % at)
    size = os.path.getsize(pack)
    for n in (0, 3, 24, 1000, extents["core"][0], size - 16384, size - 1):
        with open(pack, "rb") as f, open(bad, "wb") as out:
            out.write(f.read(n))
        refused("cut to %d bytes" % n)
    os.remove(bad)
    check_in("bad.ebb", refused("missing"))
    os.mkdir(bad)
    refused("a folder")
    os.rmdir(bad)
    os.mkfifo(bad)
    refused("a pipe")
    os.remove(bad)
    shutil.copy(ebbd.tiny_gguf("tiny", "--ctx", "8192"), bad)
    refused("a GGUF that is no pack")


@test
def damage_after_start():
    """A low plane that went bad on disk is found when it is next read: the position stays where
    the planes in memory hold, the daemon says so and goes on."""
    d = ebbd.Daemon(ebbd.tiny_pack(), start=False)
    pack = os.path.join(d.dir, "model.ebb")
    shutil.copy(ebbd.tiny_pack(), pack)
    d.settings["model"]["path"] = pack
    d.write_config()
    d.start()
    with d:
        steps = d.ladder()["steps"]
        last = steps[-1]  # the first to come back
        name = "unit.%s.low" % (last["unit"] if isinstance(last["unit"], str)
                                else "%03d" % last["unit"])
        extents = ebbd.pack_extents(pack)
        if name not in extents:
            name = "unit.head.low"
        offset, n = extents[name]
        want = d.complete("x", max_tokens=20).json()["choices"][0]["text"]
        d.limit(1 << 10)
        d.wait_position(len(steps))
        with open(pack, "r+b") as f:
            f.seek(offset + n // 3)
            byte = f.read(1)[0]
            f.seek(offset + n // 3)
            f.write(bytes([byte ^ 1]))
        d.limit("auto")
        wait_until(lambda: name in d.log(), 20, "the log names " + name)
        time.sleep(0.5)
        check_eq(d.status()["position"], len(steps), "the position stays")
        check_eq(d.complete("x", max_tokens=20).json()["ebb"]["position"], len(steps))
        check_eq(d.get("/health").status, 200)
        m = d.metrics()
        check(any("fail" in k and v > 0 for k, v in m.items()), "a failed read is counted")


@test
def no_sensors():
    """Without any reading the daemon serves, and does not take the unknown for plenty."""
    d = ebbd.Daemon(ebbd.tiny_pack(), start=False)
    os.remove(os.path.join(d.root, "proc/meminfo"))
    d.start()
    with d:
        check_eq(d.complete("x", max_tokens=3).status, 200)
        check(d.get("/metrics").status == 200, "metrics")


@test
def descriptors_close():
    with ebbd.Daemon(ebbd.tiny_pack()) as d:
        def n_open():
            return len(os.listdir("/proc/%d/fd" % d.process.pid))
        d.complete("x", max_tokens=2)
        before = wait_until(n_open, 5, "descriptors")
        conns = [wire.Conn(d.socket) for _ in range(50)]
        for c in conns:
            c.request("GET", "/health")
        for c in conns:
            check_eq(c.reply().status, 200)
            c.close()
        wait_until(lambda: n_open() <= before, 10, "as many descriptors as before")


main()
