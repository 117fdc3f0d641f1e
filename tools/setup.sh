# shellcheck shell=bash disable=SC2034
# Sourced by quickstart.sh and test.sh: installs Debian packages that are missing, and builds a CMake preset.

BUILD_PACKAGES=(g++ cmake ninja-build pkg-config libfmt-dev libspdlog-dev nlohmann-json3-dev libcli11-dev libicu-dev
  libpng-dev libjpeg-dev libwebp-dev libexif-dev)
TEST_PACKAGES=(libgtest-dev libgmock-dev libbenchmark-dev libdnnl-dev python3 clang libclang-rt-dev clang-format-14)

say() { printf '\n== %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

is_installed() { [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

# install_missing PACKAGE...: with apt, as root or through sudo. Where nothing is missing, apt is not called.
install_missing() {
  command -v dpkg-query >/dev/null || die "this script knows Debian and Ubuntu only; install the likes of: $*"
  local missing=() package as_root=()
  for package in "$@"; do is_installed "$package" || missing+=("$package"); done
  ((${#missing[@]})) || return 0
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "neither root nor sudo here; have these packages installed: ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# build PRESET TARGET...: builds a configured preset, with all cores.
build() {
  local preset=$1
  shift
  say "building $preset: $*"
  cmake --build --preset "$preset" --target "$@" >&2
}
