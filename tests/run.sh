#!/usr/bin/env bash
# Installs what is missing, builds everything and runs the tests. Arguments are passed to CMake.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source .ci/build.sh

need g++ cmake ninja-build libeigen3-dev libxtensor-dev librange-v3-dev catch2 libbenchmark-dev nlohmann-json3-dev \
  pkg-config libpcre2-dev libutf8proc-dev python3 \
  libcli11-dev gnuplot-nox
build all -DRLVR_CUDA=ON -DRLVR_BUILD_TESTS=ON -DRLVR_BUILD_EXAMPLES=ON -DRLVR_BUILD_BENCHMARKS=ON "$@"
ctest --test-dir build --output-on-failure --no-tests=error --parallel "$(nproc)"
