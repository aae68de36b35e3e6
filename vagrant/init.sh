#!/bin/sh
# Init of the initramfs: puts the guest's file system together and hands over to vagrant/guest.sh.
# Disks: vda the shared root, vdb this kernel's modules, vdc a tar of the project.
set -eu
export PATH=/bin

mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
if grep -q twtrace.probe /proc/cmdline; then # qemu.py asks whether a guest boots at all
	echo "twtrace: booted"
	poweroff -f
fi
while read -r module; do
	insmod "$module"
done </modules/order

mkdir -p /lower /upper /new
mount -t ext4 -o ro /dev/vda /lower
mount -t tmpfs -o size=75% tmpfs /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /new
mkdir -p /new/lib/modules /new/project
mount -t ext4 -o ro /dev/vdb /new/lib/modules
tar -x -f /dev/vdc -C /new/project

for kind in proc sys dev; do
	mount --move /$kind /new/$kind
done
exec switch_root /new /bin/bash /project/vagrant/guest.sh
