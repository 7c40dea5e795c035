/// The character tokenizer: text to tokens and back, and its two files.

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <rlvr/backend/decoder/tokenizer.hpp>
#include <rlvr/core/random.hpp>

#include "catch.hpp"

using namespace rlvr::decoder;
using nlohmann::json;
using rlvr::token;

namespace {

const std::string characters = "0123456789+-=;\n \"\\é€😀";

char_tokenizer parse(const json& tokenizer, const json& config) {
  return parse_tokenizer(tokenizer.dump(), "tokenizer.json", config.dump(), "tokenizer_config.json");
}
json files_of(const char_tokenizer& t) {
  return {json::parse(tokenizer_json(t)), json::parse(tokenizer_config_json(t, 64))};
}

template <class F>
std::string error_of(F f) {
  try {
    f();
  } catch (const input_error& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("char tokenizer: text to tokens and back") {
  const char_tokenizer t(characters);
  CHECK(t.size() == 2 + 21);
  CHECK(t.pad() == token{0});
  CHECK(t.eos() == 1);
  CHECK(t.encode("") == std::vector<token>{});
  CHECK(t.encode("09+") == std::vector<token>{2, 11, 12});
  CHECK(t.encode("é€😀\n") == std::vector<token>{20, 21, 22, 16});
  CHECK(t.decode(t.encode("1+2 = 3;\n é\"\\😀")) == "1+2 = 3;\n é\"\\😀");
  CHECK(t.decode(std::vector<token>{0, 2, 1, 3, 23, 1000, 1}) == "01");
  CHECK_THROWS_WITH(t.decode(std::vector<token>{2, -1}), "char_tokenizer::decode: token 1 is -1");
  CHECK((t.is_special(0) && t.is_special(1) && !t.is_special(2) && !t.is_special(-1) && !t.is_special(23)));
}

TEST_CASE("char tokenizer: text that it does not know") {
  const char_tokenizer t(characters);
  CHECK(error_of([&] { t.encode("1+é2x"); }) == "unknown character 'x' (U+0078) at position 4 of the text");
  CHECK(error_of([&] { t.encode("è"); }) == "unknown character 'è' (U+00E8) at position 0 of the text");
  CHECK(error_of([&] { t.encode("1\t"); }) == "unknown character (U+0009) at position 1 of the text");
  CHECK(error_of([&] { t.encode("1<eos>"); }) == "the text holds the special token <eos>");
  CHECK(error_of([&] { t.encode("12<"); }) == "unknown character '<' (U+003C) at position 2 of the text");
  for (const std::string bad : {"\x80", "\xC3", "\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80",
                                "\xF4\x90\x80\x80", "\xF0\x80\x80\x80", "\xFF", "\xE2\x82", "\xC3("})
    CHECK(error_of([&] { t.encode("1" + bad); }) == "bytes that are not UTF-8 at position 1 of the text");
}

TEST_CASE("char tokenizer: pieces that make none") {
  const auto make = [](std::vector<std::string> pieces, std::vector<token> specials, token eos,
                       std::optional<token> pad) {
    return error_of([&] { char_tokenizer(pieces, specials, eos, pad); });
  };
  CHECK(make({"<e>", "a"}, {0}, 0, std::nullopt) == "no error");
  CHECK(make({"<e>", "a"}, {0}, 0, 0) == "no error");
  CHECK(make({"<e>", "ab"}, {0}, 0, 0) == "char_tokenizer: token 1 is \"ab\", expected one character");
  CHECK(make({"<e>", ""}, {0}, 0, 0) == "char_tokenizer: token 1 is \"\", expected one character");
  CHECK(make({"<e>", "a", "a"}, {0}, 0, 0) == "char_tokenizer: tokens 1 and 2 are both \"a\"");
  CHECK(make({"<e>", "a"}, {0}, 1, 0) == "char_tokenizer: eos token 1 is not a special token");
  CHECK(make({"<e>", "a"}, {0}, 0, 1) == "char_tokenizer: pad token 1 is not a special token");
  CHECK(make({"<e>", "a"}, {0, 2}, 0, 0) == "char_tokenizer: special token 2 is not one of 2 tokens");
  CHECK(make({"<e>", "a", ""}, {0, 2}, 0, 0) == "char_tokenizer: special token 2 has no name");
  CHECK(error_of([] { char_tokenizer("a\xFF"); }) ==
        "char_tokenizer: the characters are not UTF-8 at byte 1");
  CHECK(error_of([] { char_tokenizer("aba"); }) == "char_tokenizer: tokens 2 and 4 are both \"a\"");
}

TEST_CASE("char tokenizer: what is written is read back") {
  for (const char_tokenizer& t :
       {char_tokenizer(characters), char_tokenizer({"S", "E", "P", "0", "1", ","}, {0, 1, 2}, 1, 2),
        char_tokenizer({"a", "<end>"}, {1}, 1, std::nullopt)}) {
    const json files = files_of(t);
    CHECK(parse(files[0], files[1]) == t);
  }
}

TEST_CASE("char tokenizer: variants of the files that mean the same") {
  const char_tokenizer t(characters);
  const json files = files_of(t);
  json tokenizer = files[0], config = files[1];
  tokenizer["model"]["vocab"].erase("<eos>");  // special tokens may stand in added_tokens only
  tokenizer["model"]["continuing_subword_prefix"] = "";
  tokenizer["model"].erase("dropout");
  tokenizer.erase("padding");
  config["eos_token"] = {{"content", "<eos>"}, {"lstrip", false}};
  config["tokenizer_class"] = "TokenizersBackend";
  tokenizer["post_processor"] = json::parse(R"({"type": "TemplateProcessing", "special_tokens": {},
    "single": [{"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]})");
  CHECK(parse(tokenizer, config) == t);
}

TEST_CASE("char tokenizer: other tokenizers are refused with the reason") {
  const json files = files_of(char_tokenizer("ab"));
  const auto with = [&](const char* pointer, json value) {
    json tokenizer = files[0];
    tokenizer[json::json_pointer(pointer)] = std::move(value);
    return error_of([&] { parse(tokenizer, files[1]); });
  };
  const auto with_config = [&](const char* field, json value) {
    json config = files[1];
    config[field] = std::move(value);
    return error_of([&] { parse(files[0], config); });
  };
  const std::string no = "tokenizer.json: not a character tokenizer: ";
  CHECK(with("/version", "1.0") == "no error");
  CHECK(with("/normalizer", {{"type", "NFC"}}) == no + "normalizer is {\"type\":\"NFC\"}");
  CHECK(with("/pre_tokenizer", {{"type", "ByteLevel"}}) == no + "pre_tokenizer is {\"type\":\"ByteLevel\"}");
  CHECK(with("/post_processor", {{"type", "ByteLevel"}}) ==
        no + "post_processor is {\"type\":\"ByteLevel\"}");
  CHECK(with("/decoder", nullptr) == no + "decoder is null");
  CHECK(with("/decoder/type", "ByteLevel") == no + "decoder is {\"type\":\"ByteLevel\"}");
  CHECK(with("/model", 1) == no + "no object \"model\"");
  CHECK(with("/model/type", "WordPiece") == no + "the model's type is \"WordPiece\"");
  CHECK(with("/model/merges", {"a b"}) == no + "it has merges");
  CHECK(with("/model/byte_fallback", true) == no + "byte_fallback is true");
  CHECK(with("/model/end_of_word_suffix", "</w>") == no + "end_of_word_suffix is \"</w>\"");
  CHECK(with("/model/unk_token", "a") == no + "unk_token is \"a\"");
  CHECK(with("/model/vocab", json::array()) == no + "no object \"vocab\"");
  CHECK(with("/model/vocab/c", 2) == no + "tokens \"a\" and \"c\" have the same id 2");
  CHECK(with("/model/vocab/c", 9) == no + "token \"c\" has id 9, but there are 5 tokens");
  CHECK(with("/model/vocab/c", -4) == no + "token \"c\" has id -4");
  CHECK(with("/model/vocab/cc", 4) ==
        "tokenizer.json: char_tokenizer: token 4 is \"cc\", expected one character");
  CHECK(with("/added_tokens", 4) == no + "added_tokens is not a list");
  CHECK(with("/added_tokens/1/id", 2) == no + "token \"<eos>\" has ids 1 and 2");
  CHECK(with("/added_tokens/1/lstrip", true) == no + "lstrip is true");
  CHECK(with("/added_tokens/0", 3) == no + "added token 3 is not a special token");
  CHECK(with("/added_tokens/0/special", false).find("is not a special token") != std::string::npos);
  const std::string bad = "tokenizer_config.json: ";
  CHECK(with_config("eos_token", nullptr) == bad + "no eos_token");
  CHECK(with_config("eos_token", "</s>") == bad + "eos_token is \"</s>\", which is not a token");
  CHECK(with_config("pad_token", 0) == bad + "pad_token is 0, which is not a token");
  CHECK(with_config("eos_token", "a") ==
        "tokenizer.json: char_tokenizer: eos token 2 is not a special token");
  CHECK(with_config("add_bos_token", true) ==
        bad + "add_bos_token is true, which a character tokenizer has not");
  CHECK(with_config("tokenizer_class", "LlamaTokenizer") ==
        bad + "tokenizer_class \"LlamaTokenizer\" is not supported (PreTrainedTokenizerFast is)");
  CHECK(error_of([&] { parse(files[0], json::array()); }) == bad + "not a JSON object");
  CHECK(error_of([&] { parse(json::array(), files[1]); }) == no + "no object \"model\"");
  CHECK(error_of([&] { parse_tokenizer("{", "t", "{}", "c"); }) == "t: not JSON (error at byte 2)");
  CHECK(error_of([&] { parse_tokenizer(files[0].dump(), "t", "", "c"); }) == "c: not JSON (error at byte 1)");
}

TEST_CASE("char tokenizer: damaged files are refused or read, never worse") {
  const char_tokenizer t(characters);
  const std::string good = tokenizer_json(t), config = tokenizer_config_json(t, 64);
  const rlvr::random_key key(3);
  std::size_t refused = 0;
  for (std::uint64_t trial = 0; trial < 2000; ++trial) {
    std::string text = good, other = config;
    for (std::uint64_t flips = 0; flips <= trial % 3; ++flips) {
      const std::uint64_t i = 8 * trial + flips;
      std::string& target = trial % 4 ? text : other;
      target[key.below(target.size(), i)] = static_cast<char>(key.below(128, i + 3'000'000));
    }
    try {
      const char_tokenizer damaged = parse_tokenizer(text, "t", other, "c");
      CHECK(damaged.size() > 0);
    } catch (const input_error&) {
      ++refused;
    }
  }
  CHECK(refused > 500);
}
