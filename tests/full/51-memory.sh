#!/bin/bash
# Restored state is the state: uptime, a counter in memory, a file, a UEFI variable, a TPM's PCR and NV index, each changed after
# the snapshot and back after the restore: from a prepared image, from the stream, from a packed stream, and in forks. With BIOS,
# and with UEFI and a TPM.
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/../.."
cargo build -q -p voidvm-cli
voidvm=$(realpath -m "${CARGO_TARGET_DIR:-target}")/debug/voidvm
guest=${VOIDVM_TEST_GUEST:-$(realpath -m "${CARGO_TARGET_DIR:-target}")/guest}
work=$(mktemp -d /tmp/vvm.XXXXXX)
export XDG_CONFIG_HOME=$work/config XDG_DATA_HOME=$work/data XDG_STATE_HOME=$work/state XDG_RUNTIME_DIR=$work/run
export VOIDVM_POOL_FLOOR=0 DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent
mkdir -m 700 "$XDG_RUNTIME_DIR"

vv() { "$voidvm" --json "$@"; }
serve=
serve() {
  "$voidvm" serve --listen 127.0.0.1:0 --print-url >"$work/serve.log" 2>&1 &
  serve=$!
  # Nobody else asks before: he would own the machines himself.
  until_true 30 "the engine" grep -q http "$work/serve.log"
}
finish() {
  vv stop --all --force >/dev/null 2>&1 || true
  [ -z "$serve" ] || kill "$serve" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

# until_true SECONDS WHAT COMMAND…
until_true() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ $SECONDS -lt $deadline ] || fail "waited for $what"
    sleep 0.3
  done
}
quoted() { local text=$1 out= at; for ((at = 0; at < ${#text}; at++)); do printf -v out '%s%%%02x' "$out" "'${text:at:1}"; done; echo "$out"; }
# inside PORT COMMAND: what it prints in the guest
inside() { curl -sf -m 20 "http://127.0.0.1:$1/cgi-bin/run?$(quoted "$2")"; }

# Bytes to the TPM, and its answer, in hexadecimal.
TPM='tpm() { exec 3<>/dev/tpm0; printf "$(echo $1 | sed "s/../\\\\x&/g")" >&3; dd bs=4096 count=1 <&3 2>/dev/null | od -An -v -tx1 | tr -d " \n"; exec 3<&-; }; '
AUTH=00000009400000090000000000
VARIABLE=/sys/firmware/efi/efivars/Test-12345678-1234-1234-1234-123456789abc

# put PORT NUMBER: leaves a mark in everything a machine has
put() {
  inside "$1" "echo $2 > /run/counter; echo $2 > /data/mark; sync; echo ok" >/dev/null
  [ "$firmware" = bios ] && return
  inside "$1" "chattr -i $VARIABLE 2>/dev/null; printf '\\007\\000\\000\\000mark$2' > $VARIABLE; echo ok" >/dev/null
  local digest
  digest=$(printf '%064d' "$2")
  # PCR_Extend of PCR 16, then NV_Write.
  inside "$1" "$TPM tpm 8002000000410000018200000010${AUTH}00000001000b$digest" | grep -q '^8002000000130000' || fail "the TPM took no measurement"
  inside "$1" "$TPM tpm 80020000002b000001374000000101500010${AUTH}0008$(printf '%016d' "$2")0000" | grep -q '^8002[0-9a-f]*00000000' || fail "the TPM wrote no index"
}
# state PORT: all of it, as one line
state() {
  local found
  found="counter=$(inside "$1" 'cat /run/counter') file=$(inside "$1" 'cat /data/mark') boots=$(inside "$1" 'cat /data/boots')"
  if [ "$firmware" != bios ]; then
    found+=" variable=$(inside "$1" "tail -c +5 $VARIABLE") pcr=$(inside "$1" 'cat /sys/class/tpm/tpm0/pcr-sha256/16')"
    found+=" nv=$(inside "$1" "$TPM tpm 8002000000230000014e4000000101500010${AUTH}00080000")"
  fi
  echo "$found" | tr -d '\n'
}
uptime_of() { inside "$1" 'cut -d. -f1 /proc/uptime'; }
answers() { inside "$1" 'echo here' 2>/dev/null | grep -q here; }

# back HOW: the machine is restored and is what it was
back() {
  local before after=$2
  before=$(uptime_of $port)
  put $port 2
  [ "$(state $port)" != "$kept" ] || fail "$firmware, $1: nothing has changed before the restore"
  until_true 60 "time to go on" test "$(uptime_of $port)" -ge "$before"
  vv snapshot restore vm kept --no-safety >/dev/null
  until_true 60 "the restored guest" answers $port
  [ "$(state $port)" = "$kept" ] || fail "$firmware, $1: $(state $port) is not $kept"
  [ "$(uptime_of $port)" -ge "$uptime" ] || fail "$firmware, $1: the guest was started anew"
  mapped=$(tr '\0' ' ' <"/proc/$(vv show vm | grep -o '"pid": *[0-9]*' | grep -o '[0-9]*')/cmdline" | grep -c memory-backend-file || true)
  [ "$mapped" = "$after" ] || fail "$firmware: restored $1, and its memory is not what it should be"
  echo "ok: $firmware, $1"
}

# machine FIRMWARE PORT MORE…
machine() {
  firmware=$1 port=$2
  shift 2
  vv create vm --image "$guest/disk.qcow2" --memory 512M --accel tcg --firmware "$firmware" "$@" --forward "$port:80" >/dev/null
  vv start vm >/dev/null
  until_true 240 "the guest" curl -sf -m 5 -o /dev/null "http://127.0.0.1:$port/cgi-bin/info"
  # shellcheck disable=SC2016
  vv type vm --enter 'cd /data/www/cgi-bin; (echo "#!/bin/sh"; echo echo; echo '\''eval "$(httpd -d "$QUERY_STRING")" 2>&1'\'') > run; chmod 755 run' >/dev/null
  until_true 60 "commands in the guest" answers "$port"
  if [ "$firmware" != bios ]; then
    # NV_DefineSpace: eight bytes the owner writes and reads.
    inside "$port" "$TPM tpm 80020000002d0000012a40000001${AUTH}0000000e01500010000b0006000600000008" | grep -q '^8002[0-9a-f]*00000000' || fail "the TPM has no index"
  fi
  put "$port" 1
  kept=$(state "$port") uptime=$(uptime_of "$port")
  echo "kept: $kept"
  vv snapshot create vm kept >/dev/null
  dir=$(dirname "$(find "$XDG_DATA_HOME" -name memory -path '*snapshots*')")
  until_true 240 "the image" test -e "$dir/image.json"
  back "from an image" 1
  vv snapshot fork vm kept fork --count 2 --start >/dev/null
  vv stop vm --force >/dev/null
  for fork in fork-1 fork-2; do
    at=$(vv show $fork | grep -o '"hostPort": *[0-9]*' | head -1 | grep -o '[0-9]*$')
    until_true 60 "$fork" answers "$at"
    [ "$(state "$at")" = "$kept" ] || fail "$firmware: $fork is $(state "$at"), not $kept"
    put "$at" 3
    vv stop $fork --force >/dev/null
    vv delete $fork --yes >/dev/null
    echo "ok: $firmware, $fork"
  done
  vv snapshot restore vm kept --no-safety >/dev/null
  until_true 60 "the restored guest" answers "$port"
  # An owner that is killed, and one that takes over.
  kill -9 $serve; wait $serve 2>/dev/null || true
  serve
  back "from an image, by another owner" 1
  kill $serve; wait $serve 2>/dev/null || true
  export VOIDVM_PREPARED_SNAPSHOTS=0
  serve
  rm -f "$dir"/image.*
  back "from the stream" 0
  zstd -q -1 --rm "$dir/memory" -o "$dir/memory.zst"
  back "from packed memory" 0
  kill $serve; wait $serve 2>/dev/null || true
  unset VOIDVM_PREPARED_SNAPSHOTS
  serve
  vv stop vm --force >/dev/null
  vv snapshot delete vm kept --yes >/dev/null
  [ ! -e "$dir" ] || fail "the snapshot's directory is left: $(ls "$dir")"
  vv delete vm --yes >/dev/null
}

serve
machine bios 18810
machine uefi 18820 --tpm
echo "memory: all well"
