#!/usr/bin/env python3
"""What the daemon does on a whole system when the kernel wants memory back, and when it dies.

Run by run.sh, which makes what the variables BOARD_ROOT and BOARD_PAYLOAD name. Arguments as those
of tests/it: parts of names; without any, and without BOARD_LONG=1, it leaves out those that the
short form has no time for, and says so. With BOARD_KEEP=1 a board that runs is taken as it is, and
left running.

Times here are bounds against standing still, not measurements: an emulated board on a busy machine
takes several times longer than one alone. run.sh --long measures.
"""
import atexit
import os
import signal
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "it")]

from guest import Guest, Lost, arch_of
from harness import NAMES, TESTS, Failed, check, check_eq, main, test
from trial import CONTROL, UNIT, Trials

ROOT = os.environ.get("BOARD_ROOT", "")  # long.py --tell needs none
NAME = "cases-" + arch_of(ROOT)
BELOW_MS = 6000    # at most until the limit is kept
HELD_MS = 3000     # at most that the kernel holds one thread for it
MIB = 1 << 20


class Board:
    """One boot for all cases; a case that finds the guest dead boots it again."""
    guest = None

    @classmethod
    def get(cls):
        if cls.guest is None:
            cls.guest = Guest(NAME)
            if not os.environ.get("BOARD_KEEP") or not cls.is_up():
                seconds = cls.guest.boot(arch_of(ROOT), ROOT, os.environ["BOARD_PAYLOAD"])
                print("     up after %.0f s" % seconds)
            t = Trials(cls.guest)
            t.start_daemon()
            t.start_noise()
        return cls.guest

    @classmethod
    def is_up(cls):
        try:
            return cls.guest.run("true", 10)[0] == 0
        except Lost:
            return False

    @classmethod
    def stop(cls):
        if cls.guest is not None:
            cls.guest.stop()
            cls.guest = None

    @classmethod
    def end(cls):
        if not os.environ.get("BOARD_KEEP"):
            cls.stop()


def case(fn):
    """A test that begins with the daemon running as its unit, without a limit."""
    def run():
        g = Board.get()
        try:
            g.run("cd /run/systemd; [ ! -e system/ebbd.service.d -a ! -e system.control ] ||"
                  " { rm -rf system/ebbd.service.d system.control; systemctl daemon-reload; }")
            code, _ = g.run("systemctl is-active ebbd && ebb status", 30)
            if code != 0:
                Trials(g).start_daemon()
            fn(g)
        except (Failed, Lost) as e:
            print("     " + str(e))
            try:
                print(g.check("journalctl -u ebbd -o short-monotonic --no-pager | tail -n 12"))
            except Lost:
                Board.stop()
            raise Failed("the case does not hold")
    run.__name__ = fn.__name__
    return test(run)


LONG_ONLY = []


def long_case(fn):
    """A case that the short form has no time for."""
    run = case(fn)
    LONG_ONLY.append(run)
    return run


def answers(g, seconds=60, ebb="ebb"):
    """The daemon completes a short text."""
    code, text = g.run(ebb + " complete 'The sea is' -t 0 -n 4", seconds)
    check(code == 0, "no answer: status %d, %s" % (code, text[-500:]))


def eventually(g, command, seconds, what):
    code, text = g.run("while ! { %s; }; do sleep 0.3; done" % command, seconds)
    check(code == 0, "not within %d s: %s; %s" % (seconds, what, text[-500:]))


def restarts(g):
    return int(g.check("systemctl show -p NRestarts --value ebbd"))


def log_lines(g):
    return int(g.check("journalctl -u ebbd --no-pager -o cat | wc -l"))


