/// safetensors: accepts and rejects as the reference implementation, conversions, writing.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include <rlvr/backend/decoder/safetensors.hpp>
#include <rlvr/core/random.hpp>

#include "catch.hpp"

using namespace rlvr::decoder;
using rlvr::tensor_slot;

namespace {

std::string file_of(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  return out + header + std::string(data_bytes, '\0');
}
std::string error_of(const std::string& file) {
  try {
    safetensors_view view(file, "f");
  } catch (const file_error& e) {
    return e.what();
  }
  return "no error";
}
template <class Bits>
std::string entry_file(const std::string& dtype, const std::vector<Bits>& values) {
  const std::string bytes = std::to_string(values.size() * sizeof(Bits));
  std::string file = file_of("{\"t\":{\"dtype\":\"" + dtype + "\",\"shape\":[" +
                                 std::to_string(values.size()) + "],\"data_offsets\":[0," + bytes + "]}}",
                             values.size() * sizeof(Bits));
  std::memcpy(file.data() + file.size() - values.size() * sizeof(Bits), values.data(),
              values.size() * sizeof(Bits));
  return file;
}
template <class T, class Bits>
std::vector<T> read_as(const std::string& dtype, const std::vector<Bits>& values) {
  const std::string file = entry_file(dtype, values);
  const safetensors_view view(file, "f");
  std::vector<T> out(values.size());
  view.read(*view.find("t"), std::span<T>(out));
  return out;
}

}  // namespace

TEST_CASE("safetensors: the published cases") {
#ifdef RLVR_SHARED_DATA
  const std::filesystem::path path =
      std::filesystem::path(RLVR_SHARED_DATA) / "safetensors_cases" / "cases.jsonl";
#else
  const std::filesystem::path path;
#endif
  std::ifstream in(path);
  if (!in) {
    WARN("skipped: the folder of shared data is absent");
    return;
  }
  std::size_t cases = 0;
  for (std::string line; std::getline(in, line); ++cases) {
    const nlohmann::json c = nlohmann::json::parse(line);
    const std::string hex = c["hex"];
    std::string bytes;
    for (std::size_t i = 0; i < hex.size(); i += 2)
      bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    INFO(c["id"]);
    CHECK((error_of(bytes) == "no error") == c["accept"].get<bool>());
  }
  CHECK(cases == 15);
}

TEST_CASE("safetensors: every kind of damage has its sentence") {
  const std::string entry = R"("t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  CHECK(error_of(file_of("{" + entry + "}", 8)) == "no error");
  CHECK(error_of(file_of(R"({"__metadata__":null,)" + entry + "}", 8)) == "no error");
  CHECK(error_of(file_of(R"({"t":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", 4)) == "no error");
  CHECK(error_of(file_of(R"({"t":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}})", 1)) == "no error");
  CHECK(error_of(file_of(R"({"z":{"dtype":"F32","shape":[0],"data_offsets":[8,8]},)"
                         R"("e":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)" +
                             entry + "}",
                         8)) == "no error");
  const auto check = [](const std::string& header, std::size_t data, const std::string& message) {
    CHECK(error_of(file_of(header, data)) == message);
  };
  const std::string damaged = "f: damaged safetensors file: ";
  CHECK(error_of("1234567") == damaged + "shorter than the 8 bytes of the header length");
  CHECK(error_of(std::string("\xff\xff\xff\xff\0\0\0\0", 8)) ==
        damaged + "header of 4294967295 bytes, at most 100000000 are allowed");
  CHECK(error_of(std::string("\1\0\0\0\0\0\0\0", 8)) ==
        damaged + "header of 1 bytes goes past the end of the file");
  check("{", 0, "f: header: not JSON (error at byte 2)");
  check("{" + entry + "," + entry + "}", 8, "f: header: key \"t\" appears twice");
  check(std::string("{}\0{}", 5), 0, "f: header: not JSON (a NUL byte or a byte order mark)");
  check("[]", 0, damaged + "the header is not a JSON object");
  check(R"({"__metadata__":{"a":1}})", 0, damaged + "__metadata__ field a is not a string");
  check(R"({"__metadata__":[]})", 0, damaged + "__metadata__ is not an object");
  check(R"({"t":3})", 0, damaged + "tensor t is not described by an object");
  check(R"({"t":{"dtype":"F32","data_offsets":[0,8]}})", 8, damaged + "tensor t has no list shape");
  check(R"({"t":{"dtype":"F32","shape":[-1],"data_offsets":[0,8]}})", 8,
        damaged + "tensor t: shape holds -1");
  check(R"({"t":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8,
        damaged + "tensor t: shape holds 2.0");
  check(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", 8,
        damaged + "tensor t has 1 data_offsets");
  check(R"({"t":{"shape":[2],"data_offsets":[0,8]}})", 8, damaged + "tensor t has no dtype");
  check(R"({"t":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}})", 8,
        damaged + "tensor t has unknown dtype F33");
  check(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12,
        damaged + "tensor t has bytes 4 to 12, expected to begin at 0");
  check(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,7]}})", 7,
        damaged + "tensor t has 7 bytes, but dtype and shape need 64 bits");
  check(R"({"t":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}})", 1,
        damaged + "tensor t has 1 bytes, but dtype and shape need 12 bits");
  check("{" + entry + R"(,"u":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})", 8,
        damaged + "tensor u has bytes 4 to 8, expected to begin at 8");
  check(R"({"t":{"dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}})", 0,
        damaged + "the shape of tensor t overflows");
  check("{" + entry + "}", 9, damaged + "the tensors cover 8 bytes, but 9 bytes follow the header");
  check("{" + entry + "}", 7, damaged + "the tensors cover 8 bytes, but 7 bytes follow the header");
}

