#!/bin/bash
# The guest's init: makes the machine ready, runs the command the host gave, ends it.
# The host's side is vagrant/guest.py; it has put the command into /project/.guest.
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 PYTHONPYCACHEPREFIX=/tmp/pycache

port() { # the device of the virtio-serial port of that name
	local name
	for name in /sys/class/virtio-ports/*/name; do
		if [ "$(cat "$name")" = "$1" ]; then
			echo "/dev/$(basename "$(dirname "$name")")"
		fi
	done
}

mkdir -p /dev/pts /dev/shm /run /tmp
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
ln -sf /proc/self/fd /dev/fd
ulimit -n 65536
hostname guest
ip link set lo up

TWTRACE_RESULTS=$(port results)
export TWTRACE_RESULTS
output=$(port output)
cd /project || exit
printf '{"kernel": "%s"}\n' "$(uname -r)" >"$TWTRACE_RESULTS"

# What earlier guests of this kernel compiled; compiling takes an emulated guest a quarter of a minute each.
programs=/var/cache/twtrace/programs
(
	umask 077
	mkdir -p "$programs"
	cp --preserve=timestamps .guest/programs/* "$programs" 2>/dev/null
)
chmod 755 /var/cache/twtrace

mapfile -d '' -t command <.guest/command
mapfile -d '' -t environment <.guest/environment
env "${environment[@]}" "${command[@]}" </dev/null >"$output" 2>&1
status=$?
tar -C "$programs" -cf "$(port programs)" .
printf '{"status": %d}\n' "$status" >"$TWTRACE_RESULTS"
echo b >/proc/sysrq-trigger # at once; qemu takes a reboot for the end