def judge(r):
    """A trial's result against the bounds."""
    over = max(r["over_ms"].values(), default=0)
    print("     %s %d %% of %.0f MiB: first %s ms, below %s ms, held %s, high %d by %s, psi %.0f ms"
          % (r["load"], r["share"], r["held"] / MIB, r["first_ms"], r["below_ms"], r["over_ms"],
             r["high"], r["causes"], r["some_ms"]))
    check(r["first_ms"] is not None, "nothing is given back")
    check(r["below_ms"] is not None and r["below_ms"] < BELOW_MS, "the limit is not kept")
    check(over < HELD_MS, "a thread is held for %.0f ms" % over)
    check_eq(r["restarts"], 0, "restarts: ")
    check_eq(r["oom_kill"], 0, "OOM kills: ")
    check_eq(r["incomplete"], 0, "clients without their whole answer: ")


@case
def unit_runs(g):
    check_eq(g.check("systemctl is-active ebbd").strip(), "active")
    check_eq(g.check("systemctl --failed --no-legend | grep -c ebb || true").strip(), "0")
    answers(g)


@case
def control_gives_way(g):
    """The floor: what this machine's emulation allows at all."""
    t = Trials(g, CONTROL)
    t.start_control(150)
    try:
        r = t.one(80)
    finally:
        t.stop_control()
    judge(r)


def high(load, share, as_case=case, wait=True):
    def run(g):
        judge(Trials(g).one(share, "systemd", load, wait=wait))
    run.__name__ = "high_%s_%d" % (load, share)
    return as_case(run)


# Each load once; long.py has them all.
high("idle", 50)
high("stream", 50)
high("slots", 50, long_case)
high("prompt", 50, wait=False)


def by_hand(g, cgroup, prefix=""):
    """A daemon without the manager's help in `cgroup`: a Trials for it."""
    folder = "/run/hand"
    g.check("systemctl stop ebbd.socket ebbd-admin.socket ebbd; mkdir -p %s %s;"
            " sed 's|^model:|socket:\\n  path: %s/ebb.sock\\n  admin_path: %s/admin.sock\\nmodel:|'"
            " /etc/ebb/ebb.yaml > %s/ebb.yaml" % (cgroup, folder, folder, folder, folder))
    g.check("echo +memory > %s/../cgroup.subtree_control || true" % cgroup)
    g.put(("echo $$ > %s/cgroup.procs\nexec %s /usr/bin/ebbd --config %s/ebb.yaml\n"
           % (cgroup, prefix, folder)).encode(), folder + "/start.sh")
    g.check("setsid bash %s/start.sh > %s/log 2>&1 < /dev/null &" % (folder, folder))
    ebb = "ebb -s %s/ebb.sock" % folder
    eventually(g, "%s status > /dev/null 2>&1" % ebb, 60, "the daemon answers")
    pid = int(g.check("for p in $(cat %s/cgroup.procs); do"
                      " [ $(cat /proc/$p/comm) = ebbd ] && echo $p; done" % cgroup))
    return Trials(g, cgroup, folder + "/ebb.sock", pid)


def end_by_hand(g, t):
    g.run("kill -9 %d; sleep 0.5; rmdir %s; systemctl start ebbd.socket ebbd" % (t.pid(), t.cgroup), 90)


@long_case
def high_by_hand(g):
    t = by_hand(g, "/sys/fs/cgroup/hand")
    try:
        judge(t.one(50))
    finally:
        end_by_hand(g, t)


@case
def high_nested(g):
    """As in a container: the mount shows the own cgroup as its root."""
    inner = ("unshare -C -m bash -c 'umount /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup;"
             " exec \"$@\"' x")
    t = by_hand(g, "/sys/fs/cgroup/nest/inner", inner)
    try:
        judge(t.one(50))
    finally:
        end_by_hand(g, t)


@case
def high_of_a_parent(g):
    g.check("mkdir -p /run/systemd/system/ebbd.service.d; cd /run/systemd/system/ebbd.service.d;"
            " printf '[Service]\\nSlice=board.slice\\n' > slice.conf; systemctl daemon-reload;"
            " systemctl restart ebbd", 90)
    try:
        t = Trials(g, "/sys/fs/cgroup/board.slice")
        judge(t.one(50))
    finally:
        g.run("rm -r /run/systemd/system/ebbd.service.d; systemctl daemon-reload;"
              " systemctl restart ebbd", 90)


