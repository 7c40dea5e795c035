#pragma once
/// As targets.hpp, for the tokenizers that need PCRE2 and utf8proc.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/tokenizer/bpe.hpp>
#include <rlvr/tokenizer/parse.hpp>
#include <rlvr/tokenizer/pre_tokenizer.hpp>

#include "targets.hpp"

namespace fuzz {

/// A tokenizer.json, a NUL, a tokenizer_config.json, a NUL, and a text.
inline bool bpe(std::string_view bytes) {
  const auto [file, rest] = halves(bytes);
  const auto [config_text, text] = halves(rest);
  return accepts([&, file = file, config_text = config_text, text = text] {
    const nlohmann::json root = decoder::parse_json(file, "input");
    const tokenizer::bpe t = tokenizer::parse_bpe(root, "input", config_text, "config");
    const auto known = [&](token id) { return id >= 0 && static_cast<std::size_t>(id) < t.size(); };
    if (t.eos()) hold(known(*t.eos()), "an end of sequence that is no token");
    for (const token id : t.prefix()) hold(known(id), "a prefix that is no token");

    accepts([&, text = text] {
      const std::vector<token> tokens = t.encode(text);
      for (const token id : tokens) hold(known(id), "a text of what is no token");
      hold(t.encode(text) == tokens, "other tokens for the same text");
      if (root.value("added_tokens", nlohmann::json::array()).empty())
        hold(tokenizer::to_nfc(t.decode(tokens)) == tokenizer::to_nfc(text),
             "a text that is another when encoded and decoded");
    });
    std::vector<token> any;
    for (const char c : text) any.push_back(static_cast<token>(static_cast<unsigned char>(c)));
    const std::string decoded = t.decode(any);
    for (std::size_t at = 0, length = 0; at < decoded.size(); at += length) {
      length = decoder::detail::decode_utf8(decoded, at).length;
      hold(length > 0, "a decoded text that is not UTF-8");
    }
  });
}

}  // namespace fuzz
