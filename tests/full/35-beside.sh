#!/bin/bash
# A real guest finds its TPM, its folders and Secure Boot; its encrypted disk tells the host nothing.
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A disk that Secure Boot lets start: the distribution's signed loaders and kernel, the small guest behind them.
guest=${VOIDVM_TEST_GUEST:-target/guest}
if [ ! -e "$guest/vmlinuz" ]; then
  guest=$work/guest
  crates/testkit/guest/build.sh "$guest"
fi
export VOIDVM_TEST_GUEST=$guest
cache=${XDG_CACHE_HOME:-$HOME/.cache}/voidvm/signed-debs
mkdir -p "$cache"
user=()
[ "$(id -u)" != 0 ] || user=(-o APT::Sandbox::User=root)
for package in shim-signed grub-efi-amd64-signed; do
  compgen -G "$cache/${package}_*.deb" >/dev/null || (cd "$cache" && apt-get download -q "${user[@]}" $package >&2)
  dpkg-deb -x "$(ls -v "$cache/${package}"_*.deb | tail -n 1)" "$work/debs"
done
cat > "$work/grub.cfg" <<'END'
search --no-floppy --file /vmlinuz --set=root
linux /vmlinuz console=ttyS0 quiet random.trust_cpu=on panic=5 net.ifnames=0
initrd /initrd.img
boot
END
disk=$work/signed.raw
truncate -s 96M "$disk"
/sbin/mkfs.vfat -n SIGNED "$disk" >/dev/null
mmd -i "$disk" ::/EFI ::/EFI/BOOT ::/EFI/debian
mcopy -i "$disk" "$work/debs/usr/lib/shim/shimx64.efi.signed" ::/EFI/BOOT/BOOTX64.EFI
mcopy -i "$disk" "$work/debs/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed" ::/EFI/BOOT/grubx64.efi
mcopy -i "$disk" "$work/grub.cfg" ::/EFI/debian/grub.cfg
mcopy -i "$disk" "$guest/vmlinuz" "$guest/initrd.img" ::/
VOIDVM_FULL=1 VOIDVM_SIGNED_DISK=$disk cargo nextest run -p voidvm-engine --test inside