@case
def max_stepwise(g):
    """memory.max comes down slowly from above what is held: nothing is killed."""
    before = restarts(g)
    end = g.check(
        "c=%s; n=$(( $(cat $c/memory.current) >> 20 )); o=$(grep oom_kill $c/memory.events);"
        " for m in $(seq $((n + 12)) -4 $((n - 40))); do echo ${m}M > $c/memory.max; sleep 1; done;"
        " [ \"$o\" = \"$(grep oom_kill $c/memory.events)\" ] || echo killed;"
        " cat $c/memory.current; echo max > $c/memory.max" % UNIT, 120)
    check("killed" not in end, "the kernel killed it")
    check_eq(restarts(g), before, "restarts: ")
    answers(g)


@case
def reclaim_written(g):
    before = restarts(g)
    g.run("echo 60M > %s/memory.reclaim" % UNIT, 30)
    check_eq(restarts(g), before, "restarts: ")
    answers(g)


@case
def hog_to_the_end(g):
    """A program takes all memory. The kernel kills it or us; service goes on."""
    g.run("systemd-run -q --unit=hog --collect /usr/lib/board/probe hog 1200 5;"
          " while systemctl -q is-active hog; do sleep 0.5; done", 120)
    eventually(g, "ebb complete 'The sea' -t 0 -n 2 > /dev/null 2>&1", 120, "an answer")
    print("     restarts %d, killed: %s" % (restarts(g), g.check(
        "dmesg | grep -o 'Killed process.*(.*)' | cut -d, -f1 | tail -n 2").replace("\n", "; ")))


@case
def swap_taken_away(g):
    """What another program has in a swap in memory comes back at once."""
    before, t = restarts(g), Trials(g)
    g.check("modprobe zram && echo 400M > /sys/block/zram0/disksize && mkswap /dev/zram0 > /dev/null &&"
            " swapon /dev/zram0")
    try:
        g.check("systemd-run -q --unit=hog --collect /usr/lib/board/probe hog 640 300; sleep 3")
        g.run("echo 200M > /sys/fs/cgroup/system.slice/hog.service/memory.reclaim", 60)
        eventually(g, "[ $(awk '/zram/{print $4}' /proc/swaps) -gt 150000 ]", 30, "150 MB in swap")
        t.restore()
        g.check("swapoff /dev/zram0", 60)
        eventually(g, '[ "$(%s)" -gt 0 ]' % t.position_command(), 30, "ebb gives way")
        answers(g, 90)
    finally:
        g.run("systemctl stop hog; swapoff /dev/zram0; echo 1 > /sys/block/zram0/reset", 90)
    check_eq(restarts(g), before, "restarts: ")


@case
def watchdog(g):
    g.check("mkdir -p /run/systemd/system/ebbd.service.d; cd /run/systemd/system/ebbd.service.d;"
            " printf '[Service]\\nWatchdogSec=8\\n' > watchdog.conf; systemctl daemon-reload;"
            " systemctl restart ebbd", 90)
    try:
        before = restarts(g)
        g.check("kill -STOP $(systemctl show -p MainPID --value ebbd)")
        eventually(g, "[ $(systemctl show -p NRestarts --value ebbd) -gt %d ]" % before, 60,
                   "the manager restarts it")
        answers(g, 90)
    finally:
        g.run("rm -r /run/systemd/system/ebbd.service.d; systemctl daemon-reload;"
              " systemctl restart ebbd", 90)


@case
def killed_with_clients_waiting(g):
    """Clients that wait at the socket of a dead daemon are answered by the next."""
    before = restarts(g)
    code, text = g.run(
        "p=$(systemctl show -p MainPID --value ebbd); kill -STOP $p;"
        " for i in 1 2 3; do (ebb complete \"The $i\" -t 0 -n 2 > /dev/null 2>&1;"
        " echo $? > /run/board/killed.$i) & done; sleep 2; kill -9 $p; wait;"
        " cat /run/board/killed.*", 120)
    check_eq((code, text.split()), (0, ["0", "0", "0"]))
    check_eq(restarts(g), before + 1, "restarts: ")


