#!/usr/bin/env bash
# Installs clang where it is missing, builds the fuzzers in build-fuzz/ and runs each for a minute, or for the seconds
# given: tests/fuzz.sh [SECONDS]. Starts from tests/fuzz/corpus; what it finds lies in build-fuzz/found/, and belongs
# into that corpus once it is understood. Ends with 1 when something was found.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source .ci/build.sh
seconds=${1:-60}

version=16
while [ "$version" -lt 20 ] && ! apt-cache show "libclang-rt-$version-dev" >/dev/null 2>&1; do version=$((version + 1)); done
need "clang-$version" "libclang-rt-$version-dev" cmake ninja-build libeigen3-dev nlohmann-json3-dev libpcre2-dev libutf8proc-dev pkg-config \
  catch2

targets=(json safetensors index config tokenizer bpe prompts chat verifiers)
cmake -S . -B build-fuzz -G Ninja -DCMAKE_CXX_COMPILER="clang++-$version" -DRLVR_FUZZ=ON -DRLVR_BUILD_EXAMPLES=OFF \
  -DRLVR_BUILD_BENCHMARKS=OFF >/dev/null
cmake --build build-fuzz --target "${targets[@]/#/fuzz_}"

mkdir -p build-fuzz/found
status=0
for target in "${targets[@]}"; do
  echo "Fuzzing $target for $seconds seconds"
  mkdir -p "build-fuzz/corpus/$target"
  if ! "build-fuzz/tests/fuzz_$target" -max_total_time="$seconds" -timeout=10 -max_len=8192 -verbosity=0 \
    -print_final_stats=1 -artifact_prefix="build-fuzz/found/$target-" "build-fuzz/corpus/$target" \
    "tests/fuzz/corpus/$target" >"build-fuzz/$target.log" 2>&1; then
    status=1
    echo "Found something, see build-fuzz/$target.log:"
    grep -m 5 -E "ERROR|SUMMARY|what\(\)|runtime error|Test unit written" "build-fuzz/$target.log" || tail -5 "build-fuzz/$target.log"
  fi
  grep -h number_of_executed_units "build-fuzz/$target.log" || true
done
exit $status
