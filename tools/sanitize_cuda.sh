#!/usr/bin/env bash
# The kernels of src/cuda under compute-sanitizer, on a machine with a GPU: the small tests of every family.
# usage: tools/sanitize_cuda.sh [BUILD] [memcheck|synccheck|racecheck|initcheck ...]     default: build, all four
# Each tool has INKSTONE_SANITIZER_SECONDS (default 300) and prints a line: what it found, or that its time was up.
set -euo pipefail

build=${1:-build}
(($#)) && shift
tools=("$@")
((${#tools[@]})) || tools=(memcheck synccheck racecheck initcheck)
seconds=${INKSTONE_SANITIZER_SECONDS:-300}
command -v compute-sanitizer >/dev/null || PATH=$PATH:/usr/local/cuda/bin

# Large problems take minutes under a tool and run no code that small ones do not.
large='-*Large*:*EveryFormat*:*every_format*'
families='*Fused*:*AttentionTest*/cuda_bf16:*AttentionTest*/cuda_of_ampere:*ConvTest*/cuda_bf16:*ConvTest*/cuda_of_ampere'
families+=':*NormTest*/cuda*:*PointwiseTest*/cuda*:*CudaCopies*'
declare -A filters=(
  [memcheck]="*/cuda*:*Cuda*:$large"
  [synccheck]="$families:*CudaInt8*:*CudaFp8*:$large"
  [racecheck]="$families:*CudaInt8*:*CudaFp8*:$large"
  # What cuBLAS writes counts as unwritten for it, so families without its products only.
  [initcheck]="${families#\*Fused\*:}:$large"
)
declare -A options=(
  [memcheck]=""
  [synccheck]="--kernel-name kns=inkstone"  # cuBLAS' own kernels are not ours to mend
  [racecheck]="--kernel-name kns=inkstone"
  [initcheck]=""
)

failed=0
for tool in "${tools[@]}"; do
  log=$(mktemp)
  status=0
  # shellcheck disable=SC2086
  timeout "$seconds" compute-sanitizer --tool "$tool" ${options[$tool]} --error-exitcode 3 \
    "$build/tests/ops_test" --gtest_brief=1 --gtest_filter="${filters[$tool]}" >"$log" 2>&1 || status=$?
  summary=$(grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$log" | tail -1 | sed 's/^=* *//' || true)
  passed=$(grep -E '^\[  PASSED  \]|tests ran' "$log" | tail -1 || true)
  case $status in
    0) echo "$tool: ${summary:-no summary}; $passed" ;;
    124) echo "$tool: its $seconds s were up; $(grep -cE '^=+ (Invalid|Race|Error|Uninit|Barrier)' "$log" || true) reports until then" ;;
    *) failed=1; echo "$tool: ended with $status; ${summary:-no summary}"; grep -E '^=+ ' "$log" | head -40 || tail -5 "$log" ;;
  esac
  rm -f "$log"
done
exit "$failed"
