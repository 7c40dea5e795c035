#pragma once
/// What holds for any bytes that are given to whatever parses: a value that keeps its promises, or one of the two
/// errors that the folder's docstrings name. Run by libFuzzer (fuzz.cpp) and on the kept inputs (fuzz_test.cpp).

#include <cmath>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/backend/decoder/chat_template.hpp>
#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/errors.hpp>
#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/backend/decoder/layout.hpp>
#include <rlvr/backend/decoder/parameters.hpp>
#include <rlvr/backend/decoder/prompts.hpp>
#include <rlvr/backend/decoder/safetensors.hpp>
#include <rlvr/backend/decoder/tokenizer.hpp>
#include <rlvr/verify/named.hpp>

namespace fuzz {

using namespace rlvr;

inline void hold(bool ok, const char* what) {
  if (!ok) throw std::logic_error(what);  // not one of the two errors, so nobody catches it
}

/// Calls f; lets the two errors pass when they say something. Whether there was none.
template <class F>
bool accepts(F f) {
  try {
    f();
    return true;
  } catch (const decoder::input_error& e) {
    hold(*e.what() != '\0', "an input_error without a message");
  } catch (const decoder::file_error& e) {
    hold(*e.what() != '\0', "a file_error without a message");
  }
  return false;
}

// The targets. Each says whether the bytes were accepted.

/// The bytes before and behind the first NUL.
inline std::pair<std::string_view, std::string_view> halves(std::string_view bytes) {
  const std::size_t at = bytes.find('\0');
  if (at == bytes.npos) return {bytes, {}};
  return {bytes.substr(0, at), bytes.substr(at + 1)};
}

inline bool json(std::string_view bytes) {
  return accepts([&] {
    const nlohmann::json value = decoder::parse_json(bytes, "input");
    hold(decoder::parse_json(value.dump(), "again") == value, "JSON that is not the same when read again");
  });
}

inline bool safetensors(std::string_view bytes) {
  return accepts([&] {
    const decoder::safetensors_view view(bytes, "input");
    for (const decoder::stored_tensor& t : view.tensors()) {
      hold(view.find(t.name) != nullptr, "a tensor that is not found by its name");
      hold(t.end - t.begin <= bytes.size(), "a tensor longer than its file");
      if (t.size() > bytes.size()) continue;  // of elements without bytes
      std::vector<float> values(t.size());
      accepts([&] { view.read(t, std::span<float>(values)); });
      std::vector<double> wide(t.size());
      accepts([&] { view.read(t, std::span<double>(wide)); });
    }
  });
}

inline bool index(std::string_view bytes) {
  return accepts([&] {
    const auto file_of = decoder::parse_index(bytes, "input");
    hold(!file_of.empty(), "an index of nothing");
    for (const auto& [tensor, file] : file_of)
      hold(!file.empty() && file != "." && file != ".." && file.find('/') == file.npos, "a file in another folder");
  });
}

inline bool config(std::string_view bytes) {
  return accepts([&] {
    const decoder::config c = decoder::parse_config(bytes, "input");
    (void)decoder::parse_config(decoder::config_json(c), "again");
    if (c.layers > 1000) return;
    std::size_t end = 0;
    for (const tensor_slot& slot : decoder::layout(c)) {
      hold(slot.offset == end, "a layout with holes");
      end += slot.size();
    }
  });
}

inline bool tokenizer(std::string_view bytes) {
  const auto [tokenizer_text, config_text] = halves(bytes);
  return accepts([&, tokenizer_text = tokenizer_text, config_text = config_text] {
    const decoder::char_tokenizer t = decoder::parse_tokenizer(tokenizer_text, "input", config_text, "config");
    std::vector<token> all;
    for (std::size_t i = 0; i < t.size() && i < 1000; ++i) all.push_back(static_cast<token>(i));
    const std::string text = t.decode(all);
    accepts([&] { hold(t.decode(t.encode(text)) == text, "a text that is another when encoded and decoded"); });
    (void)decoder::parse_tokenizer(decoder::tokenizer_json(t), "again", decoder::tokenizer_config_json(t, 64), "again");
  });
}

inline bool prompts(std::string_view bytes) {
  return accepts([&] {
    const decoder::prompt_file file = decoder::parse_prompts(bytes, "input");
    hold(file.size() > 0 && file.answers.size() == file.size() && file.lines.size() == file.size(),
         "a prompt file of uneven lists");
    for (const std::string& prompt : file.prompts) hold(!prompt.empty(), "an empty prompt");
  });
}

/// Messages that are separated by NULs; the first byte of each says whose it is.
inline bool chat(std::string_view bytes) {
  std::vector<decoder::chat_message> messages;
  bool misplaced = false;
  while (!bytes.empty()) {
    const auto [message, rest] = halves(bytes);
    bytes = rest;
    if (message.empty()) continue;
    const auto role = static_cast<decoder::chat_role>(static_cast<unsigned char>(message[0]) % 3);
    misplaced = misplaced || (role == decoder::chat_role::system && !messages.empty());
    messages.push_back({role, std::string(message.substr(1))});
  }
  misplaced = misplaced || messages.empty() || messages.back().role != decoder::chat_role::user;
  using enum decoder::chat_template;
  for (const decoder::chat_template how : {none, qwen2_5, qwen3, qwen3_no_thinking, r1_distill_qwen}) {
    std::string text;
    bool refused = false;
    try {
      text = decoder::chat_prompt(how, messages);
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    hold(refused == misplaced, "a conversation whose order was not checked");
    if (refused) continue;
    const std::string& question = messages.back().content;
    hold(text.find(question) != text.npos, "a prompt without its question");
    hold(text.ends_with(how == none                ? question
                        : how == qwen3_no_thinking ? "</think>\n\n"
                        : how == r1_distill_qwen   ? "<think>\n"
                                                   : "<|im_start|>assistant\n"),
         "a prompt whose end is not where the answer begins");
  }
  return !misplaced;
}

/// Every verifier by its name, on the bytes before the first NUL as completion and those behind it as answer.
inline bool verifiers(std::string_view bytes) {
  const auto [completion, answer] = halves(bytes);
  std::string_view names = verifier_names;
  while (!names.empty()) {
    const std::size_t comma = names.find(',');
    const std::string_view name = names.substr(0, comma);
    names.remove_prefix(comma == names.npos ? names.size() : comma + 1);
    while (!names.empty() && (names.front() == ' ' || names.front() == '\n')) names.remove_prefix(1);
    with_verifier(name, [&, c = completion, a = answer](const auto& verifier) {
      const verdict v = verifier(c, a);
      hold(std::isfinite(v.reward), "a reward that is not finite");
      hold(verifier(c, a) == v, "another verdict on the same texts");
      // In memory of their own, so that a sanitizer sees what is read beyond the end.
      const std::vector<char> c_alone(c.begin(), c.end()), a_alone(a.begin(), a.end());
      hold(verifier({c_alone.data(), c_alone.size()}, {a_alone.data(), a_alone.size()}) == v,
           "a verdict that depends on what stands behind the text");
    });
  }
  return true;
}

}  // namespace fuzz
