#!/usr/bin/env bash
# What of rlvr::cuda needs a GPU: its tests and its benchmarks, part by part, each in less than 10 minutes, and a table
# of the results at the end.
#
#   bash tests/gpu.sh [--record[=FOLDER]] [--seconds=N] [PART...]      by default the parts that are tests
#     tests       parity transformers laws sampling bits memory memcheck racecheck
#                 one-shot, dopr (examples/one_shot_rlvr and dopr --device cuda; not by default)
#     benchmarks  speed-vectors speed-attention speed-sampling speed-gradient
#                 peers-attention peers-sampling peers-0.6B peers-4B
#   bash tests/gpu.sh pack FOLDER                         builds, and copies there what another machine has to run
#
# --record puts the results, with device and date, into FOLDER/cuda.md (benchmarks/results/ unless given) after each
# part, where parts that did not run now keep their last row, and what a benchmark printed into FOLDER/cuda_PART.txt.
# --seconds ends everything by then: the part that runs fails with what it has, those after it are skipped. Half an hour
# of a GPU, in three commands of nine minutes:
#   bash tests/gpu.sh --seconds=160 memcheck; bash tests/gpu.sh --seconds=160 racecheck
#     bash tests/gpu.sh --seconds=200 transformers parity laws bits sampling memory
#   bash tests/gpu.sh --seconds=530 speed-{vectors,attention,sampling,gradient} peers-{attention,0.6B}
#   bash tests/gpu.sh --seconds=530 peers-sampling peers-4B one-shot dopr
#
# Every test is a process of its own: one that crashes or hangs leaves the others alone.
#
# Exit status: 0 when every part passed, 1 when one failed or the programs could not be built, 77 when none failed but
# one was skipped: it did not run, and the table says so; 2 for wrong arguments.
#
# Needed for building: nvcc, CMake, Eigen, nlohmann_json, Catch2, for the benchmarks Google Benchmark, and what the
# example needs; no network and no GPU. Built is in build/gpu, with CMAKE_BUILD_PARALLEL_LEVEL jobs. Where the machine
# with the GPU lacks these, build on another one of the same architecture, with a C library not newer:
#   bash tests/gpu.sh pack out/gpu
# and on the machine with the GPU, in a copy of the checkout with out/gpu in it:
#   RLVR_GPU_PROGRAMS=out/gpu bash tests/gpu.sh --record
# Needed there: a driver for CUDA 13 (with an older one every part is skipped, and says why), libcublasLt.so.13 of a
# CUDA 13 toolkit, or of the one that pip's torch brings, and libstdc++; the CUDA runtime is in the programs. peers-*
# need python3 with torch, peers-sampling transformers too. memcheck and racecheck need compute-sanitizer, which is
# looked for in PATH, in /usr/local/cuda, among python3's packages (pip has it as nvidia-cuda-sanitizer-api) and,
# unpacked from that wheel by unzip, in $RLVR_GPU_PROGRAMS/nvidia/cu13/compute-sanitizer.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
tests=(parity transformers laws sampling bits memory memcheck racecheck)
examples=(one-shot dopr)
benchmarks=(speed-vectors speed-attention speed-sampling speed-gradient peers-attention peers-sampling peers-0.6B
  peers-4B)
part_seconds=570
test_seconds=150

usage() {
  echo "usage: bash tests/gpu.sh [--record[=FOLDER]] [--seconds=N] [PART...] | pack FOLDER" >&2
  echo "parts: ${tests[*]} ${examples[*]} ${benchmarks[*]}" >&2
  exit 2
}

# build TARGET...: in build/gpu, with what was printed in build/gpu/log.
build() {
  local log=build/gpu/log
  mkdir -p build/gpu
  echo "building $* in build/gpu"
  if ! cmake -S . -B build/gpu -DCMAKE_BUILD_TYPE=Release -DRLVR_BUILD_TESTS=ON -DRLVR_BUILD_EXAMPLES=ON \
    -DRLVR_BUILD_BENCHMARKS=ON -DRLVR_REQUIRE_CUDA=ON -DRLVR_NATIVE=OFF >"$log" 2>&1 ||
    ! cmake --build build/gpu --parallel "${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}" --target "$@" >>"$log" 2>&1; then
    tail -n 40 "$log" >&2
    echo "tests/gpu.sh: the build failed; all of its output is in $log" >&2
    exit 1
  fi
}

