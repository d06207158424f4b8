#!/usr/bin/env python3
"""A board in the emulator, and commands in it.

    guest.py boot NAME ROOT PAYLOAD [CPU]   ROOT: the folder that root.sh made; PAYLOAD: a tar file
    guest.py run NAME [-t SECONDS] COMMAND  prints what it writes, ends as it ends
    guest.py put NAME FILE PATH             a small file into the guest
    guest.py stop NAME

The guest keeps nothing: what it writes to its disk is gone when it stops.
"""
import base64
import os
import signal
import socket
import subprocess
import sys
import time

MACHINES = {
    "arm64": ["qemu-system-aarch64", "-M", "virt,gic-version=2"],
    "amd64": ["qemu-system-x86_64", "-M", "q35"],
}
CPUS = {"arm64": "cortex-a76", "amd64": "max"}
CONSOLES = {"arm64": "ttyAMA0", "amd64": "ttyS0"}
MEMORY = 1024
CORES = 2
BOOT_SECONDS = 600


class Lost(Exception):
    """The guest does not answer, or not in time."""


def state_dir(name):
    base = os.path.join(os.environ.get("TMPDIR", "/tmp"), "ebb-board-%d" % os.getuid())
    path = os.path.join(base, name)
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def command_line(arch, root, payload, folder, cpu=None):
    drive = "file=%s,if=none,format=raw,id=%s,%s"
    append = ("console=%s psi=1 systemd.show_status=no loglevel=4 net.ifnames=0"
              % CONSOLES[arch])
    return MACHINES[arch] + [
        "-cpu", cpu or CPUS[arch], "-accel", "tcg,thread=multi", "-smp", str(CORES),
        "-m", str(MEMORY), "-kernel", root + "/kernel", "-initrd", root + "/initrd",
        "-append", append,
        "-drive", drive % (root + "/image", "root", "cache=unsafe,snapshot=on"),
        "-device", "virtio-blk-pci,drive=root",
        "-drive", drive % (payload, "load", "readonly=on"),
        "-device", "virtio-blk-pci,drive=load",
        "-device", "virtio-serial-pci",
        "-chardev", "socket,path=%s/agent,server=on,wait=off,id=agent" % folder,
        "-device", "virtserialport,chardev=agent,name=agent",
        "-serial", "file:%s/serial" % folder,
        "-nic", "none", "-display", "none", "-monitor", "none", "-no-reboot"]


class Guest:
    def __init__(self, name):
        self.name = name
        self.dir = state_dir(name)
        self.socket = None
        self.n = 0

    def boot(self, arch, root, payload, cpu=None):
        """Starts it and waits until it takes commands. Seconds that took."""
        self.stop()
        start = time.monotonic()
        with open(self.dir + "/qemu", "wb") as said:
            p = subprocess.Popen(command_line(arch, root, payload, self.dir, cpu), stdout=said,
                                 stderr=said, stdin=subprocess.DEVNULL, start_new_session=True)
        with open(self.dir + "/pid", "w") as f:
            f.write("%d\n" % p.pid)
        while True:
            if p.poll() is not None:
                with open(self.dir + "/qemu") as f:
                    raise Lost("the emulator ended: " + f.read()[-2000:])
            try:
                self.run("true", 10)
                break
            except Lost:
                if time.monotonic() > start + BOOT_SECONDS:
                    raise Lost("no answer after %d s, see %s/serial" % (BOOT_SECONDS, self.dir))
                time.sleep(0.5)
        self.check("tar xf /dev/vdb -C / && systemd-sysusers && systemd-tmpfiles --create;"
                   " systemctl daemon-reload", 120)
        return time.monotonic() - start

    def stop(self):
        self.close()
        try:
            with open(self.dir + "/pid") as f:
                pid = int(f.read())
            with open("/proc/%d/comm" % pid) as f:
                if f.read().startswith("qemu-system"):
                    os.kill(pid, signal.SIGKILL)
        except (OSError, ValueError):
            pass
        for name in ("pid", "agent"):
            try:
                os.unlink(os.path.join(self.dir, name))
            except OSError:
                pass

    def close(self):
        if self.socket:
            self.socket.close()
        self.socket = None

    def connect(self):
        if self.socket:
            return
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(self.dir + "/agent")
        except OSError as e:
            s.close()
            raise Lost("no guest called %s: %s" % (self.name, e))
        s.settimeout(1)
        self.socket = s

    def run(self, command, seconds=60):
        """Status and output of a shell command. 124 if it took longer than `seconds`."""
        self.connect()
        self.n += 1
        name = "%d.%d" % (os.getpid(), self.n)
        text = base64.b64encode(command.encode()).decode()
        end = time.monotonic() + seconds + 30
        data = b""
        try:
            self.socket.sendall(("%s %d %s\n" % (name, seconds, text)).encode())
        except OSError:
            end = 0
        while time.monotonic() < end:
            try:
                more = self.socket.recv(1 << 16)
            except socket.timeout:
                continue
            except OSError:
                break
            if not more:
                break
            data += more
            *lines, data = data.split(b"\n")
            for line in lines:
                words = line.decode("latin1").split(" ")
                if words[0] == name and len(words) == 3:
                    return int(words[1]), base64.b64decode(words[2]).decode("utf-8", "replace")
        self.close()
        raise Lost("no answer from %s to: %s" % (self.name, command[:200]))

    def check(self, command, seconds=60):
        """What a command writes; it must succeed."""
        status, output = self.run(command, seconds)
        if status != 0:
            raise Lost("%s gives %d: %s" % (command[:200], status, output[-2000:]))
        return output

    def put(self, data, path):
        text = base64.b64encode(data).decode()
        self.check("base64 -d > '%s' << 'E'\n%s\nE" % (path, text))


def arch_of(root):
    return os.path.basename(root.rstrip("/")).split("-")[0]


def main(args):
    what, guest = args[0], Guest(args[1])
    if what == "boot":
        root, payload = os.path.realpath(args[2]), os.path.realpath(args[3])
        seconds = guest.boot(arch_of(root), root, payload, *args[4:5])
        print("up after %.0f s" % seconds)
    elif what == "run":
        seconds, rest = 60, args[2:]
        if rest[0] == "-t":
            seconds, rest = int(rest[1]), rest[2:]
        status, output = guest.run(" ".join(rest), seconds)
        sys.stdout.write(output)
        return status
    elif what == "put":
        with open(args[2], "rb") as f:
            guest.put(f.read(), args[3])
    elif what == "stop":
        guest.stop()
    else:
        raise Lost(__doc__)
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        sys.exit(main(sys.argv[1:]))
    except Lost as e:
        sys.exit(str(e))
