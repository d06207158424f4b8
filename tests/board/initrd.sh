#!/bin/sh
# initrd.sh ROOT OUT: busybox, the modules for a virtio disk with ext4, and an init that goes there
set -eu
root=$1
out=$2
version=$(ls "$root/usr/lib/modules")
modules=$root/usr/lib/modules/$version
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/bin" "$tmp/m" "$tmp/proc" "$tmp/sys" "$tmp/dev" "$tmp/new"
cp "$root/usr/bin/busybox" "$tmp/bin/"
depmod -b "$root" "$version"

# Each with what it depends on, in the order of loading. What is built in has no file.
order=
for name in virtio_pci virtio_mmio virtio_blk virtio_console crc32c_generic ext4; do
    files=$(modprobe -d "$root" -S "$version" --show-depends "$name" 2> /dev/null |
        awk '$1 == "insmod" { print $2 }')
    for file in $files; do
        base=$(basename "$file")
        base=${base%.xz}
        [ ! -e "$tmp/m/$base" ] || continue
        case $file in
        *.xz) xz -dc "$file" > "$tmp/m/$base" ;;
        *) cp "$file" "$tmp/m/$base" ;;
        esac
        order="$order $base"
    done
done

cat > "$tmp/init" << I
#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
for m in $order; do busybox insmod /m/\$m; done
n=0
until [ -b /dev/vda ] || [ \$n -eq 50 ]; do busybox sleep 0.2; n=\$((n + 1)); done
busybox mount -t ext4 -o noatime /dev/vda /new || exec busybox sh
busybox umount /proc /sys
busybox mount --move /dev /new/dev
exec busybox switch_root /new /lib/systemd/systemd
I
chmod 755 "$tmp/init"
(cd "$tmp" && find . | cpio -o -H newc --quiet | gzip -1) > "$out"
