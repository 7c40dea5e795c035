#pragma once
/// Reading and writing safetensors: named arrays in one file.
///
/// A file is a 64-bit little-endian length N, N bytes of JSON, and the data. Everything the reader returns
/// has been checked: the tensors cover the data without holes or overlap, and each is as long as its dtype
/// and shape say. Source: huggingface/safetensors, safetensors/src/tensor.rs (the same files are accepted and
/// rejected).

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <rlvr/backend/decoder/errors.hpp>
#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/core/error.hpp>
#include <rlvr/core/vector_space.hpp>

namespace rlvr::decoder {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

/// One tensor of a file: bytes [begin, end) of the data section hold it row-major.
struct stored_tensor {
  std::string name;
  std::string dtype;  ///< F32, BF16, ...
  std::vector<std::size_t> shape;
  std::size_t begin = 0;
  std::size_t end = 0;

  std::size_t size() const {
    std::size_t n = 1;
    for (std::size_t extent : shape) n *= extent;
    return n;
  }
};

/// The float of a bfloat16 and of an IEEE half; exact.
inline float from_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}
inline float from_f16(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000u) << 16, exponent = (bits >> 10) & 0x1fu,
                      fraction = bits & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;  // zero or subnormal
  return sign ? -magnitude : magnitude;
}

/// The nearest bfloat16, ties to even; NaN stays NaN.
inline std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (value != value) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/// A checked view of a safetensors file in memory; the bytes must outlive it.
class safetensors_view {
 public:
  /// `origin` names the file in messages. Throws file_error when the bytes are not a well-formed file.
  /// O(n log n) for n tensors; the data is not touched.
  safetensors_view(std::span<const char> file, std::string origin) : origin_(std::move(origin)) {
    constexpr std::size_t prefix = 8, longest_header = 100'000'000;
    if (file.size() < prefix) damaged("shorter than the 8 bytes of the header length");
    std::uint64_t header = 0;
    std::memcpy(&header, file.data(), prefix);
    if (header > longest_header)
      damaged("header of ", header, " bytes, at most ", longest_header, " are allowed");
    if (header > file.size() - prefix) damaged("header of ", header, " bytes goes past the end of the file");
    read_header({file.data() + prefix, static_cast<std::size_t>(header)});
    data_ = file.subspan(prefix + static_cast<std::size_t>(header));
    check_extents();
  }

  /// The tensors in the order in which they lie in the file.
  std::span<const stored_tensor> tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  /// The tensor of that name, or nullptr. O(n).
  const stored_tensor* find(std::string_view name) const {
    for (const stored_tensor& t : tensors_)
      if (t.name == name) return &t;
    return nullptr;
  }

  /// Converts elements [first, first + out.size()) of a tensor of this file (dtype F64, F32, F16 or BF16) to out.
  /// Throws std::invalid_argument when the tensor has fewer, input_error for another dtype.
  template <std::floating_point T>
  void read(const stored_tensor& tensor, std::size_t first, std::span<T> out) const {
    require(first <= tensor.size() && out.size() <= tensor.size() - first, "safetensors_view::read: elements ", first,
            " to ", first + out.size(), ", but ", tensor.name, " has ", tensor.size());
    const char* from = data_.data() + tensor.begin;
    if (tensor.dtype == "F64")
      convert<double>(from, first, out, [](double v) { return v; });
    else if (tensor.dtype == "F32")
      convert<float>(from, first, out, [](float v) { return v; });
    else if (tensor.dtype == "F16")
      convert<std::uint16_t>(from, first, out, from_f16);
    else if (tensor.dtype == "BF16")
      convert<std::uint16_t>(from, first, out, from_bf16);
    else
      throw input_error(concat(origin_, ": tensor ", tensor.name, " has dtype ", tensor.dtype,
                               ", expected F64, F32, F16 or BF16"));
  }

