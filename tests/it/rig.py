"""A machine of its own for what `meson install` makes: a real systemd as PID 1 in namespaces, with
the installed files laid over the prefix, private /etc, /var and /run, and a journal. Nothing of the
host's system is started or written. It needs root, a cgroup2 hierarchy and overlayfs; where one is
missing the tests are skipped, with the reason."""
import atexit
import ctypes
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

from harness import BUILD, Failed, NotHere, Skip, check, wait_until

SYSTEMD = "/lib/systemd/systemd"
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)

# $1: scratch folder, $2: DESTDIR, $3: prefix. Last of all it becomes PID 1. The host's units are
# hidden, so that of the usual targets only the names exist, and nobody mounts, formats or loads.
INIT = r"""
set -eu
scratch=$1 dest=$2 prefix=$3
units=/usr/lib/systemd/system
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs "$scratch"
for folder in etc var; do
    mkdir -p "$scratch/$folder/up" "$scratch/$folder/work"
    mount -t overlay overlay "/$folder" \
        -o "lowerdir=/$folder,upperdir=$scratch/$folder/up,workdir=$scratch/$folder/work"
done
mkdir "$scratch/units"
for unit in systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket; do
    cp "$units/$unit" "$scratch/units"
done
for target in sysinit basic sockets local-fs multi-user shutdown umount final; do
    printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' $target \
        > "$scratch/units/$target.target"
done
printf '[Unit]\nDescription=rig\nDefaultDependencies=no\nWants=systemd-journald.service\n' \
    > "$scratch/units/rig.target"
mount --bind "$scratch/units" $units
mount -t tmpfs tmpfs /usr/lib/systemd/system-generators
mkdir -p /etc/systemd/system /etc/systemd/journald.conf.d /etc/ebb
mount -t tmpfs tmpfs /etc/systemd/system
printf '[Journal]\nStorage=volatile\nReadKMsg=no\nRateLimitIntervalSec=0\n' \
    > /etc/systemd/journald.conf.d/rig.conf
mount -t overlay overlay "$prefix" -o "lowerdir=$dest$prefix:$prefix"
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind -o ro /proc/sys /proc/sys
systemd-sysusers "$prefix"/lib/sysusers.d/ebb.sysusers.conf
systemd-tmpfiles --create "$prefix"/lib/tmpfiles.d/ebb.tmpfiles.conf
exec env -i container=rig LANG=C PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    SYSTEMD --unit=rig.target --log-target=console --show-status=no
""".replace("SYSTEMD", SYSTEMD)

NAMESPACES = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--net",
              "--cgroup"]

