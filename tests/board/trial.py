#!/usr/bin/env python3
"""Trials of memory.high in a running board: the limit is lowered, and what follows is timed.

    trial.py NAME [--share PERCENT] [--load idle|stream|prompt|slots] [--by systemd|file]
             [--quiet] [--control] [--stacks] [--trials N] [--seconds S]

prints a line of JSON for each trial. NAME is a board that `guest.py boot` started. --quiet: without
the neighbour that forks ten times a second. --control: a process that only reads the limit and
gives way, instead of the daemon. --stacks: also what each thread charged above the limit, by its
way into the kernel; this slows the daemon down.
"""
import argparse
import json
import re
import time

from guest import Guest, Lost

UNIT = "/sys/fs/cgroup/system.slice/ebbd.service"
CONTROL = "/sys/fs/cgroup/control"
STORY = "Once upon a time there was a"
LOADS = ("idle", "stream", "prompt", "slots")
STREAM_TOKENS = 40
PROMPT_WORDS = 1850  # about a token each, and the answer's few fit serve.ctx beside them


def load_commands(load, ebb="ebb"):
    """Shell commands of the clients that a load is made of."""
    complete = ebb + " complete '%s' -t 0 -n %d"
    if load == "stream":
        return [complete % (STORY, STREAM_TOKENS)]
    if load == "slots":
        return [complete % ("%s %s" % (STORY, who), STREAM_TOKENS // 2) for who in ("boy", "girl", "king", "fish")]
    if load == "prompt":
        # A new text each time, or its beginning would be kept from the last.
        return [ebb + " complete \"$(cat /proc/sys/kernel/random/uuid) "
                "$(yes 'the sea and the land' | head -n %d | tr '\\n' ' ')\" -t 0 -n 4"
                % (PROMPT_WORDS // 5)]
    return []


class Trials:
    """`cgroup` is the one whose limit is lowered. `socket` is for a daemon that was started by hand,
    and `daemon_pid` its process; without it the unit's is taken."""

    def __init__(self, guest, cgroup=UNIT, socket="", daemon_pid=None):
        self.guest = guest
        self.cgroup = cgroup
        self.ebb = "ebb -s %s" % socket if socket else "ebb"
        self.daemon_pid = daemon_pid
        self.control_pid = None
        self.restarts_by_hand = 0
        self.stacks = False

    def pid(self):
        if self.daemon_pid is not None:
            return self.daemon_pid
        return int(self.guest.check(self.pid_command()))

    def pid_command(self):
        if self.daemon_pid is not None:
            return "echo %d" % self.daemon_pid
        if self.cgroup == UNIT:  # the quicker way
            return "cat %s/cgroup.procs" % UNIT
        return "systemctl show -p MainPID --value ebbd"

    def unit(self):
        """Restarts and the last result, as the manager counts them."""
        text = self.guest.check("systemctl show -p NRestarts -p Result -p ActiveState ebbd")
        return dict(line.split("=", 1) for line in text.split())

    def start_daemon(self):
        self.guest.check("systemctl set-property --runtime ebbd.service MemoryHigh=infinity;"
                         "systemctl reset-failed ebbd 2> /dev/null; systemctl restart ebbd", 120)

    def start_noise(self):
        self.guest.run("systemctl stop noise 2> /dev/null;"
                       "systemd-run -q --unit=noise /usr/lib/board/probe noise 10")

    def stop_noise(self):
        self.guest.run("systemctl stop noise")

    def start_control(self, mib):
        self.guest.check("mkdir -p %s; systemctl stop control 2> /dev/null;"
                         "systemd-run -q --unit=control /usr/lib/board/probe control %s %d"
                         % (CONTROL, CONTROL, mib))
        self.control_pid = int(self.guest.check("sleep 3; systemctl show -p MainPID --value control"))

    def stop_control(self):
        self.guest.run("systemctl stop control; sleep 0.2; rmdir %s" % CONTROL)

    def status(self, seconds=20):
        code, text = self.guest.run(self.ebb + " status --json", seconds)
        if code != 0:
            raise Lost("ebb status gives %d: %s" % (code, text[-500:]))
        return json.loads(text)

    def restore(self, seconds=60):
        """Until the daemon is back at what it held; it is restarted if it does not come back."""
        if self.cgroup == CONTROL:
            time.sleep(3)
            return
        code, _ = self.guest.run(
            "while [ \"$(%s)\" != 0 ]; do sleep 0.2; done" % self.position_command(), seconds)
        if code == 0:
            return
        if self.daemon_pid is not None:
            raise Lost("the daemon does not come back to what it held")
        self.restarts_by_hand += 1
        self.start_daemon()

    def position_command(self):
        return ("timeout 5 %s status --json | tr -d '[:blank:]' | sed -n 's/^\"position\":\\([0-9]*\\),$/\\1/p'"
                % self.ebb)

    def start_load(self, load):
        """Clients that ask again and again, until end_load()."""
        commands = load_commands(load, self.ebb)
        self.guest.check("rm -f /run/board/load*")
        for i, command in enumerate(commands):
            self.guest.put((CLIENT % (command, i, i)).encode(), "/run/board/load%d.sh" % i)
            self.guest.check("systemctl reset-failed load%d 2> /dev/null;"
                             "systemd-run -q --unit=load%d bash /run/board/load%d.sh" % (i, i, i))
        if load == "prompt":
            time.sleep(2)
        elif load != "idle":
            self.guest.check("for i in $(seq 200); do n=0; for f in /run/board/load*.out; do"
                             " [ -s $f ] && n=$((n + 1)); done; [ $n -ge %d ] && exit 0;"
                             " sleep 0.1; done; exit 1" % len(commands), 60)

    def end_load(self, load, wait=True, seconds=300):
        """Waits for the clients, or ends them. How many answers were complete, and how many not."""
        n = len(load_commands(load))
        if n == 0:
            return 0, 0
        units = " ".join("load%d" % i for i in range(n))
        if not wait:
            self.guest.run("systemctl stop " + units)
        code, text = self.guest.run(
            "touch /run/board/load.stop; for u in %s; do while systemctl -q is-active $u;"
            " do sleep 0.2; done; done; cat /run/board/load.said" % units, seconds if wait else 20)
        lines = text.split()
        if wait and code != 0:
            self.guest.run("systemctl stop " + units)
        return lines.count("ok"), lines.count("bad") + (wait and code == 124)

    def move(self, share, by="file", seconds=20, every_ms=5):
        """The limit is lowered to a share of what is held, and then taken away. The result has what
        the kernel did to each thread."""
        pid = self.control_pid if self.cgroup == CONTROL else "$(%s)" % self.pid_command()
        if by == "systemd":
            how = "systemctl set-property --runtime ebbd.service MemoryHigh=$limit"
        else:
            how = "sh -c \"echo $limit > $c/memory.high\""
        values = {"c": self.cgroup, "pid": pid, "share": share, "how": how, "seconds": seconds,
                  "every": every_ms, "stacks": "stacks" if self.stacks else "",
                  "position": ":" if self.cgroup == CONTROL else self.position_command()}
        text = self.guest.check(MOVE % values, seconds + 90)
        found = re.search(r"^\{.*\}$", text, re.M)
        if not found:
            raise Lost("no result: " + text[-1000:])
        result = json.loads(found.group(0))
        result.update(read_trace(text, result["start_ms"]))
        position = re.search(r"^POSITION (\d+)$", text, re.M)
        result["stat"] = {k: int(n) for k, n in re.findall(r"^STAT (\S+) (\d+)$", text, re.M)}
        result.update(share=share, by=by, position=position and int(position.group(1)))
        if self.stacks:
            start = result["start_ms"] / 1000
            below = seconds if result["below_ms"] is None else result["below_ms"] / 1000
            result["stacks"] = read_stacks(text, start, start + below)
        return result

    def series(self, shares, n, by="file", load="idle", seconds=20, wait=True):
        """n moves to each of the shares in turn, while the load goes on: yields their results. The
        last one has how many clients did not get their whole answer, and the restarts."""
        restarts, by_hand = int(self.unit()["NRestarts"]), self.restarts_by_hand
        result = None
        try:
            self.start_load(load)
            for share in shares * n:
                if result:
                    yield result
                    self.restore()
                result = dict(self.move(share, by, seconds), load=load, incomplete=0, restarts=0)
        finally:
            ok, bad = self.end_load(load, wait, 1500 if load == "prompt" else 300)
        if result is None:
            return
        restarts = int(self.unit()["NRestarts"]) - restarts
        # Its clients lose their answers with a daemon that is restarted by hand.
        result.update(answers=ok, incomplete=bad, restarts=restarts,
                      by_hand=self.restarts_by_hand - by_hand)
        yield result

    def one(self, share, by="file", load="idle", seconds=20, wait=True):
        """A whole trial: the load, the limit, and back. Without `wait` the clients are ended after
        it, however far they are."""
        restarts = self.unit()["NRestarts"]
        self.start_load(load)
        try:
            result = self.move(share, by, seconds)
        finally:
            _, bad = self.end_load(load, wait)
        result.update(load=load, incomplete=bad,
                      restarts=int(self.unit()["NRestarts"]) - int(restarts))
        self.restore()
        return result


# A client of a load: command, its number twice.
CLIENT = """cd /run/board
while [ ! -e load.stop ]; do
    if %s > load%d.out 2> load%d.err; then echo ok; else echo bad; fi >> load.said
done
"""

# A move of the limit. It is lifted in both ways: systemd keeps its own, and writes only what differs.
MOVE = """c=%(c)s; limit=$(( $(cat $c/memory.current) * %(share)d / 100 ))
pid=%(pid)s
for t in /proc/$pid/task/*; do echo ${t##*/} $(cat $t/comm); done
/usr/lib/board/trace.sh start $pid %(stacks)s
/usr/lib/board/probe trial $c $pid %(seconds)d %(every)d %(how)s || exit 1
echo TRACE; /usr/lib/board/trace.sh stop; echo; echo POSITION $(%(position)s)
sed -nE 's/^(anon|file|kernel|kernel_stack|pagetables|percpu|sock|shmem|unevictable|slab_reclaimable|slab_unreclaimable) /STAT &/p' $c/memory.stat
echo max > $c/memory.high
case $c in */ebbd.service) systemctl set-property --runtime ebbd.service MemoryHigh=infinity;; esac
"""


def read_trace(text, start_ms):
    """From trace.sh: milliseconds in mem_cgroup_handle_over_high by thread, and the threads that
    caused events. A thread that is still in there at the end counts up to the last line."""
    head, _, lines = text.partition("\nTRACE\n")
    names = dict(re.findall(r"^(\d+) (\S+)$", head, re.M))
    inside, held, events, last = {}, {}, {}, start_ms / 1000
    for pid, at, what in re.findall(r"^\s*\S.*?-(\d+)\s+\[\d+\]\s+\S+\s+([\d.]+): (over|back|event):",
                                    lines, re.M):
        name, last = names.get(pid, pid), float(at)
        if what == "over":
            inside[name] = last
        elif what == "back" and name in inside:
            held[name] = held.get(name, 0) + last - inside.pop(name)
        elif what == "event":
            events[name] = events.get(name, 0) + 1
    for name, since in inside.items():
        held[name] = held.get(name, 0) + last - since
    return {"over_ms": {n: round(1000 * s, 1) for n, s in held.items() if s >= 0.0005},
            "causes": events}


# On every way, and so of no interest.
COMMON = re.compile(r"kprobe|ftrace|brk_handler|call_break_hook|do_debug_exception|el[01]|invoke_syscall|"
                    r"do_syscall_64|entry_SYSCALL|exc_|asm_|int3|charge|kmem_cache_alloc|kmalloc")


def read_stacks(text, begin, end):
    """Charges in the trace between two times, which are those above the limit:
    {"thread: the functions on the way": how many}, most frequent first."""
    head, _, lines = text.partition("\nTRACE\n")
    names = dict(re.findall(r"^(\d+) (\S+)$", head, re.M))
    counts = {}
    for pid, at, stack in re.findall(
            r"-(\d+)\s+\[\d+\]\s+\S+\s+([\d.]+): <stack trace>\n((?: => [^\n]*\n)+)", lines):
        if not begin <= float(at) <= end:
            continue
        ways = [f for f in re.findall(r"=> ([\w.]+)", stack) if not COMMON.search(f)]
        key = "%s: %s" % (names.get(pid, pid), " < ".join(ways[:8]))
        counts[key] = counts.get(key, 0) + 1
    return dict(sorted(counts.items(), key=lambda x: -x[1])[:20])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("name")
    p.add_argument("--share", type=int, default=80)
    p.add_argument("--load", choices=LOADS, default="idle")
    p.add_argument("--by", choices=("systemd", "file"), default="file")
    p.add_argument("--trials", type=int, default=1)
    p.add_argument("--seconds", type=int, default=20)
    p.add_argument("--quiet", action="store_true")
    p.add_argument("--control", action="store_true")
    p.add_argument("--stacks", action="store_true")
    a = p.parse_args()
    t = Trials(Guest(a.name), CONTROL if a.control else UNIT)
    t.stacks = a.stacks
    if a.control:
        t.start_control(150)
    else:
        t.start_daemon()
    if not a.quiet:
        t.start_noise()
    for _ in range(a.trials):
        print(json.dumps(t.one(a.share, a.by, a.load, a.seconds)), flush=True)
    t.stop_noise()
    if a.control:
        t.stop_control()


if __name__ == "__main__":
    main()
