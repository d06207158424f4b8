"""ebbd over HTTP with a tiny model: right answers, each kind of wrong request, and neighbours that
must not disturb one another."""
import json
import threading
import time

import ebbd
import wire
from harness import Failed, check, check_eq, check_in, main, test, wait_until

N = 40  # tokens of a short answer


class Shared:
    """One daemon for the tests that leave it as it was."""
    daemon = None


def daemon():
    if not Shared.daemon:
        Shared.daemon = ebbd.Daemon(ebbd.tiny_pack())
    return Shared.daemon


def stop_shared():
    if Shared.daemon:
        Shared.daemon.stop()


def text_of(reply):
    check_eq(reply.status, 200, repr(reply.body[:200]))
    choice = reply.json()["choices"][0]
    return choice["text"] if "text" in choice else choice["message"]["content"]


@test
def health_and_models():
    d = daemon()
    r = d.get("/health")
    check_eq((r.status, r.json()["status"]), (200, "ok"))
    models = d.get("/v1/models").json()
    check_eq(models["object"], "list")
    check_eq(len(models["data"]), 1)
    check_eq(models["data"][0]["object"], "model")
    check(models["data"][0]["id"], "a name")


@test
def status_and_ladder():
    d = daemon()
    s, ladder = d.status(), d.ladder()
    for key in ("state", "level", "position", "positions", "budget_bytes", "resident_bytes",
                "kv_bytes", "rss_bytes", "units", "duty", "threads", "cpus", "memory",
                "thermal", "requests"):
        check_in(key, s)
    check_eq(s["position"], 0)
    check_eq(s["positions"], len(ladder["steps"]))
    check_eq(ladder["position"], 0)
    for step in ladder["steps"]:
        check_eq((step["from"], step["to"], step["taken"]), ("full", "high", False))
        check(step["bytes"] > 0, "a step frees bytes")
    check_eq(sum(x["bytes"] for x in ladder["steps"]), d.low_bytes(), "bytes of the ladder")
    check_eq(s["units"]["full"], len(ladder["steps"]))


@test
def plain_and_stream_agree():
    d = daemon()
    plain = d.chat("hello", max_tokens=N)
    text = text_of(plain)
    body = plain.json()
    check(len(text) >= N, "a token is a character or more")
    check_eq(body["object"], "chat.completion")
    check_eq(body["choices"][0]["finish_reason"], "length")
    check_eq(body["choices"][0]["message"]["role"], "assistant")
    check_eq(body["usage"]["completion_tokens"], N)
    check_eq(body["usage"]["total_tokens"], body["usage"]["prompt_tokens"] + N)

    s = d.stream_chat("hello", max_tokens=N, stream_options={"include_usage": True}).run()
    check(s.headers["content-type"].startswith("text/event-stream"), "content type")
    check_eq(s.headers.get("transfer-encoding"), "chunked")
    check("content-length" not in s.headers, "no length")
    check(s.headers.get("x-request-id"), "a request id")
    check_eq(s.text, text)
    check_eq(s.finish, "length")
    known = s.usage.pop("prompt_tokens_details")["cached_tokens"]
    check_eq(known, s.usage["prompt_tokens"] - 1, "all but the last token are known by now")
    del body["usage"]["prompt_tokens_details"]
    check_eq(s.usage, body["usage"])
    check_eq(len({c["id"] for c in s.chunks}), 1, "ids")
    check_eq(len({c["created"] for c in s.chunks}), 1, "times")
    check_eq({c["object"] for c in s.chunks}, {"chat.completion.chunk"})
    check_eq(s.chunks[0]["choices"][0]["delta"]["role"], "assistant")
    check_eq([c for c in s.chunks if c["choices"] == []], [s.chunks[-1]], "the usage chunk")
    check_eq(s.last["ebb"]["position"], 0)
    check_eq(s.last["timings"]["predicted_n"], N)
    check_eq(s.chunks[0]["system_fingerprint"], body["system_fingerprint"])

    s = d.stream_chat("hello", max_tokens=N).run()
    check(s.usage is None and s.text == text, "no usage unless asked for")


