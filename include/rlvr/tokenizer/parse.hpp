#pragma once
/// Byte-level BPE from a Hugging Face tokenizer.json.

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <rlvr/backend/decoder/errors.hpp>
#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/backend/decoder/tokenizer.hpp>
#include <rlvr/core/error.hpp>
#include <rlvr/tokenizer/bpe.hpp>

namespace rlvr::tokenizer {

namespace detail {

/// The bytes that a token of a vocabulary stands for: 33-126, 161-172 and 174-255 are written as the characters of
/// those numbers, the other 68 in their order as U+0100 and on. None when it has other characters.
inline std::optional<std::string> unmap_bytes(std::string_view written) {
  static const std::array<char32_t, 256> characters = [] {
    std::array<char32_t, 256> out{};
    char32_t next = 0x100;
    for (char32_t b = 0; b < 256; ++b) out[b] = (b >= 33 && b <= 126) || (b >= 161 && b != 173) ? b : next++;
    return out;
  }();
  static const std::array<int, 0x144> bytes = [] {
    std::array<int, 0x144> out{};
    out.fill(-1);
    for (std::size_t b = 0; b < 256; ++b) out[characters[b]] = static_cast<int>(b);
    return out;
  }();
  std::string out;
  for (std::size_t at = 0; at < written.size();) {
    const decoder::detail::code_point c = decoder::detail::decode_utf8(written, at);
    if (c.length == 0 || c.value >= bytes.size() || bytes[c.value] < 0) return std::nullopt;
    out += static_cast<char>(bytes[c.value]);
    at += c.length;
  }
  return out;
}

/// Reads the parts of a tokenizer.json one after the other.
class bpe_reader {
 public:
  using json = nlohmann::json;
  bpe_reader(const json& root, std::string origin) : root_(root), origin_(std::move(origin)) {
    if (!root.is_object() || !root.contains("model") || !root["model"].is_object()) refuse("no object \"model\"");
    read_vocabulary(root["model"]);
    read_added();
    read_normalizer(root.value("normalizer", json()));
    read_pre_tokenizer(root.value("pre_tokenizer", json()));
    read_post_processor(root.value("post_processor", json()));
    const json decoder = root.value("decoder", json());
    if (!decoder.is_object() || decoder.value("type", json()) != "ByteLevel") refuse("decoder is ", decoder.dump());
    for (const char* field : {"truncation", "padding"}) neutral(root, field, {});
  }

  bpe_model model;

  /// The id of a token by the text that the file has for it.
  std::optional<token> find(const std::string& written) const {
    const auto it = ids_.find(written);
    return it == ids_.end() ? std::nullopt : std::optional<token>(it->second);
  }

 private:
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    throw decoder::input_error(concat(origin_, ": not a byte-level BPE tokenizer that is known here: ", parts...));
  }
  /// A field that must be absent or one of the given values.
  void neutral(const json& object, const char* field, std::initializer_list<json> allowed) const {
    const json value = object.value(field, json());
    bool ok = value.is_null();
    for (const json& a : allowed) ok = ok || value == a;
    if (!ok) refuse(field, " is ", value.dump());
  }
  token id_of(const std::string& written, const json& id) const {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= std::uint64_t{1} << 24)
      refuse("token \"", written, "\" has id ", id.dump());
    return id.get<token>();
  }
  void give(const std::string& written, token id, std::optional<std::string> bytes) {
    const auto [it, fresh] = ids_.emplace(written, id);
    if (!fresh && it->second != id) refuse("token \"", written, "\" has ids ", it->second, " and ", id);
    const auto i = static_cast<std::size_t>(id);
    if (i >= model.bytes.size()) {
      model.bytes.resize(i + 1);
      taken_.resize(i + 1, 0);
    }
    if (fresh && taken_[i]) refuse("two tokens have id ", id);
    taken_[i] = 1;
    model.bytes[i] = std::move(bytes);
  }

  void read_vocabulary(const json& m) {
    if (m.value("type", json("BPE")) != "BPE") refuse("the model's type is ", m["type"].dump());
    for (const char* field : {"dropout", "unk_token"}) neutral(m, field, {});
    for (const char* field : {"continuing_subword_prefix", "end_of_word_suffix"}) neutral(m, field, {""});
    neutral(m, "byte_fallback", {false});
    neutral(m, "fuse_unk", {false, true});  // without unk_token it changes nothing
    neutral(m, "ignore_merges", {false, true});
    model.whole_words = m.value("ignore_merges", json()) == true;
    if (!m.contains("vocab") || !m["vocab"].is_object()) refuse("no object \"vocab\"");
    for (const auto& [written, id] : m["vocab"].items()) give(written, id_of(written, id), unmap_bytes(written));

    if (!m.contains("merges") || !m["merges"].is_array()) refuse("no list \"merges\"");
    for (const json& entry : m["merges"]) {
      std::string left, right;
      if (entry.is_string()) {
        const std::string& text = entry.get_ref<const std::string&>();
        const std::size_t space = text.find(' ');
        if (space == text.npos || text.find(' ', space + 1) != text.npos) refuse("merge ", entry.dump());
        left = text.substr(0, space);
        right = text.substr(space + 1);
      } else if (entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string()) {
        left = entry[0].get<std::string>();
        right = entry[1].get<std::string>();
      } else {
        refuse("merge ", entry.dump());
      }
      const std::optional<token> a = find(left), b = find(right), both = find(left + right);
      for (const auto& t : {a, b, both})
        if (!t || !model.bytes[static_cast<std::size_t>(*t)])
          refuse("merge ", entry.dump(), " of or into what is no token");
      model.merges.emplace_back(*a, *b);
      model.merged.push_back(*both);
    }
  }

