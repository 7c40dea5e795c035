#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include <unistd.h>

#include <xtensor/xmath.hpp>
#include <xtensor/xview.hpp>

#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/xtensor/npy.hpp>
#include <rlvr/xtensor/padded.hpp>
#include <rlvr/xtensor/tables.hpp>

#include "catch.hpp"

using namespace rlvr;

// Doubled parentheses: CHECK must not take an xtensor expression apart.

namespace {

/// A file that is gone at the end of the test.
struct scratch_file {
  std::string path;
  explicit scratch_file(const std::string& name)
      : path((std::filesystem::temp_directory_path() / ("rlvr_" + name + std::to_string(getpid()) + ".npy"))
                 .string()) {}
  ~scratch_file() { std::filesystem::remove(path); }

  std::string bytes() const {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void write(const std::string& bytes) const { std::ofstream(path, std::ios::binary) << bytes; }
};

}  // namespace

TEST_CASE("pad lays rows out as [B, T] with a mask", "[xtensor]") {
  ragged<token> rows;
  rows.push_back(std::vector<token>{5, 6});
  rows.push_back(std::vector<token>{});
  rows.push_back(std::vector<token>{7, 8, 9});
  const padded<token> batch = pad(rows, -1);
  CHECK((batch.values == xt::xtensor<token, 2>{{5, 6, -1}, {-1, -1, -1}, {7, 8, 9}}));
  CHECK((batch.mask == xt::xtensor<bool, 2>{{true, true, false}, {false, false, false}, {true, true, true}}));
  CHECK(unpad(batch) == rows);
}

TEST_CASE("pad and unpad of columns of rollouts", "[xtensor]") {
  rollouts r;
  for (std::size_t length : {4, 1, 3}) {
    for (std::size_t t = 0; t < length; ++t) {
      r.tokens.push_back(static_cast<token>(r.tokens.size()));
      r.log_probs.push_back(-0.5 * static_cast<double>(r.log_probs.size()));
    }
    r.offsets.push_back(r.tokens.size());
  }
  const padded<double> log_probs = pad(r.log_probs, r.offsets);
  const padded<token> tokens = pad(r.tokens, r.offsets, 99);
  CHECK(tokens.values(1, 1) == 99);
  CHECK((log_probs.mask == tokens.mask));
  CHECK(unpad(log_probs).values == r.log_probs);
  CHECK(unpad(log_probs).offsets == r.offsets);

  // As a user of arrays would: log pi(y | x) of every rollout, and coefficients made in [B, T] brought back.
  const xt::xtensor<double, 1> of_rollout = xt::sum(log_probs.values, {1});
  CHECK((of_rollout == xt::xtensor<double, 1>{-3.0, -2.0, -9.0}));
  const xt::xtensor<double, 2> doubled = 2.0 * log_probs.values;
  const std::vector<double> column = unpad(doubled, log_probs.mask).values;
  for (std::size_t t = 0; t < column.size(); ++t) CHECK(column[t] == 2 * r.log_probs[t]);
}

TEST_CASE("pad of nothing, and of empty rows", "[xtensor]") {
  CHECK(pad(ragged<double>{}).values.shape() == std::array<std::size_t, 2>{0, 0});
  CHECK(unpad(pad(ragged<double>{})) == ragged<double>{});
  ragged<double> empty_rows;
  empty_rows.push_back(std::vector<double>{});
  empty_rows.push_back(std::vector<double>{});
  CHECK(pad(empty_rows).values.shape() == std::array<std::size_t, 2>{2, 0});
  CHECK(unpad(pad(empty_rows)) == empty_rows);
}

TEST_CASE("unpad drops what the mask leaves out", "[xtensor]") {
  const xt::xtensor<double, 2> values{{1, 2, 3}, {4, 5, 6}};
  const xt::xtensor<bool, 2> mask{{false, true, true}, {true, false, true}};
  const ragged<double> rows = unpad(values, mask);
  CHECK(rows.values == std::vector<double>{2, 3, 4, 6});
  CHECK(rows.offsets == std::vector<std::size_t>{0, 2, 4});
  CHECK_THROWS_WITH(unpad(values, xt::xtensor<bool, 2>(std::array<std::size_t, 2>{2, 2}, true)),
                    "unpad: values are [2, 3], but the mask is [2, 2]");
}

TEST_CASE("pad says what is wrong with offsets", "[xtensor]") {
  const std::vector<double> values{1, 2, 3};
  CHECK_THROWS_WITH(pad(values, {}), "pad: offsets must begin with 0");
  CHECK_THROWS_WITH(pad(values, {1, 3}), "pad: offsets must begin with 0");
  CHECK_THROWS_WITH(pad(values, {0, 2}), "pad: offsets end at 2, but there are 3 values");
  CHECK_THROWS_WITH(pad(values, {0, 4, 3}), "pad: offsets[2] = 3 is below offsets[1] = 4");
}

TEST_CASE("landscape_table has a row per point", "[xtensor]") {
  const std::vector<line_point> points{
      {.alpha = 0, .value = 0.4, .kl = 0, .entropy = 1.5, .length = 7},
      {.alpha = 2, .value = 0.6, .kl = 0.1, .entropy = 1.25, .length = 8},
  };
  CHECK((landscape_table(points) == xt::xtensor<double, 2>{{0, 0.4, 0, 1.5, 7}, {2, 0.6, 0.1, 1.25, 8}}));
  CHECK(landscape_table({}).shape() == std::array<std::size_t, 2>{0, 5});
}

TEST_CASE("square_matrix keeps rows as rows", "[xtensor]") {
  CHECK((square_matrix(std::vector<double>{1, 2, 3, 4}) == xt::xtensor<double, 2>{{1, 2}, {3, 4}}));
  CHECK(square_matrix({}).shape() == std::array<std::size_t, 2>{0, 0});
  CHECK_THROWS_WITH(square_matrix(std::vector<double>(6)), "square_matrix: 6 values do not fill a square");
}

TEST_CASE(".npy files come back as they were", "[xtensor]") {
  const scratch_file file("round_trip");
  const xt::xtensor<double, 2> matrix{{1, -2.5, 3e300}, {0.1, 1e-310, -0.0}};
  save_npy(file.path, matrix);
  CHECK((load_npy<double, 2>(file.path) == matrix));
  // The head that NumPy writes: magic, version 1.0, and a dictionary that ends a multiple of 64 bytes in.
  CHECK(file.bytes().substr(0, 8) == std::string("\x93NUMPY\x01\x00", 8));
  CHECK(file.bytes().find("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }") == 10);
  CHECK(file.bytes().size() == 128 + 6 * sizeof(double));

  SECTION("other types, and expressions") {
    const xt::xtensor<token, 1> tokens{3, -1, 4};
    save_npy(file.path, tokens);
    CHECK((load_npy<token, 1>(file.path) == tokens));
    const xt::xtensor<bool, 2> mask{{true, false}, {false, true}};
    save_npy(file.path, mask);
    CHECK((load_npy<bool, 2>(file.path) == mask));
    save_npy(file.path, 2.0 * matrix);
    CHECK((load_npy<double, 2>(file.path) == 2.0 * matrix));
  }
  SECTION("no rows") {
    save_npy(file.path, xt::xtensor<double, 2>(std::array<std::size_t, 2>{0, 4096}));
    CHECK(load_npy<double, 2>(file.path).shape() == std::array<std::size_t, 2>{0, 4096});
  }
  SECTION("column-major, as NumPy writes transposed arrays") {
    std::string bytes = file.bytes();
    bytes.replace(bytes.find("False"), 5, "True ");
    bytes.replace(bytes.find("(2, 3)"), 6, "(3, 2)");
    file.write(bytes);
    CHECK((load_npy<double, 2>(file.path) == xt::transpose(matrix)));
  }
}

TEST_CASE(".npy files that cannot be read are named", "[xtensor]") {
  using Catch::Contains;
  const scratch_file file("damaged");
  CHECK_THROWS_WITH((load_npy<double, 2>(file.path)), file.path + ": cannot be opened for reading");
  const xt::xtensor<double, 2> matrix{{1, 2, 3}, {4, 5, 6}};
  save_npy(file.path, matrix);
  CHECK_THROWS_WITH((load_npy<float, 2>(file.path)), Contains(file.path) && Contains("<f8 vs <f4"));
  CHECK_THROWS_WITH((load_npy<double, 1>(file.path)), file.path + ": the array has 2 dimensions, expected 1");
  const std::string whole = file.bytes();
  for (std::size_t size : {std::size_t{0}, std::size_t{4}, std::size_t{64}, whole.size() - 1}) {
    file.write(whole.substr(0, size));
    CHECK_THROWS_WITH((load_npy<double, 2>(file.path)), Contains(file.path));
    CHECK_THROWS_AS((load_npy<double, 2>(file.path)), std::runtime_error);
  }
  SECTION("shapes that promise more than there is") {
    for (const std::string shape :
         {"(4294967296, 4294967296), }", "(99999999999999999999, 1), }", "(2, 4), }"}) {
      std::string bytes = whole;
      bytes.replace(bytes.find("(2, 3)"), shape.size(), shape);
      file.write(bytes);
      CHECK_THROWS_WITH((load_npy<double, 2>(file.path)), file.path + ": the file ends too early");
    }
  }
}

TEST_CASE(".npy files that cannot be written are named", "[xtensor]") {
  const xt::xtensor<double, 1> values{1, 2};
  CHECK_THROWS_WITH(save_npy("/no/such/folder/x.npy", values),
                    "/no/such/folder/x.npy: cannot be opened for writing");
  if (!std::filesystem::exists("/dev/full")) return;
  CHECK_THROWS_WITH(save_npy("/dev/full", values), "/dev/full: writing failed");
}