  /// The whole tensor. Throws std::invalid_argument when out.size() differs from tensor.size().
  template <std::floating_point T>
  void read(const stored_tensor& tensor, std::span<T> out) const {
    require(out.size() == tensor.size(), "safetensors_view::read: room for ", out.size(), " elements, but ",
            tensor.name, " has ", tensor.size());
    read(tensor, 0, out);
  }

 private:
  template <class... Parts>
  [[noreturn]] void damaged(const Parts&... parts) const {
    throw file_error(concat(origin_, ": damaged safetensors file: ", parts...));
  }

  template <class Stored, class T, class F>
  static void convert(const char* from, std::size_t first, std::span<T> out, F f) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      Stored value;  // the data need not be aligned
      std::memcpy(&value, from + (first + i) * sizeof(Stored), sizeof(Stored));
      out[i] = static_cast<T>(f(value));
    }
  }

  /// Bits of an element, or 0 for an unknown dtype.
  static std::size_t bits_of(std::string_view dtype) {
    static constexpr std::pair<std::string_view, std::size_t> table[] = {
        {"F32", 32},    {"BF16", 16},       {"F16", 16},        {"F64", 64}, {"BOOL", 8},    {"F4", 4},
        {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8},
        {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16}, {"U16", 16},    {"I32", 32},
        {"U32", 32},    {"C64", 64},        {"I64", 64},        {"U64", 64}};
    for (const auto& [name, bits] : table)
      if (name == dtype) return bits;
    return 0;
  }

  void read_header(std::string_view text) {
    nlohmann::json root;
    try {
      root = parse_json(text, origin_ + ": header");
    } catch (const input_error& e) {
      throw file_error(e.what());
    }
    if (!root.is_object()) damaged("the header is not a JSON object");
    for (const auto& [name, value] : root.items())
      if (name == "__metadata__")
        read_metadata(value);
      else
        tensors_.push_back(read_entry(name, value));
    std::sort(tensors_.begin(), tensors_.end(), [](const stored_tensor& a, const stored_tensor& b) {
      return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
  }

  void read_metadata(const nlohmann::json& value) {
    if (value.is_null()) return;
    if (!value.is_object()) damaged("__metadata__ is not an object");
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) damaged("__metadata__ field ", key, " is not a string");
      metadata_[key] = text.get<std::string>();
    }
  }

  stored_tensor read_entry(const std::string& name, const nlohmann::json& value) const {
    const auto list = [&](const char* field) {
      const auto it = value.find(field);
      if (it == value.end() || !it->is_array()) damaged("tensor ", name, " has no list ", field);
      std::vector<std::size_t> out;
      for (const nlohmann::json& item : *it) {
        if (!item.is_number_unsigned()) damaged("tensor ", name, ": ", field, " holds ", item.dump());
        out.push_back(item.get<std::size_t>());
      }
      return out;
    };
    if (!value.is_object()) damaged("tensor ", name, " is not described by an object");
    stored_tensor t{name, {}, list("shape"), 0, 0};
    const std::vector<std::size_t> offsets = list("data_offsets");
    if (offsets.size() != 2) damaged("tensor ", name, " has ", offsets.size(), " data_offsets");
    t.begin = offsets[0];
    t.end = offsets[1];
    const auto dtype = value.find("dtype");
    if (dtype == value.end() || !dtype->is_string()) damaged("tensor ", name, " has no dtype");
    t.dtype = dtype->get<std::string>();
    return t;
  }

  void check_extents() const {
    std::size_t covered = 0;
    for (const stored_tensor& t : tensors_) {
      if (t.begin != covered || t.end < t.begin)
        damaged("tensor ", t.name, " has bytes ", t.begin, " to ", t.end, ", expected to begin at ", covered);
      std::size_t bits = bits_of(t.dtype);
      if (bits == 0) damaged("tensor ", t.name, " has unknown dtype ", t.dtype);
      std::size_t elements = 1;
      for (std::size_t extent : t.shape) elements = product(t, elements, extent);
      bits = product(t, elements, bits);
      if (bits % 8 != 0 || t.end - t.begin != bits / 8)
        damaged("tensor ", t.name, " has ", t.end - t.begin, " bytes, but dtype and shape need ", bits,
                " bits");
      covered = t.end;
    }
    if (covered != data_.size())
      damaged("the tensors cover ", covered, " bytes, but ", data_.size(), " bytes follow the header");
  }

  std::size_t product(const stored_tensor& t, std::size_t a, std::size_t b) const {
    if (b != 0 && a > std::numeric_limits<std::size_t>::max() / b)
      damaged("the shape of tensor ", t.name, " overflows");
    return a * b;
  }

  std::string origin_;
  std::vector<stored_tensor> tensors_;
  std::map<std::string, std::string> metadata_;
  std::span<const char> data_;
};

