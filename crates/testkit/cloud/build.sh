#!/bin/bash
# Builds a disk like the cloud images Debian publishes, from Debian's packages: cloud-init, an ssh server, the QEMU guest agent
# and the stock kernel; it starts under BIOS and UEFI and knows nothing of itself before its first start. Needs no root, no
# loop device and no mount.
#
#   build.sh DISK.qcow2      writes the disk; SUITE (bookworm) is the release
#   build.sh --packages      prints the apt packages it needs
#
# Of the archive it knows only what it carries in /srv/packages: one package, voidvm-hello. So it installs a package at its first
# start without a network.
set -euo pipefail

PACKAGES="mmdebstrap debian-archive-keyring fakeroot dpkg-dev syslinux syslinux-common grub-efi-amd64-bin grub-common mtools
  dosfstools e2fsprogs qemu-utils fdisk"
SYSTEM=systemd-sysv,systemd-resolved,udev,dbus,netplan.io,iproute2,sudo,fdisk,cloud-init,cloud-guest-utils
SYSTEM+=,openssh-server,qemu-guest-agent,linux-image-amd64,initramfs-tools,zstd
KERNEL_OPTIONS="root=LABEL=cloudroot ro console=tty1 console=ttyS0 random.trust_cpu=on"
BOOT_MIB=160 ROOT_MIB=1536

export PATH=$PATH:/sbin:/usr/sbin MTOOLS_SKIP_CHECK=1

say() { echo "cloud image: $*" >&2; }
die() { say "$*"; exit 1; }

# hello_package DIR: the archive the guest installs from
hello_package() {
  local tree=$WORK/hello
  mkdir -p "$tree/DEBIAN" "$tree/usr/bin" "$1"
  printf 'Package: voidvm-hello\nVersion: 1\nArchitecture: all\nMaintainer: voidVM\nDescription: says hello\n' \
    > "$tree/DEBIAN/control"
  printf '#!/bin/sh\necho hello from a package\n' > "$tree/usr/bin/voidvm-hello"
  chmod 755 "$tree/usr/bin/voidvm-hello"
  dpkg-deb --root-owner-group -b "$tree" "$1/voidvm-hello_1_all.deb" >/dev/null
  (cd "$1" && dpkg-scanpackages -m . 2>/dev/null > Packages)
}

# build_system TAR: the root file system
build_system() {
  hello_package "$WORK/packages"
  echo 'deb [trusted=yes] file:/srv/packages ./' > "$WORK/sources.list"
  printf 'apt: {preserve_sources_list: true}\nlocale: C.UTF-8\nmanage_etc_hosts: true\n' > "$WORK/cloud.cfg"
  echo 'LABEL=cloudroot / ext4 defaults,errors=remount-ro 0 1' > "$WORK/fstab"
  # The names of its own that it shall not have yet: ssh host keys and machine-id.
  mmdebstrap --quiet --variant=apt --include="$SYSTEM" \
    --customize-hook="mkdir -p \"\$1/srv/packages\"" \
    --customize-hook="sync-in '$WORK/packages' /srv/packages" \
    --customize-hook="upload '$WORK/sources.list' /etc/apt/sources.list" \
    --customize-hook="upload '$WORK/cloud.cfg' /etc/cloud/cloud.cfg.d/95_image.cfg" \
    --customize-hook="upload '$WORK/fstab' /etc/fstab" \
    --customize-hook="rm -f \"\$1\"/etc/ssh/ssh_host_*; : > \"\$1/etc/machine-id\"; echo localhost > \"\$1/etc/hostname\"" \
    --customize-hook="copy-out /boot '$WORK'" \
    "${SUITE:-bookworm}" "$1"
}

# build_boot FAT: what starts the system, BIOS and UEFI
build_boot() {
  local fat=$1 modules="part_msdos fat linux normal configfile all_video search search_fs_file"
  cp "$WORK"/boot/vmlinuz-* "$WORK/vmlinuz"
  cp "$WORK"/boot/initrd.img-* "$WORK/initrd.img"
  printf 'DEFAULT cloud\nPROMPT 0\nTIMEOUT 1\nLABEL cloud\n KERNEL vmlinuz\n INITRD initrd.img\n APPEND %s\n' \
    "$KERNEL_OPTIONS" > "$WORK/syslinux.cfg"
  printf 'search --no-floppy --file /initrd.img --set=root\nlinux /vmlinuz %s\ninitrd /initrd.img\nboot\n' \
    "$KERNEL_OPTIONS" > "$WORK/grub.cfg"
  grub-mkstandalone -O x86_64-efi --modules="$modules" --install-modules="$modules" --locales= --fonts= --themes= \
    -o "$WORK/BOOTX64.EFI" "boot/grub/grub.cfg=$WORK/grub.cfg"
  truncate -s ${BOOT_MIB}M "$fat"
  mkfs.vfat -n CLOUDBOOT "$fat" >/dev/null
  mmd -i "$fat" ::/EFI ::/EFI/BOOT
  mcopy -i "$fat" "$WORK/BOOTX64.EFI" ::/EFI/BOOT/BOOTX64.EFI
  mcopy -i "$fat" "$WORK/vmlinuz" "$WORK/initrd.img" "$WORK/syslinux.cfg" ::/
  syslinux --install "$fat"
}

# build_root TAR EXT4: owners and device nodes as the archive has them, also for a user who is not root
build_root() {
  truncate -s ${ROOT_MIB}M "$2"
  mkdir "$WORK/tree"
  fakeroot sh -ec 'tar -x -f "$1" -C "$2" --numeric-owner -p && mke2fs -q -t ext4 -L cloudroot -d "$2" "$3"' \
    - "$1" "$WORK/tree" "$2"
  chmod -R u+rwX "$WORK/tree"
}

main() {
  local boot_sectors root_at
  if [ "${1:-}" = --packages ]; then echo $PACKAGES; return; fi
  [ $# = 1 ] || die "usage: build.sh DISK.qcow2 | --packages"
  WORK=$(mktemp -d "${TMPDIR:-/tmp}/cloud-image.XXXXXX")
  trap 'rm -rf "$WORK"' EXIT
  # Another user installs the packages, where there is no root.
  chmod 755 "$WORK"

  say "installing Debian's packages (some minutes)"
  build_system "$WORK/root.tar"
  say "building the disk"
  build_boot "$WORK/boot.fat"
  build_root "$WORK/root.tar" "$WORK/root.ext4"
  boot_sectors=$((BOOT_MIB * 2048)) root_at=$((BOOT_MIB + 1))
  truncate -s $((root_at + ROOT_MIB))M "$WORK/disk.raw"
  printf 'label: dos\nunit: sectors\nstart=2048,size=%s,type=ef,bootable\nstart=%s,type=83\n' \
    $boot_sectors $((root_at * 2048)) | sfdisk -q "$WORK/disk.raw"
  dd if=/usr/lib/syslinux/mbr/mbr.bin of="$WORK/disk.raw" bs=440 count=1 conv=notrunc status=none
  dd if="$WORK/boot.fat" of="$WORK/disk.raw" bs=1M seek=1 conv=notrunc,sparse status=none
  dd if="$WORK/root.ext4" of="$WORK/disk.raw" bs=1M seek=$root_at conv=notrunc,sparse status=none
  mkdir -p "$(dirname "$1")"
  qemu-img convert -q -c -f raw -O qcow2 "$WORK/disk.raw" "$1.new"
  mv "$1.new" "$1"
  say "done: $(du -h "$1" | cut -f1)"
}

main "$@"
