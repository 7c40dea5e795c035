#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

#include <xtensor/xmath.hpp>
#include <xtensor/xview.hpp>

#include <rlvr/advantage/group_normalized.hpp>
#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/objective/aggregation.hpp>
#include <rlvr/objective/ppo_clip.hpp>
#include <rlvr/objective/reinforce.hpp>
#include <rlvr/xtensor/npy.hpp>
#include <rlvr/xtensor/padded.hpp>
#include <rlvr/xtensor/padded_batch.hpp>
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
  ~scratch_file() { std::filesystem::remove_all(path); }

  std::string bytes() const {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void write(const std::string& bytes) const { std::ofstream(path, std::ios::binary) << bytes; }
  /// Puts `to` in the place of the first `from`; the last spaces take or give what it is longer or shorter.
  void replace(const std::string& from, std::string to) const {
    std::string text = bytes();
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    to.resize(std::max(to.size(), from.size()), ' ');
    text.replace(at, from.size(), to);
    if (to.size() > from.size()) text.erase(text.rfind(' '), to.size() - from.size());
    write(text);
  }
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
  CHECK_THROWS_WITH(pad(values, {}), "pad: offsets is empty");
  CHECK_THROWS_WITH(pad(values, {1, 3}), "pad: offsets[0] = 1, but offsets must begin with 0");
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

TEST_CASE("Padded arrays are read and written where they lie", "[xtensor]") {
  // A batch as Python has it: three sequences of up to four tokens, one of them padded on the left.
  xt::xtensor<double, 2> now{{-1.0, -0.5, 9, 9}, {9, -2.0, -0.1, -0.3}, {-1.5, -0.2, -0.7, -0.9}};
  const xt::xtensor<double, 2> old{{-1.1, -0.9, 7, 7}, {7, -1.0, -0.1, -0.2}, {-1.5, -0.6, -0.7, -0.1}};
  const xt::xtensor<bool, 2> mask{{true, true, false, false}, {false, true, true, true}, {true, true, true, true}};
  const double nan = std::nan("");
  for (std::size_t k = 0; k < mask.size(); ++k)
    if (!mask.data()[k]) now.data()[k] = nan;  // padding may hold anything
  const std::vector<double> advantages{1.5, -0.5, 0.25};

  CHECK(flat(now).data() == now.data());
  CHECK(mask_of(mask).data() == static_cast<const void*>(mask.data()));
  const std::vector<std::size_t> offsets = row_offsets(3, 4);
  CHECK(offsets == std::vector<std::size_t>{0, 4, 8, 12});
  const xt::xtensor<double, 2>& read = now;
  token_batch<double> b;
  b.offsets = offsets;
  b.advantages = advantages;
  b.log_probs = flat(read);
  b.old_log_probs = flat(old);
  b.mask = mask_of(mask);
  xt::xtensor<double, 2> c(now.shape());
  ppo_clip{}(b, sequence_weights(b, token_mean), flat(c));

  // The same batch as ragged rows gives the same coefficients, and padding has none.
  const ragged<double> now_rows = unpad(now, mask), old_rows = unpad(old, mask);
  token_batch<double> ragged_batch;
  ragged_batch.offsets = now_rows.offsets;
  ragged_batch.advantages = advantages;
  ragged_batch.log_probs = now_rows.values;
  ragged_batch.old_log_probs = old_rows.values;
  const std::vector<double> expected =
      coefficients(ppo_clip{}, ragged_batch, sequence_weights(ragged_batch, token_mean));
  CHECK(unpad(c, mask).values == expected);
  for (std::size_t k = 0; k < mask.size(); ++k)
    if (!mask.data()[k]) CHECK(c.data()[k] == 0);
  CHECK(c(2, 0) == Approx(0.25 / 9));  // ratio 1, nine tokens

  CHECK(row_offsets(0, 4) == std::vector<std::size_t>{0});
  CHECK(row_offsets(2, 0) == std::vector<std::size_t>{0, 0, 0});
}

namespace {
template <class A>
concept flattens = requires(A&& a, std::array<std::size_t, 2> shape) {
  flat(std::forward<A>(a));
  flat(std::forward<A>(a), shape, "a");
};
static_assert(flattens<xt::xtensor<float, 2>&> && flattens<const xt::xtensor<float, 2>&>);
static_assert(!flattens<xt::xtensor<float, 2>> && !flattens<const xt::xtensor<float, 2>>);
}  // namespace

TEST_CASE("A padded array is flattened only where it has the batch's shape", "[xtensor]") {
  xt::xtensor<double, 2> log_probs{{-1.0, -0.5, -0.1}, {-2.0, -0.3, -0.2}};
  const xt::xtensor<double, 2> transposed = xt::transpose(log_probs);
  const xt::xtensor<bool, 2> mask(log_probs.shape(), true);
  CHECK(flat(log_probs, mask.shape(), "log_probs").data() == log_probs.data());
  CHECK(flat(transposed, transposed.shape(), "log_probs").data() == transposed.data());
  CHECK(transposed.size() == log_probs.size());
  CHECK_THROWS_WITH(flat(transposed, mask.shape(), "old_log_probs"),
                    "old_log_probs: its shape is [3, 2], but the batch's is [2, 3]");
  CHECK_THROWS_WITH(flat(log_probs, transposed.shape(), "log_probs"),
                    "log_probs: its shape is [2, 3], but the batch's is [3, 2]");
  const xt::xtensor<double, 1> rewards{1, 0, 1};
  CHECK_THROWS_WITH(flat(rewards, {2}, "rewards"), "rewards: its shape is [3], but the batch's is [2]");
}

TEST_CASE("A batch of floats takes the doubles of an estimator", "[xtensor]") {
  // The example in padded_batch.hpp.
  const std::vector<verdict> verdicts{{1}, {0}};
  groups two;
  two.offsets = {0, 2};
  const xt::xtensor<float, 2> log_probs{{-1.0f, -0.5f, -9.0f}, {-2.0f, -0.25f, -0.125f}}, old_log_probs = log_probs;
  const xt::xtensor<bool, 2> mask{{true, true, false}, {true, true, true}};
  const std::vector<double> a = group_normalized{}(verdicts, two);
  const std::vector<float> advantages(a.begin(), a.end());
  const std::vector<std::size_t> rows = row_offsets(mask.shape(0), mask.shape(1));
  token_batch<float> b;
  b.offsets = rows;
  b.advantages = advantages;
  b.log_probs = flat(log_probs, mask.shape(), "log_probs");
  b.old_log_probs = flat(old_log_probs, mask.shape(), "old_log_probs");
  b.mask = mask_of(mask);
  xt::xtensor<float, 2> c(mask.shape());
  ppo_clip{}(b, sequence_weights(b, token_mean), flat(c));
  const float share = advantages[0] / 5;
  CHECK((c == xt::xtensor<float, 2>{{share, share, 0}, {-share, -share, -share}}));
}

TEST_CASE("equal_rows views a column as [B, T]", "[xtensor]") {
  std::vector<double> column{1, 2, 3, 4, 5, 6};
  const std::vector<std::size_t> offsets{0, 3, 6};
  auto rows = equal_rows(std::span(column), offsets);
  CHECK(rows.shape() == std::array<std::size_t, 2>{2, 3});
  CHECK(&rows(1, 0) == &column[3]);
  rows(1, 2) = 60;
  CHECK(column[5] == 60);
  const std::vector<double>& read_only = column;
  const xt::xtensor<double, 1> sums = xt::sum(equal_rows(std::span(read_only), offsets), {1});
  CHECK((sums == xt::xtensor<double, 1>{6, 69}));
  CHECK((equal_rows(std::span(read_only), offsets) == pad(column, offsets).values));

  CHECK(equal_rows(std::span(column).first(0), std::vector<std::size_t>{0}).shape() ==
        std::array<std::size_t, 2>{0, 0});
  CHECK(equal_rows(std::span(column).first(0), std::vector<std::size_t>{0, 0}).shape() ==
        std::array<std::size_t, 2>{1, 0});
  CHECK_THROWS_WITH(equal_rows(std::span(column), std::vector<std::size_t>{0, 4, 6}),
                    "equal_rows: offsets[2] = 6, but rows of 4 end at 8");
  CHECK_THROWS_WITH(equal_rows(std::span(column), std::vector<std::size_t>{0, 2, 4}),
                    "equal_rows: offsets end at 4, but there are 6 values");
  CHECK_THROWS_WITH(equal_rows(std::span(column), std::vector<std::size_t>{}), "equal_rows: offsets is empty");
  CHECK_THROWS_WITH(equal_rows(std::span(column), std::vector<std::size_t>{2, 4, 6}),
                    "equal_rows: offsets[0] = 2, but offsets must begin with 0");
  CHECK_THROWS_WITH(equal_rows(std::span(column), std::vector<std::size_t>{0, 3, 2}),
                    "equal_rows: offsets[2] = 2 is below offsets[1] = 3");
}

TEST_CASE("Rewards and group ids from arrays", "[xtensor]") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(verdicts_of(xt::xtensor<float, 1>{1, nan, 0.5f}) ==
        std::vector<verdict>{{.reward = 1}, {.reward = 0, .scored = false}, {.reward = 0.5}});
  CHECK_THROWS_WITH(verdicts_of(xt::xtensor<double, 1>{0, -std::numeric_limits<double>::infinity()}),
                    "verdicts_of: reward 1 is -inf");
  CHECK(verdicts_of(xt::xtensor<double, 1>(std::array<std::size_t, 1>{0})).empty());

  const groups g = groups_of_ids(xt::xtensor<std::int64_t, 1>{7, 7, -3, 5000000000, 5000000000, 5000000000});
  CHECK(g.offsets == std::vector<std::size_t>{0, 2, 3, 6});
  CHECK(groups_of_ids(xt::xtensor<token, 1>(std::array<std::size_t, 1>{0})).offsets == std::vector<std::size_t>{0});
  CHECK_THROWS_WITH(groups_of_ids(xt::xtensor<token, 1>{4, 1, 4}),
                    "groups_of_ids: id 4 of row 2 comes back after another; rows of one group must stand side by side");
}