@test
def completions_agree():
    d = daemon()
    text = text_of(d.complete("once upon", max_tokens=N))
    check_eq(d.stream("once upon", max_tokens=N).run().text, text)


@test
def stop_strings():
    d = daemon()
    text = text_of(d.complete("stop here", max_tokens=N))
    for stop in (text[7:10], [text[20:24], text[12:15]], text[0], text):
        stops = [stop] if isinstance(stop, str) else stop
        want = text[:min(text.index(s) for s in stops)]
        r = d.complete("stop here", max_tokens=N, stop=stop)
        check_eq(text_of(r), want)
        check_eq(r.json()["choices"][0]["finish_reason"], "stop")
        s = d.stream("stop here", max_tokens=N, stop=stop).run()
        check_eq((s.text, s.finish), (want, "stop"))
    r = d.complete("stop here", max_tokens=N, stop="\u00ff never \u00ff")
    check_eq(text_of(r), text)


@test
def sampling():
    d = daemon()
    hot = dict(max_tokens=N, temperature=1.5)
    a = text_of(d.complete("x", seed=5, **hot))
    check_eq(text_of(d.complete("x", seed=5, **hot)), a, "same seed")
    check(any(text_of(d.complete("x", seed=s, **hot)) != a for s in (6, 7, 8)), "other seeds")
    greedy = text_of(d.complete("x", max_tokens=N))
    check_eq(text_of(d.complete("x", seed=1, top_k=1, **hot)), greedy, "top_k 1 is greedy")
    check_eq(text_of(d.complete("x", seed=1, top_p=0.000001, **hot)), greedy, "least top_p")


BAD_BODIES = (
    b"", b"{", b"[]", b"null", b"\"x\"", b"{}", b"{\"messages\":[]}", b"{\"messages\":{}}",
    b"{\"messages\":[{}]}", b"{\"messages\":[{\"role\":\"user\"}]}",
    b"{\"messages\":[{\"role\":\"robot\",\"content\":\"x\"}]}",
    b"{\"messages\":[{\"role\":\"user\",\"content\":7}]}",
    b"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]} x",
    b"{\"messages\":[{\"role\":\"user\",\"content\":\"\xff\xfe\"}]}",
    b"{\"messages\":[{\"role\":\"user\",\"content\":\"\\ud800\"}]}",
    b"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"n\":NaN}",
    b"\xef\xbb\xbf{}", b"[" * 100000, b"{\"a\":" * 40 + b"1" + b"}" * 40,
    b"{\"max_tokens\":1e999,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}",
)


@test
def bad_json():
    d = daemon()
    for body in BAD_BODIES:
        r = d.post("/v1/chat/completions", body)
        check_eq(r.status, 400, repr(body[:60]))
        kind, message = r.error()
        check_eq(kind, "invalid_request_error", repr(body[:60]))
        check(message, "a message for %r" % body[:60])
    check_eq(d.post("/v1/completions", b"{}").status, 400)
    check_eq(d.get("/health").status, 200)


@test
def bad_fields():
    d = daemon()
    bad = {
        "max_tokens": (0, -1, 1.5, "7", [], True, 1 << 40),
        "max_completion_tokens": (0, "7"),
        "temperature": (-0.1, 101, "hot", [], {}),
        "top_p": (-0.1, 1.1, "x", []),
        "top_k": (-1, 1.5, "x"),
        "seed": (1.5, "x", []),
        "stream": ("yes", 1, []),
        "stop": (7, [7], [""], "", ["a"] * 5, ["x" * 300], {}),
        "n": (0, 2, "x"),
        "stream_options": ("x", 7),
    }
    for key, values in bad.items():
        for value in values:
            r = d.chat("x", **{key: value})
            check_eq(r.status, 400, "%s %r" % (key, value))
            e = r.json()["error"]
            check(e.get("param") == key or key in e["message"],
                  "%s %r: does not name it: %r" % (key, value, e))
    for key, value in (("user", "me"), ("n", 1), ("stop", None), ("max_tokens", None),
                       ("nonsense", {"a": [1]}), ("presence_penalty", 0)):
        check_eq(d.chat("x", **dict({"max_tokens": 2}, **{key: value})).status
                 if key != "max_tokens" else 200, 200, key)