@case
def limit_below_the_floor(g):
    """Not even the lowest position fits: 503 with a reason, no spin, no storm of lines."""
    before, lines = restarts(g), log_lines(g)
    c = "awk '{print $14 + $15}' /proc/$(systemctl show -p MainPID --value ebbd)/stat"
    try:
        g.run("echo 16M > %s/memory.high" % UNIT, 60)
        time.sleep(5)
        ticks = int(g.check(c))
        time.sleep(15)
        ticks = int(g.check(c)) - ticks
        code, said = g.run("timeout 20 ebb complete 'The sea' -t 0 -n 2", 40)
        state = Trials(g).status()
        print("     position %d of %d, %d ticks in 15 s, %d lines, refused: %s"
              % (state["position"], state["positions"], ticks, log_lines(g) - lines, said.strip()[-120:]))
    finally:
        g.run("echo max > %s/memory.high" % UNIT)
    check_eq(state["position"], state["positions"], "position: ")
    check(code == 75 and said.strip(), "a request gives status %d: %s" % (code, said[-300:]))
    check(ticks < 750, "%d ticks of CPU in 15 s of doing nothing" % ticks)
    check(log_lines(g) - lines < 60, "%d lines in the log" % (log_lines(g) - lines))
    check_eq(restarts(g), before, "restarts: ")
    Trials(g).restore()
    answers(g)


@long_case
def cgroup_moved(g):
    """The limit of the cgroup that it is in now is what counts."""
    t = by_hand(g, "/sys/fs/cgroup/first")
    try:
        g.check("mkdir -p /sys/fs/cgroup/second; echo %d > /sys/fs/cgroup/second/cgroup.procs;"
                " sleep 1; rmdir /sys/fs/cgroup/first; sleep 15" % t.pid())
        t.cgroup = "/sys/fs/cgroup/second"
        answers(g, ebb=t.ebb)
        held = int(g.check("awk '{print ($2 - $3) * 4096}' /proc/%d/statm" % t.pid()))
        # Memory stays charged where it was; what is held by the process itself must still shrink.
        g.check("echo 60M > /sys/fs/cgroup/second/memory.high; sleep 15")
        now = int(g.check("awk '{print ($2 - $3) * 4096}' /proc/%d/statm" % t.pid()))
        print("     holds %.0f, then %.0f MiB" % (held / MIB, now / MIB))
        answers(g, 90, t.ebb)
    finally:
        end_by_hand(g, t)


@long_case
def cgroup_gone_from_sight(g):
    """The cgroup's files are taken from the running daemon's view, and later put back."""
    before = restarts(g)
    p = int(g.check("systemctl show -p MainPID --value ebbd"))
    lines = log_lines(g)
    g.check("nsenter -m -t %d mount -t tmpfs -o ro none /sys/fs/cgroup; sleep 12" % p)
    answers(g)
    check(log_lines(g) - lines < 20, "%d lines in the log" % (log_lines(g) - lines))
    g.check("nsenter -m -t %d umount /sys/fs/cgroup; sleep 3" % p)
    answers(g)
    check_eq(restarts(g), before, "restarts: ")


@case
def moving_limit(g):
    """Two minutes of a limit that moves each five seconds, beside streams."""
    moving(g, 120)


