#!/bin/bash
# Builds the image without a container engine: build.sh [ARCHIVE.tar [BILL]]. The OCI archive is the same for the same
# commit; given the wheel's bill of materials, ARCHIVE.cdx.json becomes that of the image.
#
# Needs root, buildah and, for a base made here from Debian packages, debootstrap. BASE=IMAGE builds on that instead.
# KEEP=DIRECTORY keeps the base made here for the next time. STORAGE=DIRECTORY keeps buildah's storage, whose link
# `root` then shows the image's files. ARCHITECTURE is that of the image, as Debian calls it.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/../.."

tools=(buildah python3)
[ -n "${BASE:-}" ] || tools+=(debootstrap)
for tool in "${tools[@]}"; do
  command -v "$tool" > /dev/null || {
    echo "build.sh: $tool is missing: without it nobody has seen the Dockerfile build an image that runs" >&2
    exit 1
  }
done

export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
work=$(mktemp -d)
keep=${KEEP:-$work}
place=${STORAGE:-$work/storage}
mkdir -p "$keep" "$place"
storage=(--root "$place/storage" --runroot "$place/run")
clean_up() {
  [ -n "${STORAGE:-}" ] || buildah "${storage[@]}" rm --all > /dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean_up EXIT
architecture=${ARCHITECTURE:-$(dpkg --print-architecture)}
# Files and layers carry the time of the commit.
at=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}

if [ -z "${BASE:-}" ]; then
  BASE=localhost/python-from-packages
  if [ ! -e "$keep/base-$architecture.tar" ]; then
    # The mirror is the one this machine's own packages come from.
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mirror=$(apt-get indextargets --format '$(RELEASE) $(SITE)' | awk -v release="$release" '$1 == release { print $2; exit }')
    debootstrap --arch="$architecture" --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
      "$release" "$work/base" "$mirror" > "$work/debootstrap.log" || { tail -n 20 "$work/debootstrap.log" >&2; exit 1; }
    rm -rf "$work"/base/var/cache/apt/* "$work"/base/var/lib/apt/lists/*
    tar --create --file "$keep/base-$architecture.tar" --directory "$work/base" --one-file-system .
  fi
  container=$(buildah "${storage[@]}" from --arch "$architecture" scratch)
  buildah "${storage[@]}" add --quiet "$container" "$keep/base-$architecture.tar" / > /dev/null
  buildah "${storage[@]}" commit --quiet --rm --timestamp "$at" "$container" "$BASE" > /dev/null
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

# What only pyproject.toml says.
mapfile -t about < <(python3 - <<'EOF'
import re, pathlib

text = pathlib.Path("pyproject.toml").read_text(encoding="utf-8")
for key in ("version", "Homepage", "Documentation", "Source"):
    print(re.search(rf'(?m)^{key} = "(.+)"', text)[1])
EOF
)
revision=$(git rev-parse HEAD 2> /dev/null || echo unknown)
image=localhost/vendor-alert-exporter
labels=(url="${about[1]}" documentation="${about[2]}" source="${about[3]}" created="$(date --utc --date "@$at" +%FT%TZ)" base.name="$BASE")
buildah "${storage[@]}" build --quiet --format docker --arch "$architecture" --timestamp "$at" --build-arg BASE="$BASE" \
  --build-arg VERSION="${about[0]}" --build-arg REVISION="$revision" \
  "${labels[@]/#/--label=org.opencontainers.image.}" "${volumes[@]}" --tag "$image" . > "$work/build.log" 2>&1 ||
  { tail -n 40 "$work/build.log" >&2; exit 1; }
ln -sfn "$(buildah "${storage[@]}" mount "$(buildah "${storage[@]}" from "$image")")" "$place/root"

if [ -n "${1:-}" ]; then
  buildah "${storage[@]}" push --quiet --format oci "$image" "oci:$work/layout:${about[0]}"
  tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$at" --mode=go=rX,u+rw --directory "$work/layout" \
    --file "$1" .
fi
[ -z "${2:-}" ] || python3 .ci/bill "$2" "$place/root" "${1%.tar}.cdx.json"