@test
def routes():
    d = daemon()
    for target in ("/", "/v1", "/v1/chat/completionsx", "/ebb", "/%2e%2e/etc/passwd"):
        r = d.get(target)
        check_eq(r.status, 404, target)
        check_eq(r.error()[0], "not_found_error")
    for method, target in (("GET", "/v1/chat/completions"), ("POST", "/health"),
                           ("DELETE", "/v1/models"), ("PUT", "/ebb/status")):
        check_eq(wire.call(d.socket, method, target, b"{}").status, 405, method + target)
    r = d.post("/ebb/limit", {"bytes": "auto"})
    check(r.status in (403, 404), "limit on the clients' socket gives %d" % r.status)
    for body in (b"{}", b"[]", b"{\"bytes\":-1}", b"{\"bytes\":\"much\"}", b"{\"bytes\":1.5}",
                 b"{\"bytes\":null}", b"x"):
        r = wire.call(d.admin, "POST", "/ebb/limit", body)
        check_eq(r.status, 400, repr(body))


@test
def too_large():
    d = daemon()
    r = d.chat("x" * (2 << 20))
    check_eq(r.status, 413)
    with wire.Conn(d.socket) as c:
        c.send(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        check_eq(c.head()[0], 413)
    with wire.Conn(d.socket) as c:
        c.send(b"GET /health HTTP/1.1\r\nX: " + b"y" * 9000 + b"\r\n\r\n")
        check_eq(c.head()[0], 431)
    with wire.Conn(d.socket) as c:
        c.send(b"GET /" + b"y" * 5000 + b" HTTP/1.1\r\n\r\n")
        check_eq(c.head()[0], 414)
    with wire.Conn(d.socket) as c:
        c.send(b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n")
        check_eq(c.head()[0], 431)


@test
def context_overflow():
    d = daemon()
    for text in ("x" * 600, "y" * 100000):
        r = d.complete(text, max_tokens=4)
        check_eq(r.status, 400)
        check_eq(r.error()[0], "exceed_context_size_error")
        check_eq(r.json()["error"]["n_ctx"], 512)
        check(r.json()["error"]["n_prompt_tokens"] > 512, "n_prompt_tokens")
    # A prompt that fits is answered up to the end of the context.
    r = d.complete("x" * 480, max_tokens=500)
    check(r.status in (200, 400), "status %d" % r.status)
    if r.status == 200:
        u = r.json()["usage"]
        check(u["total_tokens"] <= 512, "stays inside the context: %r" % u)


SMUGGLED = (
    b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    b"Content-Length: +2\r\n\r\n{}", b"Content-Length: 2,2\r\n\r\n{}",
    b"Content-Length: 0x2\r\n\r\n{}", b"Content-Length: -2\r\n\r\n{}",
    b"Content-Length: 2 2\r\n\r\n{}", b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    b"Content-Length : 2\r\n\r\n{}", b"Content-Length: 2\n\n{}", b"X: a\r\n b\r\n\r\n",
    b"X: a\rb\r\n\r\n", b"X: a\0b\r\n\r\n", b"\0: a\r\n\r\n", b"no colon\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n",
)


@test
def smuggling():
    d = daemon()
    second = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    for rest in SMUGGLED:
        with wire.Conn(d.socket) as c:
            c.send(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n" + rest + second)
            r = c.reply()
            check_eq(r.status, 400, repr(rest))
            check(c.at_end(), "%r: the connection stays open or more is answered" % rest)
    for line in (b"GET /health HTTP/2.0\r\n\r\n", b"GET  /health HTTP/1.1\r\n\r\n", b"\x16\x03\x01",
                 b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"get /health HTTP/1.1\r\n\r\n",
                 b"GET /health\r\n\r\n", b"GET /\x80 HTTP/1.1\r\n\r\n"):
        with wire.Conn(d.socket, timeout=15) as c:
            c.send(line)
            status = c.head()[0]
            check(status in (400, 404, 405, 501, 505), "%r gives %d" % (line, status))


@test
def splits_and_pipelines():
    d = daemon()
    body = json.dumps({"prompt": "split", "max_tokens": 3, "temperature": 0}).encode()
    head = (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body))
    chunked = (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
               b"Transfer-Encoding: chunked\r\n\r\n5\r\n" + body[:5] +
               b"\r\n%x\r\n" % (len(body) - 5) + body[5:] + b"\r\n0\r\n\r\n")
    want = text_of(d.complete("split", max_tokens=3))
    for data in (head + body, chunked):
        for step in (1, 7, len(data)):
            with wire.Conn(d.socket) as c:
                for i in range(0, len(data), step):
                    c.send(data[i:i + step])
                check_eq(text_of(c.reply()), want, "step %d" % step)
    with wire.Conn(d.socket) as c:
        c.send((head + body + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n") * 3)
        for _ in range(3):
            check_eq(text_of(c.reply()), want)
            check_eq(c.reply().json()["status"], "ok")
    with wire.Conn(d.socket) as c:
        c.send(b"GET /health HTTP/1.0\r\n\r\n")
        check_eq(c.reply().status, 200)
        check(c.at_end(), "HTTP/1.0 closes")


@test
def determinism():
    """Greedy text depends neither on the threads nor on what else is in the batch."""
    prompts = ["alpha", "the quick brown fox", "z" * 70, "Hello, world!"]
    texts = {}
    for threads in (1, 2, 3):
        with ebbd.Daemon(ebbd.tiny_pack(), {"serve": {"threads": threads, "slots": 4}}) as d:
            alone = [text_of(d.complete(p, max_tokens=100)) for p in prompts]
            streams = [d.stream(p, max_tokens=100) for p in prompts]
            workers = [threading.Thread(target=s.run) for s in streams]
            for w in workers:
                w.start()
            for w in workers:
                w.join()
            check_eq([s.text for s in streams], alone, "together, %d threads" % threads)
            texts[threads] = alone
    check_eq(texts[2], texts[1], "2 threads")
    check_eq(texts[3], texts[1], "3 threads")


def busy(d):
    """A stream that holds its slot until it is closed or read: it has said something, but its
    reader has stopped reading, and it has far more to say than the buffers take."""
    s = d.stream("busy", max_tokens=8000)
    next(iter(s))
    return s


ONE_SLOT = {"serve": {"slots": 1, "queue": 2, "ctx": 8192, "buffer_limit": "4KiB"}}


@test
def queue_full():
    with ebbd.Daemon(ebbd.tiny_pack(), ONE_SLOT) as d:
        first = busy(d)
        waiting = []
        for i in range(2):
            c = wire.Conn(d.socket)
            c.request("POST", "/v1/completions", {"prompt": "q%d" % i, "max_tokens": 2})
            waiting.append(c)
        wait_until(lambda: d.status()["requests"]["queued"] == 2, 10, "two wait")
        r = d.complete("too many", max_tokens=2)
        check_eq(r.status, 503)
        check_eq(r.error()[0], "unavailable_error")
        check(int(r.headers["retry-after"]) >= 1, "Retry-After")
        # A request that waits and goes away frees its place; the others keep theirs.
        waiting[0].close()
        wait_until(lambda: d.status()["requests"]["queued"] == 1, 10, "one waits")
        first.close()
        check_eq(waiting[1].reply().status, 200)


@test
def client_gone():
    with ebbd.Daemon(ebbd.tiny_pack(), ONE_SLOT) as d:
        for _ in range(3):
            s = busy(d)
            check_eq(d.status()["requests"]["active"], 1)
            s.close()
            wait_until(lambda: d.status()["requests"]["active"] == 0, 10, "the slot is free")
        with wire.Conn(d.socket) as c:  # gone while the prompt is read
            c.request("POST", "/v1/completions", {"prompt": "p" * 3000, "max_tokens": 2})
        wait_until(lambda: d.status()["requests"]["active"] == 0, 10, "the slot is free")
        check_eq(d.complete("next", max_tokens=5).json()["usage"]["completion_tokens"], 5)


@test
def slow_reader():
    settings = {"serve": {"slots": 2, "ctx": 4096, "buffer_limit": "4KiB"}}
    with ebbd.Daemon(ebbd.tiny_pack(), settings) as d:
        tokens = 3500
        alone = d.stream("lazy", max_tokens=tokens).run().text
        neighbour = d.stream("quick", max_tokens=200).run().text
        lazy = d.stream("lazy", max_tokens=tokens)
        time.sleep(0.3)
        for _ in range(3):
            start = time.monotonic()
            check_eq(d.stream("quick", max_tokens=200).run().text, neighbour)
            check(time.monotonic() - start < 30, "the neighbour waits")
        check_eq(lazy.run().text, alone, "after its pause the slow one has everything")


@test
def stalled_reader():
    settings = {"serve": {"slots": 1, "ctx": 8192, "buffer_limit": "4KiB",
                          "stall_timeout": "500ms"}}
    with ebbd.Daemon(ebbd.tiny_pack(), settings) as d:
        s = d.stream("never read", max_tokens=8000)
        wait_until(lambda: d.status()["requests"]["active"] == 0, 20, "it is cancelled")
        check_eq(d.complete("next", max_tokens=3).status, 200)
        s.close()


@test
def late_senders():
    settings = {"serve": {"header_timeout": "300ms", "body_timeout": "300ms",
                          "idle_timeout": "400ms"}}
    with ebbd.Daemon(ebbd.tiny_pack(), settings) as d:
        for data in (b"GET /hea", b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
                     b"Content-Length: 50\r\n\r\n{"):
            with wire.Conn(d.socket, timeout=15) as c:
                c.send(data)
                start = time.monotonic()
                check_eq(c.head()[0], 408)
                check(time.monotonic() - start < 10, "in time")
        with wire.Conn(d.socket, timeout=15) as c:
            check(c.at_end(15), "an idle connection is closed without a word")


@test
def metrics_add_up():
    with ebbd.Daemon(ebbd.tiny_pack(), ONE_SLOT) as d:
        for _ in range(3):
            d.complete("x", max_tokens=3)
        d.complete("x", max_tokens=-1)
        d.get("/nowhere")
        s = busy(d)
        waiting = []
        for _ in range(2):
            c = wire.Conn(d.socket)
            c.request("POST", "/v1/completions", {"prompt": "q", "max_tokens": 2})
            waiting.append(c)
        wait_until(lambda: d.status()["requests"]["queued"] == 2, 10, "two wait")
        check_eq(d.complete("too many", max_tokens=2).status, 503)
        s.close()
        for c in waiting:
            check_eq(c.reply().status, 200)
            c.close()
        wait_until(lambda: d.status()["requests"]["active"] == 0, 10, "all is quiet")
        m = d.metrics()
        r = d.status()["requests"]
        check_eq(r["accepted"], r["completed"] + r["refused"] + r["cancelled"] + r["failed"],
                 "accounts of %r" % r)
        check_eq((r["completed"], r["cancelled"], r["failed"]), (5, 1, 0))
        check(any(k.startswith("ebb_") for k in m), "our metrics: %r" % sorted(m)[:5])


def turns(d):
    """Two turns of a chat: the answers, and the timings of the second."""
    said = [{"role": "user", "content": "hello"}]
    first = d.post("/v1/chat/completions", {"messages": said, "max_tokens": N, "temperature": 0})
    said += [{"role": "assistant", "content": text_of(first)}, {"role": "user", "content": "more"}]
    second = d.post("/v1/chat/completions", {"messages": said, "max_tokens": N, "temperature": 0})
    return text_of(first), text_of(second), first.json()["usage"], second.json()


@test
def a_next_turn_computes_only_what_is_new():
    with ebbd.Daemon(ebbd.tiny_pack(), {"kv": {"prefix_limit": "0B"}}) as d:
        want = turns(d)
        check_eq(want[3]["timings"]["cache_n"], 0)
        check_eq(d.status()["kv_bytes"], 0)
    for kind in ("q8", "f16"):
        with ebbd.Daemon(ebbd.tiny_pack(), {"kv": {"type": kind}}) as d:
            got = turns(d)
            if kind == "q8":
                check_eq(got[:2], want[:2])
            t, usage = got[3]["timings"], got[3]["usage"]
            check_eq(t["cache_n"] + t["prompt_n"], usage["prompt_tokens"])
            check_eq(usage["prompt_tokens_details"]["cached_tokens"], t["cache_n"])
            check(t["cache_n"] >= got[2]["prompt_tokens"], "the first turn's prompt is known")
            check_eq(d.metrics()["ebb_prompt_tokens_kept_total"], t["cache_n"])
            s = d.status()
            check(s["kv_kept_bytes"] > 0, "caches are kept")
            check_eq(s["kv_kept_bytes"], s["kv_bytes"])


@test
def kept_caches_give_way_first():
    with ebbd.Daemon(ebbd.tiny_pack()) as d:
        turns(d)
        s = d.status()
        check(s["kv_kept_bytes"] > 0, "caches are kept")
        d.limit(s["resident_bytes"] + s["scratch_bytes"])
        wait_until(lambda: d.status()["kv_bytes"] == 0, 5, "the caches to go")
        check_eq(d.status()["position"], 0, "no unit had to go")
        # A limit that a request's own cache does not fit beside everything: units go, not answers.
        check_eq(d.chat("hello", max_tokens=N).status, 200)
    # The same where it is the system that is short of memory. What is read is a file that does not
    # follow what the daemon gives back, so only the first reading counts.
    with ebbd.Daemon(ebbd.tiny_pack(), {"sense": {"interval": "3s"}}) as d:
        turns(d)
        kept = d.status()["kv_kept_bytes"]
        check(kept > 4096, "caches are kept")
        d.set_available((16 << 20) - 4096)
        wait_until(lambda: d.status()["kv_bytes"] == 0, 10, "the caches to go")
        check_eq(d.status()["position"], 0, "no unit had to go")


@test
def sockets_modes():
    import os
    import stat
    d = daemon()
    check_eq(stat.S_IMODE(os.stat(d.socket).st_mode), 0o660)
    check_eq(stat.S_IMODE(os.stat(d.admin).st_mode), 0o600)


@test
def client_program():
    d = daemon()
    want = text_of(d.chat("hello", max_tokens=20))
    r = ebbd.ebb(d, "chat", "--once", "hello", "-n", "20", "-t", "0")
    check_eq((r.returncode, r.stdout), (0, want + "\n"), r.stderr)
    want = text_of(d.complete("hello", max_tokens=20))
    r = ebbd.ebb(d, "complete", "hello", "-n", "20", "-t", "0", "-v")
    check_eq((r.returncode, r.stdout), (0, want + "\n"), r.stderr)
    check_in("20 tokens", r.stderr)
    check_eq(json.loads(ebbd.ebb(d, "status", "--json").stdout)["position"], 0)
    check_eq(json.loads(ebbd.ebb(d, "ladder", "--json").stdout), d.ladder())
    check_in("position  0 of", ebbd.ebb(d, "status").stdout)
    r = ebbd.ebb(d, "doctor")
    check_in("ready", r.stdout)
    r = ebbd.ebb(d, "complete", "x" * 1000)
    check_eq(r.returncode, 65)


main(stop_shared)
