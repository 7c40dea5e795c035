#!/usr/bin/env bash
# Runs the main job with five seeds on each model folder given and prints a Markdown table of the test results.
#     bash examples/seeds.sh MODEL_FOLDER... [-- OPTIONS OF one_shot_rlvr]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
models=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do models+=("$1"); shift; done
if [ $# -gt 0 ]; then shift; fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# value FILE OBJECT KEY: a number of one of the report's objects.
value() { sed -n "/\"$2\": {/,/}/ s/.*\"$3\": \([^,]*\),*/\1/p" "$1" | head -n 1; }

echo "| base | seed | alpha | status | test accuracy | difference [95% interval] |"
echo "|---|---|---|---|---|---|"
for model in "${models[@]}"; do
  for seed in 1 2 3 4 5; do
    "$root/build/examples/one_shot_rlvr" --model "$model" --seed "$seed" --out "$out/run" "$@" >"$out/log" 2>&1 || {
      status=$?
      tail -n 3 "$out/log" >&2
      exit $status
    }
    r=$out/run/report.json
    printf '| %s | %d | %.3g | %s | %.3f -> %.3f | %+.3f [%+.3f, %+.3f] |\n' "$(basename "$model")" "$seed" \
      "$(sed -n 's/^  "alpha": \([^,]*\),*/\1/p' "$r")" "$(sed -n 's/^  "status": "\([^"]*\)".*/\1/p' "$r")" \
      "$(value "$r" test base_accuracy)" "$(value "$r" test accuracy)" "$(value "$r" test difference)" \
      "$(value "$r" test low)" "$(value "$r" test high)"
  done
done
