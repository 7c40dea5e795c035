#pragma once
/// A model as a Hugging Face folder: config.json, weights in one file or several, tokenizer.json,
/// tokenizer_config.json.

#include <concepts>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/errors.hpp>
#include <rlvr/backend/decoder/files.hpp>
#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/backend/decoder/layout.hpp>
#include <rlvr/backend/decoder/parameters.hpp>
#include <rlvr/backend/decoder/safetensors.hpp>
#include <rlvr/backend/decoder/tokenizer.hpp>
#include <rlvr/core/error.hpp>

namespace rlvr::decoder {

/// What a model folder holds.
template <class Tokenizer>
struct basic_model_files {
  config cfg;
  Tokenizer tokenizer;
  std::vector<float> parameters;  ///< in the order of layout(cfg)
};
using model_files = basic_model_files<char_tokenizer>;

/// The shape of the model in a folder; the eos tokens of a generation_config.json win over those of
/// config.json. Throws input_error when a file is missing, damaged JSON, or describes another kind of model.
inline config load_config(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "config.json", generation = folder / "generation_config.json";
  config c = parse_config(read_file(path), path.string());
  if (std::filesystem::exists(generation)) {
    const nlohmann::json root = parse_json(read_file(generation), generation.string());
    std::vector<token> eos = detail::field_reader(root, generation.string()).tokens("eos_token_id");
    if (!eos.empty()) c.eos = std::move(eos);
    validate(c, generation.string());
  }
  return c;
}

/// The character tokenizer in a folder.
/// Throws input_error when a file is missing or the tokenizer is of another kind.
inline char_tokenizer load_tokenizer(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "tokenizer.json", config = folder / "tokenizer_config.json";
  return parse_tokenizer(read_file(path), path.string(), read_file(config), config.string());
}

/// A whole model folder, whose tokenizer is read_tokenizer(folder). A config without eos gets the tokenizer's.
/// Throws as the parts do, and input_error when the tokenizer has more tokens than the model.
template <class F>
auto load_model(const std::filesystem::path& folder, F read_tokenizer)
    -> basic_model_files<decltype(read_tokenizer(folder))> {
  if (!std::filesystem::is_directory(folder)) throw input_error("no model folder " + folder.string());
  config c = load_config(folder);
  auto tokenizer = read_tokenizer(folder);
  if (tokenizer.size() > c.vocab_size)
    throw input_error(concat(folder.string(), ": tokenizer.json has ", tokenizer.size(),
                             " tokens, but vocab_size in config.json is ", c.vocab_size));
  const std::optional<token> eos = tokenizer.eos();
  if (c.eos.empty() && eos) c.eos.push_back(*eos);
  std::vector<float> parameters = load_parameters(folder, c);
  return {std::move(c), std::move(tokenizer), std::move(parameters)};
}

/// A whole model folder with a character tokenizer.
inline model_files load_model(const std::filesystem::path& folder) {
  return load_model(folder, [](const std::filesystem::path& f) { return load_tokenizer(f); });
}

/// The files of a model folder, for a staged_folder.
inline std::vector<std::string> model_file_names() {
  return {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"};
}

/// Writes the files of a character tokenizer.
inline void write_tokenizer(const std::filesystem::path& folder, const char_tokenizer& tokenizer, const config& c) {
  write_file(folder / "tokenizer.json", tokenizer_json(tokenizer));
  write_file(folder / "tokenizer_config.json", tokenizer_config_json(tokenizer, c.max_positions));
}

/// Writes the files of a model into an existing folder, such as one inside a staged_folder.
/// read(offset, std::span<float>) fills in parameters from `offset` on, wherever they are: the host needs no room for
/// all. Requires: write_tokenizer(folder, tokenizer, c). Throws std::invalid_argument when the tokenizer does not fit
/// the config, file_error when a file cannot be written, and what read throws.
template <class Tokenizer, std::invocable<std::size_t, std::span<float>> Read>
void write_model(const std::filesystem::path& folder, const config& c, const Tokenizer& tokenizer, Read&& read,
                 storage as) {
  const std::vector<tensor_slot> slots = layout(c);
  require(tokenizer.size() <= c.vocab_size, "write_model: the tokenizer has ", tokenizer.size(),
          " tokens, but vocab_size is ", c.vocab_size);
  write_file(folder / "config.json", config_json(c, as == storage::f32 ? "float32" : "bfloat16"));
  write_file(folder / "model.safetensors",
             [&](auto& put) { write_safetensors(std::span<const tensor_slot>(slots), read, as, put); });
  write_tokenizer(folder, tokenizer, c);
}

/// The same for parameters in the memory of the host.
/// Throws std::invalid_argument also when their number is not that of the config.
template <class Tokenizer, std::floating_point T>
void write_model(const std::filesystem::path& folder, const config& c, const Tokenizer& tokenizer,
                 std::span<const T> parameters, storage as) {
  const std::size_t count = parameter_count(layout(c));
  require(parameters.size() == count, "write_model: ", parameters.size(), " parameters, but the config has ", count);
  const auto read = [parameters](std::size_t from, std::span<float> out) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(parameters[from + i]);
  };
  write_model(folder, c, tokenizer, read, as);
}

/// Writes a model folder, whole or not at all, replacing an older one. `parameters` is what write_model takes.
template <class Parameters>
void save_model(const std::filesystem::path& folder, const config& c, const char_tokenizer& tokenizer,
                const Parameters& parameters, storage as) {
  staged_folder staged(folder, model_file_names());
  write_model(staged.path(), c, tokenizer, parameters, as);
  staged.commit();
}

}  // namespace rlvr::decoder