TEST_CASE(".npy files come back as they were", "[xtensor]") {
  const scratch_file file("round_trip");
  const xt::xtensor<double, 2> matrix{{1, -2.5, 3e300}, {0.1, 1e-310, -0.0}};
  save_npy(file.path, matrix);
  CHECK((load_npy<double, 2>(file.path) == matrix));
  // The head that NumPy writes: magic, version 1.0, and a dictionary that ends a multiple of 64 bytes in.
  CHECK(file.bytes().substr(0, 8) == std::string("\x93NUMPY\x01\x00", 8));
  CHECK(file.bytes().find("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }") == 10);
  CHECK(file.bytes()[127] == '\n');
  CHECK(file.bytes().size() == 128 + 6 * sizeof(double));

  SECTION("bit for bit, NaN included") {
    const xt::xtensor<double, 1> odd{std::nan("7"), -std::nan(""), std::numeric_limits<double>::infinity(), -0.0};
    save_npy(file.path, odd);
    const xt::xtensor<double, 1> back = load_npy<double, 1>(file.path);
    CHECK(std::memcmp(odd.data(), back.data(), 4 * sizeof(double)) == 0);
  }
  SECTION("other types and ranks, and expressions") {
    const xt::xtensor<token, 1> tokens{3, -1, 4};
    save_npy(file.path, tokens);
    CHECK(file.bytes().find("'shape': (3,), }") != std::string::npos);
    CHECK((load_npy<token, 1>(file.path) == tokens));
    const xt::xtensor<bool, 2> mask{{true, false}, {false, true}};
    save_npy(file.path, mask);
    CHECK(file.bytes().find("'|b1'") != std::string::npos);
    CHECK((load_npy<bool, 2>(file.path) == mask));
    save_npy(file.path, 2.0 * matrix);
    CHECK((load_npy<double, 2>(file.path) == 2.0 * matrix));
    save_npy(file.path, xt::transpose(matrix));  // seen column-major, written row-major
    CHECK((load_npy<double, 2>(file.path) == xt::transpose(matrix)));
    const xt::xtensor<double, 2, xt::layout_type::column_major> by_column(matrix);
    save_npy(file.path, by_column);
    CHECK((load_npy<double, 2>(file.path) == matrix));
    const xt::xtensor<std::uint64_t, 0> scalar = std::numeric_limits<std::uint64_t>::max();
    save_npy(file.path, scalar);
    CHECK(file.bytes().find("'shape': (), }") != std::string::npos);
    CHECK((load_npy<std::uint64_t, 0>(file.path)() == scalar()));
    xt::xtensor<float, 3> cube(std::array<std::size_t, 3>{2, 3, 4});
    for (std::size_t k = 0; k < cube.size(); ++k) cube.data()[k] = static_cast<float>(k);
    save_npy(file.path, cube);
    CHECK((load_npy<float, 3>(file.path) == cube));
  }
  SECTION("no rows") {
    save_npy(file.path, xt::xtensor<double, 2>(std::array<std::size_t, 2>{0, 4096}));
    CHECK(load_npy<double, 2>(file.path).shape() == std::array<std::size_t, 2>{0, 4096});
  }
  SECTION("column-major, as NumPy writes transposed arrays") {
    file.replace("False", "True ");
    file.replace("(2, 3)", "(3, 2)");
    CHECK((load_npy<double, 2>(file.path) == xt::transpose(matrix)));
    xt::xtensor<std::int32_t, 3> cube(std::array<std::size_t, 3>{4, 3, 2});
    for (std::size_t k = 0; k < cube.size(); ++k) cube.data()[k] = static_cast<std::int32_t>(k * k);
    save_npy(file.path, cube);
    file.replace("False", "True ");
    file.replace("(4, 3, 2)", "(2, 3, 4)");
    CHECK((load_npy<std::int32_t, 3>(file.path) == xt::transpose(cube)));
    CHECK((load_npy<double, 3>(file.path, npy_conversion::exact) == xt::transpose(cube)));
  }
  SECTION("headers that others write") {
    file.replace("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }",
                 "{\"shape\":(2,3),'fortran_order':False,  'descr':'<f8'}    ");
    CHECK((load_npy<double, 2>(file.path) == matrix));
    save_npy(file.path, matrix);
    const std::string version_1 = file.bytes();
    file.write(version_1.substr(0, 6) + std::string("\x02\x00\x76\x00\x00\x00", 6) + version_1.substr(10));
    CHECK((load_npy<double, 2>(file.path) == matrix));
    // Spaces up to 192 bytes: a length above 127, which a signed char would spoil.
    file.write(version_1.substr(0, 8) + std::string("\xb6\x00", 2) + version_1.substr(10, 117) + std::string(64, ' ') +
               version_1.substr(127));
    CHECK((load_npy<double, 2>(file.path) == matrix));
  }
}