# folders in which python3 has NVIDIA's libraries
packages() {
  python3 -c 'import nvidia; print(*(p + "/cu13" for p in nvidia.__path__))' 2>/dev/null
}

# can_start PROGRAM: finds the libraries that it needs, or says which one is missing. Where they are is in `libraries`,
# for our own programs only: a python3 with torch has its own.
libraries=${LD_LIBRARY_PATH:-}
can_start() {
  if [ ! -x "$1" ]; then
    echo "there is no program $1"
    return 1
  fi
  local cublas folder missing
  cublas=$(LD_LIBRARY_PATH=$libraries ldd "$1" 2>/dev/null | awk '/libcublasLt.* not found/ { print $1 }')
  if [ -n "$cublas" ]; then # of that version: another toolkit's is no use
    for folder in /usr/local/cuda/lib64 /usr/local/cuda-13*/lib64 $(for p in $(packages); do echo "$p/lib"; done); do
      if [ -e "$folder/$cublas" ]; then
        libraries=$folder${libraries:+:$libraries}
        break
      fi
    done
  fi
  missing=$(LD_LIBRARY_PATH=$libraries ldd "$1" 2>&1 | grep 'not found')
  [ -z "$missing" ] || printf '%s cannot start:\n%s\n' "$1" "$missing"
  [ -z "$missing" ]
}

# limited SECONDS COMMAND...: ends it after so many, or with the part; its status is then 124 or 137. It finds our
# programs' libraries.
limited() {
  local seconds=$((until - SECONDS < $1 ? until - SECONDS : $1))
  [ "$seconds" -gt 0 ] || return 124 # to timeout, 0 is forever
  LD_LIBRARY_PATH=$libraries timeout --kill-after=10 "$seconds" "${@:2}"
}

# The names of the tests of a selection, line by line: as Catch2 2 says them, else 3.
list_tests() {
  local names # whose number may be the status
  names=$(limited 60 "$1" --list-test-names-only "$2" 2>/dev/null)
  [ -n "$names" ] || names=$(limited 60 "$1" --list-tests --verbosity quiet "$2")
  [ -z "$names" ] || echo "$names"
}

