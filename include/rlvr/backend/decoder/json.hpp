#pragma once
/// Strict reading of JSON text and of the fields of an object.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <rlvr/backend/decoder/errors.hpp>
#include <rlvr/core/error.hpp>
#include <rlvr/core/rollouts.hpp>

namespace rlvr::decoder {

/// Parses one JSON value. `origin` names the source in messages.
/// Throws input_error when the text is not JSON in UTF-8, an object has a key twice, or it nests deeper than
/// 128. Linear in the text.
inline nlohmann::json parse_json(std::string_view text, const std::string& origin) {
  using event = nlohmann::json::parse_event_t;
  constexpr int deepest = 128;
  // The parser takes a NUL for the end of the text and skips a byte order mark; JSON allows neither.
  if (text.find('\0') != text.npos || text.starts_with("\xEF\xBB\xBF"))
    throw input_error(origin + ": not JSON (a NUL byte or a byte order mark)");
  std::vector<std::unordered_set<std::string>> keys;
  const auto watch = [&](int depth, event what, nlohmann::json& parsed) {
    if (depth > deepest) throw input_error(concat(origin, ": JSON nested deeper than ", deepest));
    if (what == event::object_start) keys.emplace_back();
    if (what == event::object_end) keys.pop_back();
    if (what == event::key && !keys.back().insert(parsed.get_ref<const std::string&>()).second)
      throw input_error(concat(origin, ": key ", parsed.dump(), " appears twice"));
    return true;
  };
  try {
    return nlohmann::json::parse(text.begin(), text.end(), watch);
  } catch (const nlohmann::json::parse_error& e) {
    throw input_error(concat(origin, ": not JSON (error at byte ", e.byte, ")"));
  } catch (const nlohmann::json::exception&) {
    throw input_error(origin + ": a number in the JSON text is out of range");
  }
}

namespace detail {

/// Typed access to the fields of a JSON object; null counts as absent.
class field_reader {
 public:
  field_reader(const nlohmann::json& object, std::string origin)
      : object_(object), origin_(std::move(origin)) {
    if (!object.is_object()) throw input_error(origin_ + ": not a JSON object");
  }

  /// The field, or nullptr when it is absent or null.
  const nlohmann::json* find(const char* name) const {
    const auto it = object_.find(name);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }

  std::optional<std::size_t> size(const char* name) const {
    const nlohmann::json* v = find(name);
    if (!v) return std::nullopt;
    if (!v->is_number_unsigned()) fail(name, *v, "a whole number that is not negative");
    return v->get<std::size_t>();
  }
  std::size_t required_size(const char* name) const {
    const std::optional<std::size_t> v = size(name);
    if (!v) throw input_error(origin_ + ": no field \"" + name + "\"");
    return *v;
  }
  std::optional<double> number(const char* name) const {
    const nlohmann::json* v = find(name);
    if (!v) return std::nullopt;
    if (!v->is_number()) fail(name, *v, "a number");
    return v->get<double>();
  }
  bool flag(const char* name, bool otherwise) const {
    const nlohmann::json* v = find(name);
    if (v && !v->is_boolean()) fail(name, *v, "true or false");
    return v ? v->get<bool>() : otherwise;
  }
  std::optional<std::string> text(const char* name) const {
    const nlohmann::json* v = find(name);
    if (!v) return std::nullopt;
    if (!v->is_string()) fail(name, *v, "a string");
    return v->get<std::string>();
  }
  /// A token or a list of tokens; empty when absent.
  std::vector<token> tokens(const char* name) const {
    std::vector<token> out;
    const nlohmann::json* v = find(name);
    if (!v) return out;
    const nlohmann::json list = v->is_array() ? *v : nlohmann::json::array({*v});
    for (const nlohmann::json& item : list) {
      if (!item.is_number_unsigned() || item.get<std::uint64_t>() > std::numeric_limits<token>::max())
        fail(name, *v, "a token or a list of tokens");
      out.push_back(item.get<token>());
    }
    return out;
  }
  std::optional<token> one_token(const char* name) const {
    const std::vector<token> all = tokens(name);
    if (all.size() > 1) fail(name, *find(name), "one token");
    return all.empty() ? std::nullopt : std::optional<token>(all[0]);
  }

  [[noreturn]] void fail(const char* name, const nlohmann::json& value, std::string_view expected) const {
    throw input_error(concat(origin_, ": ", name, " is ", value.dump(), ", expected ", expected));
  }
  [[noreturn]] void unsupported(const char* name, const nlohmann::json& value) const {
    throw input_error(concat(origin_, ": ", name, " ", value.dump(), " is not supported yet"));
  }

 private:
  const nlohmann::json& object_;
  std::string origin_;
};

}  // namespace detail

}  // namespace rlvr::decoder