  void read_added() {
    const json added = root_.value("added_tokens", json::array());
    if (!added.is_array()) refuse("added_tokens is not a list");
    for (const json& entry : added) {
      if (!entry.is_object() || !entry.value("content", json()).is_string()) refuse("added token ", entry.dump());
      for (const char* field : {"single_word", "lstrip", "rstrip"}) neutral(entry, field, {false});
      for (const char* field : {"special", "normalized"}) neutral(entry, field, {false, true});
      const std::string text = entry["content"].get<std::string>();
      const token id = id_of(text, entry.value("id", json()));
      give(text, id, text);
      model.added.push_back(
          {text, id, entry.value("special", json()) == true, entry.value("normalized", json()) == true});
    }
  }

  void read_normalizer(const json& n) {
    if (n.is_null()) return;
    if (n.is_object() && n.value("type", json()) == "NFC")
      model.nfc = true;
    else
      refuse("normalizer is ", n.dump());
  }

  void read_pre_tokenizer(const json& p) {
    const auto byte_level = [&](const json& j, bool with_expression) {
      if (!j.is_object() || j.value("type", json()) != "ByteLevel" ||
          j.value("add_prefix_space", json(true)) != false || j.value("use_regex", json(true)) != with_expression)
        refuse("pre_tokenizer is ", p.dump());
    };
    if (!p.is_object() || p.value("type", json()) != "Sequence") return byte_level(p, true);
    const json parts = p.value("pretokenizers", json());
    if (!parts.is_array() || parts.size() != 2 || !parts[0].is_object()) refuse("pre_tokenizer is ", p.dump());
    byte_level(parts[1], false);
    const json& split = parts[0];
    if (split.value("type", json()) != "Split" || split.value("behavior", json()) != "Isolated" ||
        split.value("invert", json()) != false)
      refuse("pre_tokenizer is ", p.dump());
    const json pattern = split.value("pattern", json());
    const json expression = pattern.is_object() ? pattern.value("Regex", json()) : json();
    for (const std::string_view known : known_words)
      if (expression == known) {
        model.words = known;
        return;
      }
    refuse("the expression of its words is ", expression.dump());
  }

  void read_post_processor(const json& p) {
    if (p.is_null() || (p.is_object() && p.value("type", json()) == "ByteLevel")) return;
    if (p.is_object() && p.value("type", json()) == "Sequence" && p.value("processors", json()).is_array()) {
      for (const json& part : p["processors"]) read_post_processor(part);
      return;
    }
    if (!p.is_object() || p.value("type", json()) != "TemplateProcessing" || !p.value("single", json()).is_array())
      refuse("post_processor is ", p.dump());
    bool seen = false;
    for (const json& piece : p["single"]) {
      if (piece.is_object() && piece.contains("Sequence")) {
        seen = true;
      } else if (!seen && piece.is_object() && piece.contains("SpecialToken") && piece["SpecialToken"].is_object() &&
                 piece["SpecialToken"].value("id", json()).is_string()) {
        const auto id = find(piece["SpecialToken"]["id"].get<std::string>());
        if (!id) refuse("post_processor adds ", piece.dump(), ", which is no token");
        model.prefix.push_back(*id);
      } else {
        refuse("post_processor is ", p.dump());
      }
    }
  }

  const json& root_;
  std::string origin_;
  std::unordered_map<std::string, token> ids_;
  std::vector<std::uint8_t> taken_;
};

}  // namespace detail

/// Reads a tokenizer.json, as JSON, and the eos token from the tokenizer_config.json beside it (empty text: none).
/// Anything that would give other tokens than this class does (other words, normalizers, post-processors, stripping
/// added tokens, ...) is refused by name and value. The origins name the files in messages. Throws input_error.
inline bpe parse_bpe(const nlohmann::json& root, const std::string& tokenizer_origin, std::string_view config_text = {},
                     const std::string& config_origin = {}) {
  using nlohmann::json;
  detail::bpe_reader reader(root, tokenizer_origin);
  if (!config_text.empty()) {
    const json config = decoder::parse_json(config_text, config_origin);
    if (!config.is_object()) throw decoder::input_error(config_origin + ": not a JSON object");
    json eos = config.value("eos_token", json());
    if (eos.is_object()) eos = eos.value("content", json());
    if (!eos.is_null()) {
      if (eos.is_string()) reader.model.eos = reader.find(eos.get<std::string>());
      if (!reader.model.eos)
        throw decoder::input_error(concat(config_origin, ": eos_token is ", eos.dump(), ", which is not a token"));
    }
  }
  return bpe(std::move(reader.model));
}

}  // namespace rlvr::tokenizer