# run_tests SELECTION...: 77 where there is no GPU; no test at all is a failure.
run_tests() {
  local program=$programs/rlvr_gpu_tests log selection names name begin status passed=0
  can_start "$program" || return 1
  log=$(limited 60 "$program" --list-tags 2>&1)
  if [ $? -eq 77 ]; then
    echo "$log"
    return 77
  fi
  log=$(mktemp)
  mapfile -t names < <(for selection in "$@"; do list_tests "$program" "$selection"; done)
  for name in "${names[@]}"; do
    begin=$SECONDS
    limited "$test_seconds" "${sanitizer[@]}" "$program" "${name//,/\\,}" >"$log" 2>&1
    status=$?
    if [ $status -eq 0 ] && grep -q 'All tests passed' "$log"; then
      passed=$((passed + 1))
      printf 'passed %4d s  %s\n' $((SECONDS - begin)) "$name"
    else
      printf 'FAILED %4d s  %s (status %d)\n' $((SECONDS - begin)) "$name" $status
      cat "$log"
      : >"$log"
    fi
  done
  rm -f "$log"
  echo "$passed of ${#names[@]} tests passed"
  [ "$passed" -gt 0 ] && [ "$passed" -eq ${#names[@]} ]
}

run_benchmarks() {
  can_start "$programs/cuda_speed" || return 1
  limited "$part_seconds" "$programs/cuda_speed" --benchmark_filter="$1"
}

run_peers() {
  can_start "$programs/cuda_speed" || return 1
  local found=$libraries libraries=${LD_LIBRARY_PATH:-} # python3 has its own
  PYTHONUNBUFFERED=1 limited "$part_seconds" python3 benchmarks/peers/decoder.py "$@" \
    --binary "$programs/cuda_speed" --libraries "$found"
}

# run_example PROGRAM OPTION...: with --device cuda, its files thrown away
run_example() {
  can_start "$programs/$1" || return 1
  if ! nvidia-smi >/dev/null 2>&1; then
    echo "nvidia-smi finds no GPU"
    return 77
  fi
  local out status
  out=$(mktemp -d)
  limited "$part_seconds" "$programs/$1" --device cuda --model examples/models/noisy --out "$out" "${@:2}"
  status=$?
  rm -rf "$out"
  return $status
}

find_sanitizer() {
  local path
  for path in "$(command -v compute-sanitizer)" /usr/local/cuda/bin/compute-sanitizer \
    $(for p in "$programs/nvidia/cu13" $(packages); do echo "$p/compute-sanitizer/compute-sanitizer"; done); do
    if [ -x "$path" ]; then
      echo "$path"
      return
    fi
  done
}

run() {
  local sanitizer=()
  if [ $((until - SECONDS)) -lt 10 ]; then
    echo "no time is left"
    return 77
  fi
  case $1 in
    parity) run_tests '~[transformers]~[laws]~[sampling]~[bits]~[memory]' ;; # and whatever has no part of its own
    transformers | laws | sampling | bits | memory) run_tests "[$1]" ;;
    memcheck | racecheck)
      sanitizer=("$(find_sanitizer)" --tool "$1" --error-exitcode 1)
      if [ -z "${sanitizer[0]}" ]; then
        echo "compute-sanitizer is not installed"
        return 77
      fi
      # The library's kernels are not ours to mend; that they get good memory is memcheck's to say.
      if [ "$1" = racecheck ] && [[ $("${sanitizer[0]}" --help) == *--kernel-name* ]]; then
        sanitizer+=(--kernel-name kns=run_kernel)
      fi
      # It slows kernels down a hundredfold: each kernel, then the smallest models.
      run_tests 'cuda attention:*' 'cuda decode:*' 'gpu device: vectors*' 'gpu space: a*' \
        '*those of the Eigen decoder in double*' 'cuda decoder: bfloat16*' 'cuda decoder: samples are*' 'cuda decoder: top-k*'
      ;;
    one-shot)
      run_example one_shot_rlvr --prompts examples/data/chain_train.jsonl \
        --validation examples/data/chain_validation.jsonl --test examples/data/chain_test.jsonl
      ;;
    dopr) run_example dopr --pool balanced --pool-size 64 --rollouts 1024 --seeds 1 ;;
    speed-vectors) run_benchmarks '^vectors' ;;
    speed-attention) run_benchmarks '^(products|attention)' ;;
    speed-sampling) run_benchmarks '^sampling' ;;
    speed-gradient) run_benchmarks '^(products|gradient)' ;;
    peers-attention) run_peers rates attention ;;
    peers-sampling) run_peers sampling ;;
    peers-0.6B | peers-4B) run_peers rates gradient --sizes "${1#peers-}" ;;
  esac
}

