"""A small harness for tests that run whole programs: the same last line as tests/t.h.

    @test
    def name(): ...

    main()

Usage of such a file: test_x.py [--build DIR] [--list] [--only PREFIX] [NAME...]. A name is a
substring of a test's name; after --only, its beginning. Names that fit no test are an error.
"""
import os
import signal
import sys
import threading
import time
import traceback

TESTS = []
SOURCE = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
SHARED = os.environ.get("EBB_SHARED") or os.path.join(os.path.dirname(SOURCE), "shared")


class Skip(Exception):
    """A test that cannot run here; the text says why."""


class NotHere(Skip):
    """What the host does not allow, whatever is installed: a skip even where a skip is a failure."""


class Failed(Exception):
    """A check that does not hold."""


def _arguments():
    names, build, listing, args = [], os.path.join(SOURCE, "build"), False, sys.argv[1:]
    only = []
    while args:
        arg = args.pop(0)
        if arg == "--build":
            build = args.pop(0)
        elif arg == "--list":
            listing = True
        elif arg == "--only":
            only.append(args.pop(0))
        else:
            names.append(arg)
    return os.path.realpath(build), names, only, listing


BUILD, NAMES, ONLY, LISTING = _arguments()


def _is_wanted(name):
    if not NAMES and not ONLY:
        return True
    return any(n in name for n in NAMES) or any(name.startswith(n) for n in ONLY)


def program(name):
    """Path of a built program, wherever in the build folder it is."""
    for folder in ("daemon", "core", "tests", "tests/sim", "core/make", "core/bench"):
        path = os.path.join(BUILD, folder, name)
        if os.access(path, os.X_OK):
            return path
    raise Failed("%s is not built under %s" % (name, BUILD))


def shared(rel):
    """A file of the shared folder, or the test is skipped."""
    path = os.path.join(SHARED, rel)
    if not os.path.exists(path):
        raise Skip("%s is missing (set EBB_SHARED to the folder that holds it)" % path)
    return path


def test(fn):
    TESTS.append(fn)
    return fn


def check(condition, text="does not hold"):
    if not condition:
        raise Failed(text)


def check_eq(got, want, what=""):
    if got != want:
        raise Failed("%s%r, not %r" % (what + ": " if what else "", got, want))


def check_in(part, whole, what=""):
    if part not in whole:
        raise Failed("%s%r is not in %r" % (what + ": " if what else "", part, whole))


def wait_until(fn, seconds, what):
    """Calls fn every 20 ms until it gives something true, which is returned."""
    end = time.monotonic() + seconds
    while True:
        value = fn()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed("not within %g s: %s" % (seconds, what))
        time.sleep(0.02)


def steady(fn):
    """For tests of short watchdogs: one that failed is run again, twice at most, if the machine
    itself stood still for a second meanwhile, as a virtual one does when it is saved or moved."""
    def run():
        for _ in range(3):
            worst, is_over = [0.0], threading.Event()

            def watch():
                last = time.monotonic()
                while not is_over.wait(0.05):
                    now = time.monotonic()
                    worst[0], last = max(worst[0], now - last), now
            watcher = threading.Thread(target=watch)
            watcher.start()
            try:
                return fn()
            except Failed as e:
                if worst[0] < 1:
                    raise
                print("     again, as the machine stood still for %.1f s: %s" % (worst[0], e))
            finally:
                is_over.set()
                watcher.join()
        raise Failed("the machine stands still again and again")
    run.__name__ = fn.__name__
    return run


def hear_signals():
    """A shell starts what it puts into the background with these ignored, and that is inherited by
    every program that a test starts."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGQUIT) == signal.SIG_IGN:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def main(clean_up=None):
    hear_signals()
    wanted = [t for t in TESTS if _is_wanted(t.__name__)]
    if LISTING:
        print("\n".join(t.__name__ for t in wanted))
        return
    if not wanted:
        print("no test is called %s" % " or ".join(NAMES + ONLY))
        sys.exit(2)
    passed = failed = skipped = 0
    no_skip = bool(os.environ.get("EBB_TEST_NO_SKIP"))
    for t in wanted:
        start = time.monotonic()
        try:
            t()
            passed += 1
            print("ok   %s (%.1f s)" % (t.__name__, time.monotonic() - start))
        except Skip as e:
            if no_skip and not isinstance(e, NotHere):
                failed += 1
                print("FAIL %s: skip not allowed here: %s" % (t.__name__, e))
            else:
                skipped += 1
                print("skip %s: %s" % (t.__name__, e))
        except Exception as e:  # whatever a test throws is its failure
            failed += 1
            if not isinstance(e, Failed):
                traceback.print_exc(file=sys.stdout)
            else:
                frames = traceback.extract_tb(e.__traceback__)
                at = [f for f in frames if os.path.basename(f.filename) != "harness.py"][-1]
                print("    %s:%d: %s" % (os.path.basename(at.filename), at.lineno, e))
            print("FAIL %s (%.1f s)" % (t.__name__, time.monotonic() - start))
        sys.stdout.flush()
    if clean_up:
        clean_up()
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    sys.exit(1 if failed else 77 if skipped and not passed else 0)
