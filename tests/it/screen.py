"""A program on a pseudo terminal, and the terminal itself: a grid that knows the few sequences our
programs may send. Anything else, a control character of a model for one, fails the test."""
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading

from harness import Failed, program, wait_until

SEQUENCE = re.compile(rb"\x1b\[(\?[0-9]+|[0-9;]*)([A-Za-z])")


class Terminal:
    def __init__(self, *args, cols=80, rows=24, term="xterm", env=None):
        self.lock = threading.Lock()
        self.fault = None
        self.modes, self.was_on = {"?25": True, "?7": True}, set()
        self.shell = "untouched"
        self.n_frames, self.colours = 0, set()
        self.raw, self.rest = bytearray(), b""
        self.master, slave = pty.openpty()
        self.set_size(cols, rows, tell=False)
        self.before = termios.tcgetattr(slave)
        self.slave = slave  # kept open, so that its modes can be looked at afterwards
        full = dict(os.environ, TERM=term, **(env or {}))
        if "NO_COLOR" not in (env or {}):
            full.pop("NO_COLOR", None)
        self.p = subprocess.Popen([program("ebb"), *args], stdin=slave, stdout=slave, stderr=slave,
                                  preexec_fn=self.own_terminal, env=full)
        threading.Thread(target=self.read, daemon=True).start()

    @staticmethod
    def own_terminal():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def set_size(self, cols, rows, tell=True):
        with self.lock:
            self.cols, self.rows = cols, rows
            self.grid = [[" "] * cols for _ in range(rows)]
            self.x = self.y = 0
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
        if tell:
            self.p.send_signal(signal.SIGWINCH)

    def read(self):
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return
            with self.lock:
                self.raw += data
                try:
                    self.feed(self.rest + data)
                except Failed as e:
                    self.fault = self.fault or e

    def feed(self, data):
        i = 0
        while i < len(data):
            c = data[i]
            if c == 0x1b:
                m = SEQUENCE.match(data, i)
                if not m and len(data) - i < 16:
                    break  # the rest of it has not come yet
                if not m:
                    raise Failed("a sequence that we never send: %r" % data[i:i + 16])
                self.sequence(m.group(1).decode(), m.group(2).decode())
                i = m.end()
                continue
            if c == 0x0a:
                self.y = min(self.y + 1, self.rows - 1)
            elif c == 0x0d:
                self.x = 0
            elif not 0x20 <= c < 0x7f:
                raise Failed("a character that we never send: %#x in %r"
                             % (c, data[max(0, i - 20):i + 20]))
            elif self.x < self.cols and self.y < self.rows:
                self.grid[self.y][self.x] = chr(c)
                self.x += 1
            i += 1
        self.rest = data[i:]

    def sequence(self, args, final):
        if args.startswith("?") and final in "hl":
            self.modes[args] = final == "h"
            if final == "h":
                self.was_on.add(args)
            if args == "?2026" and final == "l":
                self.n_frames += 1
        elif final == "H":
            row, col = (int(v) for v in args.split(";"))
            self.y, self.x = row - 1, col - 1
        elif final == "K" and not args and self.y < self.rows:
            self.grid[self.y][self.x:] = [" "] * (self.cols - self.x)
        elif final == "J" and args == "2":
            self.grid = [[" "] * self.cols for _ in range(self.rows)]
        elif final == "m":
            self.colours.update(args.split(";"))
        else:
            raise Failed("a sequence that we never send: %r %r" % (args, final))

    def text(self):
        with self.lock:
            if self.fault:
                raise self.fault
            return "\n".join("".join(row).rstrip() for row in self.grid)

    def wait(self, *words, seconds=20):
        """Until all of the words are on the screen."""
        try:
            wait_until(lambda: all(w in self.text() for w in words), seconds, repr(words))
        except Failed as e:
            raise Failed("%s; the screen is\n%s" % (e, self.text()))

    def key(self, keys):
        os.write(self.master, keys)

    def ends(self, seconds=20):
        """Its exit status, once the terminal is seen to be as it was."""
        code = self.p.wait(seconds)
        wait_until(lambda: not self.modes.get("?1049"), 5, "the first screen is back")
        if self.fault:
            raise self.fault
        if not (self.modes["?25"] and self.modes["?7"] and not self.modes.get("?2026")):
            raise Failed("the terminal is left as %r" % self.modes)
        if termios.tcgetattr(self.slave) != self.before:
            raise Failed("the modes of the terminal are not what they were")
        return code

    def close(self):
        if self.p.poll() is None:
            self.p.kill()
            self.p.wait()
        os.close(self.slave)
        os.close(self.master)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
