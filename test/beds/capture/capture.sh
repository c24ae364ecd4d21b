#!/bin/bash
# Captures the PCI config spaces of emulated devices from inside a real Linux guest.
#
#   capture.sh FOLDER
#
# Boots a Debian cloud kernel under QEMU (TCG, no KVM needed) with an igb (82576, one SR-IOV VF
# enabled), an NVMe controller and an e1000e, each behind its own PCIe root port, and writes into
# FOLDER one file per function, exactly as the guest's `lspci -xxxx` printed it:
#   igb-82576.txt  igb-82576-vf.txt  nvme.txt  e1000e.txt  root-port.txt
# The bytes of each file are checked against the guest's sysfs `config` file, read separately.
#
# Needs a bare Debian 12 (amd64): bash, apt, dpkg, gzip. It installs nothing and changes nothing
# outside FOLDER and the cache; QEMU, kernel, lspci and busybox are unpacked, not installed.
# Downloads about 75 MB into ${XDG_CACHE_HOME:-$HOME/.cache}/vpci/capture and keeps them.
# VPCI_DEBIAN_MIRROR overrides the Debian mirror found in the system's apt sources.
# Exit 0: captured; 1: failed; 2: usage; 77: cannot run on this machine (message says why).
set -euo pipefail

if [ $# -ne 1 ]; then
  echo "usage: $0 FOLDER" >&2
  exit 2
fi
mkdir -p "$1"
out=$(cd "$1" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vpci/capture

say() { printf '%s\n' "$*" >&2; }
fail() { say "capture: $*"; exit 1; }
skip() { say "capture: cannot run here: $*"; exit 77; }

# --- 1. QEMU, kernel, lspci and busybox out of Debian trixie and trixie-backports ----------------
[ "$(uname -m)" = x86_64 ] || skip "only written for amd64"
command -v apt-get >/dev/null || skip "no apt-get"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg # Debian 12's copy knows trixie's keys too
[ -r $keyring ] || skip "no $keyring"

# The mirror is the one that already serves this system's own release, component main.
# apt itself expands $(RELEASE) and its friends.
# shellcheck disable=SC1091
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
# shellcheck disable=SC2016
mirror=${VPCI_DEBIAN_MIRROR:-$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' |
  awk -v release="$codename" '$1 == release && $2 == "main" && $3 ~ /debian\/?$/ && !uri { uri = $3 } END { print uri }')}
[ -n "$mirror" ] || skip "no Debian mirror in the apt sources; set VPCI_DEBIAN_MIRROR"

# A private apt: own sources, lists, archive cache and an empty package database, so that apt
# resolves every dependency and the system's own state is never touched.
apt_dir=$cache/apt
mkdir -p "$apt_dir"/etc/apt/preferences.d "$apt_dir"/var/lib/apt/lists/partial \
  "$apt_dir"/var/cache/apt/archives/partial "$apt_dir"/var/lib/dpkg
: >"$apt_dir/var/lib/dpkg/status"
for suite in trixie trixie-backports; do
  echo "deb [arch=amd64 signed-by=$keyring] $mirror $suite main"
done >"$apt_dir/etc/apt/sources.list"
apt_options=(-qq -o "Dir=$apt_dir" -o "Dir::State::status=$apt_dir/var/lib/dpkg/status"
  -o APT::Architecture=amd64 -o APT::Sandbox::User=root -o Acquire::Languages=none)
apt-get "${apt_options[@]}" update || skip "apt-get update failed"

# linux-image-cloud-amd64 is a meta package; the kernel and its modules have the version in the name.
version=$(apt-cache "${apt_options[@]}" depends linux-image-cloud-amd64/trixie-backports |
  sed -n 's/.*Depends: linux-image-\([0-9].*-cloud-amd64\)$/\1/p' | head -1)
[ -n "$version" ] || skip "no cloud kernel in trixie-backports"
archives=$apt_dir/var/cache/apt/archives
apt-get "${apt_options[@]}" install -y --no-install-recommends --download-only -t trixie-backports \
  qemu-system-x86 pciutils busybox-static >/dev/null || skip "QEMU cannot be downloaded"
(cd "$archives" && apt-get "${apt_options[@]}" download "linux-binary-$version" "linux-modules-$version") ||
  skip "kernel $version cannot be downloaded"

# Unpacked afresh whenever the set of packages changed (backports replaces versions; autoclean
# drops what the mirror no longer has).
apt-get "${apt_options[@]}" autoclean >/dev/null
tree=$cache/tree
packages=$(cd "$archives" && ls -- *.deb)
if [ "$packages" != "$(cat "$tree/.packages" 2>/dev/null)" ]; then
  rm -rf "$tree"
  mkdir -p "$tree"
  for deb in "$archives"/*.deb; do dpkg-deb -x "$deb" "$tree"; done
  echo "$packages" >"$tree/.packages"
fi

# --- 2. QEMU, run with the unpacked tree's own dynamic loader and libraries ----------------------
libs=$tree/usr/lib/x86_64-linux-gnu
qemu=(env "QEMU_MODULE_DIR=$libs/qemu" "$tree/usr/lib64/ld-linux-x86-64.so.2" --library-path "$libs"
  "$tree/usr/bin/qemu-system-x86_64" -L "$tree/usr/share/qemu" -L "$tree/usr/share/seabios")
qemu_version=$("${qemu[@]}" --version | sed -n '1s/.*version \([0-9.]*\).*/\1/p')
[ "$(printf '%s\n' 10.1 "$qemu_version" | sort -V | head -1)" = 10.1 ] ||
  skip "QEMU $qemu_version is older than 10.1"
say "capture: QEMU $qemu_version, Linux $version"

# --- 3. The initramfs: busybox, lspci and its libraries, the pci-pf-stub module ------------------
busybox=$tree/usr/bin/busybox
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,proc,sys,dev,lib64,lib/x86_64-linux-gnu,usr/share/misc}
cp "$busybox" "$tree/usr/bin/lspci" "$root/bin/"
for applet in sh mount echo insmod od poweroff; do ln -s busybox "$root/bin/$applet"; done
cp -L "$tree/usr/lib64/ld-linux-x86-64.so.2" "$root/lib64/"
cp "$tree/usr/share/misc/pci.ids" "$root/usr/share/misc/"
for lib in libpci.so.3 libkmod.so.2 libc.so.6 libz.so.1 libudev.so.1 libcrypto.so.3 libcap.so.2 \
  libzstd.so.1 liblzma.so.5 libresolv.so.2; do
  [ ! -e "$libs/$lib" ] || cp -L "$libs/$lib" "$root/lib/x86_64-linux-gnu/"
