#!/bin/bash
# Builds the small Linux guest from the distribution's own packages: busybox on its stock kernel, with a web
# server, ssh, DHCP, the QEMU guest agent and ACPI power-off. Needs no root, no loop device and no mount.
#
#   build.sh OUTDIR          writes vmlinuz, initrd.img   direct kernel boot
#                                   disk.qcow2            BIOS and UEFI: FAT (syslinux, GRUB) + ext4 data
#                                   guest.iso             the same as a CD, BIOS and UEFI, with install-to-disk
#   build.sh --packages      prints the apt packages it needs
#
# It runs in 256 MiB; under UEFI it wants 512 MiB to start, for GRUB works in a quarter of the memory.
#
# The kernel, agent, ssh server and their libraries are fetched with `apt-get download` into $CACHE (default:
# ~/.cache/voidvm/guest-debs), never installed. SSH_PUBKEY, when set, may log in as root; the password is "voidvm".
# What the guest does and prints is in rootfs/init.
set -euo pipefail

PACKAGES="busybox-static syslinux syslinux-common isolinux grub-efi-amd64-bin grub-common mtools dosfstools
  e2fsprogs xorriso cpio zstd qemu-utils fdisk kmod binutils"
# Every disk and network card a machine can have, and what else it can be given.
MODULES="virtio_pci virtio_blk virtio_net virtio_console virtio_balloon virtio_scsi virtio-rng virtio_mem nvme ahci
  ata_piix sd_mod sr_mod isofs vfat ext4 nls_cp437 nls_ascii button evdev e1000e qemu_fw_cfg tpm_tis tpm_crb xhci_pci
  uhci_hcd usbhid usb-storage bochs virtiofs 9p 9pnet_virtio vmw_vsock_virtio_transport i6300esb efivarfs"
KERNEL_OPTIONS="console=tty1 console=ttyS0 quiet loglevel=4 random.trust_cpu=on panic=5 net.ifnames=0"
# sha512-crypt of "voidvm"
PASSWORD_HASH='$6$voidvm$0jeL76iOY9nyiooYvlTVx/grqnPz8YEwvU2d3ZGkSqt5tXwuZl70wUoAzKndYn.gh1uvmf1s/Hc5HlLWnYSt./'

here=$(dirname "$(realpath "$0")")
export PATH=$PATH:/sbin:/usr/sbin MTOOLS_SKIP_CHECK=1

say() { echo "guest: $*" >&2; }
die() { say "$*"; exit 1; }

# --- packages ------------------------------------------------------------------------------------------------

# The stock kernel: its package, and on Ubuntu those of its modules. Those made for virtual machines have no driver for SATA,
# NVMe or Intel's network card.
kernel_packages() {
  local meta
  for meta in linux-image-amd64 linux-image-generic; do
    apt-cache depends "$meta" 2>/dev/null | awk '/Depends: linux-image-[0-9]/ {print $2; exit}' | {
      read -r image || exit 1
      echo "$image"
      apt-cache depends "$meta" "$image" | awk '/Depends: linux-modules-[a-z]*-*[0-9]/ {print $2}' | sort -u
    } && return
  done
  die "no kernel package found: run 'apt-get update' first"
}

# The programs of the guest and every library package below them.
program_packages() {
  apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
    qemu-guest-agent dropbear-bin | grep -E '^(qemu-guest-agent|dropbear-bin|lib[a-z0-9.+-]*)$' |
    grep -v -e '-perl$' -e debconf | sort -u
}

# fetch DIR PACKAGE…: downloads what the cache lacks and unpacks all of it into DIR
fetch() {
  local into=$1 package file wanted=() missing=()
  shift
  for package in "$@"; do
    wanted+=("$package")
    compgen -G "$CACHE/${package}_*.deb" >/dev/null || missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    say "downloading ${#missing[@]} packages"
    (cd "$CACHE" && apt-get download -q $([ "$(id -u)" = 0 ] && echo -o APT::Sandbox::User=root) "${missing[@]}" >&2)
  fi
  mkdir -p "$into"
  for package in "${wanted[@]}"; do
    file=$(ls -v "$CACHE/${package}"_*.deb | tail -n 1)
    dpkg-deb -x "$file" "$into"
  done
}

# --- root file system ----------------------------------------------------------------------------------------

# add_modules: MODULES and what they need, in the order to insert them, uncompressed; as they are,
# since under Secure Boot the kernel wants their signatures.
# A module the kernel has built in, or has not at all, is passed over.
add_modules() {
  local version=$1 module file name
  mkdir -p "$ROOT/lib/modules"
  : > "$ROOT/etc/modules.order"
  depmod -b "$DEBS" "$version"
  for module in $MODULES; do
    { modprobe -d "$DEBS" -S "$version" --show-depends "$module" 2>/dev/null || true; } |
      awk '$1 == "insmod" {print $2}' | while read -r file; do
        name=$(basename "$file" | sed 's/\.ko.*/.ko/')
        [ -e "$ROOT/lib/modules/$name" ] && continue
        case $file in
          *.zst) zstd -qdc "$file" > "$ROOT/lib/modules/$name" ;;
          *.xz) xz -dc "$file" > "$ROOT/lib/modules/$name" ;;
          *) cp "$file" "$ROOT/lib/modules/$name" ;;
        esac
        echo "$name" >> "$ROOT/etc/modules.order"
      done
  done
}

