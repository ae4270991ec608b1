#!/bin/bash
# Builds the image by build.sh, starts it with a read-only root as its numeric user, and scrapes it. Needs root.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/../.."

for tool in curl unshare; do
  command -v "$tool" > /dev/null || {
    echo "prove.sh: $tool is missing: without it nobody has seen the image run" >&2
    exit 1
  }
done

export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
work=$(mktemp -d)
storage=(--root "$work/storage" --runroot "$work/run")
pid=
clean_up() {
  [ -z "$pid" ] || kill "$pid" 2> /dev/null || true
  [ -z "$pid" ] || wait "$pid" 2> /dev/null || true
  buildah "${storage[@]}" rm --all > /dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean_up EXIT

STORAGE=$work deploy/image/build.sh
image=localhost/vendor-alert-exporter
# What a runtime would read from the image.
buildah "${storage[@]}" inspect --type image "$image" > "$work/image.json"
python3 - "$work/image.json" > "$work/settings" <<'EOF'
import json, shlex, sys

image = json.load(open(sys.argv[1]))["Docker"]["config"]
assert image["StopSignal"] == "SIGTERM" and image["Healthcheck"]["Test"] == ["CMD", "vendor-alert-exporter", "healthcheck"]
assert all(image["Labels"][f"org.opencontainers.image.{name}"] not in ("", "unknown") for name in ("version", "revision", "url", "source", "documentation", "created", "base.name"))
print(f"user={shlex.quote(image['User'])}")
print(f"environment=({' '.join(map(shlex.quote, image['Env']))})")
print(f"entrypoint=({' '.join(map(shlex.quote, image['Entrypoint']))})")
EOF
user= environment=() entrypoint=()
. "$work/settings"
[[ $user =~ ^[1-9][0-9]*:[1-9][0-9]*$ ]] || { echo "prove.sh: the image's user is not numeric: $user" >&2; exit 1; }

root=$(readlink "$work/root")
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
address=VENDOR_ALERT_EXPORTER_WEB__LISTEN_ADDRESS=127.0.0.1:$port
# The container: the image's files, all read-only but /tmp, which the demo writes its configuration to.
inside() {
  exec unshare --mount --propagation private sh -c '
    root=$1 user=$2; shift 2
    mount --bind "$root" "$root"
    mount --types proc proc "$root/proc"
    mount --types tmpfs --options size=16m tmpfs "$root/tmp"
    mount --rbind /dev "$root/dev"
    mount --options remount,bind,ro "$root"
    exec chroot --userspec="$user" "$root" /usr/bin/env --ignore-environment "$@"' sh \
    "$root" "$user" "${environment[@]}" "$address" "$@"
}
# Even root cannot write: it is the file system that refuses, not the files' modes.
refusal=$(user=0:0; inside python3 -c 'open("/opt/vendor-alert-exporter/x", "w")' 2>&1) || true
[[ $refusal == *"Read-only file system"* ]] || { echo "prove.sh: the root is writable: $refusal" >&2; exit 1; }
(inside "${entrypoint[@]}" --version)
(inside "${entrypoint[@]}" demo) > "$work/demo.log" 2>&1 &
pid=$!
for _ in $(seq 60); do
  curl --silent --fail "http://127.0.0.1:$port/-/ready" > /dev/null && break
  kill -0 "$pid" 2> /dev/null || { cat "$work/demo.log" >&2; exit 1; }
  sleep 0.5
done
(inside "${entrypoint[@]}" healthcheck)
curl --silent --fail "http://127.0.0.1:$port/metrics" > "$work/metrics"
up=$(grep -c '^vendor_source_up{.*} 1' "$work/metrics")
uid=$(awk '/^Uid:/ { print $2 }' "/proc/$pid/status")
[ "$uid" = "${user%:*}" ] || { echo "prove.sh: it runs as user $uid, not as ${user%:*}" >&2; exit 1; }
kill "$pid"
wait "$pid" || { echo "prove.sh: SIGTERM did not end it well: exit code $?" >&2; exit 1; }
pid=
own=$(du --summarize --block-size=1M "$root/opt/vendor-alert-exporter" | cut -f 1)
whole=$(du --summarize --block-size=1M --one-file-system "$root" | cut -f 1)
echo "image built and scraped: user $user, read-only root, $up sources up, $(grep -vc '^#' "$work/metrics") samples," \
  "size $whole MiB of which $own MiB are ours, the rest its base"
