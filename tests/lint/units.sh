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
# verify wants programs that exist, and the daemon is not installed while it is being tested; of a
# template it wants an instance.
for f in "$build"/systemd/*.service "$build"/systemd/*.socket; do
    name=${f##*/}
    sed -E 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' "$f" > "$dir/${name/@./@x.}"
done
check "there are units, one and of a template"
for f in ebbd.service ebbd@x.service ebbd.socket ebbd@x.socket ebbd-admin.socket \
    ebbd-admin@x.socket; do
    [ -f "$dir/$f" ] || bad "no $f in $build/systemd"
done

check "the units are valid"
bad_lines < <(systemd-analyze verify "$dir"/*.service "$dir"/*.socket 2>&1 | grep -E "ebb|$dir")

# Those that this systemd knows; an older one says what it does not.
check "the drop-ins are valid"
version=$(systemd-analyze --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
for drop_in in systemd/*.conf; do
    since=$(sed -n '1s/^# For systemd \([0-9]*\) and later.*/\1/p' "$drop_in")
    [ -n "$since" ] || bad "$drop_in: the first line does not say for which systemd it is"
    [ "${version:-0}" -ge "${since:-9999}" ] || continue
    mkdir -p "$dir/ebbd.service.d"
    cp "$drop_in" "$dir/ebbd.service.d"
    bad_lines "$drop_in" < <(systemd-analyze verify "$dir/ebbd.service" 2>&1 | grep -E "ebb|$dir")
done

# In tenths; a service without any of it scores 96.
check "the services are confined (0.6 or less)"
for unit in ebbd.service ebbd@x.service; do
    systemd-analyze security --offline=yes --threshold=6 "$dir/$unit" > "$dir/score" 2>&1 ||
        bad "$(grep -F 'Overall exposure' "$dir/score" || tail -n1 "$dir/score")"
done

check "the service waits longer than answers may take to end"
# The default of serve.drain_timeout, in seconds.
drain=$(sed -n 's/^  drain_timeout: \([0-9]*\)s$/\1/p' config/ebb.yaml)
stop=$(sed -n 's/^TimeoutStopSec=//p' "$dir/ebbd.service")
[ "${stop:-0}" -ge $((${drain:-1000} + 5)) ] ||
    bad "TimeoutStopSec=$stop, serve.drain_timeout ${drain}s and five more are needed"

check "the sockets are where the settings look for them"
for pair in ebbd.socket:path ebbd-admin.socket:admin_path; do
    path=$(sed -n "s/^  ${pair#*:}: \"\(.*\)\"\$/\1/p" config/ebb.yaml | tail -n1)
    grep -qxF "ListenStream=${path:-none}" "$dir/${pair%:*}" ||
        bad "${pair%:*} does not listen on $path"
done
grep -qxF SocketMode=0660 "$dir/ebbd.socket" || bad "the clients' socket is not for the group alone"
grep -qxF SocketMode=0600 "$dir/ebbd-admin.socket" || bad "the administrator's socket is not 0600"

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
