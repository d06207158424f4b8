"""A daemon whose allocations fail when they are told to; see fail_malloc.c."""
import mmap
import os
import struct

import ebbd

AT, FOREVER, CALLS, FAILED, LIVE, UV_ABORTS = range(6)


class Malloc:
    def __init__(self, d):
        """Before the daemon starts."""
        path = os.path.join(d.dir, "root", "malloc")
        with open(path, "w+b") as f:
            f.truncate(mmap.PAGESIZE)
            self.words = mmap.mmap(f.fileno(), mmap.PAGESIZE)
        d.env.update(ebbd.preloaded("fail_malloc"), EBB_FAIL_MALLOC=path)

    def __getitem__(self, i):
        return struct.unpack_from("@q", self.words, 8 * i)[0]

    def __setitem__(self, i, value):
        struct.pack_into("@q", self.words, 8 * i, value)

    def arm(self, n, forever):
        """The n-th allocation from now on fails, and all after it too."""
        for i in (AT, CALLS, FAILED, UV_ABORTS):
            self[i] = 0
        self[FOREVER] = forever
        self[AT] = n

    def disarm(self):
        """Returns how many have failed."""
        self[AT] = 0
        return self[FAILED]