done
# The cloud kernel has no igb driver. pci-pf-stub claims any function and can enable its VFs.
"$busybox" xzcat "$tree/usr/lib/modules/$version/kernel/drivers/pci/pci-pf-stub.ko.xz" >"$root/pf-stub.ko"
cat >"$root/init" <<'EOF'
#!/bin/sh
export PATH=/bin LD_LIBRARY_PATH=/lib/x86_64-linux-gnu
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
pf=/sys/bus/pci/devices/0000:01:00.0
insmod /pf-stub.ko
echo pci-pf-stub >$pf/driver_override
echo 0000:01:00.0 >/sys/bus/pci/drivers/pci-pf-stub/bind
echo 1 >$pf/sriov_numvfs
for item in igb-82576=01:00.0 igb-82576-vf=01:10.0 nvme=02:00.0 e1000e=03:00.0 root-port=00:01.0; do
  echo "LSPCI ${item%%=*}"; lspci -s "${item#*=}" -xxxx; echo END
  echo "SYSFS ${item%%=*}"; od -A n -v -t x1 "/sys/bus/pci/devices/0000:${item#*=}/config"; echo END
done
echo CAPTURE-DONE
poweroff -f
EOF
chmod +x "$root/init"
(cd "$root" && "$busybox" find . | "$busybox" cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initrd.gz"

# --- 4. Boot; what the guest prints on its serial console is the result --------------------------
# romfile= leaves the option ROMs out: they are separate packages, and nobody boots from these.
machine=(-M q35 -accel tcg -cpu max -m 512 -nodefaults -display none -no-reboot)
devices=(
  -device "pcie-root-port,id=rp1,addr=1.0,chassis=1" -device "igb,bus=rp1,mac=52:54:00:12:34:56,romfile="
  -device "pcie-root-port,id=rp2,addr=2.0,chassis=2" -device "nvme,bus=rp2,serial=vpci"
  -device "pcie-root-port,id=rp3,addr=3.0,chassis=3" -device "e1000e,bus=rp3,mac=52:54:00:12:34:57,romfile="
)
say "capture: ${machine[*]} ${devices[*]}"
timeout 300 "${qemu[@]}" "${machine[@]}" "${devices[@]}" -serial stdio \
  -kernel "$tree/usr/lib/modules/$version/vmlinuz" -initrd "$work/initrd.gz" \
  -append 'console=ttyS0 panic=-1 quiet loglevel=0' </dev/null 2>"$work/stderr" | tr -d '\r' >"$work/serial" || true
grep -q '^CAPTURE-DONE' "$work/serial" || { tail -20 "$work/serial" "$work/stderr" >&2; fail "the guest did not finish"; }

# --- 5. One file per function, each compared with what sysfs said --------------------------------
section() { awk -v head="$1 $2" '$0 == head { on = 1; next } on && $0 == "END" { exit } on' "$work/serial"; }
for name in igb-82576 igb-82576-vf nvme e1000e root-port; do
  section LSPCI $name >"$work/$name.txt"
  by_lspci=$(sed -n 's/^[0-9a-f]*0: //p' "$work/$name.txt" | tr -d ' \n')
  by_sysfs=$(section SYSFS $name | tr -d ' \n')
  [ ${#by_lspci} -eq 8192 ] || fail "$name: lspci printed $((${#by_lspci} / 2)) bytes, expected 4096"
  [ "$by_lspci" = "$by_sysfs" ] || fail "$name: lspci and sysfs disagree"
  cp "$work/$name.txt" "$out/$name.txt"
  say "capture: $name.txt, 4096 bytes, equal to sysfs"
done
