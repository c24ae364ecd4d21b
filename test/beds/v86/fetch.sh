#!/bin/bash
# Fetches what the v86-linux bed needs: Debian's i386 kernel, SeaBIOS, and a guest with lspci and setpci.
#
#   fetch.sh
#
# Needs a bare Debian (amd64) with bash, apt and dpkg. It installs nothing and changes nothing outside
# ${XDG_CACHE_HOME:-$HOME/.cache}/vpci/v86; packages are unpacked, not installed. About 55 MB the first time,
# nothing afterwards. The mirror is the one in the system's apt sources; VPCI_DEBIAN_MIRROR overrides it.
# The bed finds in the cache:
#   vmlinuz  bios.bin  vgabios.bin  root/ (the guest's files without /init)  release (of the kernel)
# Exit 0: all there; 1: failed; 77: cannot be had on this machine (the message says why).
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/vpci/v86
say() { printf 'v86: %s\n' "$*" >&2; }
skip() { say "cannot be had here: $*"; exit 77; }

stamp='1'
if [ "$(cat "$cache/.done" 2>/dev/null)" = "$stamp" ]; then
  say "Linux $(cat "$cache/release") for i386 is in the cache"
  exit 0
fi

# --- 1. The packages, by a private apt: own sources, lists and an empty package database ----------------------
command -v apt-get >/dev/null || skip 'no apt-get'
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r $keyring ] || skip "no $keyring"
# shellcheck disable=SC1091
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
# shellcheck disable=SC2016
mirror=${VPCI_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' |
  awk -v release="$codename" '$1 == release && $2 == "main" && $3 ~ /debian\/?$/ && !uri { uri = $3 } END { print uri }')}
[ -n "$mirror" ] || skip 'no Debian mirror in the apt sources; set VPCI_DEBIAN_MIRROR'

rm -rf "$cache"
apt_dir=$cache/apt
mkdir -p "$apt_dir"/etc/apt/preferences.d "$apt_dir"/var/lib/apt/lists/partial \
  "$apt_dir"/var/cache/apt/archives/partial "$apt_dir"/var/lib/dpkg "$cache"/packages "$cache"/tree
: >"$apt_dir/var/lib/dpkg/status"
# The last release with a kernel that i386 machines without PAE, such as v86's, can boot.
echo "deb [arch=i386 signed-by=$keyring] $mirror bookworm main" >"$apt_dir/etc/apt/sources.list"
options=(-qq -o "Dir=$apt_dir" -o "Dir::State::status=$apt_dir/var/lib/dpkg/status" -o APT::Architecture=i386
  -o APT::Architectures=i386 -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3)
apt-get "${options[@]}" update || skip 'apt-get update failed'
# linux-image-686 is a meta package: the kernel's own package has the version in its name.
release=$(apt-cache "${options[@]}" depends linux-image-686 |
  sed -n 's/.*Depends: linux-image-\([0-9].*-686\)$/\1/p' | head -1)
[ -n "$release" ] || skip 'no kernel for i386'
# pciutils with what lspci and setpci load.
(cd "$cache/packages" && apt-get "${options[@]}" download "linux-image-$release" seabios busybox-static pciutils \
  libpci3 libkmod2 libudev1 zlib1g liblzma5 libzstd1 libssl3 libgcc-s1 libc6) || skip 'packages cannot be downloaded'

# --- 2. Unpacked: the kernel's image without its modules, the firmware, the guest's files ---------------------
for package in "$cache"/packages/*.deb; do
  case $package in
    */linux-image-*) dpkg-deb --fsys-tarfile "$package" | tar -x -C "$cache/tree" --wildcards './boot/vmlinuz-*' ;;
    *) dpkg-deb -x "$package" "$cache/tree" ;;
  esac
done
tree=$cache/tree
mv "$tree/boot/vmlinuz-$release" "$cache/vmlinuz"
cp -L "$tree/usr/share/seabios/bios.bin" "$cache/bios.bin"
cp -L "$tree/usr/share/seabios/vgabios-stdvga.bin" "$cache/vgabios.bin"

root=$cache/root
libs=lib/i386-linux-gnu
mkdir -p "$root"/{bin,proc,sys,dev,tmp,lib,$libs}
cp "$tree/bin/busybox" "$tree/usr/bin/lspci" "$tree/usr/bin/setpci" "$root/bin/"
cp -L "$tree/lib/ld-linux.so.2" "$root/lib/"
for lib in libpci.so.3 libkmod.so.2 libc.so.6 libz.so.1 libudev.so.1 libcrypto.so.3 libzstd.so.1 liblzma.so.5 \
  libresolv.so.2 libgcc_s.so.1 libpthread.so.0 libdl.so.2; do
  for found in "$tree/$libs/$lib" "$tree/usr/$libs/$lib"; do
    [ ! -e "$found" ] || cp -L "$found" "$root/$libs/"
  done
done
rm -rf "$tree" "$cache/packages" "$apt_dir"

echo "$release" >"$cache/release"
echo "$stamp" >"$cache/.done"
say "fetched Linux $release for i386"
