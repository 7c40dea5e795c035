#include <cstddef>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <vector>

#include <range/v3/algorithm/count_if.hpp>
#include <range/v3/range/conversion.hpp>
#include <range/v3/view/enumerate.hpp>
#include <range/v3/view/take.hpp>

#include <rlvr/backend/tabular/policy.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/core/slice.hpp>
#include <rlvr/core/validate.hpp>
#include <rlvr/gradient/subset_gradients.hpp>
#include <rlvr/ranges/views.hpp>

#include "catch.hpp"

using namespace rlvr;

namespace {

/// Rollouts of prompts 0 .. sizes.size()-1, sizes[i] of prompt i; rollout j has 1 + j % 3 tokens, all of them
/// j.
rollouts ragged_batch(const std::vector<std::size_t>& sizes) {
  rollouts r;
  for (std::uint32_t prompt = 0; prompt < sizes.size(); ++prompt)
    for (std::size_t n = 0; n < sizes[prompt]; ++n) {
      const auto j = static_cast<token>(r.size());
      for (token t = 0; t <= j % 3; ++t) {
        r.tokens.push_back(j);
        r.log_probs.push_back(-1.0 * j);
        r.entropies.push_back(0.5 * j);
      }
      r.offsets.push_back(r.tokens.size());
      r.prompts.push_back(prompt);
      r.finished.push_back(j % 2 == 0);
      r.verdicts.push_back({.reward = static_cast<double>(j % 2), .scored = j % 5 != 4});
    }
  return r;
}

void check_equal(const rollouts& a, const rollouts& b) {
  CHECK(a.offsets == b.offsets);
  CHECK(a.tokens == b.tokens);
  CHECK(a.log_probs == b.log_probs);
  CHECK(a.entropies == b.entropies);
  CHECK(a.prompts == b.prompts);
  CHECK(a.finished == b.finished);
  CHECK(a.verdicts == b.verdicts);
}

}  // namespace

TEST_CASE("views::groups are the groups of groups_of", "[ranges]") {
  const rollouts r = ragged_batch({3, 1, 4, 2});
  const groups expected = groups_of(r.prompts);
  std::size_t seen = 0;
  for (auto [g, group] : r | views::groups | ranges::views::enumerate) {
    REQUIRE(g < expected.size());
    CHECK(group.first() == expected.begin(g));
    CHECK(group.last() == expected.end(g));
    CHECK(group.size() == expected.size(g));
    CHECK(group.prompt() == g);
    ++seen;
  }
  CHECK(seen == expected.size());

  SECTION("a prompt that comes back is another group") {
    rollouts twice = r;
    append(twice, r);
    CHECK(ranges::distance(twice | views::groups) == 8);
  }
  SECTION("rollouts that do not fit their tokens are refused") {
    rollouts damaged = r;
    damaged.prompts.pop_back();
    CHECK_THROWS_WITH(damaged | views::groups, "rollouts: 9 prompts for 10 rollouts");
    damaged = r;
    damaged.tokens.pop_back();
    CHECK_THROWS_WITH(damaged | views::groups, Catch::Contains("tokens, but offsets end at"));
  }
  SECTION("no rollouts, no groups") {
    const rollouts none;
    CHECK(ranges::distance(none | views::groups) == 0);
    CHECK(ranges::distance(none | views::groups | views::micro_batches(1)) == 0);
  }
}

TEST_CASE("A group_view shows its part of every array", "[ranges]") {
  const rollouts r = ragged_batch({3, 1, 4, 2});
  for (const group_view& group : r | views::groups) {
    std::size_t i = group.first(), tokens = 0;
    for (std::span<const token> completion : group.completions()) {
      CHECK(completion.data() == r.completion(i).data());
      CHECK(completion.size() == r.length(i));
      tokens += completion.size();
      ++i;
    }
    CHECK(i == group.last());
    CHECK(group.tokens(r.log_probs).size() == tokens);
    CHECK(group.tokens(r.log_probs).data() == &r.log_probs[r.offsets[group.first()]]);
    CHECK(group.rows(r.verdicts).size() == group.size());
    CHECK(group.rows(r.verdicts).data() == &r.verdicts[group.first()]);
  }
}

