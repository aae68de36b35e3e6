#!/bin/bash
# Makes a Vagrant machine (Debian 12) one of the matrix: its kernel, and what the tests need.
#
#   provision.sh NAME    as root; NAME is a machine's in machines.json
#
# The machine has to be booted anew afterwards.
set -euo pipefail
cd /project
export DEBIAN_FRONTEND=noninteractive

root() { # a list of the root's, in machines.json
	python3 -c '
import json, sys
print(*json.load(open("vagrant/machines.json"))["root"][sys.argv[1]])
' "$1"
}

requirements() { # of the tests, in the versions that pyproject.toml asks for
	python3 -c '
import re, sys, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
known = project["dependencies"] + project["optional-dependencies"]["dev"]
print(*(each for each in known if re.split("[^a-z-]", each)[0] in sys.argv[1:]), sep="\n")
' "$@"
}

apt_get() {
	apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"
}

name=$1
apt_get update
# shellcheck disable=SC2046 # words
apt_get install --no-install-recommends debian-archive-keyring initramfs-tools python3-pip $(root packages) >/dev/null

version=$(python3 -m vagrant kernel "$name")

# Boot this one, not the newest.
update-grub 2>/dev/null
entry=$(grep -o "gnulinux-$version-advanced-[^']*" /boot/grub/grub.cfg | head -n 1)
echo "GRUB_DEFAULT='gnulinux-advanced-${entry##*-advanced-}>$entry'" >/etc/default/grub.d/twtrace.cfg
update-grub 2>/dev/null

if ! python3 -c 'import hypothesis, jsonschema, msgspec, orjson, pytest, textual, zstandard' 2>/dev/null; then
	# shellcheck disable=SC2046 # words
	requirements $(root requirements) >/tmp/requirements
	python3 -m pip install --quiet --break-system-packages --root-user-action=ignore -r /tmp/requirements
fi
echo "provision: Linux $version is installed"
