/// As fuzz_test.cpp, for the tokenizers that need PCRE2 and utf8proc.

#include <rlvr/tokenizer/parse.hpp>

#include "catch.hpp"
#include "fuzz/bpe.hpp"
#include "fuzz/try_all.hpp"

TEST_CASE("the BPE parser keeps its promises on the fuzzer's inputs and damaged copies", "[fuzz]") {
  fuzz::try_all(fuzz::bpe, "bpe");
}