# What the rig needs, tried where it does no harm.
PROBE = r"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/up" "$1/work"
mount -t overlay overlay /etc -o "lowerdir=/etc,upperdir=$1/up,workdir=$1/work"
mount -t cgroup2 cgroup2 /sys/fs/cgroup
"""


def install(dest):
    """`meson install` into a folder; returns the prefix."""
    r = subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", dest],
                       capture_output=True, text=True)
    check(r.returncode == 0, "meson install gives %d: %s" % (r.returncode, r.stderr[-2000:]))
    with open(os.path.join(BUILD, "meson-info", "intro-buildoptions.json")) as f:
        return next(o["value"] for o in json.load(f) if o["name"] == "prefix")


def cgroup_root():
    for path in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        if os.path.exists(os.path.join(path, "cgroup.procs")) and \
                os.path.exists(os.path.join(path, "cgroup.controllers")):
            return path
    raise NotHere("no cgroup2 hierarchy is mounted")


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Rig:
    def __init__(self):
        self.cgroup = None
        self.process = None
        if os.geteuid() != 0:
            raise Skip("a machine of its own needs root")
        for name in ("unshare", "nsenter", "systemctl", "systemd-sysusers", SYSTEMD):
            if not shutil.which(name):
                raise Skip("%s is missing" % name)
        self.dir = tempfile.mkdtemp(prefix="ebb-rig-")
        atexit.register(self.stop)
        self.scratch = os.path.join(self.dir, "scratch")
        os.mkdir(self.scratch)
        self.make_cgroup()
        r = self.spawn(PROBE).wait(60)
        if r != 0:
            raise NotHere("namespaces, overlayfs or cgroup2 are not allowed here: %s" % self.said())
        dest = os.path.join(self.dir, "dest")
        self.prefix = install(dest)
        self.process = self.spawn(INIT, dest, self.prefix)
        wait_until(self.is_booted, 60, "systemd runs")

    def make_cgroup(self):
        self.cgroup = os.path.join(cgroup_root(), "ebb-rig-%d" % os.getpid())
        try:
            os.mkdir(self.cgroup)
        except OSError as e:
            self.cgroup = None
            raise NotHere("no cgroup can be made: %s" % e)

    def spawn(self, script, *args):
        """Runs a script in namespaces of its own, in the rig's cgroup."""
        def enter():
            die_with_parent()
            with open(os.path.join(self.cgroup, "cgroup.procs"), "w") as f:
                f.write("0")
        with open(os.path.join(self.dir, "log"), "ab") as log:
            return subprocess.Popen([*NAMESPACES, "bash", "-c", script, "rig", self.scratch, *args],
                                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                    preexec_fn=enter)

    def said(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            return f.read()[-2000:].strip()

    def is_booted(self):
        if self.process.poll() is not None:
            raise Failed("PID 1 ended with %d: %s" % (self.process.returncode, self.said()))
        pid = self.process.pid
        with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
            children = f.read().split()
        if not children:
            return False
        self.init = int(children[0])
        return (os.path.exists(self.path("/run/systemd/notify"))
                and self.ctl("is-system-running", ok=None).stdout.strip() == "running")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()  # and so PID 1, and with it everything inside
            self.process.wait()
        if self.cgroup:
            wait_until(self.remove_cgroup, 20, "the cgroup is empty")
            self.cgroup = None
        shutil.rmtree(self.dir, True)

    def remove_cgroup(self):
        for folder, _, _ in os.walk(self.cgroup, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                return False
        return True

    # --- what is asked of it ---

    def path(self, inside):
        """A path of the rig, as seen from here."""
        return "/proc/%d/root%s" % (self.init, inside)

    def run(self, *words, ok=True, timeout=120):
        """A program inside; `ok`: it must succeed (True), fail (False), or either (None)."""
        r = subprocess.run(["nsenter", "-t", str(self.init), "-m", "-p", "-u", "-i", "-n", "-C",
                            *words], capture_output=True, text=True, timeout=timeout)
        if ok is not None and (r.returncode == 0) != ok:
            raise Failed("%s gives %d: %s%s" % (" ".join(words), r.returncode, r.stdout, r.stderr))
        return r

    def ctl(self, *words, ok=True, timeout=120):
        return self.run("systemctl", "--no-pager", *words, ok=ok, timeout=timeout)

    def show(self, unit, name):
        return self.ctl("show", unit, "--property", name, "--value").stdout.strip()

    def journal(self, unit):
        """[(priority, text)] of a unit."""
        lines = self.run("journalctl", "--no-pager", "-o", "json", "-u", unit).stdout.splitlines()
        return [(int(e.get("PRIORITY", -1)), str(e.get("MESSAGE")))
                for e in map(json.loads, lines)]

    def log(self, unit):
        return "\n".join(text for _, text in self.journal(unit))

    def pids(self, unit):
        """A unit's processes, by their numbers out here."""
        try:
            with open(os.path.join(self.cgroup, "system.slice", unit, "cgroup.procs")) as f:
                return [int(line) for line in f]
        except FileNotFoundError:
            return []

    def write(self, inside, text):
        path = self.path(inside)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)

    def drop_in(self, unit, text):
        """Settings laid over a unit's, until forget()."""
        self.write("/run/systemd/system/%s.d/test.conf" % unit, text)
        self.ctl("daemon-reload")

    def forget(self):
        folder = self.path("/run/systemd/system")  # itself the sign that systemd runs
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if os.path.isdir(path):
                shutil.rmtree(path)
            else:
                os.remove(path)
        self.ctl("daemon-reload")


# ptrace(2): stops one thread wherever it is, and no other; nothing in the program knows of it.
PTRACE_CONT, PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 7, 17, 0x4206, 0x4207
WALL = 0x40000000


def cpu_seconds(pid, tid):
    """What a thread has had of the CPUs."""
    with open("/proc/%d/task/%d/schedstat" % (pid, tid)) as f:
        return int(f.read().split()[0]) / 1e9


class Frozen:
    """A thread held still until its process dies or the block ends."""

    def __init__(self, pid, tid):
        self.pid, self.tid = pid, tid
        self.is_gone = False
        self.ask(PTRACE_SEIZE)
        self.hold()

    def ask(self, request):
        if LIBC.ptrace(request, self.tid, None, None) != 0:
            raise Failed("ptrace of %d: %s" % (self.tid, os.strerror(ctypes.get_errno())))

    def hold(self):
        self.ask(PTRACE_INTERRUPT)
        os.waitpid(self.tid, WALL)

    def let_run(self, seconds):
        """Until it has had so much of a CPU, or half a second has passed."""
        want = cpu_seconds(self.pid, self.tid) + seconds
        end = time.monotonic() + 0.5
        self.ask(PTRACE_CONT)
        while cpu_seconds(self.pid, self.tid) < want and time.monotonic() < end:
            time.sleep(0.0005)
        self.hold()

    def reap(self):
        """Until its tracer has seen its end a dead thread keeps its process a zombie."""
        if not self.is_gone:
            try:
                pid, status = os.waitpid(self.tid, os.WNOHANG | WALL)
                self.is_gone = pid != 0 and (os.WIFEXITED(status) or os.WIFSIGNALED(status))
            except ChildProcessError:
                self.is_gone = True
        return self.is_gone

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self.reap() and LIBC.ptrace(PTRACE_DETACH, self.tid, None, None) != 0:
            wait_until(self.reap, 10, "the end of thread %d" % self.tid)


def thread_of(pid, name):
    """The thread of a process that is called so."""
    for tid in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/comm" % (pid, tid)) as f:
            if f.read().strip() == name:
                return int(tid)
    raise Failed("process %d has no thread %s" % (pid, name))
