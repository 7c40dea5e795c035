#pragma once
/// The header of .npy files: what an array in a file is made of.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <rlvr/backend/decoder/errors.hpp>
#include <rlvr/core/error.hpp>

namespace rlvr {

/// Which index of an array runs fastest in memory: the last (row_major, C) or the first (column_major, Fortran).
enum class npy_order { row_major, column_major };

/// An array as its file describes it.
struct npy_header {
  std::string type;  ///< as in NumPy's dtype.str: byte order, kind, bytes per element: "<f8", "|b1"
  npy_order order = npy_order::row_major;
  std::vector<std::size_t> shape;
  std::size_t begin = 0;  ///< where in the file the data begins
};

/// The elements that .npy files can hold here: bool, integers and floats of at most eight bytes.
template <class T>
concept npy_element = std::same_as<T, bool> || (std::integral<T> && !std::same_as<T, char>) ||
                      (std::floating_point<T> && sizeof(T) <= 8);
/// Those of them of which every pattern of bits is a value.
template <class T>
concept npy_number = npy_element<T> && !std::same_as<T, bool>;

/// The type string of T on this machine: "<f8" for double, "<i4" for token, "|b1" for bool.
template <npy_element T>
std::string npy_type() {
  const std::uint16_t one = 1;
  const bool little = *reinterpret_cast<const unsigned char*>(&one) == 1;
  const char kind = std::same_as<T, bool> ? 'b' : std::floating_point<T> ? 'f' : std::is_signed_v<T> ? 'i' : 'u';
  return {sizeof(T) == 1 ? '|' : little ? '<' : '>', kind, static_cast<char>('0' + sizeof(T))};
}

namespace detail {

inline constexpr std::string_view npy_magic{"\x93NUMPY", 6};

/// Reads the Python dictionary in a header: the keys in any order, each once.
class npy_parser {
 public:
  npy_parser(std::string_view text, const std::string& file) : rest_(text), file_(file) {}

  npy_header parse() {
    npy_header out;
    bool has_type = false, has_order = false, has_shape = false;
    expect('{');
    while (!take('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr" && !has_type) {
        if (peek() == '[') fail_input("holds records, expected an array of numbers");
        out.type = quoted();
        has_type = true;
      } else if (key == "fortran_order" && !has_order) {
        out.order = boolean() ? npy_order::column_major : npy_order::row_major;
        has_order = true;
      } else if (key == "shape" && !has_shape) {
        out.shape = tuple();
        has_shape = true;
      } else {
        fail(concat("unexpected key '", key, "'"));
      }
      if (!take(',') && peek() != '}') fail("',' or '}' is missing");
    }
    if (peek() != '\0' || !rest_.empty()) fail("something stands behind the dictionary");
    if (!has_type) fail("no 'descr'");
    if (!has_order) fail("no 'fortran_order'");
    if (!has_shape) fail("no 'shape'");
    return out;
  }

 private:
  [[noreturn]] void fail(std::string_view what) const {
    throw decoder::file_error(concat(file_, ": damaged .npy header: ", what));
  }
  [[noreturn]] void fail_input(std::string_view what) const { throw decoder::input_error(concat(file_, ": ", what)); }

  /// The next character that is not a space; '\0' at the end.
  char peek() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\n')) rest_.remove_prefix(1);
    return rest_.empty() ? '\0' : rest_[0];
  }
  bool take(char c) {
    if (peek() != c || rest_.empty()) return false;
    rest_.remove_prefix(1);
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail(concat("'", std::string_view(&c, 1), "' is missing"));
  }
  std::string quoted() {
    const char mark = peek();
    if (mark != '\'' && mark != '"') fail("a quoted word is missing");
    const std::size_t end = rest_.find(mark, 1);
    if (end == std::string_view::npos || end > 64) fail("a quoted word does not end");
    std::string word;
    for (const char c : rest_.substr(1, end - 1)) word += c >= ' ' && c <= '~' ? c : '?';
    rest_.remove_prefix(end + 1);
    return word;
  }
  bool boolean() {
    const bool yes = peek() == 'T';
    const std::string_view word = yes ? "True" : "False";
    if (rest_.substr(0, word.size()) != word) fail("'fortran_order' is neither True nor False");
    rest_.remove_prefix(word.size());
    return yes;
  }
  std::vector<std::size_t> tuple() {
    std::vector<std::size_t> out;
    expect('(');
    while (!take(')')) {
      std::size_t extent = 0, digits = 0;
      peek();
      for (; !rest_.empty() && rest_[0] >= '0' && rest_[0] <= '9'; ++digits, rest_.remove_prefix(1)) {
        const auto digit = static_cast<std::size_t>(rest_[0] - '0');
        if (extent > (std::numeric_limits<std::size_t>::max() - digit) / 10) fail("an extent of 'shape' is too large");
        extent = 10 * extent + digit;
      }
      if (digits == 0) fail("'shape' is not a tuple of numbers");
      out.push_back(extent);
      if (!take(',') && peek() != ')') fail("'shape' is not a tuple of numbers");
    }
    return out;
  }

  std::string_view rest_;
  const std::string& file_;
};

/// Reads and checks the header of a whole file; `file` names it in messages.
inline npy_header parse_npy(std::span<const char> bytes, const std::string& file) {
  const std::string_view text(bytes.data(), bytes.size());
  if (text.substr(0, 6) != npy_magic) throw decoder::file_error(concat(file, ": not a .npy file"));
  const auto byte = [&](std::size_t i) { return std::size_t{static_cast<unsigned char>(text[i])}; };
  const std::size_t version = text.size() > 6 ? byte(6) : 1, width = version == 1 ? 2 : 4;
  if (version < 1 || version > 3)
    throw decoder::input_error(concat(file, ": .npy version ", version, ", expected 1, 2 or 3"));
  std::size_t length = 0;
  if (text.size() >= 8 + width)
    for (std::size_t i = width; i-- > 0;) length = 256 * length + byte(8 + i);
  if (text.size() < 8 + width || text.size() - 8 - width < length)
    throw decoder::file_error(concat(file, ": ends inside the .npy header"));
  npy_header out = npy_parser(text.substr(8 + width, length), file).parse();
  out.begin = 8 + width + length;
  return out;
}

/// The bytes in front of the data. They end at a multiple of 64, as NumPy has it, so that mapped data is aligned.
inline std::string npy_preamble(const std::string& type, std::span<const std::size_t> shape) {
  std::string text = concat("{'descr': '", type, "', 'fortran_order': False, 'shape': (");
  for (std::size_t i = 0; i < shape.size(); ++i)
    text += concat(i > 0 ? " " : "", shape[i], i == 0 || i + 1 < shape.size() ? "," : "");
  text += "), }";
  text.append(63 - (10 + text.size()) % 64, ' ');
  text += '\n';
  std::string out(npy_magic);
  out += {'\1', '\0', static_cast<char>(text.size() % 256), static_cast<char>(text.size() / 256)};
  return out + text;
}

}  // namespace detail

}  // namespace rlvr
