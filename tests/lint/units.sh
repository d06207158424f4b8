#!/usr/bin/env bash
# Units: what systemd will read, as configured by the build, is valid and stays locked down.
# Usage: units.sh ROOT BUILD
build=$(cd "${2:-build}" && pwd) || exit 2
. "$(dirname "$0")/common.sh"

if ! command -v systemd-analyze > /dev/null; then
    echo "skip units: systemd-analyze is missing"
    [ -n "${EBB_TEST_NO_SKIP:-}" ] && exit 1
    exit 77
fi
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
# verify wants programs that exist, and the daemon is not installed while it is being tested.
sed -E 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' "$build/systemd/ebbd.service" > "$dir/ebbd.service"

check "the service is valid"
bad_lines < <(systemd-analyze verify "$dir/ebbd.service" 2>&1 | grep -F "$dir")

# In tenths; a service without any of it scores 96.
check "the service is confined (0.6 or less)"
systemd-analyze security --offline=yes --threshold=6 "$dir/ebbd.service" > "$dir/score" 2>&1 ||
    bad "$(grep -F 'Overall exposure' "$dir/score" || tail -n1 "$dir/score")"

check "the service waits longer than answers may take to end"
# The default of serve.drain_timeout, in seconds.
drain=$(sed -n 's/^  drain_timeout: \([0-9]*\)s$/\1/p' config/ebb.yaml)
stop=$(sed -n 's/^TimeoutStopSec=//p' "$dir/ebbd.service")
[ "${stop:-0}" -ge $((${drain:-1000} + 5)) ] ||
    bad "TimeoutStopSec=$stop, serve.drain_timeout ${drain}s and five more are needed"

check "the user and the folders are made"
if [ "$(id -u)" -eq 0 ] && command -v systemd-sysusers systemd-tmpfiles > /dev/null; then
    root=$dir/root
    mkdir -p "$root/etc"
    example=$(sed -n 's|^C .* ||p' "$build/systemd/ebb.tmpfiles.conf")
    install -D -m 644 config/ebb.yaml "$root$example"
    systemd-sysusers --root="$root" "$build/systemd/ebb.sysusers.conf" > "$dir/out" 2>&1 &&
        systemd-tmpfiles --root="$root" --create "$build/systemd/ebb.tmpfiles.conf" >> "$dir/out" 2>&1
    bad_lines < <(grep -E 'ebb\.[a-z]+\.conf:[0-9]+' "$dir/out")
    grep -q '^ebb:' "$root/etc/passwd" || bad "no user ebb: $(tail -n1 "$dir/out")"
    for made in var/lib/ebb etc/ebb/ebb.yaml; do
        [ -e "$root/$made" ] || bad "/$made was not made: $(tail -n1 "$dir/out")"
    done
fi

finish
