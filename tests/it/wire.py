"""HTTP/1.1 over a Unix socket, as low as the tests need it: raw bytes in, every event with its
time out. Nothing is retried and nothing is forgiven."""
import json
import socket
import time

from harness import Failed


class Reply:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    def json(self):
        try:
            return json.loads(self.body)
        except ValueError:
            raise Failed("not JSON: %r" % self.body[:200])

    def error(self):
        """The error object's (type, message)."""
        e = self.json().get("error")
        if not isinstance(e, dict):
            raise Failed("no error object: %r" % self.body[:200])
        return e.get("type"), e.get("message") or ""


class Conn:
    def __init__(self, path, timeout=120):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.data = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def request(self, method, target, body=None, headers=()):
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        lines = ["%s %s HTTP/1.1" % (method, target), "Host: localhost"]
        lines += ["%s: %s" % h for h in headers]
        if body is not None:
            lines += ["Content-Type: application/json", "Content-Length: %d" % len(body)]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))

    def more(self):
        """Reads on; False at the end of the connection."""
        got = self.sock.recv(65536)
        self.data += got
        return bool(got)

    def take_line(self):
        while b"\r\n" not in self.data:
            if not self.more():
                raise Failed("the connection ends in the middle of a line: %r" % self.data[:200])
        line, self.data = self.data.split(b"\r\n", 1)
        return line

    def take(self, n):
        while len(self.data) < n:
            if not self.more():
                raise Failed("the connection ends %d bytes early" % (n - len(self.data)))
        part, self.data = self.data[:n], self.data[n:]
        return part

    def head(self):
        """Status and headers (names in lower case) of the next answer."""
        while True:
            status = int(self.take_line().split()[1])
            headers = {}
            while True:
                line = self.take_line().decode()
                if not line:
                    break
                name, _, value = line.partition(":")
                headers[name.strip().lower()] = value.strip()
            if status >= 200:
                return status, headers

    def chunk(self):
        """Next chunk of a chunked body; b"" is the last."""
        size = int(self.take_line(), 16)
        data = self.take(size)
        if self.take_line() != b"":
            raise Failed("a chunk without its end")
        return data

    def reply(self):
        status, headers = self.head()
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while True:
                part = self.chunk()
                if not part:
                    break
                body += part
        elif "content-length" in headers:
            body = self.take(int(headers["content-length"]))
        else:
            while self.more():
                pass
            body, self.data = self.data, b""
        return Reply(status, headers, body)

    def at_end(self, seconds=10):
        """Does the server close the connection, sending nothing more?"""
        self.sock.settimeout(seconds)
        try:
            return not self.more() and not self.data
        except ConnectionResetError:
            return not self.data
        except socket.timeout:
            return False

    def events(self):
        """Yields (time, event, data) of an event stream whose head was read, up to its end."""
        text = b""
        while True:
            part = self.chunk()
            if not part:
                if text.strip():
                    raise Failed("the stream ends in the middle of an event: %r" % text)
                return
            now = time.monotonic()
            text += part
            while b"\n\n" in text:
                block, text = text.split(b"\n\n", 1)
                event, data = "message", []
                for line in block.split(b"\n"):
                    if line.startswith(b"event:"):
                        event = line[6:].strip().decode()
                    elif line.startswith(b"data:"):
                        data.append(line[5:].lstrip().decode())
                    elif line and not line.startswith((b":", b"id:", b"retry:")):
                        raise Failed("not a line of an event stream: %r" % line)
                if data:
                    yield now, event, "\n".join(data)


def call(path, method, target, body=None, timeout=120, headers=()):
    """One request on a connection of its own."""
    with Conn(path, timeout) as c:
        c.request(method, target, body, headers)
        return c.reply()


class Stream:
    """A streamed completion, read event by event: `for text in stream` gives the pieces of text."""

    def __init__(self, path, target, body, timeout=120):
        self.conn = Conn(path, timeout)
        self.conn.request("POST", target, dict(body, stream=True))
        self.status, self.headers = self.conn.head()
        self.pieces = []        # (time, text, fingerprint, epoch or None)
        self.chunks = []        # every JSON chunk
        self.finish = None
        self.usage = None
        self.last = None        # the chunk with timings
        self.error = None
        self.is_done = False
        if self.status != 200:
            raise Failed("a stream wanted, %d given: %r" % (self.status, self.conn.data))

    @property
    def text(self):
        return "".join(p[1] for p in self.pieces)

    def __iter__(self):
        for now, _, data in self.conn.events():
            if self.is_done:
                raise Failed("an event after [DONE]: %r" % data)
            if data == "[DONE]":
                self.is_done = True
                continue
            c = json.loads(data)
            self.chunks.append(c)
            if c.get("error"):
                self.error = c["error"]
                continue
            if c.get("usage"):
                self.usage = c["usage"]
            if "timings" in c:
                self.last = c
            for choice in c.get("choices", []):
                if choice.get("finish_reason"):
                    self.finish = choice["finish_reason"]
                text = choice.get("text", (choice.get("delta") or {}).get("content"))
                if text:
                    self.pieces.append((now, text, c.get("system_fingerprint"), c.get("ebb")))
                    yield text
        if not self.is_done:
            raise Failed("the stream ends without [DONE]")

    def run(self):
        for _ in self:
            pass
        return self

    def close(self):
        self.conn.close()
