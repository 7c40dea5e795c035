#pragma once
/// A model as a Hugging Face folder: config.json, model.safetensors, tokenizer.json, tokenizer_config.json.

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/errors.hpp>
#include <rlvr/backend/decoder/files.hpp>
#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/backend/decoder/layout.hpp>
#include <rlvr/backend/decoder/safetensors.hpp>
#include <rlvr/backend/decoder/tokenizer.hpp>
#include <rlvr/core/error.hpp>

namespace rlvr::decoder {

/// What a model folder holds.
struct model_files {
  config cfg;
  char_tokenizer tokenizer;
  std::vector<float> parameters;  ///< in the order of layout(cfg)
};

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

/// Copies the tensors of a safetensors file into layout order; float or double.
/// With tied embeddings lm_head.weight may be in the file if it equals the embeddings.
/// Throws input_error naming the tensor when one is missing, not part of the layout, of another shape or of a
/// dtype that is not F64, F32, F16 or BF16; file_error when the file is damaged.
/// `origin` names the file in messages.
template <std::floating_point T>
std::vector<T> parse_parameters(std::span<const char> file, const config& c, const std::string& origin) {
  const safetensors_view view(file, origin);
  const std::vector<tensor_slot> slots = layout(c);
  const auto shape_text = [](const std::vector<std::size_t>& shape) {
    std::string out = "[";
    for (const std::size_t extent : shape) out += concat(out.size() > 1 ? ", " : "", extent);
    return out + "]";
  };
  const auto check_shape = [&](const stored_tensor& t, const std::vector<std::size_t>& shape) {
    if (t.shape != shape)
      throw input_error(concat(origin, ": tensor ", t.name, " has shape ", shape_text(t.shape), ", expected ",
                               shape_text(shape)));
  };
  std::size_t known = 0;
  for (const tensor_slot& slot : slots) {
    const stored_tensor* t = view.find(slot.name);
    if (!t) throw input_error(concat(origin, ": no tensor ", slot.name));
    check_shape(*t, slot.shape);
    ++known;
  }
  const stored_tensor* head = c.tied_embeddings ? view.find("lm_head.weight") : nullptr;
  if (head) {
    check_shape(*head, slots.front().shape);
    ++known;
  }
  if (known != view.tensors().size())
    for (const stored_tensor& t : view.tensors())
      if (&t != head &&
          std::none_of(slots.begin(), slots.end(), [&](const auto& s) { return s.name == t.name; }))
        throw input_error(concat(origin, ": tensor ", t.name, " is not part of a ", c.model_type,
                                 " model with this config.json"));

  std::vector<T> parameters(parameter_count(slots));  // after the checks: the file is that large
  for (const tensor_slot& slot : slots)
    view.read(*view.find(slot.name), std::span<T>(parameters).subspan(slot.offset, slot.size()));
  if (head) {
    std::vector<T> copy(head->size());
    view.read(*head, std::span<T>(copy));
    if (!std::equal(copy.begin(), copy.end(), parameters.begin()))
      throw input_error(origin +
                        ": lm_head.weight differs from model.embed_tokens.weight, but config.json ties them");
  }
  return parameters;
}

/// parse_parameters of model.safetensors in a folder.
template <std::floating_point T = float>
std::vector<T> load_parameters(const std::filesystem::path& folder, const config& c) {
  const std::filesystem::path path = folder / "model.safetensors";
  if (!std::filesystem::exists(path) && std::filesystem::exists(folder / "model.safetensors.index.json"))
    throw input_error(folder.string() + ": weights in several files are not supported yet");
  return parse_parameters<T>(read_file(path), c, path.string());
}

/// A whole model folder. A config without eos gets the tokenizer's.
/// Throws as the parts do, and input_error when the tokenizer has more tokens than the model.
inline model_files load_model(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) throw input_error("no model folder " + folder.string());
  config c = load_config(folder);
  char_tokenizer tokenizer = load_tokenizer(folder);
  if (tokenizer.size() > c.vocab_size)
    throw input_error(concat(folder.string(), ": tokenizer.json has ", tokenizer.size(),
                             " tokens, but vocab_size in config.json is ", c.vocab_size));
  if (c.eos.empty()) c.eos.push_back(tokenizer.eos());
  std::vector<float> parameters = load_parameters(folder, c);
  return {std::move(c), std::move(tokenizer), std::move(parameters)};
}

/// The files of a model folder, for a staged_folder.
inline std::vector<std::string> model_file_names() {
  return {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"};
}

/// Writes the files of a model into an existing folder, such as one inside a staged_folder.
/// Throws std::invalid_argument when parameters do not fit the config,
/// file_error when a file cannot be written.
template <std::floating_point T>
void write_model(const std::filesystem::path& folder, const config& c, const char_tokenizer& tokenizer,
                 std::span<const T> parameters, storage as) {
  const std::vector<tensor_slot> slots = layout(c);
  require(parameters.size() == parameter_count(slots), "write_model: ", parameters.size(),
          " parameters, but the config has ", parameter_count(slots));
  require(tokenizer.size() <= c.vocab_size, "write_model: the tokenizer has ", tokenizer.size(),
          " tokens, but vocab_size is ", c.vocab_size);
  write_file(folder / "config.json", config_json(c, as == storage::f32 ? "float32" : "bfloat16"));
  write_file(folder / "model.safetensors",
             write_safetensors(std::span<const tensor_slot>(slots), parameters, as));
  write_file(folder / "tokenizer.json", tokenizer_json(tokenizer));
  write_file(folder / "tokenizer_config.json", tokenizer_config_json(tokenizer, c.max_positions));
}

/// Writes a model folder, whole or not at all, replacing an older one.
template <std::floating_point T>
void save_model(const std::filesystem::path& folder, const config& c, const char_tokenizer& tokenizer,
                std::span<const T> parameters, storage as) {
  staged_folder staged(folder, model_file_names());
  write_model(staged.path(), c, tokenizer, parameters, as);
  staged.commit();
}

}  // namespace rlvr::decoder
