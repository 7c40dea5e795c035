/// Everything that parses, on the kept inputs of the fuzzers (tests/fuzz/corpus) and on damaged copies of them.

#include <rlvr/backend/decoder/errors.hpp>

#include "catch.hpp"
#include "fuzz/targets.hpp"
#include "fuzz/try_all.hpp"

TEST_CASE("parsers keep their promises on the fuzzers' inputs and damaged copies", "[fuzz]") {
  fuzz::try_all(fuzz::json, "json");
  fuzz::try_all(fuzz::safetensors, "safetensors");
  fuzz::try_all(fuzz::index, "index");
  fuzz::try_all(fuzz::config, "config");
  fuzz::try_all(fuzz::tokenizer, "tokenizer");
  fuzz::try_all(fuzz::prompts, "prompts");
  fuzz::try_all(fuzz::chat, "chat");
  fuzz::try_all(fuzz::verifiers, "verifiers");
}
