#!/usr/bin/env bash
# Installs what is missing, builds the comparison of prompt selectors and runs it. Arguments are passed to it (--help
# lists them): --full for the tables of benchmarks/results/dopr.md, --distinct-prompts for accuracy against the number of
# distinct prompts, --device cuda for a GPU, which needs a CUDA toolkit.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
here=$PWD
cd "$root"
source .ci/build.sh

need g++ cmake ninja-build libeigen3-dev libxtensor-dev librange-v3-dev nlohmann-json3-dev libcli11-dev pkg-config libpcre2-dev \
  libutf8proc-dev gnuplot-nox
# shellcheck disable=SC2046 # several options
build dopr $(cuda_options "$@")
cd "$here"
exec "$root/build/examples/dopr" "$@"
