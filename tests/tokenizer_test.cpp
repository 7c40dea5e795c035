/// Byte-level BPE against published vectors and a plain merge, what tokenizer.json files are refused, chat templates.

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <rlvr/backend/decoder/chat_template.hpp>
#include <rlvr/backend/decoder/files.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/tokenizer/bpe.hpp>
#include <rlvr/tokenizer/folder.hpp>
#include <rlvr/tokenizer/parse.hpp>

#include "catch.hpp"

using namespace rlvr::tokenizer;
using nlohmann::json;
using rlvr::token;
using rlvr::decoder::input_error;
using tokens = std::vector<token>;

namespace {

#ifdef RLVR_SHARED_DATA
const std::string shared = RLVR_SHARED_DATA;
#else
const std::string shared;
#endif

std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

bpe published(const std::string& name) {
  const std::string path = shared + "/tokenizer_" + name + "/tokenizer.reconstructed.json";
  return parse_bpe(rlvr::decoder::parse_json(contents(path), path), path);
}

void append_utf8(std::string& out, char32_t c) {
  const auto put = [&](char32_t b) { out += static_cast<char>(b); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

/// How a byte is written in a vocabulary.
std::string written(unsigned byte) {
  unsigned next = 0x100;
  std::string out;
  for (unsigned b = 0; b < 256; ++b) {
    const bool itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    const unsigned c = itself ? b : next++;
    if (b == byte) append_utf8(out, c);
  }
  return out;
}

/// All bytes, some merges of a, b and the space, and added tokens.
json small_file() {
  json vocab = json::object();
  for (unsigned b = 0; b < 256; ++b) vocab[written(b)] = b;
  const std::string space = written(' ');
  int id = 256;
  json merges = json::array();
  for (const auto& [left, right] : std::vector<std::pair<std::string, std::string>>{{"a", "b"},
                                                                                    {"ab", "ab"},
                                                                                    {"b", "a"},
                                                                                    {space, "a"},
                                                                                    {"a", "a"},
                                                                                    {"aa", "aa"},
                                                                                    {"abab", "a"},
                                                                                    {space + "a", "b"}}) {
    merges.push_back(left + " " + right);
    vocab[left + right] = id++;
  }
  const auto added = [](const char* text, int at, bool special, bool normalized) {
    return json{{"id", at},        {"content", text},    {"single_word", false},    {"lstrip", false},
                {"rstrip", false}, {"special", special}, {"normalized", normalized}};
  };
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens",
           {added("<|end|>", 300, true, false), added("<|end|>x", 301, false, false),
            added("<\xC3\xA9>", 302, false, true)}},
          {"normalizer", {{"type", "NFC"}}},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"ignore_merges", false}, {"vocab", vocab}, {"merges", merges}}}};
}
bpe read_bpe(const json& file, const char* origin, std::string_view config = {}, const char* config_origin = "") {
  return parse_bpe(json::parse(file.dump()), origin, config, config_origin);  // as a file would be
}
json split_by(std::string_view expression) {
  return {{"type", "Sequence"},
          {"pretokenizers",
           {{{"type", "Split"}, {"pattern", {{"Regex", expression}}}, {"behavior", "Isolated"}, {"invert", false}},
            {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
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

/// The definition: as long as there is a pair, merge the one of the lowest rank, of equal ones the leftmost.
tokens plain_merge(const json& file, std::string_view word) {
  const json& vocab = file["model"]["vocab"];
  std::vector<std::string> parts;
  for (const char c : word) parts.push_back(written(static_cast<unsigned char>(c)));
  for (;;) {
    std::size_t best = parts.size(), best_rank = file["model"]["merges"].size();
    for (std::size_t i = 0; i + 1 < parts.size(); ++i)
      for (std::size_t rank = 0; rank < best_rank; ++rank)
        if (file["model"]["merges"][rank] == parts[i] + " " + parts[i + 1]) {
          best = i;
          best_rank = rank;
        }
    if (best == parts.size()) break;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
  tokens out;
  for (const std::string& p : parts) out.push_back(vocab[p].get<token>());
  return out;
}

std::vector<std::string> words_of(std::string_view expression, std::string_view text) {
  std::vector<std::string> out;
  const word_splitter split(expression);
  split(text, [&](std::string_view word) { out.emplace_back(word); });
  return out;
}

}  // namespace

TEST_CASE("bpe: the published vectors") {
  if (!std::filesystem::exists(shared + "/tokenizer_vectors")) {
    WARN("skipped: the folder of shared data is absent");
    return;
  }
  for (const auto& [name, other] : {std::pair<std::string, std::string>{"qwen3", "qwen2"}, {"gpt2", "gpt-2"}}) {
    const bpe t = published(name);
    std::size_t vectors = 0;
    std::istringstream lines(contents(shared + "/tokenizer_vectors/" + name + "_vectors.jsonl"));
    for (std::string line; std::getline(lines, line); ++vectors) {
      const json v = json::parse(line);
      INFO(v["text"]);
      const std::string text = v["text"];
      const auto ids = v["ids"].get<tokens>();
      CHECK(t.encode(text) == ids);
      CHECK(t.decode(ids) == (name == "qwen3" ? to_nfc(text) : text));
    }
    CHECK(vectors == 318);

    const std::string in = contents(shared + "/tokenizer_vectors/ggml-vocab-" + other + ".gguf.inp");
    std::istringstream out(contents(shared + "/tokenizer_vectors/ggml-vocab-" + other + ".gguf.out"));
    const std::string separator = "\n__ggml_vocab_test__\n";
    vectors = 0;
    for (std::size_t begin = 0; begin != in.npos; ++vectors) {
      const std::size_t end = in.find(separator, begin);
      const std::string text = in.substr(begin, end - begin);
      begin = end == in.npos ? end : end + separator.size();
      INFO(text);
      std::string line;  // the last one, of an empty text, has no end
      std::getline(out, line);
      std::istringstream numbers(line);
      tokens ids;
      for (token id; numbers >> id;) ids.push_back(id);
      CHECK(t.encode(text) == ids);
    }
    CHECK(vectors == 47);
  }
  const bpe qwen = published("qwen3");
  CHECK(qwen.encode("<|im_start|>user\nHi<|im_end|>\n") == tokens{151644, 872, 198, 13048, 151645, 198});
  CHECK(qwen.decode(tokens{151644, 872, 198, 13048, 151645, 151668, 151935}) == "user\nHi</think>");
}

TEST_CASE("bpe: the heap merges as the definition does") {
  const json file = small_file();
  const bpe t = read_bpe(file, "f");
  const rlvr::random_key key(7);
  for (std::uint64_t trial = 0; trial < 2000; ++trial) {
    std::string word = trial % 3 == 0 ? " " : "";
    const std::uint64_t length = 1 + key.below(14, 2 * trial);
    for (std::uint64_t i = 0; i < length; ++i) word += key.below(2, 20 * trial + i + 1'000'000) ? 'a' : 'b';
    INFO(word);
    CHECK(t.encode(word) == plain_merge(file, word));
  }
  // Merges as pairs mean the same.
  json pairs = file;
  for (json& m : pairs["model"]["merges"]) {
    const std::string text = m;
    m = {text.substr(0, text.find(' ')), text.substr(text.find(' ') + 1)};
  }
  CHECK(read_bpe(pairs, "f").encode("abaab baba aaaa") == t.encode("abaab baba aaaa"));
  // A word that is a token is taken whole only where the file says so: "ba" is below "ab" in "aba".
  json whole = file;
  whole["model"]["vocab"]["aba"] = 290;
  CHECK(read_bpe(whole, "f").encode("aba") == tokens{256, 'a'});
  whole["model"]["ignore_merges"] = true;
  CHECK(read_bpe(whole, "f").encode("aba") == tokens{290});
}

TEST_CASE("bpe: added tokens, normalisation, text that is not UTF-8") {
  const bpe t = read_bpe(small_file(), "f");
  CHECK(t.size() == 303);
  CHECK(t.encode("") == tokens{});
  CHECK(t.encode("ab<|end|>ab") == tokens{256, 300, 256});
  CHECK(t.encode("<|end|>xx<|end|") == tokens{301, 'x', '<', '|', 'e', 'n', 'd', '|'});
  CHECK(t.encode("<e\xCC\x81>") == tokens{302});  // found in the normalised text
  CHECK(t.encode("e\xCC\x81") == t.encode("\xC3\xA9"));
  CHECK((t.is_special(300) && !t.is_special(301) && !t.is_special(-1) && !t.is_special(303)));
  CHECK(t.find_added("<|end|>x") == token{301});
  CHECK(!t.find_added("ab"));
  CHECK(t.decode(tokens{300, 256, 301, 299, 1000}) == "ab<|end|>x");
  CHECK_THROWS_WITH(t.decode(tokens{1, -3}), "bpe::decode: token 1 is -3");
  CHECK(error_of([&] { t.encode("ab\xFFz"); }) == "bytes that are not UTF-8 at byte 2 of the text");

  // What is not UTF-8 becomes U+FFFD, one for each longest beginning of a character.
  const auto lossy = [&](std::string_view bytes) {
    tokens ids;
    for (const char c : bytes) ids.push_back(static_cast<unsigned char>(c));
    return t.decode(ids);
  };
  const std::string bad = "\xEF\xBF\xBD";
  CHECK(lossy("a\x80z") == "a" + bad + "z");
  CHECK(lossy("\xE2\x82") == bad);
  CHECK(lossy("\xE2\x82z") == bad + "z");
  CHECK(lossy("\xF0\x9F\x98") == bad);
  CHECK(lossy("\xF0\x9F\x98\xF0\x9F\x98\x80") == bad + "\xF0\x9F\x98\x80");
  CHECK(lossy("\xED\xA0\x80") == bad + bad + bad);  // a surrogate
  CHECK(lossy("\xC0\xAF") == bad + bad);
  CHECK(lossy("\xF4\x90\x80\x80") == bad + bad + bad + bad);
}

TEST_CASE("bpe: words") {
  using words = std::vector<std::string>;
  CHECK(words_of(known_words[0], "I'll  add 123 + 4\n") == words{"I", "'ll", " ", " add", " 123", " +", " 4", "\n"});
  CHECK(words_of(known_words[1], "I'LL add 123\n\n x") == words{"I", "'LL", " add", " ", "1", "2", "3", "\n\n", " x"});
  CHECK(words_of(known_words[2], "12345678") == words{"123", "456", "78"});
  // A combining mark belongs to the word only for qwen3.5.
  CHECK(words_of(known_words[1], "a\xCC\xA7z") == words{"a", "\xCC\xA7z"});
  CHECK(words_of(known_words[3], "a\xCC\xA7z") == words{"a\xCC\xA7z"});
  // U+00A0 and U+2003 are space, U+180E is not.
  CHECK(words_of(known_words[0], "\xC2\xA0\xE2\x80\x83") == words{"\xC2\xA0\xE2\x80\x83"});
  CHECK(words_of(known_words[0], "!\xE1\xA0\x8E!") == words{"!\xE1\xA0\x8E!"});
  // Together the words are the text.
  const rlvr::random_key key(3);
  for (const std::string_view expression : known_words) {
    const word_splitter split(expression);
    for (std::uint64_t trial = 0; trial < 300; ++trial) {
      std::string text, joined;
      for (std::uint64_t i = 0; i < 40; ++i) {
        const std::uint64_t range[] = {0x80, 0x800, 0x3000, 0x20000};
        const std::uint64_t c = key.below(range[key.below(4, 100 * trial + i)], 100 * trial + i + 9'000'000);
        if (c < 0xD800 || c > 0xDFFF) append_utf8(text, static_cast<char32_t>(c));
      }
      split(text, [&](std::string_view word) {
        CHECK(!word.empty());
        joined += word;
      });
      CHECK(joined == text);
    }
  }
}

TEST_CASE("bpe: a long word takes no quadratic time") {
  const bpe t = read_bpe(small_file(), "f");
  const auto begin = std::chrono::steady_clock::now();
  for (const char c : {'a', ' ', '\n', '!'}) {
    const std::string text(1 << 20, c);
    CHECK(t.decode(t.encode(text)) == text);
  }
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(60));  // seconds, even with a sanitizer
}

TEST_CASE("bpe: what is refused, by name and value") {
  const std::string no = "f: not a byte-level BPE tokenizer that is known here: ";
  const auto fault = [](json file) { return error_of([&] { read_bpe(file, "f"); }); };
  const auto with = [&](const char* path, json value) {
    json file = small_file();
    file[json::json_pointer(path)] = std::move(value);
    return fault(file);
  };
  CHECK(fault(small_file()) == "no error");
  CHECK(fault(json::array()) == no + "no object \"model\"");
  CHECK(with("/model/type", "Unigram") == no + "the model's type is \"Unigram\"");
  CHECK(with("/model/dropout", 0.1) == no + "dropout is 0.1");
  CHECK(with("/model/byte_fallback", true) == no + "byte_fallback is true");
  CHECK(with("/model/end_of_word_suffix", "</w>") == no + "end_of_word_suffix is \"</w>\"");
  CHECK(with("/model/vocab", json::array()) == no + "no object \"vocab\"");
  CHECK(with("/model/vocab/a", -1) == no + "token \"a\" has id -1");
  CHECK(with("/model/vocab/a", 98) == no + "two tokens have id 98");
  CHECK(with("/model/merges", nullptr) == no + "no list \"merges\"");
  CHECK(with("/model/merges/0", "ab") == no + "merge \"ab\"");
  CHECK(with("/model/merges/0", {"a"}) == no + "merge [\"a\"]");
  CHECK(with("/model/merges/0", "a z") == no + "merge \"a z\" of or into what is no token");
  CHECK(with("/normalizer", {{"type", "NFKC"}}) == no + "normalizer is {\"type\":\"NFKC\"}");
  CHECK(with("/pre_tokenizer", nullptr) == no + "pre_tokenizer is null");
  CHECK_THAT(with("/pre_tokenizer/add_prefix_space", true), Catch::Contains("pre_tokenizer is {"));
  CHECK_THAT(with("/pre_tokenizer/use_regex", false), Catch::Contains("pre_tokenizer is {"));
  CHECK(with("/pre_tokenizer", split_by(R"(\w+)")) == no + R"(the expression of its words is "\\w+")");
  for (const std::string_view known : known_words) CHECK(with("/pre_tokenizer", split_by(known)) == "no error");
  json inverted = split_by(known_words[1]);
  inverted["pretokenizers"][0]["invert"] = true;
  CHECK_THAT(with("/pre_tokenizer", inverted), Catch::Contains("pre_tokenizer is {"));
  CHECK(with("/decoder", nullptr) == no + "decoder is null");
  CHECK(with("/truncation", 3) == no + "truncation is 3");
  CHECK(with("/added_tokens", 3) == no + "added_tokens is not a list");
  CHECK(with("/added_tokens/0/lstrip", true) == no + "lstrip is true");
  CHECK(with("/added_tokens/0/id", 97) == no + "two tokens have id 97");
  CHECK(with("/added_tokens/0/content", "") == "bpe: added token 0 has id 300 of 303, or no text");

  const json template_of = {
      {"type", "TemplateProcessing"},
      {"single",
       {{{"SpecialToken", {{"id", "<|end|>"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}}};
  json file = small_file();
  file["post_processor"] = {{"type", "Sequence"}, {"processors", {{{"type", "ByteLevel"}}, template_of}}};
  const bpe prefixed = read_bpe(file, "f");
  CHECK(std::vector<token>(prefixed.prefix().begin(), prefixed.prefix().end()) == tokens{300});
  CHECK(prefixed.encode("ab") == tokens{256});
  json behind = template_of;
  std::swap(behind["single"][0], behind["single"][1]);
  CHECK_THAT(with("/post_processor", behind), Catch::Contains("post_processor is {"));
  CHECK_THAT(with("/post_processor", {{"type", "BertProcessing"}}), Catch::Contains("post_processor is {"));

  const auto eos = [](const char* config) { return error_of([&] { read_bpe(small_file(), "f", config, "c"); }); };
  CHECK(read_bpe(small_file(), "f", R"({"eos_token": "<|end|>"})", "c").eos() == token{300});
  CHECK(read_bpe(small_file(), "f", R"({"eos_token": {"content": "<|end|>"}})", "c").eos() == token{300});
  CHECK(!read_bpe(small_file(), "f", "{}", "c").eos());
  CHECK(eos(R"({"eos_token": "</s>"})") == "c: eos_token is \"</s>\", which is not a token");
  CHECK(eos("[]") == "c: not a JSON object");
  CHECK(eos("{") == "c: not JSON (error at byte 2)");

  json few = small_file();
  few["model"]["vocab"].erase("z");
  CHECK(error_of([&] { read_bpe(few, "f").encode("az"); }) == "the vocabulary has no token for byte 122");
}

TEST_CASE("bpe: damaged files are refused or read, never worse") {
  const std::string good = small_file().dump();
  const rlvr::random_key key(9);
  std::size_t refused = 0;
  for (std::uint64_t trial = 0; trial < 1000; ++trial) {
    std::string text = good;
    for (std::uint64_t flips = 0; flips <= trial % 3; ++flips) {
      const std::uint64_t i = 8 * trial + flips;
      text[key.below(text.size(), i)] = trial % 2 ? "0123456789,[]{}\": "[key.below(18, i + 5'000'000)]
                                                  : static_cast<char>(key.below(128, i + 3'000'000));
    }
    try {
      const bpe damaged = parse_bpe(rlvr::decoder::parse_json(text, "f"), "f");
      damaged.decode(damaged.encode("abab <|end|> \xC3\xA9"));
    } catch (const input_error&) {
      ++refused;
    }
  }
  CHECK(refused > 300);
}

TEST_CASE("chat templates") {
  using namespace rlvr::decoder;
  using enum chat_template;
  CHECK(chat_prompt(none, "2+2?") == "2+2?");
  CHECK(chat_prompt(qwen2_5, "2+2?") ==
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n");
  CHECK(chat_prompt(qwen3, "2+2?") == "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n");
  CHECK(chat_prompt(qwen3_no_thinking, "2+2?") ==
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
  CHECK(chat_prompt(r1_distill_qwen, "2+2?") == "<｜begin▁of▁sentence｜><｜User｜>2+2?<｜Assistant｜><think>\n");

  const std::vector<chat_message> turns = {{chat_role::system, "Be brief."},
                                           {chat_role::user, "2+2?"},
                                           {chat_role::assistant, "<think>\nfour\n</think>\n\n4"},
                                           {chat_role::user, "And 3?"}};
  CHECK(chat_prompt(qwen2_5, turns) ==
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
        "<think>\nfour\n</think>\n\n4<|im_end|>\n<|im_start|>user\nAnd 3?<|im_end|>\n<|im_start|>assistant\n");
  CHECK(
      chat_prompt(qwen3, turns) ==
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n"
      "<|im_start|>user\nAnd 3?<|im_end|>\n<|im_start|>assistant\n");
  CHECK(chat_prompt(r1_distill_qwen, turns) ==
        "<｜begin▁of▁sentence｜>Be brief.<｜User｜>2+2?<｜Assistant｜>\n\n4<｜end▁of▁sentence｜><｜User｜>And 3?"
        "<｜Assistant｜><think>\n");
  CHECK_THROWS_AS(chat_prompt(qwen3, std::span(turns).first(3)), std::invalid_argument);
  CHECK_THROWS_AS(chat_prompt(qwen3, std::span<const chat_message>()), std::invalid_argument);
  CHECK_THROWS_WITH(chat_prompt(qwen3, std::vector<chat_message>{turns[1], turns[0], turns[3]}),
                    "chat_prompt: message 1 is a system message");

  CHECK(chat_template_named("none") == none);
  CHECK(chat_template_named("qwen2.5") == qwen2_5);
  CHECK(chat_template_named("qwen3") == qwen3);
  CHECK(chat_template_named("qwen3-no-thinking") == qwen3_no_thinking);
  CHECK(chat_template_named("r1-distill-qwen") == r1_distill_qwen);
  CHECK_THROWS_WITH(chat_template_named("llama"),
                    "chat_template_named: \"llama\" is not one of " + std::string(chat_template_names));
}

// What chat_template_golden.py got from Jinja and the published templates; the same script with 20,000 random
// conversations found no difference either.
TEST_CASE("chat templates: the published Jinja templates say the same") {
  using namespace rlvr::decoder;
  const json golden = json::parse(rlvr::decoder::read_file(RLVR_SOURCE_DIR "/tests/golden/chat_template_golden.json"));
  const json& conversations = golden.at("conversations");
  REQUIRE(conversations.size() >= 40);
  REQUIRE(golden.at("rendered").size() == 4);
  for (const auto& [name, rendered] : golden.at("rendered").items()) {
    REQUIRE(rendered.size() == conversations.size());
    for (std::size_t i = 0; i < conversations.size(); ++i) {
      std::vector<chat_message> messages;
      for (const json& m : conversations[i]) {
        const auto text = m.get<std::string>();
        const chat_role role = text[0] == 's'   ? chat_role::system
                               : text[0] == 'u' ? chat_role::user
                                                : chat_role::assistant;
        messages.push_back({role, text.substr(2)});
      }
      CAPTURE(name, conversations[i].dump());
      CHECK(chat_prompt(chat_template_named(name), messages) == rendered[i].get<std::string>());
    }
  }
}

TEST_CASE("folder tokenizer: either kind, with its files") {
  namespace fs = std::filesystem;
  const fs::path folder = fs::temp_directory_path() / "rlvr_tokenizer_test", copy = folder / "copy";
  fs::remove_all(folder);
  fs::create_directories(copy);
  const auto put = [&](const char* name, const std::string& text) { std::ofstream(folder / name) << text; };
  json file = small_file();
  file["added_tokens"][0]["content"] = "<|im_start|>";
  put("tokenizer.json", file.dump());
  put("tokenizer_config.json", R"({"eos_token": "<|im_start|>"})");
  put("merges.txt", "a b");
  const folder_tokenizer pairs(folder);
  CHECK(pairs.size() == 303);
  CHECK(pairs.eos() == token{300});
  CHECK(pairs.encode("ab") == tokens{256});
  CHECK(pairs.decode(tokens{256, 300}) == "ab");
  CHECK(pairs.encode_prompt(rlvr::decoder::chat_template::none, "ab") == tokens{256});
  CHECK(pairs.encode_prompt(rlvr::decoder::chat_template::qwen3, "ab").front() == 300);
  CHECK(error_of([&] { pairs.encode_prompt(rlvr::decoder::chat_template::r1_distill_qwen, "ab"); }) ==
        "the tokenizer has no token <｜Assistant｜>, which the chat template needs");
  write_tokenizer(copy, pairs, {});
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "merges.txt"})
    CHECK(contents((copy / name).string()) == contents((folder / name).string()));

  const rlvr::decoder::char_tokenizer characters("ab");
  put("tokenizer.json", rlvr::decoder::tokenizer_json(characters));
  put("tokenizer_config.json", rlvr::decoder::tokenizer_config_json(characters, 9));
  const folder_tokenizer one(folder);
  CHECK(one.size() == 4);
  CHECK(one.eos() == token{1});
  CHECK(one.encode_prompt(rlvr::decoder::chat_template::none, "ba") == tokens{3, 2});
  CHECK(one.decode(tokens{3, 2, 1}) == "ba");
  CHECK(error_of([&] { one.encode_prompt(rlvr::decoder::chat_template::qwen3, "ab"); }) ==
        "the tokenizer has no token <|im_start|>, which the chat template needs");
  fs::remove(folder / "tokenizer_config.json");
  CHECK(error_of([&] { folder_tokenizer missing(folder); }) ==
        "no file " + (folder / "tokenizer_config.json").string());
  fs::remove_all(folder);
}
