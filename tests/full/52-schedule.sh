#!/bin/bash
# Half an hour on the real clock: `voidvm serve` without a window keeps a running guest each minute, is killed in the middle, and
# prunes to its policy; the guest's disk is intact in the end, and so is what each snapshot holds.
#   MINUTES=30
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/../.."
if [ -n "${VOIDVM_TEST_BIN_DIR:-}" ]; then
  voidvm=$VOIDVM_TEST_BIN_DIR/voidvm
else
  cargo build -q -p voidvm-cli
  voidvm=$(realpath -m "${CARGO_TARGET_DIR:-target}")/debug/voidvm
fi
guest=${VOIDVM_TEST_GUEST:-$(realpath -m "${CARGO_TARGET_DIR:-target}")/guest}
minutes=${MINUTES:-30}
work=$(mktemp -d /tmp/vvs.XXXXXX)
export XDG_CONFIG_HOME=$work/config XDG_DATA_HOME=$work/data XDG_STATE_HOME=$work/state XDG_RUNTIME_DIR=$work/run
export VOIDVM_POOL_FLOOR=0
mkdir -m 700 "$XDG_RUNTIME_DIR"
port=18552

vv() { "$voidvm" --json "$@"; }
serve() {
  touch "$work/begun"
  "$voidvm" serve >>"$work/serve.log" 2>&1 &
  owner=$!
  # Asked before it is there, a command would be the owner itself.
  until [ -n "$(find "$XDG_RUNTIME_DIR" -name voidvm.sock -newer "$work/begun" 2>/dev/null)" ] && vv list >/dev/null 2>&1; do
    kill -0 $owner || fail "serve ended: $(tail -3 "$work/serve.log")"
    sleep 0.2
  done
}
finish() {
  vv stop --all --force >/dev/null 2>&1 || true
  kill "${owner:-0}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
uptime_inside() { curl -sf -m 3 "http://127.0.0.1:$port/cgi-bin/info" | grep -o 'uptime=[0-9]*' | cut -d= -f2; }
names() { vv snapshot list kept | grep -o '"name": *"[^"]*"' | cut -d'"' -f4; }

serve
vv create kept --image "$guest/disk.qcow2" --memory 256M --accel tcg --forward $port:80 >/dev/null
vv start kept --wait >/dev/null
deadline=$((SECONDS + 180))
until uptime_inside >/dev/null; do [ $SECONDS -lt $deadline ] || fail "the guest did not boot"; sleep 0.5; done
# A file that is right at every instant: each line is the one before it plus one.
vv type kept 'i=0; while :; do i=$((i+1)); echo $i >> /data/www/count; sync; usleep 100000; done &
' >/dev/null
vv schedule add kept --cron '* * * * *' --keep last=5 --name minutely >/dev/null
began=$SECONDS
pid=$(pgrep -f "qemu.*$work" | head -1)
killed=
while [ $((SECONDS - began)) -lt $((minutes * 60)) ]; do
  sleep 20
  [ "$(names | wc -l)" -le 6 ] || fail "more is kept than the policy says: $(names | tr '\n' ' ')"
  if [ -z "$killed" ] && [ $((SECONDS - began)) -gt $((minutes * 30 + 7)) ]; then
    kill -9 $owner
    wait $owner 2>/dev/null || true
    kill -0 "$pid" || fail "the guest went with its owner"
    serve
    killed=yes
    echo "killed and begun again after $((SECONDS - began)) s"
  fi
done
outcomes=$(vv schedule history minutely | grep -o '"outcome": *"[a-z]*"' | cut -d'"' -f4 | sort | uniq -c | tr '\n' ' ')
echo "runs: $outcomes; kept: $(names | tr '\n' ' ')"
case $outcomes in *failed*) fail "a run failed: $(vv schedule history minutely)" ;; esac
succeeded=$(echo "$outcomes" | grep -o '[0-9]* succeeded' | cut -d' ' -f1)
[ "${succeeded:-0}" -ge $((minutes - 2)) ] || fail "too few runs"
[ "$(names | wc -l)" -ge $((minutes < 7 ? minutes - 1 : 5)) ] || fail "too few are kept"
inside=$(uptime_inside)
[ "$inside" -ge $((minutes * 60 - 30)) ] || fail "the guest has lost time: it is up for $inside s"
vv type kept "kill %1; sync
" >/dev/null
vv stop kept --force >/dev/null

# whole FILE: the image is sound, its file system too, and no line of the file is missing
whole() {
  local raw=$work/raw part=$work/part start last
  qemu-img check -q "$1" || fail "$1 is damaged"
  qemu-img convert -O raw "$1" "$raw"
  start=$(/sbin/sfdisk -d "$raw" | grep -o 'start= *[0-9]*' | tail -1 | grep -o '[0-9]*$')
  dd if="$raw" of="$part" bs=512 skip="$start" status=none
  /sbin/e2fsck -fy "$part" >/dev/null 2>&1 || [ $? -le 1 ] || fail "$1: the file system is damaged"
  /sbin/debugfs -R "cat /www/count" "$part" 2>/dev/null | grep -a '^[0-9]*$' >"$work/count"
  last=$(tail -1 "$work/count")
  [ "$(wc -l <"$work/count")" = "$last" ] || fail "$1: lines are missing"
  echo "ok: $last lines"
  rm -f "$raw" "$part"
}
disk=$(vv show kept | grep -o '"file": *"[^"]*disk0.qcow2"' | head -1 | cut -d'"' -f4)
whole "$disk"
for name in $(names); do
  vv snapshot fork kept "$name" "fork-$name" >/dev/null
  whole "$(vv show "fork-$name" | grep -o '"file": *"[^"]*disk0.qcow2"' | head -1 | cut -d'"' -f4)"
done
echo "ok: $minutes minutes"
