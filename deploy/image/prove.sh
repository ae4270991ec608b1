#!/bin/bash
# Builds the image without a container engine, starts it with a read-only root as its numeric user, and scrapes it.
#
# Needs root, buildah and, for a base made here from Debian packages, debootstrap. BASE=IMAGE builds on that instead.
# KEEP=DIRECTORY keeps the base made here for the next time.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/../.."

tools=(buildah curl unshare python3)
[ -n "${BASE:-}" ] || tools+=(debootstrap)
for tool in "${tools[@]}"; do
  command -v "$tool" > /dev/null || {
    echo "prove.sh: $tool is missing: without it nobody has seen the Dockerfile build an image that runs" >&2
    exit 1
  }
done

export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
work=$(mktemp -d)
keep=${KEEP:-$work}
storage=(--root "$work/storage" --runroot "$work/run")
pid=
clean_up() {
  [ -z "$pid" ] || kill "$pid" 2> /dev/null || true
  [ -z "$pid" ] || wait "$pid" 2> /dev/null || true
  buildah "${storage[@]}" rm --all > /dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean_up EXIT

if [ -z "${BASE:-}" ]; then
  BASE=localhost/python-from-packages
  if [ ! -e "$keep/base.tar" ]; then
    # The mirror is the one this machine's own packages come from.
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mirror=$(apt-get indextargets --format '$(RELEASE) $(SITE)' | awk -v release="$release" '$1 == release { print $2; exit }')
    debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
      "$release" "$work/base" "$mirror" > "$work/debootstrap.log" || { tail -n 20 "$work/debootstrap.log" >&2; exit 1; }
    rm -rf "$work"/base/var/cache/apt/* "$work"/base/var/lib/apt/lists/*
    tar --create --file "$keep/base.tar" --directory "$work/base" --one-file-system .
  fi
  container=$(buildah "${storage[@]}" from scratch)
  buildah "${storage[@]}" add --quiet "$container" "$keep/base.tar" / > /dev/null
  buildah "${storage[@]}" commit --quiet --rm "$container" "$BASE" > /dev/null
fi

# pip inside the build is set up as pip is on this machine; what its settings name is mounted for the build alone.
volumes=(--volume "$work/pip.conf:/etc/pip.conf:ro")
python3 - "$work/pip.conf" > "$work/paths" <<'EOF'
import ast, pathlib, re, subprocess, sys

listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
settings = {}
for line in listed.stdout.splitlines():
    name, _, value = line.partition("=")
    settings[name.rpartition(".")[2]] = ast.literal_eval(value)
text = "".join(f"{key} = {' '.join(value.split())}\n" for key, value in settings.items())
pathlib.Path(sys.argv[1]).write_text("[global]\n" + text)
for path in re.findall(r"(?:(?<=\s)|(?<=file://))/[^\s]+", text):
    if pathlib.Path(path).exists():
        print(path.removesuffix("/simple"))  # an index of files has them beside it
EOF
while read -r path; do
  volumes+=(--volume "$path:$path:ro")
done < "$work/paths"

image=localhost/vendor-alert-exporter
version=$(python3 -c 'import re; print(re.search(r"(?m)^version = \"(.+)\"", open("pyproject.toml").read())[1])')
revision=$(git rev-parse HEAD 2> /dev/null || echo unknown)
buildah "${storage[@]}" build --quiet --format docker --build-arg BASE="$BASE" --build-arg VERSION="$version" \
  --build-arg REVISION="$revision" "${volumes[@]}" --tag "$image" . > "$work/build.log" 2>&1 || { tail -n 40 "$work/build.log" >&2; exit 1; }

# What a runtime would read from the image.
buildah "${storage[@]}" inspect --type image "$image" > "$work/image.json"
python3 - "$work/image.json" > "$work/settings" <<'EOF'
import json, shlex, sys

image = json.load(open(sys.argv[1]))["Docker"]["config"]
assert image["StopSignal"] == "SIGTERM" and image["Healthcheck"]["Test"] == ["CMD", "vendor-alert-exporter", "healthcheck"]
assert all(image["Labels"][f"org.opencontainers.image.{name}"] not in ("", "unknown") for name in ("version", "revision"))
print(f"user={shlex.quote(image['User'])}")
print(f"environment=({' '.join(map(shlex.quote, image['Env']))})")
print(f"entrypoint=({' '.join(map(shlex.quote, image['Entrypoint']))})")
EOF
user= environment=() entrypoint=()
. "$work/settings"
[[ $user =~ ^[1-9][0-9]*:[1-9][0-9]*$ ]] || { echo "prove.sh: the image's user is not numeric: $user" >&2; exit 1; }

root=$(buildah "${storage[@]}" mount "$(buildah "${storage[@]}" from "$image")")
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