TEST_CASE("safetensors: 16-bit floats") {
  for (std::uint32_t i = 0; i < 0x10000; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    const float b = from_bf16(bits), h = from_f16(bits);
    if (std::isnan(b))
      CHECK(std::isnan(from_bf16(to_bf16(b))));
    else if (to_bf16(b) != bits)
      FAIL("bf16 " << i << " does not survive");
    const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const double sign = bits >> 15 ? -1 : 1;
    const double expected = exponent == 31 ? (fraction ? std::nan("") : sign * INFINITY)
                            : exponent     ? sign * std::ldexp(1024 + fraction, exponent - 25)
                                           : sign * std::ldexp(fraction, -24);
    if (std::isnan(expected) ? !std::isnan(h) : h != expected || std::signbit(h) != (sign < 0))
      FAIL("f16 " << i << " is read as " << h << ", not " << expected);
  }
  // Ties go to the even neighbour: 1 + 2^-8 lies between 1 and 1 + 2^-7, 1 + 3 2^-8 between 1 + 2^-7 and 1 +
  // 2^-6.
  CHECK(from_bf16(to_bf16(1 + 0x1p-8f)) == 1.0f);
  CHECK(from_bf16(to_bf16(1 + 0x1.8p-7f)) == 1 + 0x1p-6f);
  CHECK(from_bf16(to_bf16(1 + 0x1.01p-8f)) == 1 + 0x1p-7f);
  CHECK(from_bf16(to_bf16(-1 - 0x1.01p-8f)) == -1 - 0x1p-7f);
  CHECK(std::isinf(from_bf16(to_bf16(std::numeric_limits<float>::max()))));
  CHECK(std::isnan(from_bf16(to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

TEST_CASE("safetensors: dtypes that are read, and those that are not") {
  CHECK(read_as<float>("F32", std::vector<float>{1.5f, -2.25f}) == std::vector<float>{1.5f, -2.25f});
  CHECK(read_as<double>("F32", std::vector<float>{0.1f}) == std::vector<double>{double(0.1f)});
  CHECK(read_as<double>("F64", std::vector<double>{0.1, -1e300}) == std::vector<double>{0.1, -1e300});
  CHECK(read_as<float>("F64", std::vector<double>{0.1}) == std::vector<float>{0.1f});
  CHECK(read_as<float>("BF16", std::vector<std::uint16_t>{0x3fc0, 0xc000}) ==
        std::vector<float>{1.5f, -2.0f});
  CHECK(read_as<double>("F16", std::vector<std::uint16_t>{0x3e00, 0xc000, 1}) ==
        std::vector<double>{1.5, -2.0, 0x1p-24});
  try {
    read_as<float>("I32", std::vector<std::int32_t>{1});
    FAIL("an I32 tensor was read");
  } catch (const input_error& e) {
    CHECK(e.what() == std::string("f: tensor t has dtype I32, expected F64, F32, F16 or BF16"));
  }
  const std::string file = entry_file("F32", std::vector<float>{1, 2});
  const safetensors_view view(file, "f");
  std::vector<float> small(1);
  CHECK_THROWS_AS(view.read(*view.find("t"), std::span<float>(small)), std::invalid_argument);
  CHECK(view.find("u") == nullptr);
}

TEST_CASE("safetensors: what is written is read back") {
  const std::vector<tensor_slot> slots = {{"b.weight", {2, 3}, 0}, {"a.bias", {1}, 6}, {"c", {2}, 7}};
  const std::vector<float> values = {1, 2.5f, -3, 0.1f, 1e-30f, 7, 8, 9, 10};
  for (const storage as : {storage::f32, storage::bf16}) {
    const std::string file =
        write_safetensors(std::span<const tensor_slot>(slots), std::span<const float>(values), as);
    std::uint64_t header = 0;
    std::memcpy(&header, file.data(), 8);
    CHECK(header % 8 == 0);
    const safetensors_view view(file, "f");
    CHECK(view.metadata().at("format") == "pt");
    REQUIRE(view.tensors().size() == 3);
    CHECK(view.tensors()[0].name == "a.bias");
    CHECK(view.tensors()[1].name == "b.weight");
    for (const tensor_slot& s : slots) {
      const stored_tensor* t = view.find(s.name);
      REQUIRE(t);
      CHECK(t->shape == s.shape);
      CHECK(t->dtype == (as == storage::f32 ? "F32" : "BF16"));
      std::vector<float> out(s.size());
      view.read(*t, std::span<float>(out));
      for (std::size_t i = 0; i < out.size(); ++i) {
        const float v = values[s.offset + i];
        CHECK(out[i] == (as == storage::f32 ? v : from_bf16(to_bf16(v))));
      }
    }
  }
  CHECK(write_safetensors({}, std::span<const float>(), storage::f32).size() % 8 == 0);
  CHECK_THROWS_AS(write_safetensors(std::span<const tensor_slot>(slots),
                                    std::span<const float>(values).first(8), storage::f32),
                  std::invalid_argument);
}

TEST_CASE("safetensors: a file is written in pieces that do not grow with it") {
  const std::size_t count = (std::size_t{1} << 19) + 3;
  const std::vector<tensor_slot> slots = {{"w", {count - 2}, 0}, {"b", {2}, count - 2}};
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i);
  for (const storage as : {storage::f32, storage::bf16}) {
    std::string file;
    std::size_t longest = 0, pieces = 0;
    write_safetensors(std::span<const tensor_slot>(slots), std::span<const float>(values), as,
                      [&](std::string_view piece) {
                        file += piece;
                        longest = std::max(longest, piece.size());
                        ++pieces;
                      });
    CHECK(longest <= std::size_t{1} << 20);
    CHECK(pieces == 2 + 1 + 3);  // two of the header, one of b, three of w
    const safetensors_view view(file, "f");
    for (const tensor_slot& s : slots) {
      std::vector<float> out(s.size());
      view.read(*view.find(s.name), std::span<float>(out));
      std::size_t different = 0;
      for (std::size_t i = 0; i < out.size(); ++i) {
        const float v = values[s.offset + i];
        different += out[i] != (as == storage::f32 ? v : from_bf16(to_bf16(v)));
      }
      CHECK(different == 0);
    }
  }
  CHECK_THROWS_AS(write_safetensors(std::span<const tensor_slot>(slots), std::span<const float>(values).first(9),
                                    storage::f32, [](std::string_view) { FAIL("a piece before the check"); }),
                  std::invalid_argument);
}

TEST_CASE("safetensors: damaged bytes are refused or read, never worse") {
  const std::vector<tensor_slot> slots = {{"b.weight", {2, 3}, 0}, {"a.bias", {1}, 6}};
  const std::vector<float> values(7, 1.0f);
  const std::string good =
      write_safetensors(std::span<const tensor_slot>(slots), std::span<const float>(values), storage::f32);
  const rlvr::random_key key(5);
  std::size_t refused = 0;
  for (std::uint64_t trial = 0; trial < 5000; ++trial) {
    std::string file = good;
    for (std::uint64_t flips = 0; flips <= trial % 4; ++flips) {
      const std::uint64_t i = 8 * trial + flips;
      // Half of the damage is digits and punctuation, which leaves the header JSON.
      const char byte =
          trial % 2 ? "0123456789,[]{}\": "[key.below(18, i)] : static_cast<char>(key.below(256, i));
      file[key.below(file.size(), i + 3'000'000)] = byte;
    }
    if (trial % 7 == 0) file.resize(key.below(file.size() + 1, trial + 9'000'000));
    try {
      const safetensors_view view(file, "f");
      for (const stored_tensor& t : view.tensors()) {
        std::vector<double> out(t.size());
        try {
          view.read(t, std::span<double>(out));
        } catch (const input_error&) {
          ++refused;
        }
      }
    } catch (const file_error&) {
      ++refused;
    }
  }
  CHECK(refused > 2000);
  for (std::size_t length = 0; length < good.size(); ++length)
    CHECK_THROWS_AS(safetensors_view(std::span<const char>(good).first(length), "f"), file_error);
}
