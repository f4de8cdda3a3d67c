#!/bin/bash
# A cloud image becomes a server one can log in to: cloud-init makes the user, lets the key in, names the host, writes, installs and
# runs what the user-data says; a copy of the machine is one of its own. All through the command line.
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/../.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
cargo build -q -p voidvm-cli
voidvm=$target/debug/voidvm
recipe=crates/testkit/cloud/build.sh image=$target/cloud-image/disk.qcow2
if [ ! -e "$image" ] || [ $recipe -nt "$image" ]; then $recipe "$image"; fi

work=$(mktemp -d /tmp/vvi.XXXXXX)
export XDG_CONFIG_HOME=$work/config XDG_DATA_HOME=$work/data XDG_STATE_HOME=$work/state XDG_RUNTIME_DIR=$work/run
mkdir -m 700 "$XDG_RUNTIME_DIR"
# Nobody's agent and settings help.
unset SSH_AUTH_SOCK
vv() { "$voidvm" --json "$@"; }
finish() {
  vv stop --all --force >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap finish EXIT
fail() {
  echo "FAILED: $*" >&2
  for vm in web web-copy other; do
    "$voidvm" logs "$vm" --log serial --tail 3K 2>/dev/null | sed "s/^/$vm: /" >&2 || true
  done
  exit 1
}
# same WHAT HAVE WANTED
same() { [ "$2" = "$3" ] || fail "$1: '$2', not '$3'"; }
differ() { [ "$2" != "$3" ] || fail "$1: '$2' in both"; }
# field NAME: of the JSON document on the input
field() { grep -o "\"$1\": *\"[^\"]*\"" | head -1 | cut -d'"' -f4; }
# inside VM COMMAND…: in its guest
options=(-o ConnectTimeout=20 -o BatchMode=yes)
inside() { "$voidvm" ssh "$1" "${options[@]}" -- "${@:2}"; }

# until_ready VM: cloud-init has done everything
until_ready() {
  local deadline=$((SECONDS + 1800)) begin=$SECONDS
  until inside "$1" true 2>"$work/ssh"; do
    [ $SECONDS -lt $deadline ] || fail "$1: no login by ssh: $(cat "$work/ssh")"
    sleep 2
  done
  echo "ok: $1 lets the key in after $((SECONDS - begin)) s"
  # It also ends with 2, after warnings.
  inside "$1" timeout 1500 cloud-init status --wait > "$work/status" || true
  grep -q 'status: done' "$work/status" || fail "$1: cloud-init: $(cat "$work/status"; inside "$1" cloud-init status --long)"
  echo "ok: $1 is made after $((SECONDS - begin)) s"
}

cat > "$work/user-data" <<'END'
#cloud-config
packages: [voidvm-hello]
write_files:
  - path: /etc/marker
    content: written by cloud-init
runcmd:
  - voidvm-hello > /run/hello
  - cat /var/lib/cloud/data/instance-id >> /root/instances
END

# A key of the machine's own, and user-data.
vv create web --image "$image" --cloud-init "$work/user-data" --user ada --disk 4G --memory 1G --accel tcg --start > "$work/web"
until_ready web
same "the user" "$(inside web whoami)" ada
same "sudo" "$(inside web sudo whoami)" root
same "the host name" "$(inside web hostname)" web
same "what was written" "$(inside web cat /etc/marker)" "written by cloud-init"
same "the package and the command" "$(inside web cat /run/hello)" "hello from a package"
size=$(inside web df -BM --output=size / | tail -1 | tr -dc 0-9)
[ "$size" -gt 3500 ] || fail "the system has $size MiB of the grown disk"
# What is shown of it: the command of the ssh button, for any shell, and what the guest's agent says.
command=$(vv ssh web | sed -n 's/.*"command": "\(.*\)",*$/\1/p' | sed 's/\\"/"/g')
same "the command that is shown" "$(sh -c "$command -o BatchMode=yes hostname")" web
shown=$("$voidvm" show web)
grep -qF "$command" <<< "$shown" || fail "the ssh command is not shown: $shown"
grep -q 'address.*10\.0\.2\.15' <<< "$shown" || fail "the address is not shown: $shown"
grep -q 'guest.*Debian' <<< "$shown" || fail "the guest's system is not shown: $shown"
instance=$(inside web cat /var/lib/cloud/data/instance-id)
host_key=$(inside web cat /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f2)
machine_id=$(inside web cat /etc/machine-id)
vv stop web >/dev/null
echo "ok: web does what its user-data says, shows the way in, and shuts down"

# A copy is a machine of its own, and knows its user.
vv clone web web-copy --linked --start >/dev/null
until_ready web-copy
same "the copy's user" "$(inside web-copy whoami)" ada
same "the copy's host name" "$(inside web-copy hostname)" web-copy
differ "the instance" "$(inside web-copy cat /var/lib/cloud/data/instance-id)" "$instance"
differ "the ssh host key" "$(inside web-copy cat /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f2)" "$host_key"
differ "the machine-id" "$(inside web-copy cat /etc/machine-id)" "$machine_id"
same "the commands were run for each" "$(inside web-copy sudo cat /root/instances | sort -u | wc -l)" 2
new_id=$(inside web-copy cat /etc/machine-id)
vv stop web-copy >/dev/null
vv start web-copy >/dev/null
until_ready web-copy
same "the machine-id after another start" "$(inside web-copy cat /etc/machine-id)" "$new_id"
same "the commands after another start" "$(inside web-copy sudo cat /root/instances | wc -l)" 2
vv stop web-copy --force >/dev/null
echo "ok: web-copy is a machine of its own, and stays it"

# A key of the user's, another host name, UEFI.
ssh-keygen -q -t ed25519 -N '' -C test -f "$work/key"
options+=(-i "$work/key")
vv create other --image "$image" --ssh-key "$work/key.pub" --user bob --hostname db.example.org --firmware uefi --memory 1G \
  --accel tcg --start >/dev/null
same "no key is made" "$(vv ssh other | field keyFile)" ""
until_ready other
same "the user" "$(inside other whoami)" bob
same "the host name" "$(inside other hostname -f)" db.example.org
inside other test -d /sys/firmware/efi || fail "other was not started by UEFI"
vv stop other --force >/dev/null
echo "cloud image: all well"
