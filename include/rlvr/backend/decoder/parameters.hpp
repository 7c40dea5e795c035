#pragma once
/// The parameters of a decoder from a checkpoint: one safetensors file, or several with an index.

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/errors.hpp>
#include <rlvr/backend/decoder/files.hpp>
#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/backend/decoder/layout.hpp>
#include <rlvr/backend/decoder/mapped_file.hpp>
#include <rlvr/backend/decoder/safetensors.hpp>
#include <rlvr/core/error.hpp>

namespace rlvr::decoder {

namespace detail {

/// A tensor, the file it is in, and that file's name for messages.
struct tensor_source {
  const safetensors_view* file;
  const stored_tensor* tensor;
  std::string_view origin;
};
using tensor_sources = std::map<std::string, tensor_source, std::less<>>;

inline void add_sources(tensor_sources& to, const safetensors_view& file, std::string_view origin) {
  for (const stored_tensor& t : file.tensors()) to[t.name] = {&file, &t, origin};
}

/// Checks that the tensors are those of the config, and that an output matrix beside tied embeddings equals them.
/// `origin` names the whole in messages.
inline void check_sources(const tensor_sources& sources, const config& c, const std::vector<tensor_slot>& slots,
                          std::string_view origin) {
  const auto shape_text = [](const std::vector<std::size_t>& shape) {
    std::string out = "[";
    for (const std::size_t extent : shape) out += concat(out.size() > 1 ? ", " : "", extent);
    return out + "]";
  };
  const auto check_shape = [&](const tensor_source& s, const std::vector<std::size_t>& shape) {
    if (s.tensor->shape != shape)
      throw input_error(concat(s.origin, ": tensor ", s.tensor->name, " has shape ", shape_text(s.tensor->shape),
                               ", expected ", shape_text(shape)));
  };
  std::set<std::string_view> known;
  for (const tensor_slot& slot : slots) {
    const auto found = sources.find(slot.name);
    if (found == sources.end()) throw input_error(concat(origin, ": no tensor ", slot.name));
    check_shape(found->second, slot.shape);
    known.insert(slot.name);
  }
  const auto head = c.tied_embeddings ? sources.find("lm_head.weight") : sources.end();
  if (head != sources.end()) {
    check_shape(head->second, slots.front().shape);
    known.insert(head->first);
  }
  for (const auto& [name, source] : sources)
    if (!known.contains(name))
      throw input_error(
          concat(source.origin, ": tensor ", name, " is not part of a ", c.model_type, " model with this config.json"));
  if (head == sources.end()) return;
  const tensor_source &one = head->second, &other = sources.find(slots.front().name)->second;
  std::vector<double> a, b;
  for (std::size_t done = 0; done < slots.front().size(); done += a.size()) {
    a.resize(std::min(parameter_piece, slots.front().size() - done));
    b.resize(a.size());
    one.file->read(*one.tensor, done, std::span(a));
    other.file->read(*other.tensor, done, std::span(b));
    if (a != b)
      throw input_error(concat(one.origin,
                               ": lm_head.weight differs from model.embed_tokens.weight, but config.json ties them"));
  }
}

/// Copies tensors in layout order to room(n), a std::span of n numbers; asked for after all checks, so that a config
/// alone allocates nothing.
template <class Room>
void copy_parameters(const tensor_sources& sources, const config& c, std::string_view origin, Room&& room) {
  const std::vector<tensor_slot> slots = layout(c);
  check_sources(sources, c, slots, origin);
  const auto parameters = room(parameter_count(slots));
  for (const tensor_slot& slot : slots) {
    const tensor_source& s = sources.find(slot.name)->second;
    s.file->read(*s.tensor, parameters.subspan(slot.offset, slot.size()));
  }
}

/// room for copy_parameters in a vector.
template <std::floating_point T>
auto room_in(std::vector<T>& out) {
  return [&out](std::size_t count) {
    out.resize(count);
    return std::span<T>(out);
  };
}

}  // namespace detail

/// Copies the tensors of a safetensors file into layout order; float or double.
/// With tied embeddings lm_head.weight may be in the file if it equals the embeddings.
/// Throws input_error naming the tensor when one is missing, not part of the layout, of another shape or of a
/// dtype that is not F64, F32, F16 or BF16; file_error when the file is damaged.
/// `origin` names the file in messages.
template <std::floating_point T>
std::vector<T> parse_parameters(std::span<const char> file, const config& c, const std::string& origin) {
  const safetensors_view view(file, origin);
  detail::tensor_sources sources;
  detail::add_sources(sources, view, origin);
  std::vector<T> out;
  detail::copy_parameters(sources, c, origin, detail::room_in(out));
  return out;
}

/// Which file holds which tensor: the weight_map of a model.safetensors.index.json. `origin` names it in messages.
/// Throws input_error when it is not one, or names a file that is not beside it.
inline std::map<std::string, std::string> parse_index(std::string_view text, const std::string& origin) {
  const nlohmann::json root = parse_json(text, origin);
  const detail::field_reader fields(root, origin);
  const nlohmann::json* map = fields.find("weight_map");
  if (!map) throw input_error(origin + ": no field \"weight_map\"");
  if (!map->is_object() || map->empty()) fields.fail("weight_map", *map, "an object of tensors and their files");
  std::map<std::string, std::string> out;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string()) fields.fail(("weight_map of " + tensor).c_str(), file, "the name of a file");
    const std::string name = file.get<std::string>();
    if (name.empty() || name == "." || name == ".." || name.find_first_of("/\\") != name.npos)
      fields.fail(("weight_map of " + tensor).c_str(), file, "the name of a file in the same folder");
    out[tensor] = name;
  }
  return out;
}

