#!/usr/bin/env bash
# Makes a Debian 12 system for the emulator and, apart from it, what ebb is built against.
#
#   tests/board/root.sh arm64|amd64      the last line is the folder
#
# The folder holds image (ext4), kernel, initrd and sysroot/. Nothing of the guest runs while it is
# made: packages are extracted, and what their scripts would do is done here, as far as these tests
# need it. It is kept in EBB_BOARD_CACHE under a name made of this script and what it uses.
set -eu
. "$(dirname "$0")/lib.sh"
arch=${1:?arm64 or amd64}
board_arch "$arch"
suite=bookworm

guest_packages="systemd base-files base-passwd bash dash coreutils util-linux mount kmod procps
grep sed mawk findutils tar gzip hostname libc-bin busybox-static $kernel_package
libuv1 libcjson1 libyaml-0-2 libopenblas0-pthread liblapack3 liblapacke libutf8proc2 libxxhash0
libmd0"
build_packages="libc6-dev linux-libc-dev libgcc-12-dev libcjson-dev liblapacke-dev libmd-dev
libopenblas-dev libutf8proc-dev libuv1-dev libxxhash-dev libyaml-dev"

key=$(board_key "$0" "$board_here/lib.sh" "$board_here/initrd.sh" \
    "$board_here/guest/agent.sh" "$board_here/guest/board-agent.service")
out=$board_cache/$arch-$key
if [ -e "$out/image" ]; then
    echo "$out"
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "a board's root is made by root only: its files belong to many users" >&2
    exit 1
fi
mkdir -p "$board_cache"
tmp=$(mktemp -d "$board_cache/.making-XXXXXX")
trap 'rm -rf "$tmp"' EXIT

# extract FOLDER PACKAGES: with what they depend on. /bin and others are links from the start.
extract() {
    # shellcheck disable=SC2016
    mmdebstrap --quiet --mode=root --variant=extract --architectures="$arch" \
        --aptopt='APT::Install-Recommends "false"' \
        --setup-hook='for d in bin sbin lib lib64; do
            mkdir -p "$1/usr/$d"; ln -s "usr/$d" "$1/$d"; done' \
        --include="$(echo "$2" | xargs | tr ' ' ,)" "$suite" "$1" > "$tmp/log" 2>&1 ||
        { tail -n 30 "$tmp/log" >&2 && return 1; }
}

# What base-passwd, the alternatives of BLAS and systemd would set up.
finish() {
    local r=$1 lib=usr/lib/$triplet x
    cp "$r/usr/share/base-passwd/passwd.master" "$r/etc/passwd"
    cp "$r/usr/share/base-passwd/group.master" "$r/etc/group"
    sed -i 's/^root:[^:]*:/root::/' "$r/etc/passwd"
    systemd-sysusers --root="$r" > "$tmp/log" 2>&1 || { cat "$tmp/log" >&2 && return 1; }
    for x in libblas.so.3 liblapack.so.3 libopenblas.so.0; do
        if [ -e "$r/$lib/openblas-pthread/$x" ]; then
            ln -sf "openblas-pthread/$x" "$r/$lib/$x"
        fi
    done
    [ -e "$r/usr/bin/awk" ] || ln -s mawk "$r/usr/bin/awk"
    [ -e "$r/usr/bin/sh" ] || ln -s dash "$r/usr/bin/sh"
    echo board > "$r/etc/hostname"
    printf '%032x\n' 20268431 > "$r/etc/machine-id"
    : > "$r/etc/fstab"
    install -d "$r/usr/lib/board" "$r/root" "$r/proc" "$r/sys" "$r/dev" "$r/run" "$r/tmp"
    install "$board_here/guest/agent.sh" "$r/usr/lib/board/"
    install -m 644 "$board_here/guest/board-agent.service" "$r/etc/systemd/system/"
    install -d "$r/etc/systemd/system/multi-user.target.wants"
    ln -s ../board-agent.service "$r/etc/systemd/system/multi-user.target.wants/"
    ln -sf /lib/systemd/system/multi-user.target "$r/etc/systemd/system/default.target"
    for x in getty.target getty@.service serial-getty@.service apt-daily.timer \
        apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
        systemd-networkd-wait-online.service systemd-timesyncd.service systemd-hwdb-update.service \
        systemd-journal-catalog-update.service systemd-update-done.service \
        systemd-firstboot.service systemd-machine-id-commit.service ldconfig.service; do
        ln -sf /dev/null "$r/etc/systemd/system/$x"
    done
}

# Of the kernel's modules, those that a swap in memory needs.
prune() {
    local r=$1 v
    v=$(ls "$r/usr/lib/modules")
    rm -rf "$r"/usr/share/{doc,man,locale,info,i18n} "$r"/usr/lib/{gcc,udev/hwdb.d} \
        "$r"/var/cache/apt "$r"/var/lib/apt "$r"/boot/*
    (cd "$r/usr/lib/modules/$v" && find kernel -name '*.ko*' |
        grep -vE '/(zram|zsmalloc|lzo-rle|lzo|lz4|lz4hc|zstd|zstd_compress|lzo_compress|lz4_compress|lz4hc_compress|842|842_compress)\.ko' |
        xargs rm -f)
    depmod -b "$r" "$v"
}

echo "making the $arch system (about a minute)" >&2
extract "$tmp/root" "$guest_packages"
extract "$tmp/sysroot" "$build_packages"
cp "$tmp/root"/boot/vmlinuz-* "$tmp/kernel"
"$board_here/initrd.sh" "$tmp/root" "$tmp/initrd"
finish "$tmp/root"
prune "$tmp/root"
rm -rf "$tmp/sysroot"/{var,usr/share/doc,dev}
# The alternatives' links, which the linker follows.
for x in libblas.so libblas.so.3 liblapack.so liblapack.so.3 libopenblas.so libopenblas.so.0; do
    if [ -e "$tmp/sysroot/usr/lib/$triplet/openblas-pthread/$x" ]; then
        ln -sf "openblas-pthread/$x" "$tmp/sysroot/usr/lib/$triplet/$x"
    fi
done
truncate -s 1200M "$tmp/image"
mke2fs -q -t ext4 -d "$tmp/root" -O ^metadata_csum -E lazy_itable_init=1 "$tmp/image"
rm -rf "$tmp/root" "$tmp/log"
chmod 755 "$tmp"
mv -T "$tmp" "$out" 2> /dev/null || [ -e "$out/image" ]
echo "$out"
