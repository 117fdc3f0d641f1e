#!/usr/bin/env bash
# The kernels of src/cuda under compute-sanitizer, on a machine with a GPU: every tool on every family of tests, each pair in a process of its own.
# usage: tools/sanitize_cuda.sh [BUILD] [memcheck|synccheck|racecheck|initcheck ...] [FAMILY ...]     default: build, all tools, all families
# Each pair has INKSTONE_SANITIZER_SECONDS (default 300) and prints a line: how many of its tests passed and what was found.
# Exit code: 0 all passed and nothing was found; 1 a tool found something or failed; 2 nothing was found, but time was up or tests were skipped.
set -euo pipefail

# Name, program, tools by their first letters, filter of tests. What takes long under a tool, by its rows or its many formats, has a family of its own.
# Left out: tests that provoke faults of a device (CudaFaultsTest, CudaLostTest), racecheck of softmax's long rows, whose products come to no end, and
# blocks of full width (CudaBlocksTest), whose kernels the families of single ops have.
#
# initcheck runs where no product is cuBLAS': what those kernels write through tensor maps counts as unwritten (among the tool's known limitations).
# Leaving them out by --kernel-name is no help: before 2026.4 all that such a kernel writes counts as unwritten, from then on what it did before.
families=(
  "attention             ops    msri */AttentionTest.*/cuda_bf16:*/AttentionTest.*/cuda_from_bf16-*LongRows*"
  "attention_of_ampere   ops    msr  */AttentionTest.*/cuda_of_ampere-*LongRows*"
  "attention_8bit        ops    msr  CudaAttention8BitTest.*"
  "attention_by_products ops    msr  */AttentionTest.*/cuda-*LongRows*"
  "softmax_of_long_rows  ops    ms   */AttentionTest.*LongRows*/cuda*"
  "convolutions          ops    msri */ConvTest.*/cuda_bf16:*/ConvTest.*/cuda_of_ampere"
  "convolutions_of_f32   ops    msr  */ConvTest.*/cuda:*/ConvTest.*/cuda_from_bf16"
  "norms                 ops    msri */NormTest.*/cuda*"
  "pointwise             ops    msri */PointwiseTest.*/cuda*"
  "copies                ops    msri *CudaCopiesTest.*"
  "uploads               ops    msr  CudaUploadsTest.*:CudaViewsTest.*"
  "fused                 ops    msr  *CudaFusedTest.*-*Large*:*EveryFormat*"
  "fused_large           ops    msr  *CudaFusedTest.Large*"  # here alone blocks go from tile to tile
  "fused_formats         ops    msr  *CudaFusedTest.*EveryFormat*"
  "linear                ops    msr  */LinearTest.*/cuda*-*EveryFormat*"
  "linear_formats        ops    msr  */LinearTest.*EveryFormat*/cuda*"
  "fp8                   ops    msr  *CudaFp8Test.*-*ampere_kernels*"
  "fp8_of_ampere         ops    msr  *CudaFp8Test.*ampere_kernels*"
  "int8                  ops    msr  *CudaInt8Test.*-*ampere_kernels*"
  "int8_of_ampere        ops    msr  *CudaInt8Test.*ampere_kernels*"
  "merged_loras          ops    msr  CudaMergeTest.*"
  "recordings            ops    msr  CudaRecordingTest.*:CudaProductsTest.*"
  "decoder               model  msr  */VaeParityTest.*/cuda_bf16_random_a:*/VaeBandsTest.*/cuda_bf16*"
  "decoder_full_width    model  msr  *CudaDecoderTest.*bf16*-*Large*"
  "engine                engine msr  *OnCudaTest.ReplayedSteps*:*OnCudaTest.StreamedItDraws*:LoraEngineTest.*OnAGpu*"
)
# No tool has a filter of kernels: where --kernel-name leaves out a product in bf16, cuBLAS' or ours, racecheck itself fails (2025.3.1, in PyTorch too).
all_tools=(memcheck synccheck racecheck initcheck)

build=${1:-build}
(($#)) && shift
tools=() chosen=" "
for word in "$@"; do
  if [[ " ${all_tools[*]} " == *" $word "* ]]; then tools+=("$word"); else chosen+="$word "; fi
done
((${#tools[@]})) || tools=("${all_tools[@]}")
for word in $chosen; do
  printf '%s\n' "${families[@]}" | grep -q "^$word " || { echo "$word: neither a tool nor a family"; exit 1; }
done
seconds=${INKSTONE_SANITIZER_SECONDS:-300}
command -v compute-sanitizer >/dev/null || PATH=$PATH:/usr/local/cuda/bin
most_reports=10000  # those in other kernels must not hide ours
found=3  # the exit code of a tool that has something to report
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Sets `result` to 0, 1 or 2, as the exit code. Races in kernels that are not ours are counted but are no fault.
check() {
  local tool=$1 name=$2 program=$build/tests/$3_test filter=$4 status=0 wanted passed reports others
  wanted=$("$program" --gtest_list_tests --gtest_filter="$filter" | grep -c '^  ' || true)
  if ((wanted == 0)); then
    echo "$tool $name: no test of $program fits $filter"
    result=1
    return
  fi
  timeout -k 10 "$seconds" compute-sanitizer --tool "$tool" --print-limit "$most_reports" --error-exitcode "$found" \
    "$program" --gtest_filter="$filter" >"$log" 2>&1 || status=$?
  passed=$(grep -c '^\[       OK \]' "$log" || true)
  others=$(grep -E '^=+ .*Race reported' "$log" | grep -vc inkstone || true)
  reports=$(($(grep -cE '^=+ (Invalid|Error|Internal|Uninit|Barrier|Program hit|Race|Warning)' "$log" || true) - others))
  echo "$tool $name: $passed of $wanted tests; $reports reports$(besides "$others")$(ending "$status")"
  if ((reports > 0 || (status == found && others == 0))) || [[ ! $status =~ ^(0|$found|124|137)$ ]] || grep -q '^\[  FAILED' "$log"; then
    result=1
    grep -E '^=+ ' "$log" | head -40 || tail -5 "$log"
  else
    result=$((passed < wanted ? 2 : 0))
  fi
}

besides() { (($1 == 0)) || echo " and $1 of races in kernels that are not ours"; }

# How a run ended, where not by itself.
ending() {
  case $1 in
    0 | "$found") ;;
    124 | 137) echo "; its $seconds s were up" ;;
    *) echo "; ended with $1 in$(grep '^\[ RUN' "$log" | tail -1 | sed 's/^[^]]*\]//')" ;;
  esac
}

results=""
for tool in "${tools[@]}"; do
  for family in "${families[@]}"; do
    read -r name program letters filter <<<"$family"
    [[ $letters == *${tool:0:1}* && ($chosen == " " || $chosen == *" $name "*) ]] || continue
    check "$tool" "$name" "$program" "$filter"
    results+="$result"
  done
done
case $results in
  *1*) exit 1 ;;
  *2* | "") exit 2 ;;
esac
