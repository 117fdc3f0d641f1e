#!/usr/bin/env bash
# Every test, after installing and building what is missing, with warnings as errors: an optimised build with g++, with
# the benchmarks, so that they keep compiling; and one with clang, address and undefined-behaviour sanitizers and the
# fuzz targets. Options go to ctest. The last line says whether src/cuda was compiled; its tests run where a GPU is.
# INKSTONE_FUZZ_SECONDS: how long each fuzz target runs; default 60.
# INKSTONE_REQUIRE_CUDA: 1 ends in an error where src/cuda cannot be compiled, as nvcc or its headers are missing. Set it
# on a machine that is to test src/cuda: without it the stub takes its place, and all else passes.
set -euo pipefail
cd "$(dirname "$0")"
source tools/setup.sh
exec </dev/null

install_missing "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}"
cuda=AUTO
[[ ${INKSTONE_REQUIRE_CUDA:-0} != 1 ]] || cuda=ON
cmake --preset bench -DINKSTONE_CUDA="$cuda" >&2
cmake --preset sanitize -DINKSTONE_FUZZ_SECONDS="${INKSTONE_FUZZ_SECONDS:-60}" >&2
build release all
build sanitize all

say "testing both builds"
mkdir -p build-tests
printf 'subdirs("%s" "%s")\n' "$PWD/build" "$PWD/build-sanitize" >build-tests/CTestTestfile.cmake
failed=0
ctest --test-dir build-tests -j "$(nproc)" --output-on-failure --no-tests=error "$@" || failed=$?
cuda=$(sed -n 's/^INKSTONE_CUDA_STATUS:INTERNAL=//p' build/CMakeCache.txt)
[[ $cuda == With\ * ]] || cuda="SRC/CUDA WAS NOT COMPILED, so nothing of it was tested. $cuda"
say "$cuda"
exit "$failed"
