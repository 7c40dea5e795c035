#!/usr/bin/env bash
# Compile time of every public header alone, as a Markdown table: milliseconds, and the ratio to #include <vector>.
#   benchmarks/compile_time.sh [COMPILER [REPETITIONS [FOLDER...]]]
# Each translation unit is one #include, as in the tests. Processor time is measured, the least of the repetitions
# counts, and all headers are taken in turn, so that what else runs matters little.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
compiler=${1:-g++}
repetitions=${2:-5}
shift $(($# < 2 ? $# : 2))
folders=("$@")
[ ${#folders[@]} -gt 0 ] || folders=(core select allocate verify advantage objective gradient optimize search diagnose train)

headers=('vector')
for folder in "${folders[@]}"; do
  for header in include/rlvr/"$folder"/*.hpp; do headers+=("${header#include/}"); done
done
headers+=(rlvr/rlvr.hpp)

TIMEFORMAT='%U %S'
unit=$(mktemp --suffix=.cpp)
trap 'rm -f "$unit"' EXIT
declare -A least
for ((i = 0; i < repetitions; ++i)); do
  for header in "${headers[@]}"; do
    echo "#include <$header>" >"$unit"
    spent=$({ time "$compiler" -std=c++20 -fsyntax-only -Iinclude "$unit"; } 2>&1) # nothing else is printed
    spent=$(awk '{ printf "%d", 1000 * ($1 + $2) }' <<<"$spent")
    if [ -z "${least[$header]:-}" ] || [ "$spent" -lt "${least[$header]}" ]; then least[$header]=$spent; fi
  done
done

echo "| header | ms | times \`<vector>\` |"
echo "|---|---:|---:|"
for header in "${headers[@]}"; do
  awk -v header="$header" -v spent="${least[$header]}" -v vector="${least[vector]}" \
    'BEGIN { printf "| `<%s>` | %.0f | %.1f |\n", header, spent, spent / vector }'
done
