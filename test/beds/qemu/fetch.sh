#!/bin/bash
# Fetches what the QEMU beds need: QEMU, two Debian cloud kernels, and a guest with lspci and setpci.
#
#   fetch.sh
#
# Needs a bare Debian (amd64) with bash, apt and dpkg. It installs nothing and changes nothing outside
# ${XDG_CACHE_HOME:-$HOME/.cache}/vpci/beds; packages are unpacked, not installed. About 80 MB the first time,
# nothing afterwards. The mirror is the one in the system's apt sources; VPCI_DEBIAN_MIRROR overrides it.
# The beds find in the cache:
#   qemu            runs QEMU with the unpacked libraries
#   qemu.version    such as 11.1.3
#   kernels/NAME    kernel images, named by their release
#   guest.cpio      the guest's root without /init
# Exit 0: all there; 1: failed; 77: cannot be had on this machine (the message says why).
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/vpci/beds
say() { printf 'beds: %s\n' "$*" >&2; }
skip() { say "cannot be had here: $*"; exit 77; }

stamp='2'
if [ "$(cat "$cache/.done" 2>/dev/null)" = "$stamp" ]; then
  say "QEMU $(cat "$cache/qemu.version") and $(ls "$cache/kernels" | wc -l) kernels are in the cache"
  exit 0
fi

# --- 1. The packages, by a private apt: own sources, lists and an empty package database ----------------------
[ "$(uname -m)" = x86_64 ] || skip 'only written for amd64'
command -v apt-get >/dev/null || skip 'no apt-get'
keyring=/usr/share/keyrings/debian-archive-keyring.gpg # Debian 12's copy knows trixie's keys too
[ -r $keyring ] || skip "no $keyring"
# shellcheck disable=SC1091
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
# shellcheck disable=SC2016
mirror=${VPCI_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' |
  awk -v release="$codename" '$1 == release && $2 == "main" && $3 ~ /debian\/?$/ && !uri { uri = $3 } END { print uri }')}
[ -n "$mirror" ] || skip 'no Debian mirror in the apt sources; set VPCI_DEBIAN_MIRROR'

rm -rf "$cache/tree" "$cache/kernels" "$cache/root"
rm -f "$cache/.done"
apt_dir=$cache/apt
archives=$apt_dir/var/cache/apt/archives
mkdir -p "$apt_dir"/etc/apt/preferences.d "$apt_dir"/var/lib/apt/lists/partial "$archives"/partial \
  "$apt_dir"/var/lib/dpkg "$cache"/kernels
: >"$apt_dir/var/lib/dpkg/status"
for suite in trixie trixie-backports bookworm; do
  echo "deb [arch=amd64 signed-by=$keyring] $mirror $suite main"
done >"$apt_dir/etc/apt/sources.list"
options=(-qq -o "Dir=$apt_dir" -o "Dir::State::status=$apt_dir/var/lib/dpkg/status" -o APT::Architecture=amd64
  -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3)
apt-get "${options[@]}" update || skip 'apt-get update failed'

# linux-image-cloud-amd64 is a meta package: the kernel's own package has the version in its name.
release_of() {
  apt-cache "${options[@]}" depends "linux-image-cloud-amd64/$1" |
    sed -n 's/.*Depends: linux-image-\([0-9].*-cloud-amd64\)$/\1/p' | head -1
}
newest=$(release_of trixie-backports)
older=$(release_of bookworm)
[ -n "$newest" ] || skip 'no cloud kernel in trixie-backports'
[ -n "$older" ] || skip 'no cloud kernel in bookworm'
# Newer packages have the image apart from the modules.
image_package() {
  local name
  for name in "linux-binary-$1" "linux-image-$1"; do
    if apt-cache "${options[@]}" show "$name" >/dev/null 2>&1; then
      echo "$name"
      return
    fi
  done
}

apt-get "${options[@]}" install -y --no-install-recommends --download-only -t trixie-backports \
  qemu-system-x86 pciutils busybox-static >/dev/null || skip 'QEMU cannot be downloaded'
mkdir -p "$cache/kernel-packages"
(cd "$cache/kernel-packages" && apt-get "${options[@]}" download "$(image_package "$newest")" \
  "$(image_package "$older")") || skip 'the kernels cannot be downloaded'

# --- 2. Unpacked: QEMU runs with its own dynamic loader and libraries -----------------------------------------
tree=$cache/tree
mkdir -p "$tree"
for package in "$archives"/*.deb; do dpkg-deb -x "$package" "$tree"; done
for package in "$cache"/kernel-packages/*.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar -x -C "$cache/kernel-packages" --wildcards '*vmlinuz*'
done
for release in "$newest" "$older"; do
  image=$(find "$cache/kernel-packages" -type f -path "*$release*" -name 'vmlinuz*' | head -1)
  [ -n "$image" ] || skip "no kernel image in the package of $release"
  mv "$image" "$cache/kernels/$release"
done
rm -rf "$cache/kernel-packages" "$apt_dir"

libs=$tree/usr/lib/x86_64-linux-gnu
# SHIM: a library to preload, for the bed that fakes the host's VFIO.
cat >"$cache/qemu" <<END
#!/bin/sh
export QEMU_MODULE_DIR='$libs/qemu'
exec '$tree/usr/lib64/ld-linux-x86-64.so.2' --library-path '$libs' \${SHIM:+--preload "\$SHIM"} \\
  '$tree/usr/bin/qemu-system-x86_64' -L '$tree/usr/share/qemu' -L '$tree/usr/share/seabios' "\$@"
END
chmod +x "$cache/qemu"
"$cache/qemu" --version | sed -n '1s/.*version \([0-9.]*\).*/\1/p' >"$cache/qemu.version"

# --- 3. The guest's root: busybox, lspci and setpci with their libraries --------------------------------------
root=$cache/root
mkdir -p "$root"/{bin,proc,sys,dev,tmp,lib64,lib/x86_64-linux-gnu}
busybox=$tree/usr/bin/busybox
cp "$busybox" "$tree/usr/bin/lspci" "$tree/usr/bin/setpci" "$root/bin/"
for applet in sh mount cat echo dmesg grep sleep poweroff od; do ln -s busybox "$root/bin/$applet"; done
cp -L "$tree/usr/lib64/ld-linux-x86-64.so.2" "$root/lib64/"
for lib in libpci.so.3 libkmod.so.2 libc.so.6 libz.so.1 libudev.so.1 libcrypto.so.3 libcap.so.2 libzstd.so.1 \
  liblzma.so.5 libresolv.so.2; do
  [ ! -e "$libs/$lib" ] || cp -L "$libs/$lib" "$root/lib/x86_64-linux-gnu/"
done
(cd "$root" && "$busybox" find . | "$busybox" cpio -o -H newc 2>/dev/null) >"$cache/guest.cpio"
rm -rf "$root"

echo "$stamp" >"$cache/.done"
say "fetched QEMU $(cat "$cache/qemu.version"), Linux $newest and $older"
