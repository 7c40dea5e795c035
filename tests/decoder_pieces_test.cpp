/// Weights of a decoder that are nowhere whole on the host: written from and read into pieces.

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <rlvr/backend/decoder/model_folder.hpp>
#include <rlvr/core/random.hpp>

#include "catch.hpp"
#include "scratch_folder.hpp"

using namespace rlvr::decoder;
namespace fs = std::filesystem;
using scratch = rlvr::testing::scratch_folder;

namespace {

/// Its embeddings are more than one piece.
config wide_config(bool tied) {
  return {.vocab_size = 5000,
          .hidden_size = 64,
          .intermediate_size = 6,
          .layers = 2,
          .heads = 2,
          .kv_heads = 1,
          .head_dim = 2,
          .tied_embeddings = tied,
          .eos = {1}};
}
std::vector<float> parameters_of(const config& c) {
  std::vector<float> out(parameter_count(layout(c)));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(rlvr::random_key(4).uniform(i) - 0.5);
  return out;
}

/// Hands out parameters as a device would, and notes what was asked for.
struct source {
  const std::vector<float>& from;
  std::vector<int> times;
  std::size_t largest = 0;

  explicit source(const std::vector<float>& parameters) : from(parameters), times(parameters.size(), 0) {}
  void operator()(std::size_t at, std::span<float> out) {
    largest = std::max(largest, out.size());
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = from.at(at + i);
      ++times[at + i];
    }
  }
};

}  // namespace

TEST_CASE("model folder: written from pieces, the same bytes") {
  const scratch dir;
  const char_tokenizer tokenizer("012");
  for (const bool tied : {false, true})
    for (const storage as : {storage::f32, storage::bf16}) {
      const config c = wide_config(tied);
      const std::vector<float> p = parameters_of(c);
      source read(p);
      save_model(dir.path / "whole", c, tokenizer, std::span<const float>(p), as);
      save_model(dir.path / "pieces", c, tokenizer, std::ref(read), as);
      for (const std::string& file : model_file_names())
        CHECK(read_file(dir.path / "whole" / file) == read_file(dir.path / "pieces" / file));
      CHECK(std::all_of(read.times.begin(), read.times.end(), [](int n) { return n == 1; }));
      CHECK(read.largest == parameter_piece);
    }
}

TEST_CASE("model folder: when a piece cannot be had, the older folder stays") {
  const scratch dir;
  const char_tokenizer tokenizer("012");
  const config c = wide_config(true);
  const std::vector<float> p = parameters_of(c);
  save_model(dir.path / "m", c, tokenizer, std::span<const float>(p), storage::f32);
  const std::string before = read_file(dir.path / "m" / "model.safetensors");
  for (const int pieces : {0, 1, 2}) {
    int left = pieces;
    const auto failing = [&left](std::size_t, std::span<float> out) {
      if (left-- == 0) throw std::runtime_error("the device is gone");
      std::fill(out.begin(), out.end(), 1.f);
    };
    CHECK_THROWS_WITH(save_model(dir.path / "m", c, tokenizer, failing, storage::f32), "the device is gone");
    CHECK(read_file(dir.path / "m" / "model.safetensors") == before);
    CHECK(std::distance(fs::directory_iterator(dir.path), {}) == 1);
  }
}

TEST_CASE("model folder: read in pieces") {
  const scratch dir;
  const char_tokenizer tokenizer("012");
  for (const bool tied : {false, true})
    for (const storage as : {storage::f32, storage::bf16}) {
      const config c = wide_config(tied);
      save_model(dir.path / "m", c, tokenizer, std::span<const float>(parameters_of(c)), as);
      std::vector<float> got;
      std::size_t largest = 0;
      read_parameters(dir.path / "m", c, [&](std::size_t at, std::span<const float> values) {
        CHECK(at == got.size());  // in order
        largest = std::max(largest, values.size());
        got.insert(got.end(), values.begin(), values.end());
      });
      CHECK(largest == parameter_piece);
      CHECK(got == load_parameters(dir.path / "m", c));
    }
}

TEST_CASE("model folder: nothing is handed out of files that do not fit") {
  const scratch dir;
  const config tied = wide_config(true), untied = wide_config(false);
  std::vector<float> p = parameters_of(untied);
  const std::vector<rlvr::tensor_slot> slots = layout(untied);
  const auto write = [&] {
    write_file(dir.path / "model.safetensors", [&](auto& put) {
      write_safetensors(std::span<const rlvr::tensor_slot>(slots), std::span<const float>(p), storage::f32, put);
    });
  };
  std::size_t pieces = 0;
  const auto count = [&pieces](std::size_t, std::span<const float>) { ++pieces; };
  // An output matrix that equals the embeddings may be there; one that differs in its last number may not.
  std::copy_n(p.begin(), slots.front().size(), p.end() - static_cast<std::ptrdiff_t>(slots.back().size()));
  write();
  read_parameters(dir.path, tied, count);
  CHECK(pieces > 0);
  pieces = 0;
  p.back() += 1;
  write();
  CHECK_THROWS_WITH(read_parameters(dir.path, tied, count), Catch::Contains("but config.json ties them"));
  config other = untied;
  other.intermediate_size = 7;
  CHECK_THROWS_WITH(read_parameters(dir.path, other, count), Catch::Contains("has shape"));
  CHECK_THROWS_AS(read_parameters(dir.path / "absent", untied, count), input_error);
  CHECK(pieces == 0);
}