if [ "${1:-}" = pack ]; then
  [ $# -eq 2 ] || usage
  build rlvr_gpu_tests cuda_speed one_shot_rlvr dopr
  mkdir -p "$2" || exit 1
  for program in tests/cuda/rlvr_gpu_tests benchmarks/cuda/cuda_speed examples/{one_shot_rlvr,dopr}; do
    strip -o "$2/${program##*/}" "build/gpu/$program" || exit 1
    ldd "build/gpu/$program" | awk '/libbenchmark|libpcre2|libutf8proc/ { print $3 }' | xargs -r cp -Lt "$2" || exit 1
  done
  du -sh "$2"
  exit
fi

record=
end=
while [[ ${1:-} == -* ]]; do
  case $1 in
    --record) record=benchmarks/results ;;
    --record=?*) record=${1#--record=} ;;
    --seconds=*[!0-9]*) usage ;;
    --seconds=[1-9]*) end=$((SECONDS + ${1#--seconds=})) ;;
    *) usage ;;
  esac
  shift
done
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=("${tests[@]}")
targets=()
for part in "${parts[@]}"; do
  if [[ " ${tests[*]} " == *" $part "* ]]; then
    targets+=(rlvr_gpu_tests)
  elif [[ " ${examples[*]} " == *" $part "* ]]; then
    targets+=(one_shot_rlvr dopr)
  elif [[ " ${benchmarks[*]} " == *" $part "* ]]; then
    targets+=(cuda_speed)
  else
    echo "no part is called $part" >&2
    usage
  fi
done

if [ -n "${RLVR_GPU_PROGRAMS:-}" ]; then
  programs=$(realpath -m "$RLVR_GPU_PROGRAMS")
  libraries=$programs${libraries:+:$libraries}
else
  mapfile -t targets < <(printf '%s\n' "${targets[@]}" | sort -u)
  build "${targets[@]}"
  programs=build/gpu/programs
  mkdir -p $programs
  ln -sf ../tests/cuda/rlvr_gpu_tests ../benchmarks/cuda/cuda_speed ../examples/{one_shot_rlvr,dopr} $programs
fi

device=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null |
  sed -n '1s/, /, driver /p')
device=${device:-no GPU that nvidia-smi finds}
date=$(date -u +%Y-%m-%d)
# While the driver's file is open the GPU stays as it is; else it may be made ready anew for every process.
for file in /dev/nvidia[0-9]; do
  { exec 9<"$file"; } 2>/dev/null && break
done
echo "$device, $date"
declare -A rows=()
if [ -n "$record" ]; then
  mkdir -p "$record" || exit 1
  while IFS= read -r line; do
    part=$(awk -F'[| ]+' '{ print $2 }' <<<"$line")
    rows[$part]=$line
  done < <(grep -hE '^\| .* s \|' benchmarks/results/cuda.md "$record/cuda.md" 2>/dev/null)
fi

head='| part            | result  |   time | device | date |
|-----------------|---------|--------|--------|------|'
write_record() {
  local part
  {
    printf '# Last results of tests/gpu.sh, part by part\n\n%s\n' "$head"
    for part in "${tests[@]}" "${examples[@]}" "${benchmarks[@]}"; do
      if [ -n "${rows[$part]:-}" ]; then echo "${rows[$part]}"; else
        printf '| %-15s | never ran on a GPU |  |  |  |\n' "$part"
      fi
    done
  } >"$record/cuda.md.new" && mv "$record/cuda.md.new" "$record/cuda.md"
}

now=()
failed=0
skipped=0
for part in "${parts[@]}"; do
  begin=$SECONDS
  until=$((begin + part_seconds))
  if [ -n "$end" ] && [ $until -gt "$end" ]; then until=$end; fi
  echo "== $part"
  output=$(mktemp)
  run "$part" 2>&1 | tee "$output"
  case ${PIPESTATUS[0]} in
    0) result=passed ;;
    77)
      result=skipped
      skipped=$((skipped + 1))
      ;;
    124 | 137)
      result="FAILED: longer than $((until - begin)) s"
      failed=$((failed + 1))
      ;;
    *)
      count=$(grep -xE '[0-9]+ of [0-9]+ tests passed' "$output")
      result=FAILED${count:+: $count}
      failed=$((failed + 1))
      ;;
  esac
  row=$(printf '| %-15s | %-7s | %4d s | %s | %s |' "$part" "$result" $((SECONDS - begin)) "$device" "$date")
  now+=("$row")
  if [ "$result" != skipped ]; then
    rows[$part]=$row
    if [ -n "$record" ] && [[ " ${benchmarks[*]} " == *" $part "* ]]; then
      { printf '%s, %s\n\n' "$device" "$date" && cat "$output"; } >"$record/cuda_$part.txt"
    fi
  fi
  rm -f "$output"
  [ -z "$record" ] || write_record
done

printf '\n%s\n' "$head"
printf '%s\n' "${now[@]}"
echo "${#parts[@]} parts: $((${#parts[@]} - failed - skipped)) passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ] || exit 1
[ $skipped -eq 0 ] || exit 77
