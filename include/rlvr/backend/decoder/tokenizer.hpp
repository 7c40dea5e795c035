#pragma once
/// One token per character, as a Hugging Face tokenizer.json.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <rlvr/backend/decoder/errors.hpp>
#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/core/error.hpp>
#include <rlvr/core/rollouts.hpp>

namespace rlvr::decoder {

namespace detail {

/// The code point that begins at text[at], and its length in bytes; length 0 when the bytes are not UTF-8.
struct code_point {
  char32_t value = 0;
  std::size_t length = 0;
};
inline code_point decode_utf8(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const char32_t first = byte(at);
  if (first < 0x80) return {first, 1};
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || at + length > text.size()) return {};
  char32_t value = first & (0xFFu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return {};
    value = (value << 6) | (byte(at + i) & 0x3Fu);
  }
  const char32_t smallest = length == 2 ? 0x80 : length == 3 ? 0x800 : 0x10000;
  if (value < smallest || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) return {};
  return {value, length};
}

}  // namespace detail

/// Text as one token per Unicode code point, plus special tokens (end of sequence, padding) without text.
class char_tokenizer {
 public:
  /// The usual numbering: pad is 0, eos is 1, and the characters of `characters` (UTF-8) follow in their
  /// order. Throws input_error as below.
  explicit char_tokenizer(std::string_view characters)
      : char_tokenizer(number(characters), {0, 1}, 1, token{0}) {}

  /// pieces[i] is the text of token i: one character, or the name of a special token, such as "<eos>".
  /// eos and pad (which may be the same) are among the specials.
  /// Throws input_error when a piece is not one character or is there twice, or a special token is no piece.
  char_tokenizer(std::vector<std::string> pieces, std::vector<token> specials, token eos,
                 std::optional<token> pad)
      : pieces_(std::move(pieces)),
        specials_(std::move(specials)),
        special_(pieces_.size()),
        eos_(eos),
        pad_(pad) {
    ascii_.fill(-1);
    for (const token t : specials_) {
      if (!in_range(t)) fail("special token ", t, " is not one of ", size(), " tokens");
      special_[static_cast<std::size_t>(t)] = 1;
      if (pieces_[static_cast<std::size_t>(t)].empty()) fail("special token ", t, " has no name");
    }
    if (!is_special(eos)) fail("eos token ", eos, " is not a special token");
    if (pad && !is_special(*pad)) fail("pad token ", *pad, " is not a special token");
    std::unordered_map<std::string_view, std::size_t> seen;
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      const auto [other, fresh] = seen.emplace(pieces_[i], i);
      if (!fresh) fail("tokens ", other->second, " and ", i, " are both \"", pieces_[i], "\"");
      if (special_[i]) continue;
      const detail::code_point c =
          pieces_[i].empty() ? detail::code_point{} : detail::decode_utf8(pieces_[i], 0);
      if (c.length == 0 || c.length != pieces_[i].size())
        fail("token ", i, " is \"", pieces_[i], "\", expected one character");
      if (c.value < ascii_.size())
        ascii_[c.value] = static_cast<token>(i);
      else
        wide_.emplace(c.value, static_cast<token>(i));
    }
  }

  std::size_t size() const { return pieces_.size(); }
  token eos() const { return eos_; }
  std::optional<token> pad() const { return pad_; }
  std::span<const token> specials() const { return specials_; }
  /// The character or name of token i < size().
  const std::string& piece(std::size_t i) const { return pieces_[i]; }
  bool is_special(token t) const { return in_range(t) && special_[static_cast<std::size_t>(t)]; }

  /// The tokens of a text; no special token is added. Throws input_error naming the first character that is
  /// not in the vocabulary and its position (in characters, from 0), bytes that are not UTF-8, or the name of
  /// a special token (which other readers of the tokenizer.json would turn into that token).
  /// Linear in the text.
  std::vector<token> encode(std::string_view text) const {
    for (const token t : specials_)
      if (text.find(piece(static_cast<std::size_t>(t))) != text.npos)
        throw input_error(concat("the text holds the special token ", piece(static_cast<std::size_t>(t))));
    std::vector<token> out;
    out.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
      const detail::code_point c = detail::decode_utf8(text, at);
      if (c.length == 0)
        throw input_error(concat("bytes that are not UTF-8 at position ", out.size(), " of the text"));
      const token t = find(c.value);
      if (t < 0) {
        char name[16];
        std::snprintf(name, sizeof name, "U+%04X", static_cast<unsigned>(c.value));
        const std::string shown =
            c.value < 0x20 || c.value == 0x7F ? "" : concat(" '", text.substr(at, c.length), "'");
        throw input_error(
            concat("unknown character", shown, " (", name, ") at position ", out.size(), " of the text"));
      }
      out.push_back(t);
      at += c.length;
    }
    return out;
  }

  /// The text of tokens: special tokens, and ids from size() on (rows that pad an embedding), have none.
  /// Throws std::invalid_argument for a negative token.
  std::string decode(std::span<const token> tokens) const {
    std::string out;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      require(tokens[i] >= 0, "char_tokenizer::decode: token ", i, " is ", tokens[i]);
      if (in_range(tokens[i]) && !is_special(tokens[i])) out += pieces_[static_cast<std::size_t>(tokens[i])];
    }
    return out;
  }

  friend bool operator==(const char_tokenizer& a, const char_tokenizer& b) {
    return a.pieces_ == b.pieces_ && a.special_ == b.special_ && a.eos_ == b.eos_ && a.pad_ == b.pad_;
  }

 private:
  template <class... Parts>
  [[noreturn]] static void fail(const Parts&... parts) {
    throw input_error(concat("char_tokenizer: ", parts...));
  }
  static std::vector<std::string> number(std::string_view characters) {
    std::vector<std::string> pieces{"<pad>", "<eos>"};
    for (std::size_t at = 0; at < characters.size();) {
      const std::size_t length = detail::decode_utf8(characters, at).length;
      if (length == 0) fail("the characters are not UTF-8 at byte ", at);
      pieces.emplace_back(characters.substr(at, length));
      at += length;
    }
    return pieces;
  }
  bool in_range(token t) const { return t >= 0 && static_cast<std::size_t>(t) < pieces_.size(); }
  token find(char32_t c) const {
    if (c < ascii_.size()) return ascii_[c];
    const auto it = wide_.find(c);
    return it == wide_.end() ? -1 : it->second;
  }

  std::vector<std::string> pieces_;
  std::vector<token> specials_;
  std::vector<std::uint8_t> special_;
  token eos_;
  std::optional<token> pad_;
  std::array<token, 128> ascii_{};
  std::unordered_map<char32_t, token> wide_;
};