TEST_CASE("views::subset splits by prompt into disjoint subsets that cover all", "[ranges]") {
  const rollouts r = ragged_batch({3, 1, 4, 2, 2, 5, 1});
  for (std::size_t count : {1, 2, 3, 7, 9}) {
    std::vector<int> seen(r.size());
    for (std::size_t m = 0; m < count; ++m)
      for (const group_view& group : r | views::groups | views::subset(m, count)) {
        CHECK(group.prompt() % count == m);
        for (std::size_t i = group.first(); i < group.last(); ++i) ++seen[i];
      }
    CHECK(seen == std::vector<int>(r.size(), 1));
  }
  CHECK_THROWS_AS(views::subset(2, 2), std::invalid_argument);
  CHECK_THROWS_AS(views::subset(0, 0), std::invalid_argument);
}

TEST_CASE("views::micro_batches are whole groups, in order, as many as fit", "[ranges]") {
  const rollouts r = ragged_batch({3, 1, 4, 2, 2, 5, 1});
  const auto sizes = [&](std::size_t limit) {
    std::vector<std::vector<std::size_t>> out;
    for (auto batch : r | views::groups | views::micro_batches(limit)) {
      out.emplace_back();
      for (const group_view& group : batch) out.back().push_back(group.size());
    }
    return out;
  };
  using table = std::vector<std::vector<std::size_t>>;
  CHECK(sizes(4) == table{{3, 1}, {4}, {2, 2}, {5}, {1}});  // the group of five stands alone
  CHECK(sizes(1) == table{{3}, {1}, {4}, {2}, {2}, {5}, {1}});
  CHECK(sizes(8) == table{{3, 1, 4}, {2, 2}, {5, 1}});
  CHECK(sizes(18) == table{{3, 1, 4, 2, 2, 5, 1}});
  CHECK_THROWS_AS(views::micro_batches(0), std::invalid_argument);

  SECTION("after a subset") {
    table batches;
    for (auto batch : r | views::groups | views::subset(0, 2) | views::micro_batches(7)) {
      batches.emplace_back();
      for (const group_view& group : batch) batches.back().push_back(group.prompt());
    }
    CHECK(batches == table{{0, 2}, {4, 6}});
  }
}

TEST_CASE("The views are lazy", "[ranges]") {
  const rollouts r = ragged_batch({3, 1, 4, 2, 2, 5, 1});
  std::size_t looked_at = 0;
  auto counted = r | views::groups | ranges::views::transform([&](const group_view& group) {
                   ++looked_at;
                   return group;
                 });
  auto batches = counted | views::subset(0, 1) | views::micro_batches(4);
  CHECK(looked_at == 0);
  auto first = *ranges::begin(batches);
  CHECK(collect(first).size() == 4);
  CHECK(looked_at < 12);  // 7 groups; each step of filter and micro_batches looks at a group again
  CHECK(ranges::distance(batches | ranges::views::take(1)) == 1);
}