namespace detail {

/// f(tensors, name for messages) of the weights in a folder: those of model.safetensors, or of the files that
/// model.safetensors.index.json names, each of which must hold exactly the tensors that the index says.
template <class F>
void with_sources(const std::filesystem::path& folder, F f) {
  const std::filesystem::path single = folder / "model.safetensors", index = folder / "model.safetensors.index.json";
  tensor_sources sources;
  if (std::filesystem::exists(single) || !std::filesystem::exists(index)) {
    const mapped_file file(single);
    const std::string origin = single.string();
    const safetensors_view view(file.bytes(), origin);
    add_sources(sources, view, origin);
    return f(sources, origin);
  }

  struct part {
    mapped_file file;
    std::string origin;
    safetensors_view view;
    explicit part(const std::filesystem::path& path) : file(path), origin(path.string()), view(file.bytes(), origin) {}
  };
  const std::map<std::string, std::string> file_of = parse_index(read_file(index), index.string());
  std::map<std::string, part> parts;
  for (const auto& [tensor, file] : file_of) {
    const part& p = parts.try_emplace(file, folder / file).first->second;
    if (!p.view.find(tensor))
      throw input_error(
          concat(p.origin, ": no tensor ", tensor, ", which ", index.filename().string(), " expects there"));
  }
  for (const auto& [file, p] : parts) {
    for (const stored_tensor& t : p.view.tensors())
      if (const auto said = file_of.find(t.name); said == file_of.end() || said->second != file)
        throw input_error(
            concat(p.origin, ": tensor ", t.name, " is not there according to ", index.filename().string()));
    add_sources(sources, p.view, p.origin);
  }
  f(sources, index.string());
}

}  // namespace detail

/// Copies the parameters in a folder, those of model.safetensors or of the files that model.safetensors.index.json
/// names, in layout order to room(n), a std::span of n numbers, which is asked for once, after the files' tensors were
/// checked. Each file must hold exactly the tensors that the index says. The files are mapped: they take no memory.
/// Throws as parse_parameters, and input_error when a file is missing or does not hold what the index says.
template <std::invocable<std::size_t> Room>
void load_parameters(const std::filesystem::path& folder, const config& c, Room&& room) {
  detail::with_sources(folder, [&](const detail::tensor_sources& sources, const std::string& origin) {
    detail::copy_parameters(sources, c, origin, room);
  });
}

/// The same in pieces, for parameters that go elsewhere: put(offset, std::span<const float>), in the order of the
/// offsets. Memory: one piece, 1 MiB.
template <std::invocable<std::size_t, std::span<const float>> Put>
void read_parameters(const std::filesystem::path& folder, const config& c, Put&& put) {
  detail::with_sources(folder, [&](const detail::tensor_sources& sources, const std::string& origin) {
    const std::vector<tensor_slot> slots = layout(c);
    detail::check_sources(sources, c, slots, origin);
    std::vector<float> values;
    for (const tensor_slot& slot : slots) {
      const detail::tensor_source& s = sources.find(slot.name)->second;
      for (std::size_t done = 0; done < slot.size(); done += values.size()) {
        values.resize(std::min(parameter_piece, slot.size() - done));
        s.file->read(*s.tensor, done, std::span<float>(values));
        put(slot.offset + done, std::span<const float>(values));
      }
    }
  });
}

/// The same as a vector.
template <std::floating_point T = float>
std::vector<T> load_parameters(const std::filesystem::path& folder, const config& c) {
  std::vector<T> out;
  load_parameters(folder, c, detail::room_in(out));
  return out;
}

}  // namespace rlvr::decoder
