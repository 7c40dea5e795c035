#pragma once
/// A target on the kept inputs of its fuzzer and on damaged copies of them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <rlvr/core/random.hpp>

#include "../catch.hpp"

namespace fuzz {

inline std::vector<std::string> corpus(const std::string& name) {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(RLVR_SOURCE_DIR "/tests/fuzz/corpus/" + name))
    paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> out;
  for (const std::filesystem::path& path : paths) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream bytes;
    bytes << file.rdbuf();
    out.push_back(bytes.str());
  }
  return out;
}

/// The input itself, every prefix of it, and 300 copies with a few bytes changed, removed or doubled.
inline void try_all(bool (*target)(std::string_view), const std::string& name) {
  const std::vector<std::string> inputs = corpus(name);
  REQUIRE(!inputs.empty());
  bool accepted = false;
  for (std::size_t which = 0; which < inputs.size(); ++which) {
    const std::string& input = inputs[which];
    INFO(name << ", input " << which);
    CHECK_NOTHROW(accepted = target(input) || accepted);
    const std::size_t step = input.size() / 300 + 1;
    for (std::size_t length = 0; length < input.size(); length += step) CHECK_NOTHROW(target(input.substr(0, length)));
    for (std::uint64_t copy = 0; copy < 300 && !input.empty(); ++copy) {
      const rlvr::random_key key = rlvr::random_key(which).fold(copy);
      std::string damaged = input;
      for (std::uint64_t i = 0; i < 1 + copy % 4; ++i) {
        const std::size_t at = key.below(damaged.size(), 3 * i);
        const std::uint64_t kind = key.below(3, 3 * i + 1);
        if (kind == 0) damaged[at] = static_cast<char>(key.below(256, 3 * i + 2));
        if (kind == 1 && damaged.size() > 1) damaged.erase(at, 1 + key.below(8, 3 * i + 2));
        if (kind == 2) damaged.insert(at, damaged.substr(at, 1 + key.below(8, 3 * i + 2)));
        if (damaged.empty()) damaged = "?";
      }
      INFO("copy " << copy);
      CHECK_NOTHROW(target(damaged));
    }
  }
  CHECK(accepted);
}

}  // namespace fuzz