TEST_CASE("collect copies rollouts one behind the other", "[ranges]") {
  const rollouts r = ragged_batch({3, 1, 4, 2, 2, 5, 1});
  check_equal(collect(r | views::groups), r);

  rollouts joined;
  for (auto batch : r | views::groups | views::micro_batches(5)) append(joined, collect(batch));
  check_equal(joined, r);

  const rollouts odd = collect(r | views::groups | views::subset(1, 2));
  CHECK(odd.prompts == std::vector<std::uint32_t>{1, 3, 3, 5, 5, 5, 5, 5});
  validate(odd, 7);

  rollouts unjudged = r;
  unjudged.verdicts.clear();
  check_equal(collect(unjudged | views::groups), unjudged);

  SECTION("a batch with tokens and prompts only, as from a file") {
    rollouts bare;
    bare.offsets = r.offsets;
    bare.tokens = r.tokens;
    bare.prompts = r.prompts;
    check_equal(collect(bare | views::groups), bare);
    for (const group_view& group : bare | views::groups) {
      CHECK(group.tokens(bare.log_probs).empty());
      CHECK(group.rows(bare.verdicts).empty());
    }
  }
  SECTION("an array that is not the batch's is told apart") {
    const std::vector<double> per_token(r.tokens.size() - 1), per_rollout(r.size() + 1);
    const group_view group(r, 0, 3);
    CHECK_THROWS_WITH(group.tokens(per_token), "group_view: an array of 35 entries for 36 tokens");
    CHECK_THROWS_WITH(group.rows(per_rollout), "group_view: an array of 19 entries for 18 rollouts");
  }
}

TEST_CASE("Micro-batches of any size take all rollouts once, and coefficients go with them", "[ranges]") {
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    const random_key key(seed);
    std::vector<std::size_t> sizes;
    for (std::uint64_t g = 0; g < 1 + seed % 9; ++g) sizes.push_back(1 + key.below(6, g));
    const rollouts r = ragged_batch(sizes);
    std::vector<double> coefficients(r.tokens.size());
    std::iota(coefficients.begin(), coefficients.end(), 0.5);
    const std::size_t limit = 1 + key.below(12, 100);
    rollouts joined;
    std::vector<double> joined_coefficients;
    for (auto batch : r | views::groups | views::micro_batches(limit)) {
      const rollouts part = collect(batch);
      CHECK((part.size() <= limit || ranges::distance(batch) == 1));
      const std::vector<double> c = collect_tokens(batch, coefficients);
      CHECK(c.size() == part.tokens.size());
      append(joined, part);
      joined_coefficients.insert(joined_coefficients.end(), c.begin(), c.end());
    }
    check_equal(joined, r);
    CHECK(joined_coefficients == coefficients);
  }
}

TEST_CASE("A subset's gradient by views equals subset_gradients", "[ranges]") {
  tabular::policy policy({0.1, 0.7, -0.4, 0.0, 0.3, 0.2, 0.9, -1.0, 0.5, 0.0, 0.4, 0.8}, 3);
  const ragged<token> prompts = policy.prompts();
  std::vector<sample_request> requests;
  for (std::uint32_t i = 0; i < 4; ++i) requests.push_back({.prompt = i, .count = 5 + i});
  const rollouts r = policy.sample(prompts, requests, {}, random_key(3));
  std::vector<double> coefficients(r.tokens.size());
  std::iota(coefficients.begin(), coefficients.end(), -4.0);

  subset_gradients<tabular::space> expected(policy.space(), {.subsets = 2, .parts = gradient_parts::none});
  expected.add(policy, prompts, r, coefficients, 1.0);
  for (std::size_t m = 0; m < 2; ++m) {
    auto g = policy.space().zero();
    for (auto batch : r | views::groups | views::subset(m, 2) | views::micro_batches(6))
      policy.accumulate_score(prompts, collect(batch), collect_tokens(batch, coefficients), 1.0, g);
    for (std::size_t i = 0; i < g.size(); ++i) CHECK(g[i] == Approx(expected.subset(m)[i]).margin(1e-14));
  }
}

TEST_CASE("Views answer a user's questions", "[ranges]") {
  const rollouts r = ragged_batch({3, 1, 4, 2});
  auto solved = r | views::groups | ranges::views::transform([&](const group_view& group) {
                  return ranges::count_if(group.rows(r.verdicts),
                                          [](const verdict& v) { return v.scored && v.reward > 0; });
                });
  CHECK((solved | ranges::to<std::vector<long>>()) == std::vector<long>{1, 1, 2, 0});
  static_assert(!std::is_invocable_v<decltype(views::groups), rollouts>,
                "a view of a temporary would dangle");
}
