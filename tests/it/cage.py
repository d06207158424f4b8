"""A memory cgroup with a real limit, for a daemon and for what takes its memory away: of version 2
where that accounts memory; else a limit of version 1, beside a cgroup of version 2 that tells of
pressure."""
import atexit
import os
import time

from harness import Skip

MIB = 1 << 20
V1 = "/sys/fs/cgroup/memory"

# PATH BYTES: writes a file over and over. Its pages must reach the disk before they can go, which is
# what makes others wait; what is read in one go is dropped without a stall.
HOG = r"""
import sys
path, n = sys.argv[1], int(sys.argv[2])
while True:
    with open(path, "wb") as f:
        for _ in range(n >> 20):
            f.write(b"x" * (1 << 20))
"""


def _mount_of_v2():
    for path in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        if os.path.exists(path + "/cgroup.controllers"):
            return path
    raise Skip("there is no cgroup hierarchy of version 2")


def _read(path):
    with open(path) as f:
        return f.read()


def _write(path, text):
    with open(path, "w") as f:
        f.write(text)


class Cage:
    what = None  # how this machine does it, once one was made

    def __init__(self):
        if os.geteuid() != 0:
            raise Skip("making cgroups needs root")
        top = _mount_of_v2()
        self.v2 = "%s/ebb-it-%d" % (top, os.getpid())
        self.v1 = None
        if "memory" in _read(top + "/cgroup.controllers").split():
            Cage.what = "cgroup v2 memory.high"
            _write(top + "/cgroup.subtree_control", "+memory")
        elif os.path.exists(V1 + "/memory.limit_in_bytes"):
            Cage.what = "cgroup v1 limit, v2 pressure"
            self.v1 = "%s/ebb-it-%d" % (V1, os.getpid())
        else:
            raise Skip("no cgroup hierarchy accounts memory")
        self.folders = [x for x in (self.v1, self.v2) if x]
        try:
            for folder in self.folders:
                os.mkdir(folder)
        except OSError as e:
            self.close()
            raise Skip("cgroups cannot be made here: %s" % e)
        atexit.register(self.close)
        if not os.path.exists(self.v2 + "/memory.pressure"):
            self.close()
            raise Skip("this kernel does not account memory pressure")
        # Puts itself in, then becomes the command.
        self.wrap = ["sh", "-c", "".join("echo $$ > %s/cgroup.procs; " % x for x in self.folders) +
                     'exec "$0" "$@"']

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def remove(self, folder):
        """When its processes have ended; the kernel may take a moment to see that."""
        for _ in range(100):
            try:
                os.rmdir(folder)
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.02)

    def close(self):
        for folder in self.folders:
            self.remove(folder)

    def used(self):
        """Bytes, page cache too."""
        return int(_read(self.v1 + "/memory.usage_in_bytes" if self.v1 else
                         self.v2 + "/memory.current"))

    def limit(self, n):
        if self.v1:
            _write(self.v1 + "/memory.limit_in_bytes", str(n))
        else:
            _write(self.v2 + "/memory.max", str(n + 8 * MIB))
            _write(self.v2 + "/memory.high", str(n))

    def pressure(self):
        return _read(self.v2 + "/memory.pressure")

    def stalled_us(self):
        """In all, for which some task waited."""
        return int(self.pressure().split("total=")[1].split()[0])

    def n_oom_kills(self):
        text = _read(self.v1 + "/memory.oom_control" if self.v1 else self.v2 + "/memory.events")
        return int(next(x.split()[1] for x in text.splitlines() if x.startswith("oom_kill ")))
