# For tests/run.sh, examples/run.sh and examples/dopr.sh, which source this file: installs what is missing, and builds.

# need PACKAGE...: on Debian and Ubuntu, installs those of the packages that are missing.
need() {
  local missing=() package
  if ! command -v dpkg-query >/dev/null; then
    if command -v c++ >/dev/null && command -v cmake >/dev/null; then
      echo "This is not Debian or Ubuntu, so nothing is installed. Needed are what these packages hold: $*"
      return
    fi
    echo "A C++ compiler or cmake is missing. Needed are what these Debian packages hold: $*" >&2
    exit 1
  fi
  for package in "$@"; do
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "Missing: ${missing[*]}. Only root can install packages, and there is no sudo." >&2
      exit 1
    fi
    as_root=(sudo)
  fi
  echo "Installing: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# cuda_options ARGUMENT...: the CMake options for a program with these arguments: with CUDA for --device cuda.
cuda_options() {
  case " $* " in
    *" --device cuda "* | *" --device=cuda "*) echo -DRLVR_CUDA=ON -DRLVR_REQUIRE_CUDA=ON ;;
    *) echo -DRLVR_CUDA=OFF -DRLVR_REQUIRE_CUDA=OFF ;;
  esac
}

# build TARGET [CMAKE_OPTION...]: builds the target in build/, Release, with Ninja where there is one.
build() {
  local target=$1 jobs memory
  shift
  local generator=()
  if [ ! -f build/CMakeCache.txt ] && command -v ninja >/dev/null; then generator=(-G Ninja); fi
  # A compiler may take 2 GB.
  jobs=$(nproc)
  memory=$(awk '/^MemAvailable:/ { print int($2 / 2000000) }' /proc/meminfo)
  if [ "$memory" -lt "$jobs" ]; then jobs=$memory; fi
  if [ "$jobs" -lt 1 ]; then jobs=1; fi
  echo "Building in build/ with $jobs jobs"
  cmake -S . -B build "${generator[@]}" -DCMAKE_BUILD_TYPE=Release "$@"
  cmake --build build --target "$target" --parallel "$jobs"
}
