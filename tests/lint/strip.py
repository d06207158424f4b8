"""C source without comments and with empty strings, one `file:line:text` a line.

Used by the lints, so that a word in a comment or a message is not taken for code. With --slashes
it prints the lines on which a `//` comment begins instead.
"""
import re
import sys

TOKEN = re.compile(
    r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def blank(match):
    text = match.group(0)
    if text[0] == '"':
        return '""'
    if text[0] == "'":
        return "' '"
    return "\n" * text.count("\n")


def main(args):
    slashes = "--slashes" in args
    for path in (a for a in args if not a.startswith("--")):
        with open(path, encoding="utf-8", errors="replace") as f:
            text = f.read()
        if slashes:
            for m in TOKEN.finditer(text):
                if m.group(0).startswith("//"):
                    print("%s:%d:%s" % (path, text.count("\n", 0, m.start()) + 1, m.group(0)))
            continue
        # Includes are kept apart by layers.sh; here their quoted names may be lost.
        for i, line in enumerate(TOKEN.sub(blank, text).split("\n"), 1):
            if line.strip():
                print("%s:%d:%s" % (path, i, line))


main(sys.argv[1:])
