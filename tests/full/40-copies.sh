#!/bin/bash
# Copies of the small guest boot: three generations of linked clones while their parents go, an archive and an OVA brought back,
# and its disk as other programs keep it.
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/../.."
cargo build -q -p voidvm-cli
voidvm=$(realpath -m "${CARGO_TARGET_DIR:-target}")/debug/voidvm
guest=${VOIDVM_TEST_GUEST:-$(realpath -m "${CARGO_TARGET_DIR:-target}")/guest}
work=$(mktemp -d /tmp/vvc.XXXXXX)
export XDG_CONFIG_HOME=$work/config XDG_DATA_HOME=$work/data XDG_STATE_HOME=$work/state XDG_RUNTIME_DIR=$work/run
export VOIDVM_POOL_FLOOR=0
mkdir -m 700 "$XDG_RUNTIME_DIR"

vv() { "$voidvm" --json "$@"; }
finish() {
  vv stop --all --force >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
port() { vv show "$1" | grep -o '"hostPort": *[0-9]*' | head -1 | grep -o '[0-9]*$'; }

# boots VM: its guest serves HTTP
boots() {
  local deadline=$((SECONDS + 180)) at
  vv start "$1" >/dev/null
  at=$(port "$1")
  until curl -sf -m 2 "http://127.0.0.1:$at/cgi-bin/info" >/dev/null; do
    [ $SECONDS -lt $deadline ] || fail "$1 did not boot"
    sleep 0.5
  done
  vv stop "$1" --force >/dev/null
  echo "ok: $1 boots"
}
# sound VM: its disk holds together
sound() { qemu-img check -q "$(vv show "$1" | grep -o '"file": *"[^"]*disk0.qcow2"' | head -1 | cut -d'"' -f4)"; }

vv create first --image "$guest/disk.qcow2" --memory 256M --accel tcg --forward 18500:80 >/dev/null
vv clone first second --linked >/dev/null
boots second
vv clone second third --linked >/dev/null
boots third
if vv delete first --yes >/dev/null 2>"$work/error"; then fail "a parent of linked clones was deleted"; fi
grep -q has_children "$work/error" || fail "the refusal does not say why: $(cat "$work/error")"
grep -q second "$work/error" || fail "the refusal names nobody"
vv delete second --yes --flatten >/dev/null
for vm in first third; do sound $vm; boots $vm; done
vv delete first --yes --flatten >/dev/null
sound third
boots third

vv export third "$work/third.voidvm" >/dev/null
vv export third "$work/third.ova" >/dev/null
vv import "$work/third.voidvm" --name archived >/dev/null
boots archived
vv import "$work/third.ova" --name ova >/dev/null
# A forward is nothing an OVA knows.
vv set ova forward=18600:80 accel=tcg >/dev/null
boots ova
for format in vmdk vdi vhdx; do
  qemu-img convert -O $format "$guest/disk.qcow2" "$work/disk.$format"
  vv create $format --image "$work/disk.$format" --memory 256M --accel tcg --forward 187${#format}0:80 >/dev/null
  boots $format
  vv delete $format --yes >/dev/null
done
vv delete archived --yes --trash >/dev/null
find "$XDG_DATA_HOME/Trash/files" -name 'disk0.qcow2' | grep -q . || fail "the deleted machine is not in the trash"
echo "copies: all well"