TEST_CASE("A batch that NumPy wrote gives NumPy's coefficients", "[xtensor]") {
  // Written, with what NumPy makes of it, by examples/from_python.py: float32 log-probs with NaN at padding, int64
  // tokens and groups, a bool mask, a reward that could not be scored.
  const std::filesystem::path folder = RLVR_SOURCE_DIR "/examples/data/python_batch";
  constexpr npy_conversion exact = npy_conversion::exact;
  const auto mask = load_npy<bool, 2>(folder / "mask.npy");
  const auto now = load_npy<double, 2>(folder / "log_probs.npy", exact);
  const auto old = load_npy<double, 2>(folder / "old_log_probs.npy", exact);
  const auto rewards = load_npy<float, 1>(folder / "rewards.npy");
  const groups by_prompt = groups_of_ids(load_npy<std::int64_t, 1>(folder / "groups.npy"));
  const auto tokens = load_npy<token, 2>(folder / "tokens.npy", exact);
  CHECK_THROWS_AS((load_npy<token, 2>(folder / "tokens.npy")), decoder::input_error);

  const std::vector<verdict> verdicts = verdicts_of(rewards);
  CHECK(std::count_if(verdicts.begin(), verdicts.end(), [](const verdict& v) { return !v.scored; }) == 1);
  const std::vector<double> advantages = group_normalized{}(verdicts, by_prompt);
  const auto expected_advantages = load_npy<double, 1>(folder / "expected_advantages.npy");
  REQUIRE(expected_advantages.size() == advantages.size());
  for (std::size_t i = 0; i < advantages.size(); ++i)
    CHECK(advantages[i] == Approx(expected_advantages(i)).epsilon(1e-14).margin(1e-14));

  const std::vector<std::size_t> offsets = row_offsets(mask.shape(0), mask.shape(1));
  token_batch<double> b;
  b.offsets = offsets;
  b.advantages = advantages;
  b.log_probs = flat(now, mask.shape(), "log_probs");
  b.old_log_probs = flat(old, mask.shape(), "old_log_probs");
  b.mask = mask_of(mask);
  xt::xtensor<double, 2> ppo(mask.shape());
  ppo_clip{.low = 0.2, .high = 0.28}(b, sequence_weights(b, token_mean), flat(ppo));
  const auto expected_ppo = load_npy<double, 2>(folder / "expected_ppo.npy");
  REQUIRE(ppo.shape() == expected_ppo.shape());
  for (std::size_t k = 0; k < ppo.size(); ++k)
    CHECK(ppo.data()[k] == Approx(expected_ppo.data()[k]).epsilon(1e-14).margin(1e-16));

  const ragged<token> completions = unpad(tokens, mask);
  rollouts r;
  r.tokens = completions.values;
  r.offsets = completions.offsets;
  r.prompts.assign(r.size(), 0);
  const std::vector<double> reinforce =
      reinforce_coefficients(r, advantages, 1.0 / static_cast<double>(r.size()));
  const auto expected_reinforce = load_npy<double, 1>(folder / "expected_reinforce.npy");
  REQUIRE(reinforce.size() == expected_reinforce.size());
  for (std::size_t t = 0; t < reinforce.size(); ++t)
    CHECK(reinforce[t] == Approx(expected_reinforce(t)).epsilon(1e-14).margin(1e-16));
  // Back to [B, T], as Python wants it: the mask puts every coefficient in its place.
  const xt::xtensor<double, 2> padded_back = pad(reinforce, r.offsets).values;
  CHECK(padded_back.shape(0) == mask.shape(0));
  CHECK(padded_back.shape(1) == mask.shape(1));
  CHECK(unpad(padded_back, mask).values == reinforce);
}