def moving(g, seconds):
    before = restarts(g)
    held = int(g.check("cat %s/memory.current" % UNIT)) // MIB
    # Being turned away is an answer, a stream that is cut is none.
    g.put(("while :; do ebb complete 'The sea' -t 0 -n 60 > /dev/null 2> /run/board/moving.why; s=$?;"
           " [ $s = 0 ] || { echo $s $(cat /run/board/moving.why) >> /run/board/moving.said; sleep 1; };"
           " done\n").encode(), "/run/board/moving.sh")
    g.check("rm -f /run/board/moving.said; systemd-run -q --unit=moving bash /run/board/moving.sh")
    shares = (80, 50, 95, 30, 70, 100, 60, 40)
    end, n, above = time.monotonic() + seconds, 0, 0
    try:
        while time.monotonic() < end:
            limit = held * shares[n % len(shares)] // 100
            over = g.check("timeout 4 sh -c 'echo %dM > %s/memory.high'; sleep 4.5;"
                           " [ $(cat %s/memory.current) -le %d ] || echo over"
                           % (limit, UNIT, UNIT, limit * MIB), 60)
            above += "over" in over
            n += 1
    finally:
        g.run("systemctl stop moving; echo max > %s/memory.high" % UNIT)
    kills = g.check("awk '/^oom_kill /{print $2}' %s/memory.events" % UNIT).strip()
    said = g.check("touch /run/board/moving.said; cat /run/board/moving.said").splitlines()
    cut = [x for x in said if not x.startswith("75 ")]
    print("     %d moves, above the limit at the end of %d; %d requests turned away"
          % (n, above, len(said) - len(cut)))
    check_eq(cut, [], "streams that were cut: ")
    check_eq(restarts(g), before, "restarts: ")
    check_eq(kills, "0", "OOM kills: ")
    check(above <= n // 4, "above the limit at the end of %d of %d moves" % (above, n))
    Trials(g).restore()
    answers(g)
    return n, above


def two_daemons(g, seconds):
    """Two daemons of the one machine and a program that leaves them little: each comes down to its
    share, and then nothing moves for so long. What they hold of their shares, and how often they
    moved meanwhile."""
    g.check("sed 's|^model:|socket:\\n  path: /run/ebb/two/ebb.sock\\n"
            "  admin_path: /run/ebb/two/admin.sock\\nmodel:|' /etc/ebb/ebb.yaml > /etc/ebb/two.yaml;"
            " systemctl restart ebbd; systemctl start ebbd@two", 120)
    daemons = [Trials(g), Trials(g, socket="/run/ebb/two/ebb.sock")]

    def statuses():
        return [d.status() for d in daemons]

    try:
        end = time.monotonic() + 60
        while not all(s["position"] == 0 and s["peers"] for s in statuses()):
            check(time.monotonic() < end, "they do not know of each other")
        # Their room is what is left with the reserve taken off: 60 MiB less than they hold.
        g.check("systemd-run -q --unit=hog --collect /usr/lib/board/probe hog"
                " $(( $(awk '/^MemAvailable/{print $2}' /proc/meminfo) / 1024 - 128 + 60 )) 100000")
        time.sleep(30)
        before, moves, end = [s["position"] for s in statuses()], 0, time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(2)
            now = [s["position"] for s in statuses()]
            moves += sum(a != b for a, b in zip(before, now))
            before = now
        shares = [share_held(s) for s in statuses()]
    finally:
        g.run("systemctl stop hog ebbd@two ebbd-admin@two.socket ebbd@two.socket;"
              " rm /etc/ebb/two.yaml; true", 60)
    print("     %s of their shares, at positions %s; %d moves in %d s"
          % (", ".join("%.0f %%" % (100 * x) for x in shares), before, moves, seconds))
    check(all(position > 0 for position in before), "nothing was taken from them")
    check(all(0.9 <= x <= 1.1 for x in shares), "not within a tenth of their shares")
    check(moves <= 2, "%d moves" % moves)
    return shares, moves


def share_held(status):
    held = sum(status[k] for k in ("resident_bytes", "kv_bytes", "scratch_bytes"))
    return held / status["memory"]["share_bytes"]


if __name__ == "__main__":
    # The emulator is no child that would end with this program.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    atexit.register(Board.end)
    if not NAMES and not os.environ.get("BOARD_LONG"):
        print("     left to run.sh --long: " + ", ".join(t.__name__ for t in TESTS if t in LONG_ONLY))
        TESTS[:] = [t for t in TESTS if t not in LONG_ONLY]
    main()