# add_program NAME: a program of the fetched packages and, recursively, the libraries it names
add_program() {
  local path
  path=$(find "$DEBS" -type f -name "$1" \( -path '*/sbin/*' -o -path '*/bin/*' \) | head -n 1)
  [ -n "$path" ] || die "$1 is in none of the packages"
  cp "$path" "$ROOT/usr/sbin/"
  add_libraries "$path"
}

add_libraries() {
  local library path
  for library in $(objdump -p "$1" | awk '/NEEDED/ {print $2}'); do
    [ -e "$ROOT/lib/x86_64-linux-gnu/$library" ] && continue
    path=$(find "$DEBS" -name "$library" | head -n 1)
    [ -n "$path" ] || continue
    cp -L "$path" "$ROOT/lib/x86_64-linux-gnu/$library"
    add_libraries "$path"
  done
}

build_root() {
  local version applet library
  version=$(ls "$DEBS/lib/modules" 2>/dev/null || ls "$DEBS/usr/lib/modules")
  [ -d "$DEBS/lib/modules" ] || { mkdir -p "$DEBS/lib"; ln -s ../usr/lib/modules "$DEBS/lib/modules"; }
  mkdir -p "$ROOT"/{bin,sbin,dev,proc,sys,run,tmp,data,etc/acpi/PWRF,etc/dropbear,root/.ssh,var/log,lib64} \
    "$ROOT"/{lib/x86_64-linux-gnu,usr/bin,usr/sbin,usr/share}
  ln -s /run "$ROOT/var/run"
  ln -s /data/www "$ROOT/www"

  cp /bin/busybox "$ROOT/bin/busybox"
  for applet in $(/bin/busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$ROOT/bin/$applet"
  done
  add_modules "$version"
  add_program qemu-ga
  add_program dropbear
  for library in ld-linux-x86-64.so.2 libnss_files.so.2 libnss_dns.so.2; do
    cp -L "$(find "$DEBS" -name $library | head -n 1)" "$ROOT/lib/x86_64-linux-gnu/"
  done
  ln -s ../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 "$ROOT/lib64/ld-linux-x86-64.so.2"

  install -m 755 "$here/rootfs/init" "$ROOT/init"
  install -m 755 "$here"/rootfs/sbin/* "$ROOT/sbin/"
  install -m 644 "$here/rootfs/etc/issue" "$here/rootfs/etc/profile" "$ROOT/etc/"
  install -m 755 "$here/rootfs/etc/udhcpc.sh" "$ROOT/etc/"
  ln -s /sbin/acpi-poweroff "$ROOT/etc/acpi/PWRF/00000080"
  cp -r "$here/rootfs/www" "$ROOT/usr/share/www"
  chmod 755 "$ROOT/usr/share/www/cgi-bin/info"

  echo 'root:x:0:0:root:/root:/bin/sh' > "$ROOT/etc/passwd"
  echo 'root:x:0:' > "$ROOT/etc/group"
  echo /bin/sh > "$ROOT/etc/shells"
  echo "root:$PASSWORD_HASH:19000:0:99999:7:::" > "$ROOT/etc/shadow"
  [ -z "${SSH_PUBKEY:-}" ] || echo "$SSH_PUBKEY" > "$ROOT/root/.ssh/authorized_keys"
  chmod 700 "$ROOT/root" "$ROOT/root/.ssh"
}

# --- images --------------------------------------------------------------------------------------------------

# boot_config KERNEL INITRDS [OPTION]: one entry for syslinux and isolinux
boot_config() {
  printf 'DEFAULT guest\nPROMPT 0\nTIMEOUT 1\nLABEL guest\n KERNEL %s\n INITRD %s\n APPEND %s\n' \
    "$1" "$2" "$KERNEL_OPTIONS ${3:-}"
}

# grub_efi OUT: a self-contained GRUB that finds the medium by a file on it
grub_efi() {
  local modules="part_msdos fat iso9660 search search_fs_file linux normal configfile test all_video"
  cat > "$WORK/grub.cfg" <<-END
	search --no-floppy --file /voidvm-guest --set=root
	if [ -e /disk.cpio ]; then
	  linux /vmlinuz $KERNEL_OPTIONS
	  initrd /initrd.img /disk.cpio
	else
	  linux /vmlinuz $KERNEL_OPTIONS lab.data=wait
	  initrd /initrd.img
	fi
	boot
	END
  grub-mkstandalone -O x86_64-efi --modules="$modules" --install-modules="$modules" --locales= --fonts= --themes= \
    -o "$1" "boot/grub/grub.cfg=$WORK/grub.cfg"
}

# fat_with_efi IMAGE SIZE LABEL: a FAT file system with GRUB where UEFI looks for it
fat_with_efi() {
  truncate -s "$2" "$1"
  mkfs.vfat -n "$3" "$1" >/dev/null
  mmd -i "$1" ::/EFI ::/EFI/BOOT
  mcopy -i "$1" "$WORK/BOOTX64.EFI" ::/EFI/BOOT/BOOTX64.EFI
}

# build_disk RAW: MBR, a 48 MiB boot partition (BIOS and UEFI) and 64 MiB of data
build_disk() {
  local raw=$1 boot=$WORK/boot.fat data=$WORK/data.ext4
  fat_with_efi "$boot" 48M VOIDBOOT
  boot_config vmlinuz initrd.img lab.data=wait > "$WORK/syslinux.cfg"
  mcopy -i "$boot" "$OUT/vmlinuz" "$OUT/initrd.img" "$WORK/syslinux.cfg" "$WORK/voidvm-guest" ::/
  syslinux --install "$boot"
  mkdir "$WORK/data"
  echo 0 > "$WORK/data/boots"
  truncate -s 64M "$data"
  mke2fs -q -t ext4 -L VOIDDATA -E root_owner=0:0 -d "$WORK/data" "$data"

  truncate -s 128M "$raw"
  printf 'label: dos\nunit: sectors\nstart=2048,size=98304,type=ef,bootable\nstart=100352,size=131072,type=83\n' |
    sfdisk -q "$raw"
  dd if=/usr/lib/syslinux/mbr/mbr.bin of="$raw" bs=440 count=1 conv=notrunc status=none
  dd if="$boot" of="$raw" bs=1M seek=1 conv=notrunc,sparse status=none
  dd if="$data" of="$raw" bs=1M seek=49 conv=notrunc,sparse status=none
}

# build_iso RAW: the guest as a CD. The disk image comes along in a second initial file system, for
# install-to-disk: it does not have to find and mount the CD it was started from.
build_iso() {
  local tree=$WORK/iso
  mkdir -p "$tree/isolinux" "$tree/boot"
  cp "$OUT/vmlinuz" "$OUT/initrd.img" "$WORK/voidvm-guest" "$tree/"
  cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$tree/isolinux/"
  boot_config /vmlinuz /initrd.img,/disk.cpio > "$tree/isolinux/isolinux.cfg"
  fat_with_efi "$tree/boot/efi.img" 4M VOIDEFI
  gzip -nc "$1" > "$WORK/disk.raw.gz"
  (cd "$WORK" && echo disk.raw.gz | cpio -o -H newc -R 0:0 --quiet) > "$tree/disk.cpio"
  xorriso -as mkisofs -quiet -r -V VOIDISO -o "$OUT/guest.iso" \
    -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table \
    -eltorito-alt-boot -e boot/efi.img -no-emul-boot -isohybrid-gpt-basdat "$tree"
}

main() {
  if [ "${1:-}" = --packages ]; then echo $PACKAGES; return; fi
  [ $# = 1 ] || die "usage: build.sh OUTDIR | --packages"
  mkdir -p "$1"
  CACHE=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/voidvm/guest-debs}
  mkdir -p "$CACHE"
  CACHE=$(realpath "$CACHE")
  WORK=$(mktemp -d)
  trap 'rm -rf "$WORK"' EXIT
  # Everything is built aside and moved in at the end: an interrupted run leaves what was there before.
  OUT=$WORK/out DEBS=$WORK/debs ROOT=$WORK/root
  mkdir "$OUT" "$ROOT"
  echo 'The small Linux guest of voidVM.' > "$WORK/voidvm-guest"

  fetch "$DEBS" $(kernel_packages) $(program_packages)
  say "building the root file system"
  build_root
  (cd "$ROOT" && find . -print0 | sort -z | cpio --null -o -H newc -R 0:0 --quiet) | zstd -q -12 -T0 > "$OUT/initrd.img"
  cp "$DEBS"/boot/vmlinuz-* "$OUT/vmlinuz"
  chmod 644 "$OUT/vmlinuz"

  say "building disk and CD images"
  grub_efi "$WORK/BOOTX64.EFI"
  build_disk "$WORK/disk.raw"
  qemu-img convert -q -f raw -O qcow2 "$WORK/disk.raw" "$OUT/disk.qcow2"
  build_iso "$WORK/disk.raw"
  mv "$OUT"/* "$1/"
  say "done: $(cd "$1" && du -h vmlinuz initrd.img disk.qcow2 guest.iso | awk '{printf "%s %s  ", $2, $1}')"
}

main "$@"
