#pragma once
/// The tokenizer of a model folder, whichever of the kinds it is.

#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <rlvr/backend/decoder/chat_template.hpp>
#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/errors.hpp>
#include <rlvr/backend/decoder/files.hpp>
#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/backend/decoder/model_folder.hpp>
#include <rlvr/backend/decoder/tokenizer.hpp>
#include <rlvr/tokenizer/bpe.hpp>
#include <rlvr/tokenizer/parse.hpp>

namespace rlvr::tokenizer {

/// One token per character (a BPE without merges), or byte-level BPE; and the files, to be written beside what is
/// trained.
class folder_tokenizer {
 public:
  /// Throws input_error when a file is missing, or the tokenizer is of neither kind.
  explicit folder_tokenizer(const std::filesystem::path& folder) : files_(read(folder)), kind_(parse(folder)) {}

  std::size_t size() const {
    return std::visit([](const auto& t) { return t.size(); }, kind_);
  }
  std::optional<token> eos() const {
    return std::visit([](const auto& t) { return std::optional<token>(t.eos()); }, kind_);
  }
  /// No token is put around the text. Throws input_error for text that it has no tokens for.
  std::vector<token> encode(std::string_view text) const {
    return std::visit([&](const auto& t) { return t.encode(text); }, kind_);
  }
  /// Special tokens have no text.
  std::string decode(std::span<const token> tokens) const {
    return std::visit([&](const auto& t) { return t.decode(tokens); }, kind_);
  }
  /// The tokens of a question as the template asks it; without a template the text behind the tokens (begin of
  /// sequence) that the tokenizer puts before every text. Throws input_error as encode, and when the tokenizer does
  /// not know a special token of the template.
  std::vector<token> encode_prompt(decoder::chat_template how, std::string_view question) const {
    std::vector<token> out;
    const bpe* const pairs = std::get_if<bpe>(&kind_);
    if (how == decoder::chat_template::none) {
      if (pairs) out.assign(pairs->prefix().begin(), pairs->prefix().end());
    } else {
      const std::string_view marker =
          how == decoder::chat_template::r1_distill_qwen ? "<｜Assistant｜>" : "<|im_start|>";
      if (!pairs || !pairs->find_added(marker))
        throw decoder::input_error(concat("the tokenizer has no token ", marker, ", which the chat template needs"));
    }
    const std::vector<token> text = encode(decoder::chat_prompt(how, question));
    out.insert(out.end(), text.begin(), text.end());
    return out;
  }
  /// Names and contents of the files that belong to the tokenizer.
  const std::map<std::string, std::string>& files() const { return files_; }

 private:
  static std::map<std::string, std::string> read(const std::filesystem::path& folder) {
    std::map<std::string, std::string> out;
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) out[name] = decoder::read_file(folder / name);
    for (const char* name :
         {"vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"})
      if (std::filesystem::exists(folder / name)) out[name] = decoder::read_file(folder / name);
    return out;
  }
  std::variant<decoder::char_tokenizer, bpe> parse(const std::filesystem::path& folder) const {
    const std::string &text = files_.at("tokenizer.json"), &config = files_.at("tokenizer_config.json"),
                      origin = (folder / "tokenizer.json").string(),
                      config_origin = (folder / "tokenizer_config.json").string();
    // A character tokenizer has no pre-tokenizer, a byte-level one always has one.
    const nlohmann::json root = decoder::parse_json(text, origin);
    if (!root.is_object() || root.value("pre_tokenizer", nlohmann::json()).is_null())
      return decoder::parse_tokenizer(text, origin, config, config_origin);
    return parse_bpe(root, origin, config, config_origin);
  }

  std::map<std::string, std::string> files_;
  std::variant<decoder::char_tokenizer, bpe> kind_;
};

/// Writes the files that were read.
inline void write_tokenizer(const std::filesystem::path& folder, const folder_tokenizer& tokenizer,
                            const decoder::config&) {
  for (const auto& [name, bytes] : tokenizer.files()) decoder::write_file(folder / name, bytes);
}

/// A model folder with a tokenizer of either kind.
inline decoder::basic_model_files<folder_tokenizer> load_model(const std::filesystem::path& folder) {
  return decoder::load_model(folder, [](const std::filesystem::path& f) { return folder_tokenizer(f); });
}

}  // namespace rlvr::tokenizer
