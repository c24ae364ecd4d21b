#!/bin/bash
# Builds the guest kernel of the beds: Debian's newest linux-source, unpatched, with iommufd and VFIO built in.
#
#   build.sh
#
# Needs bash, apt and dpkg (amd64), and make, gcc, flex, bison, bc, xz and libelf's headers. It installs nothing
# and changes nothing outside ${XDG_CACHE_HOME:-$HOME/.cache}/vpci. About 170 MB to fetch, 3 GB while it builds,
# 4 to 8 minutes on two cores; nothing once the cache has a kernel of this configuration. The beds find in
# ${XDG_CACHE_HOME:-$HOME/.cache}/vpci/kernel-HASH, HASH being of this file and the configuration:
#   bzImage     the kernel
#   release     such as 7.3.4
#   config      its whole configuration
#   include     its UAPI headers
# Exit 0: all there; 1: failed; 77: cannot be had on this machine (the message says why).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
hash=$(cat "$here/build.sh" "$here/iommufd.config" | sha256sum | cut -c1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vpci
out=$cache/kernel-$hash
say() { printf 'kernel: %s\n' "$*" >&2; }
skip() { say "cannot be had here: $*"; exit 77; }

if [ -e "$out/bzImage" ]; then
  say "Linux $(cat "$out/release") is in the cache"
  exit 0
fi

[ "$(uname -m)" = x86_64 ] || skip 'only written for amd64'
for tool in apt-get dpkg-deb make gcc flex bison bc xz; do
  command -v $tool >/dev/null || skip "no $tool (Debian: make gcc flex bison bc xz-utils libelf-dev)"
done
echo '#include <gelf.h>' | gcc -E -x c - >/dev/null 2>&1 || skip 'no libelf headers (Debian: libelf-dev)'
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r $keyring ] || skip "no $keyring"
# shellcheck disable=SC1091
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
# shellcheck disable=SC2016
mirror=${VPCI_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' |
  awk -v release="$codename" '$1 == release && $2 == "main" && $3 ~ /debian\/?$/ && !uri { uri = $3 } END { print uri }')}
[ -n "$mirror" ] || skip 'no Debian mirror in the apt sources; set VPCI_DEBIAN_MIRROR'

# --- 1. The source, by a private apt: own sources, lists and an empty package database ------------------------
mkdir -p "$cache"
work=$(mktemp -d "$cache/kernel-build.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/apt/etc/apt/preferences.d "$work"/apt/var/lib/apt/lists/partial \
  "$work"/apt/var/cache/apt/archives/partial "$work"/apt/var/lib/dpkg
: >"$work/apt/var/lib/dpkg/status"
echo "deb [arch=amd64 signed-by=$keyring] $mirror trixie-backports main" >"$work/apt/etc/apt/sources.list"
options=(-qq -o "Dir=$work/apt" -o "Dir::State::status=$work/apt/var/lib/dpkg/status" -o APT::Architecture=amd64
  -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3)
apt-get "${options[@]}" update || skip 'apt-get update failed'
# linux-source is a meta package: the source's own package has the version in its name.
package=$(apt-cache "${options[@]}" depends linux-source | sed -n 's/.*Depends: \(linux-source-[0-9.]*\)$/\1/p' | head -1)
[ -n "$package" ] || skip 'no linux-source in trixie-backports'
(cd "$work" && apt-get "${options[@]}" download "$package") || skip "$package cannot be downloaded"
dpkg-deb --fsys-tarfile "$work"/linux-source-*.deb | tar -x -C "$work" --wildcards '*.tar.xz'
rm "$work"/linux-source-*.deb
tar -x -J -f "$(find "$work" -name 'linux-source-*.tar.xz')" -C "$work"
tree=$(find "$work" -maxdepth 1 -type d -name 'linux-source-*')

# --- 2. The kernel ---------------------------------------------------------------------------------------------
cd "$tree"
say "building $package $(make -s kernelversion)"
make -s tinyconfig
scripts/kconfig/merge_config.sh -m .config "$here/iommufd.config" >/dev/null
make -s olddefconfig
missing=$(grep -v '^#' "$here/iommufd.config" | grep . | while read -r line; do grep -qx "$line" .config || echo "$line"; done)
[ -z "$missing" ] || { say "this kernel does not take: $missing"; exit 1; }
make -s -j"$(nproc)" bzImage >"$work/log" 2>&1 || { tail -30 "$work/log" >&2; exit 1; }
make -s headers_install INSTALL_HDR_PATH="$work/headers" >/dev/null

mkdir -p "$work/out"
cp arch/x86/boot/bzImage .config "$work/out/"
mv "$work/out/.config" "$work/out/config"
mv "$work/headers/include" "$work/out/include"
make -s kernelversion >"$work/out/release"
rm -rf "$out"
mv "$work/out" "$out"
say "Linux $(cat "$out/release") built: $(stat -c %s "$out/bzImage") bytes"