/// The tokenizer.json of a character tokenizer: BPE without merges, fused on decoding.
/// AutoTokenizer of transformers 4.57 and 5 reads it beside llama and qwen3 models. Beside qwen2 models
/// transformers 5 takes Qwen2Tokenizer whatever the files say, which drops spaces and all that is not ASCII;
/// there PreTrainedTokenizerFast.from_pretrained reads the same folder right.
inline std::string tokenizer_json(const char_tokenizer& t) {
  nlohmann::ordered_json vocab = nlohmann::ordered_json::object(), added = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < t.size(); ++i) vocab[t.piece(i)] = i;
  for (std::size_t i = 0; i < t.size(); ++i)
    if (t.is_special(static_cast<token>(i)))
      added.push_back({{"id", i},
                       {"content", t.piece(i)},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", true}});
  nlohmann::ordered_json out;
  out["version"] = "1.0";
  for (const char* absent : {"truncation", "padding"}) out[absent] = nullptr;
  out["added_tokens"] = added;
  for (const char* absent : {"normalizer", "pre_tokenizer", "post_processor"}) out[absent] = nullptr;
  out["decoder"] = {{"type", "Fuse"}};
  nlohmann::ordered_json& model = out["model"] = {{"type", "BPE"}};
  for (const char* absent : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"})
    model[absent] = nullptr;
  for (const char* off : {"fuse_unk", "byte_fallback", "ignore_merges"}) model[off] = false;
  model["vocab"] = vocab;
  model["merges"] = nlohmann::ordered_json::array();
  return out.dump(2) + "\n";
}

/// The tokenizer_config.json beside it. max_length: the positions of the model.
inline std::string tokenizer_config_json(const char_tokenizer& t, std::size_t max_length) {
  nlohmann::ordered_json out;
  out["tokenizer_class"] = "PreTrainedTokenizerFast";
  out["clean_up_tokenization_spaces"] = false;
  out["eos_token"] = t.piece(static_cast<std::size_t>(t.eos()));
  out["pad_token"] = nullptr;
  if (t.pad()) out["pad_token"] = t.piece(static_cast<std::size_t>(*t.pad()));
  out["model_max_length"] = max_length;
  return out.dump(2) + "\n";
}

/// Reads both files. Anything that would make tokens other than single characters (merges, a normalizer, a
/// pre-tokenizer, prefixes, tokens added by a post-processor, ...) is refused. The origins name the files in
/// messages. Throws input_error.
inline char_tokenizer parse_tokenizer(std::string_view tokenizer_text, const std::string& tokenizer_origin,
                                      std::string_view config_text, const std::string& config_origin) {
  using nlohmann::json;
  const auto refuse = [&](const auto&... parts) {
    throw input_error(concat(tokenizer_origin, ": not a character tokenizer: ", parts...));
  };
  const json root = parse_json(tokenizer_text, tokenizer_origin);
  if (!root.is_object() || !root.contains("model") || !root["model"].is_object())
    refuse("no object \"model\"");
  // A field that must be absent or one of the given values.
  const auto neutral = [&](const json& object, const char* field, std::initializer_list<json> allowed) {
    const json value = object.value(field, json());
    if (value.is_null()) return;
    for (const json& a : allowed)
      if (value == a) return;
    refuse(field, " is ", value.dump());
  };
  for (const char* field : {"truncation", "padding", "normalizer", "pre_tokenizer"}) neutral(root, field, {});
  // The one that adds nothing, which transformers 5 saves.
  neutral(root, "post_processor",
          {json::parse(R"({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}],
             "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
             "special_tokens": {}})")});
  const json& model = root["model"];
  if (model.value("type", json()) != "BPE")
    refuse("the model's type is ", model.value("type", json()).dump());
  if (root.value("decoder", json()) != json{{"type", "Fuse"}})
    refuse("decoder is ", root.value("decoder", json()).dump());
  neutral(model, "dropout", {});
  neutral(model, "unk_token", {});
  neutral(model, "continuing_subword_prefix", {""});
  neutral(model, "end_of_word_suffix", {""});
  neutral(model, "byte_fallback", {false});
  if (!model.value("merges", json::array()).empty()) refuse("it has merges");
  if (!model.contains("vocab") || !model["vocab"].is_object()) refuse("no object \"vocab\"");

  std::map<std::string, std::size_t> ids;
  const auto add = [&](const std::string& piece, const json& id) {
    if (!id.is_number_unsigned()) refuse("token \"", piece, "\" has id ", id.dump());
    const auto [it, fresh] = ids.emplace(piece, id.get<std::size_t>());
    if (it->second != id) refuse("token \"", piece, "\" has ids ", it->second, " and ", id.dump());
  };
  for (const auto& [piece, id] : model["vocab"].items()) add(piece, id);
  std::vector<token> specials;
  const json added = root.value("added_tokens", json::array());
  if (!added.is_array()) refuse("added_tokens is not a list");
  for (const json& entry : added) {
    if (!entry.is_object() || !entry.value("content", json()).is_string() ||
        entry.value("special", json()) != true)
      refuse("added token ", entry.dump(), " is not a special token");
    for (const char* field : {"single_word", "lstrip", "rstrip"}) neutral(entry, field, {false});
    add(entry["content"].get<std::string>(), entry.value("id", json()));
    specials.push_back(entry["id"].get<token>());
  }
  std::vector<std::string> pieces(ids.size());
  for (const auto& [piece, id] : ids) {
    if (id >= pieces.size())
      refuse("token \"", piece, "\" has id ", id, ", but there are ", pieces.size(), " tokens");
    if (!pieces[id].empty()) refuse("tokens \"", pieces[id], "\" and \"", piece, "\" have the same id ", id);
    pieces[id] = piece;
  }

  const json config = parse_json(config_text, config_origin);
  const auto refuse_config = [&](const auto&... parts) {
    throw input_error(concat(config_origin, ": ", parts...));
  };
  if (!config.is_object()) refuse_config("not a JSON object");
  for (const char* field :
       {"add_bos_token", "add_eos_token", "add_prefix_space", "clean_up_tokenization_spaces"})
    if (config.value(field, json(false)) == true)
      refuse_config(field, " is true, which a character tokenizer has not");
  const json type = config.value("tokenizer_class", json());
  if (!type.is_null() && type != "PreTrainedTokenizerFast" && type != "TokenizersBackend")
    refuse_config("tokenizer_class ", type.dump(), " is not supported (PreTrainedTokenizerFast is)");
  const auto named = [&](const char* field) -> std::optional<token> {
    json value = config.value(field, json());
    if (value.is_object()) value = value.value("content", json());
    if (value.is_null()) return std::nullopt;
    if (!value.is_string() || !ids.contains(value.get<std::string>()))
      refuse_config(field, " is ", value.dump(), ", which is not a token");
    return static_cast<token>(ids[value.get<std::string>()]);
  };
  const std::optional<token> eos = named("eos_token"), pad = named("pad_token");
  if (!eos) refuse_config("no eos_token");
  try {
    return char_tokenizer(std::move(pieces), std::move(specials), *eos, pad);
  } catch (const input_error& e) {
    throw input_error(concat(tokenizer_origin, ": ", std::string_view(e.what())));
  }
}

}  // namespace rlvr::decoder