TEST_CASE(".npy data is read where it is mapped", "[xtensor]") {
  const scratch_file file("mapped");
  const xt::xtensor<float, 2> matrix{{1, 2, 3}, {4, 5, 6}};
  save_npy(file.path, matrix);
  const npy_file mapped(file.path);
  CHECK(mapped.header().type == "<f4");
  CHECK(mapped.header().shape == std::vector<std::size_t>{2, 3});
  const std::span<const float> values = mapped.values<float>();
  CHECK(static_cast<const void*>(values.data()) == mapped.bytes().data());
  CHECK((equal_rows(values, row_offsets(2, 3)) == matrix));
  CHECK_THROWS_WITH(mapped.values<double>(), file.path + ": elements of type '<f4', expected '<f8'");
  file.replace("False", "True ");
  CHECK_THROWS_WITH(npy_file(file.path).values<float>(), file.path + ": the array is column-major");
  const std::string bytes = file.bytes();
  file.write(bytes.substr(0, 8) + "\x75" + bytes.substr(9, 117) + bytes.substr(127));  // one space less
  file.replace("True ", "False");
  CHECK_THROWS_WITH(npy_file(file.path).values<float>(),
                    file.path + ": the data begins at byte 127, which is not aligned");
  CHECK((load_npy<float, 2>(file.path) == matrix));
}

