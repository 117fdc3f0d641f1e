#!/usr/bin/env bash
# Makes a picture with the small model that comes with Inkstone, after installing and building what is missing.
# usage: ./quickstart.sh [options of `inkstone generate`]     for example: ./quickstart.sh --prompt "a blue moon"
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/tools/setup.sh"

prepare() {
  cd "$here"
  install_missing "${BUILD_PACKAGES[@]}"
  [[ -f build/build.ninja ]] || cmake --preset release -DINKSTONE_TESTS=OFF >&2
  build release inkstone_program
}

(prepare </dev/null)
options=("$@")
if ((!$#)); then
  mkdir -p "$here/pictures"
  options=(--seed 1 --output "$here/pictures/star.png")
fi
if ! printf '%s\n' "$@" | grep -qE '^(--prompt|--like|--help|-h)($|=)'; then
  options+=(--prompt "a yellow star on a blue background")
fi
exec "$here/build/inkstone" generate "${options[@]}"
