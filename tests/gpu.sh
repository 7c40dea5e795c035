#!/usr/bin/env bash
# The tests of rlvr::cuda that need a GPU: builds them where they are not built, runs them part by part, each in less
# than 10 minutes, and prints a table. Needs nothing from the network, and nothing from outside the checkout but the
# CUDA toolkit, CMake, Eigen, nlohmann_json and Catch2; with RLVR_GPU_TESTS=program only a GPU.
#   bash tests/gpu.sh [part...]      parts: parity laws sampling bits memory memcheck racecheck; all by default
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(parity laws sampling bits memory memcheck racecheck)

program=${RLVR_GPU_TESTS:-}
if [ -z "$program" ]; then
  program=build/gpu/tests/cuda/rlvr_gpu_tests
  cmake -S . -B build/gpu -DCMAKE_BUILD_TYPE=Release -DRLVR_BUILD_TESTS=ON -DRLVR_BUILD_EXAMPLES=OFF \
    -DRLVR_BUILD_BENCHMARKS=OFF -DRLVR_REQUIRE_CUDA=ON >/dev/null || exit 1
  cmake --build build/gpu --target rlvr_gpu_tests --parallel "$(nproc)" >/dev/null || exit 1
fi

# What is run for a part. The sanitizers slow kernels down a hundredfold: they get the smallest models.
small='cuda decoder: log-probs, entropies*,cuda decoder: bfloat16*,cuda decoder: samples are*'
run() {
  case $1 in
    parity) "$program" '[parity]' && "$program" '[cuda]~[laws]' ;;
    laws | sampling | bits | memory) "$program" "[$1]" ;;
    memcheck | racecheck)
      local sanitizer
      sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
      if [ ! -x "$sanitizer" ]; then
        echo "compute-sanitizer is not installed"
        return 77
      fi
      "$sanitizer" --tool "$1" --error-exitcode 1 "$program" "$small"
      ;;
    *)
      echo "no part is called $1"
      return 2
      ;;
  esac
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "nvidia-smi finds no GPU"
date -u +%Y-%m-%d
rows=()
failed=0
for part in "${parts[@]}"; do
  begin=$(date +%s)
  echo "== $part"
  run "$part"
  status=$?
  case $status in
    0) result=passed ;;
    77) result=skipped ;;
    *)
      result=FAILED
      failed=1
      ;;
  esac
  rows+=("$(printf '| %-10s | %-8s | %5d s |' "$part" "$result" $(($(date +%s) - begin)))")
done
echo
echo '| part       | result   |    time |'
echo '|------------|----------|---------|'
printf '%s\n' "${rows[@]}"
exit $failed