TEST_CASE(".npy elements are converted only without loss", "[xtensor]") {
  using Catch::Contains;
  const scratch_file file("converted");
  const auto refuses = [&](auto load, const std::string& what) {
    CHECK_THROWS_WITH(load(), Contains(file.path) && Contains(what));
    CHECK_THROWS_AS(load(), std::invalid_argument);
  };
  constexpr npy_conversion exact = npy_conversion::exact;
  save_npy(file.path, xt::xtensor<std::int64_t, 1>{1, 0, 2147483647});
  CHECK((load_npy<token, 1>(file.path, exact) == xt::xtensor<token, 1>{1, 0, 2147483647}));
  CHECK((load_npy<double, 1>(file.path, exact) == xt::xtensor<double, 1>{1, 0, 2147483647}));
  refuses([&] { return load_npy<token, 1>(file.path); }, "elements of type '<i8', expected '<i4'");
  refuses([&] { return load_npy<bool, 1>(file.path, exact); }, "element 2 of type '<i8' is 2147483647, which '|b1'");
  refuses([&] { return load_npy<float, 1>(file.path, exact); }, "element 2");
  save_npy(file.path, xt::xtensor<std::int64_t, 1>{0, 2147483648});
  refuses([&] { return load_npy<token, 1>(file.path, exact); }, "element 1 of type '<i8' is 2147483648, which '<i4'");
  save_npy(file.path, xt::xtensor<std::int64_t, 1>{1, 0, -1});
  refuses([&] { return load_npy<std::uint64_t, 1>(file.path, exact); }, "element 2 of type '<i8' is -1");
  save_npy(file.path, xt::xtensor<std::int64_t, 1>{9007199254740992, 9007199254740993});
  refuses([&] { return load_npy<double, 1>(file.path, exact); }, "is 9007199254740993");
  save_npy(file.path, xt::xtensor<std::uint64_t, 1>{std::numeric_limits<std::uint64_t>::max()});
  refuses([&] { return load_npy<double, 1>(file.path, exact); }, "is 18446744073709551615");
  save_npy(file.path, xt::xtensor<std::int64_t, 1>{1, 0, 1});
  CHECK((load_npy<bool, 1>(file.path, exact) == xt::xtensor<bool, 1>{true, false, true}));

  const float nan = std::numeric_limits<float>::quiet_NaN();
  save_npy(file.path, xt::xtensor<float, 1>{0.1f, nan, -std::numeric_limits<float>::infinity()});
  const xt::xtensor<double, 1> wide = load_npy<double, 1>(file.path, exact);
  CHECK(wide(0) == static_cast<double>(0.1f));
  CHECK((std::isnan(wide(1)) && std::isinf(wide(2))));
  refuses([&] { return load_npy<token, 1>(file.path, exact); }, "element 0 of type '<f4' is 0.100000001");
  for (double value : {0.1, 1e300, -1e300}) {
    save_npy(file.path, xt::xtensor<double, 1>{value});
    refuses([&] { return load_npy<float, 1>(file.path, exact); }, "element 0");
  }
  for (double value : {-2147483649.0, 2147483648.0, 1e300, std::nan("")}) {
    save_npy(file.path, xt::xtensor<double, 1>{value});
    refuses([&] { return load_npy<token, 1>(file.path, exact); }, "element 0");
  }
  save_npy(file.path, xt::xtensor<double, 2>{{-2147483648.0, 2147483647.0}, {0.0, -1.0}});
  CHECK((load_npy<token, 2>(file.path, exact) ==
         xt::xtensor<token, 2>{{std::numeric_limits<token>::min(), 2147483647}, {0, -1}}));
  // A bool is 0 or 1, whatever byte stands in the file.
  save_npy(file.path, xt::xtensor<bool, 1>{true, false});
  std::string bytes = file.bytes();
  bytes.back() = '\x02';
  file.write(bytes);
  refuses([&] { return load_npy<bool, 1>(file.path); }, "element 1 of type '|b1' is 2, which '|b1' cannot hold");
  bytes.back() = '\x01';
  file.write(bytes);
  CHECK((load_npy<double, 1>(file.path, exact) == xt::xtensor<double, 1>{1, 1}));
}

