"""The real model: a greedy stream of 400 tokens during which every low plane goes and comes back,
and the memory that is really returned. Speeds are measured by tests/bench; here only facts that do
not depend on the machine are checked."""
import ebbd
from harness import check, check_eq, check_in, main, test, wait_until

MIB = 1 << 20
PROMPT = "The history of the lighthouse begins"


@test
def stream_through_a_swap():
    with ebbd.Daemon(ebbd.real_pack(), {"serve": {"ctx": 1024}}) as d:
        low_bytes = d.low_bytes()
        check(low_bytes > 40 * MIB, "the low planes of 135 million weights")
        want = d.stream(PROMPT, max_tokens=400).run()
        check_eq(want.last["timings"]["predicted_n"], want_tokens(want))
        rss = d.rss()
        s = d.stream(PROMPT, max_tokens=400)
        n, fallen = 0, 0
        for _ in s:
            n += 1
            if n == 60:
                d.limit(MIB)
                # A generous wait: that it falls, not how fast, is what a shared machine can tell.
                fallen = wait_until(lambda: max(0, rss - d.rss() - low_bytes * 9 // 10), 20,
                                    "RSS falls by the low planes' bytes")
            if n == 200:
                d.limit("auto")
        check(fallen, "the memory came back")
        check_eq(s.last["timings"]["predicted_n"], want_tokens(s))
        at = next((i for i, p in enumerate(s.pieces) if p[2] != s.pieces[0][2]), None)
        check(at, "the stream saw the swap")
        check_eq([p[1] for p in s.pieces[:at]], [p[1] for p in want.pieces[:at]],
                 "up to the first swap")
        times = [p[0] for p in s.pieces]
        check_eq(times, sorted(times))
        d.wait_position(0, 60)
        again = d.stream(PROMPT, max_tokens=60).run().text
        check(again and want.text.startswith(again), "back at full")


def want_tokens(stream):
    """Tokens that the stream must have had: all that were asked for, or fewer after an end."""
    n = stream.last["timings"]["predicted_n"]
    return 400 if stream.finish == "length" else n


KNOWN = (("The capital of France is", "Paris"), ("1, 2, 3, 4, 5,", "6, 7, 8"),
         ("The sun rises in the east and sets in the", "west"))


@test
def answers_make_sense():
    with ebbd.Daemon(ebbd.real_pack()) as d:
        for limit in ("auto", 80 * MIB):
            d.limit(limit)
            for prompt, word in KNOWN:
                r = d.complete(prompt, max_tokens=12).json()
                check_in(word, r["choices"][0]["text"], r["system_fingerprint"])
        check(d.status()["units"]["full"] <= 1, "nearly all units at high in the second round")
        r = d.chat("What is 2+2?", max_tokens=40)
        check_in("4", r.json()["choices"][0]["message"]["content"])


main()
