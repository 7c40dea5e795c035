/// libFuzzer's entry for one function of targets.hpp or bpe.hpp: compiled with RLVR_FUZZ_TARGET set to its name.

#include <cstdint>

#include "bpe.hpp"
#include "targets.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::RLVR_FUZZ_TARGET({reinterpret_cast<const char*>(data), size});
  return 0;
}