TEST_CASE(".npy files that cannot be read are named", "[xtensor]") {
  using Catch::Contains;
  const scratch_file file("damaged");
  const auto load = [&] { return load_npy<double, 2>(file.path); };
  CHECK_THROWS_AS(load(), decoder::input_error);
  CHECK_THROWS_WITH(load(), "no file " + file.path);
  const xt::xtensor<double, 2> matrix{{1, 2, 3}, {4, 5, 6}};
  save_npy(file.path, matrix);
  CHECK_THROWS_WITH((load_npy<float, 2>(file.path)), file.path + ": elements of type '<f8', expected '<f4'");
  CHECK_THROWS_WITH((load_npy<double, 1>(file.path)), file.path + ": the array has 2 dimensions, expected 1");

  const std::string whole = file.bytes();
  SECTION("every prefix") {
    for (std::size_t size = 0; size < whole.size(); ++size) {
      file.write(whole.substr(0, size));
      CHECK_THROWS_WITH(load(), Contains(file.path));
      CHECK_THROWS_AS(load(), decoder::file_error);
    }
    CHECK_THROWS_WITH(load(), file.path + ": ends too early: 47 bytes of data for [2, 3]");
  }
  SECTION("bytes behind the array, as from two arrays in one file") {
    file.write(whole + whole);
    CHECK_THROWS_WITH(load(), file.path + ": 176 bytes behind an array of [2, 3]");
  }
  SECTION("shapes that promise more than there is ask for no memory") {
    for (const std::string shape : {"(4294967296, 4294967296), }", "(2, 4), }", "(2, 9223372036854775807, 3), }"}) {
      file.write(whole);
      file.replace(std::string("(2, 3), }").append(shape.size() - 9, ' '), shape);
      CHECK_THROWS_WITH(load(), Contains(file.path + ": ends too early: 48 bytes of data for ["));
    }
    file.write(whole);
    file.replace(std::string("(2, 3), }").append(18, ' '), "(99999999999999999999, 1), }");
    CHECK_THROWS_WITH(load(), file.path + ": damaged .npy header: an extent of 'shape' is too large");
    // A header of 4 GiB in a file of 176 bytes.
    file.write(whole.substr(0, 6) + std::string("\x02\x00\xff\xff\xff\xff", 6) + whole.substr(10));
    CHECK_THROWS_WITH(load(), file.path + ": ends inside the .npy header");
  }
  SECTION("headers that are none") {
    const auto with = [&](const std::string& from, const std::string& to, const std::string& message) {
      file.write(whole);
      file.replace(from, to);
      CHECK_THROWS_WITH(load(), Contains(file.path) && Contains(message));
    };
    with("NUMPY", "NUMPX", ": not a .npy file");
    with("NUMPY\x01", "NUMPY\x04", ": .npy version 4, expected 1, 2 or 3");
    with("'descr'", "'dexcr'", "unexpected key 'dexcr'");
    with("'shape'", "'descr'", "unexpected key 'descr'");
    with("'fortran_order': False,", "'shape': (2, 3),", "unexpected key 'shape'");
    with("{'descr': '<f8',", "{               ", "no 'descr'");
    with("'fortran_order': False,", "                       ", "no 'fortran_order'");
    with("'shape': (2, 3),", "                ", "no 'shape'");
    with("False", "false", "'fortran_order' is neither True nor False");
    with("(2, 3)", "[2, 3]", "'(' is missing");
    with("(2, 3)", "(-2,3)", "'shape' is not a tuple of numbers");
    with("(2, 3)", "(2; 3)", "'shape' is not a tuple of numbers");
    with("(2, 3)", "(,2,3)", "'shape' is not a tuple of numbers");
    with("(2, 3), }", "(2, 3),  ", "a quoted word is missing");
    with("(2, 3), }", "(2, 3), }x", "something stands behind the dictionary");
    with("'<f8'", "\x01<f8'", "a quoted word is missing");
    with("'<f8'", "'<f8\"", "',' or '}' is missing");
    with("'<f8'", "'>f8'", "elements of type '>f8' have another byte order than this machine");
    with("'<f8'", "'<f2'", "elements of type '<f2' are not supported");
    with("'<f8'", "'<c8'", "elements of type '<c8' are not supported");
    with("'<f8', 'fortran_order'", "[('a', '<f8')], 'f'   ", "holds records, expected an array of numbers");
    with("'<f8'", "'|O' ", "elements of type '|O' are not supported");
  }
}