/// The element type that parameters are written in.
enum class storage { f32, bf16 };

/// Parameters of a decoder are read and written in pieces of at most so many.
inline constexpr std::size_t parameter_piece = std::size_t{1} << 18;

/// Calls put(std::string_view) with one piece after the other of a safetensors file that holds the parameters under the
/// names of their slots, rounded to nearest even. read(offset, std::span<float>) fills in parameters from `offset` on,
/// wherever they are. The tensors lie in the order of their names and the data begins at a multiple of 8 bytes, as
/// other writers do it. Memory: two pieces, 1 MiB each. Throws whatever read and put throw.
template <std::invocable<std::size_t, std::span<float>> Read, std::invocable<std::string_view> Put>
void write_safetensors(std::span<const tensor_slot> slots, Read&& read, storage as, Put&& put) {
  std::vector<const tensor_slot*> sorted;
  for (const tensor_slot& s : slots) sorted.push_back(&s);
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->name < b->name; });
  const std::size_t width = as == storage::f32 ? 4 : 2;
  nlohmann::ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};
  std::size_t end = 0;
  for (const tensor_slot* s : sorted) {
    const std::size_t begin = end;
    end += s->size() * width;
    header[s->name] = {
        {"dtype", as == storage::f32 ? "F32" : "BF16"}, {"shape", s->shape}, {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  std::string piece(sizeof length, '\0');
  std::memcpy(piece.data(), &length, sizeof length);
  put(piece);
  put(text);
  std::vector<float> values;
  for (const tensor_slot* s : sorted)
    for (std::size_t done = 0; done < s->size(); done += values.size()) {
      values.resize(std::min(parameter_piece, s->size() - done));
      read(s->offset + done, std::span<float>(values));
      piece.resize(values.size() * width);
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::uint16_t half = to_bf16(values[i]);
        std::memcpy(piece.data() + i * width, as == storage::f32 ? static_cast<const void*>(&values[i]) : &half, width);
      }
      put(piece);
    }
}

/// The same for parameters that slots cover without gaps.
/// Throws std::invalid_argument, before the first piece, when a slot goes past them.
template <std::floating_point T, std::invocable<std::string_view> Put>
void write_safetensors(std::span<const tensor_slot> slots, std::span<const T> parameters, storage as, Put&& put) {
  for (const tensor_slot& s : slots)
    require(s.offset + s.size() <= parameters.size(), "write_safetensors: tensor ", s.name, " ends at ",
            s.offset + s.size(), ", but there are ", parameters.size(), " parameters");
  const auto read = [parameters](std::size_t from, std::span<float> out) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(parameters[from + i]);
  };
  write_safetensors(slots, read, as, put);
}

/// The same as one string.
template <std::floating_point T>
std::string write_safetensors(std::span<const tensor_slot> slots, std::span<const T> parameters, storage as) {
  std::string out;
  write_safetensors(slots, parameters, as, [&out](std::string_view piece) { out += piece; });
  return out;
}

}  // namespace rlvr::decoder