TEST_CASE(".npy files that are damaged anyhow are refused or read, never worse", "[xtensor]") {
  const scratch_file file("fuzzed");
  const xt::xtensor<std::int32_t, 2> matrix{{1, 2, 3}, {4, 5, 6}};
  save_npy(file.path, matrix);
  const std::string whole = file.bytes();
  std::size_t read = 0, refused = 0;
  for (std::uint64_t copy = 0; copy < 3000; ++copy) {
    const random_key key = random_key(17).fold(copy);
    std::string damaged = whole;
    for (std::uint64_t i = 0; i < 1 + copy % 3; ++i) {
      const std::size_t at = key.below(copy % 2 ? damaged.size() : 72, 3 * i);
      const std::uint64_t kind = key.below(4, 3 * i + 1);
      const std::size_t some = 1 + key.below(8, 3 * i + 2);
      if (kind == 0) damaged[at] = static_cast<char>(key.below(256, 3 * i + 2));
      if (kind == 1) damaged[at] = "0123456789(){},'[]TF<>|"[key.below(23, 3 * i + 2)];
      if (kind == 2) damaged.erase(at, some);
      if (kind == 3) damaged.insert(at, damaged.substr(at, some));
    }
    file.write(damaged);
    try {
      const auto array = load_npy<double, 2>(file.path, npy_conversion::exact);
      CHECK(array.size() <= 24);  // as many elements as there are bytes of data
      ++read;
    } catch (const decoder::input_error& e) {
      ++refused;
      if (std::string(e.what()).find(file.path) != 0) FAIL(e.what());
    } catch (const decoder::file_error& e) {
      ++refused;
      if (std::string(e.what()).find(file.path) != 0) FAIL(e.what());
    }
  }
  CHECK(read > 30);
  CHECK(refused > 1000);
}

TEST_CASE(".npy files that cannot be written are named, and the older file stays", "[xtensor]") {
  const xt::xtensor<double, 1> values{1, 2};
  CHECK_THROWS_AS(save_npy("/no/such/folder/x.npy", values), decoder::file_error);
  CHECK_THROWS_WITH(save_npy("/no/such/folder/x.npy", values), Catch::Contains("cannot write /no/such/folder/x.npy"));
  // A folder of that name: the rename fails, and nothing is left beside it.
  const scratch_file folder("folder");
  std::filesystem::create_directories(folder.path + "/kept");
  CHECK_THROWS_WITH(save_npy(folder.path, values), Catch::Contains("cannot write " + folder.path));
  CHECK(std::filesystem::exists(folder.path + "/kept"));
  CHECK(!std::filesystem::exists(folder.path + ".tmp0"));
}
