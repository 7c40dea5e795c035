// Selectors: trackers against eager references, draws against exact probabilities, and the contract of all of them.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <string_view>
#include <typeindex>
#include <vector>

#include <rlvr/laws/selector.hpp>
#include <rlvr/select/categories.hpp>
#include <rlvr/select/dopr.hpp>
#include <rlvr/select/greso.hpp>
#include <rlvr/select/perplexity_window.hpp>
#include <rlvr/select/prioritized.hpp>
#include <rlvr/select/published.hpp>
#include <rlvr/select/ucb.hpp>

#include "catch.hpp"

using namespace rlvr;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

template <class S>
std::vector<prompt_id> chosen(const S& s, std::size_t k, std::uint64_t seed) {
  std::vector<prompt_id> out(k);
  s.select(out, random_key(seed));
  return out;
}

/// A deterministic outcome for visit number i.
outcome visit(std::uint64_t i, std::uint64_t step) {
  const random_key key(77);
  outcome o = binary_outcome(static_cast<std::uint32_t>(key.below(9, i)), 8, step);
  o.entropy = key.fold(1).uniform(i);
  o.diversity = key.fold(2).uniform(i);
  o.divergence = 0.1 * key.fold(3).uniform(i);
  return o;
}

/// Every selector of the library over the same pool of prompts, each with a name.
template <class F>
void with_every_selector(std::size_t n, F&& f) {
  std::vector<std::uint32_t> categories(n);
  for (std::size_t i = 0; i < n; ++i) categories[i] = static_cast<std::uint32_t>(i % 3);
  std::vector<float> perplexities(n);
  for (std::size_t i = 0; i < n; ++i) perplexities[i] = 1 + static_cast<float>((i * 7) % n);
  perplexity_window window(n, 40);
  window.set_perplexities(perplexities);
  std::vector<double> difficulties(n);
  for (std::size_t i = 0; i < n; ++i) difficulties[i] = static_cast<double>(i) / static_cast<double>(n);

  f("uniform", make_uniform(n));
  f("dopr", make_dopr_selector(moving_reward_tracker(n)));
  f("dopr, by default", make_dopr_selector(n));
  f("dopr, last group", make_dopr_selector(moving_reward_tracker(n, 1)));
  f("dopr, window", make_dopr_selector(window_reward_tracker(n, 3)));
  f("dopr, posterior", make_dopr_selector(beta_tracker<>(n, {.keep = {.9}, .fade = .99}), {}, 0.98));
  f("ucb1", make_ucb1(n));
  f("ucb1_tuned", make_ucb1_tuned(n));
  f("ucb_v", make_ucb_v(n));
  f("kl_ucb", make_kl_ucb(n));
  f("discounted ucb", make_discounted_ucb(n, 0.9));
  f("sliding window ucb", make_sliding_window_ucb(n, 5));
  f("optimistic", make_optimistic(n));
  f("thompson", make_thompson(n));
  f("thompson, information", make_thompson<rate_information>(n));
  f("thompson, deviation", make_thompson<rate_deviation>(n));
  f("thompson, advantage", make_thompson<rate_advantage>(n));
  f("thompson, mixed", make_thompson(n, 1, rate_mixed{8}));
  f("discounted thompson", make_thompson(n, 0.95));
  f("vade", make_vade(n));
  f("mopps", make_mopps(n, 0.5));
  f("mopps, threshold", make_mopps_threshold(n));
  f("spo", make_spo(n));
  f("spo, paper", make_spo(n, {.gamma = 0.5}));
  f("mmr1", make_mmr1(n));
  f("historical variance", make_historical_variance(n, 4));
  f("learnability", make_learnability(n));
  f("entropy", make_entropy(n));
  f("difficulty", make_difficulty(n));
  f("failure", make_failure(n));
  f("curriculum", make_curriculum(difficulties, {.warm_up = 5}));
  f("pairs", make_pairs(n));
  f("greso", greso_selector(greso_tracker(n)));
  f("sec", category_selector(categories, sec_values<>(3)));
  f("sec, proportional", category_selector(categories, sec_values<>(3), category_proportional{}));
  f("dump", category_selector(categories, dump_values<>(3, 20), category_softmax{0.1}));
  f("perplexity window", std::move(window));
  f("prioritized", prioritized_selector<>(n));
}

template <class S>
void observe_some(S& s, std::uint64_t from, std::uint64_t to) {
  for (std::uint64_t i = from; i < to; ++i)
    s.observe(static_cast<prompt_id>(random_key(5).below(s.size(), i)), visit(i, 1 + i / 4));
}

}  // namespace

TEST_CASE("every selector keeps the laws of the concept", "[select]") {
  for (const std::size_t n : {23u, 200u})
    with_every_selector(n, [](const std::string& name, auto s) {
      INFO(name);
      STATIC_REQUIRE(selector<decltype(s)>);
      for (const std::string& broken : laws::selector_laws(s, visit)) FAIL_CHECK(broken);
    });
}

namespace {

/// Breaks one law after another.
struct lawless : uniform_selector {
  enum class sin { none, repeats, moods, believes } of = sin::none;
  static constexpr std::string_view state_name = "lawless";
  static constexpr std::uint32_t state_version = 1;
  mutable std::uint64_t calls = 0;

  lawless(std::size_t n, sin which) : uniform_selector(make_uniform(n)), of(which) {}
  void select(std::span<prompt_id> out, random_key key) const {
    uniform_selector::select(out, of == sin::moods ? key.fold(++calls) : key);
    if (of == sin::repeats && out.size() > 1) out[1] = out[0];
  }
  using uniform_selector::select;
  void observe(prompt_id id, const outcome& o) {
    if (of == sin::believes && !(o.mean <= 1)) return;
    uniform_selector::observe(id, o);
  }
  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    uniform_selector::visit_state(self, visit);
  }
};

}  // namespace

TEST_CASE("the laws of selectors see each law broken", "[select]") {
  using enum lawless::sin;
  const auto broken = [](lawless::sin of) {
    std::string all;
    for (const std::string& law : laws::selector_laws(lawless(9, of), visit)) all += law + "\n";
    return all;
  };
  CHECK(broken(none) == "");
  CHECK_THAT(broken(repeats), Catch::Contains("distinct ids"));
  CHECK_THAT(broken(moods), Catch::Contains("pure function"));
  CHECK_THAT(broken(believes), Catch::Contains("mean outside [0, 1]"));
  CHECK_THAT(laws::selector_laws(make_uniform(3), visit).front(), Catch::Contains("5 are needed"));
}

TEST_CASE("saved states that are damaged or of something else are refused with nothing changed", "[select]") {
  with_every_selector(9, [](const std::string& name, auto fresh) {
    using S = decltype(fresh);
    INFO(name);
    auto s = fresh;
    observe_some(s, 0, 20);
    const std::vector<std::byte> bytes = save_state(s);
    auto other = fresh;
    observe_some(other, 20, 30);
    const std::vector<std::byte> own = save_state(other);
    for (std::size_t at = 0; at < bytes.size(); at += 1 + bytes.size() / 97)
      for (const unsigned bit : {0u, 3u, 7u}) {
        std::vector<std::byte> flipped = bytes;
        flipped[at] ^= std::byte{1} << bit;
        CHECK_THROWS_AS(restore_state(other, flipped), state_error);
      }
    for (const std::size_t size : {std::size_t{0}, std::size_t{5}, std::size_t{30}, bytes.size() - 1}) {
      if (size >= bytes.size()) continue;
      CHECK_THROWS_AS(restore_state(other, std::span(bytes).first(size)), state_error);
    }
    int tried = 0;
    with_every_selector(10, [&](const std::string& larger, auto t) {
      if constexpr (std::is_same_v<decltype(t), S>)
        if (larger == name) {
          CHECK_THROWS_AS(restore_state(t, bytes), state_error);
          ++tried;
        }
    });
    CHECK(tried == 1);
    CHECK(save_state(other) == own);
  });

  auto ucb = make_ucb1(9);
  const auto bytes = save_state(ucb);
  auto vade = make_vade(9);
  CHECK_THROWS_WITH(restore_state(vade, bytes),
                    "sampled rate_information over beta_tracker of keep_share: the saved state is of ucb1 over "
                    "gain_tracker of rate_advantage");
  auto large = make_ucb1(10);
  CHECK_THROWS_WITH(restore_state(large, bytes), Catch::Contains("9 entries of visits, this one 10"));
  auto replay = prioritized_selector<>(10);  // the same number of levels as 9
  CHECK_THROWS_WITH(restore_state(replay, save_state(prioritized_selector<>(9))), Catch::Contains("this one"));
  CHECK(replay.size() == 10);
  auto posterior = make_dopr_selector(beta_tracker<>(9));
  CHECK_THROWS_WITH(restore_state(posterior, save_state(make_dopr_selector(9))),
                    "dopr_score over beta_tracker of keep_share and visit_counter: the saved state is of dopr_score "
                    "over moving_reward_tracker and visit_counter");
}

namespace {

/// A selector of one's own parts, which have no names.
template <class Gain>
auto own_selector(Gain gain) {
  return pool_selector(moving_gain_tracker<Gain>(9, 1, 0, gain),
                       [](double value, const pool_clock&) { return -value; });
}

}  // namespace

TEST_CASE("what selectors learn has a name of its own wherever it is not the same", "[select]") {
  std::map<std::string, std::map<std::type_index, std::string>> selectors_of;  // a state's name -> who has it
  with_every_selector(9, [&](const std::string& name, auto s) {
    using S = decltype(s);
    selectors_of[std::string(std::string_view(S::state_name))].emplace(typeid(S), name);
  });
  std::set<std::set<std::string>> alike;
  for (const auto& [state, types] : selectors_of) {
    std::set<std::string> names;
    for (const auto& [type, name] : types) names.insert(name);
    if (names.size() > 1) alike.insert(names);
  }
  CHECK(alike == std::set<std::set<std::string>>{{"uniform", "difficulty"}, {"sec", "sec, proportional"}});  // the draw
}

TEST_CASE("saved states of another rule, gain or rate over the same fields are refused", "[select]") {
  const auto refused = [](auto into, const auto& from) {
    auto before = save_state(into);
    CHECK_THROWS_AS(restore_state(into, save_state(from)), state_error);
    CHECK(save_state(into) == before);
  };
  refused(make_ucb1_tuned(9), make_ucb1(9));
  refused(make_ucb1<gain_entropy>(9), make_ucb1(9));
  refused(make_mopps(9), make_thompson(9));
  refused(make_thompson<rate_information>(9), make_thompson(9));
  refused(make_failure(9), make_thompson<rate_failure>(9));
  refused(make_optimistic<rate_information>(9), make_optimistic(9));
  refused(make_entropy(9), make_mmr1(9));
  refused(prioritized_selector<gain_entropy>(9), prioritized_selector<>(9));
  const std::vector<std::uint32_t> categories(9);
  refused(category_selector(categories, sec_values<gain_centred_advantage>(1)),
          category_selector(categories, sec_values<>(1)));
  refused(category_selector(categories, dump_values<gain_centred_advantage>(1)),
          category_selector(categories, dump_values<>(1)));
  // Trackers alone are told apart by their gain.
  refused(gain_tracker<gain_entropy>(9), gain_tracker<gain_promotion>(9));
  refused(gain_window_tracker<gain_entropy>(9, 4), gain_window_tracker<gain_promotion>(9, 4));
  refused(beta_tracker<>(9), beta_tracker<keep_by_divergence>(9));

  // The draw may be another, and parts of one's own need no name.
  auto difficulty = make_difficulty(9);
  CHECK_NOTHROW(restore_state(difficulty, save_state(make_uniform(9))));
  auto own = own_selector([](const outcome& o) { return o.mean; });
  STATIC_REQUIRE(selector<decltype(own)>);
  observe_some(own, 0, 20);
  auto again = own_selector([](const outcome& o) { return o.mean; });
  restore_state(again, save_state(own));
  CHECK(save_state(again) == save_state(own));
  refused(make_entropy(9), own);
}

TEST_CASE("a selector with room for more prompts selects from the known ones as one without", "[select]") {
  constexpr std::size_t known = 9;
  std::vector<prompt_id> ids(known);
  std::iota(ids.begin(), ids.end(), 0u);
  int tried = 0;
  with_every_selector(known, [&](const std::string& name, auto small) {
    using S = decltype(small);
    if (name == "curriculum" || name == "perplexity window") return;  // whose labels here depend on the pool's size
    with_every_selector(4 * known, [&](const std::string& same, auto large) {
      if constexpr (std::is_same_v<decltype(large), S>) {
        if (same != name) return;
        INFO(name);
        std::vector<prompt_id> a(4), b(4);
        for (std::uint64_t step = 1; step <= 20; ++step) {
          small.select(a, random_key(step), ids);
          large.select(b, random_key(step), ids);
          CHECK(a == b);
          for (const prompt_id id : a) {
            small.observe(id, visit(step + id, step));
            large.observe(id, visit(step + id, step));
          }
        }
        ++tried;
      }
    });
  });
  CHECK(tried > 30);
}

TEST_CASE("outcomes are summed up from rewards of any declared range", "[select]") {
  const outcome o = outcome_of(std::vector<double>{-1, 1, 1, 1}, 7, {.low = -1});
  CHECK(o.rollouts == 4);
  CHECK(o.mean == Approx(0.75));
  CHECK(o.variance == Approx(0.1875));
  CHECK(o.spread == Approx(0.375));
  CHECK(o.step == 7);
  const outcome same = binary_outcome(3, 4, 7);
  CHECK(same.mean == Approx(o.mean));
  CHECK(same.variance == Approx(o.variance));
  CHECK(same.spread == Approx(o.spread));
  CHECK(same.successes() == 3);
  CHECK(same.failures() == 1);
  CHECK(outcome_of(std::vector<double>(5, 0.2)).variance == 0);
  CHECK(outcome_of({}).rollouts == 0);
  CHECK_THROWS_WITH(outcome_of(std::vector<double>{0, 1, 2}), Catch::Contains("reward 2 is 2, outside [0, 1]"));
  CHECK_THROWS_WITH(outcome_of(std::vector<double>{0, std::nan("")}), Catch::Contains("reward 1 is nan"));
  CHECK_THROWS_WITH(outcome_of(std::vector<double>{0}, 0, {.low = 1}), Catch::Contains("reward range [1, 1]"));
  CHECK_THROWS_WITH(binary_outcome(5, 4), Catch::Contains("5 successes in 4"));
}

TEST_CASE("an outcome that no rewards in [0, 1] have is refused with the state unchanged", "[select]") {
  auto s = make_dopr_selector(moving_reward_tracker(3));
  s.observe(1, binary_outcome(1, 3, 1));
  const auto before = save_state(s);
  const auto says = [&](outcome o, const std::string& what) {
    CHECK_THROWS_WITH(s.observe(1, o), Catch::Contains(what));
    CHECK(save_state(s) == before);
  };
  says({.rollouts = 4, .mean = 1, .variance = 0.25}, "outcome: variance is 0.25, outside [0, 0] at mean 1");
  says({.rollouts = 4, .mean = 0.5, .variance = 0.2501}, "variance is 0.2501, outside [0, 0.25] at mean 0.5");
  says({.rollouts = 4, .mean = 0.25, .variance = -0.1}, "variance is -0.1, outside [0, 0.1875]");
  says({.rollouts = 4, .mean = 0.25, .variance = std::nan("")}, "variance is nan");
  says({.rollouts = 4, .mean = 0, .spread = 0.1}, "outcome: spread is 0.1, outside [0, 0] at mean 0");
  says({.rollouts = 4, .mean = 0.25, .spread = 0.38}, "spread is 0.38, outside [0, 0.375] at mean 0.25");
  says({.rollouts = 4, .mean = 0.25, .spread = std::nan("")}, "spread is nan");
  // What rewards do have is never refused, binary or not, from whatever range.
  const random_key key(8);
  for (std::uint64_t i = 0; i < 20000; ++i) {
    const reward_range range{.low = -1e3 * key.uniform(i, 0, 1), .high = 1 + key.uniform(i, 0, 2)};
    std::vector<double> rewards(1 + key.below(9, i));
    for (std::size_t j = 0; j < rewards.size(); ++j) {
      const double u = key.fold(i).uniform(j);
      rewards[j] = i % 2 == 0 ? (u < 0.5 ? range.low : range.high) : range.low + u * (range.high - range.low);
    }
    check_outcome(outcome_of(rewards, 0, range));
  }
  // Nor from a range that is narrow beside its magnitude.
  for (std::uint64_t i = 0; i < 20000; ++i) {
    const double low = (key.uniform(i, 1) - 0.5) * std::exp2(static_cast<double>(key.below(40, i)) - 20);
    const double width = key.uniform(i, 2) * std::exp2(static_cast<double>(key.fold(1).below(40, i)) - 20);
    const reward_range range{.low = low, .high = low + width};
    if (!(range.low < range.high)) continue;
    std::vector<double> rewards(1 + key.below(16, i));
    for (std::size_t j = 0; j < rewards.size(); ++j) {
      const double u = key.fold(i).uniform(j), below = std::nextafter(range.high, range.low);
      rewards[j] = i % 2 == 0 ? (u < 0.5 ? range.low : range.high) : (u < 0.9 ? range.high : below);
    }
    check_outcome(outcome_of(rewards, 0, range));
  }
}

TEST_CASE("the lazily fading Beta tracker is the eager one", "[select]") {
  struct eager {
    double a = 0, b = 0;
  };
  constexpr std::size_t n = 6;
  const double keep = 0.6, fade = 0.97;
  beta_tracker<> lazy(n, {.prior_alpha = 1, .prior_beta = 2, .keep = {keep}, .fade = fade});
  std::array<eager, n> reference{};
  std::uint64_t i = 0;
  for (std::uint64_t step = 1; step <= 60; ++step) {
    std::set<prompt_id> visited;
    if (step % 5 != 0) visited = {static_cast<prompt_id>(step % n), static_cast<prompt_id>((step * step + 1) % n)};
    for (prompt_id id = 0; id < n; ++id) {
      const double k = visited.contains(id) ? keep : fade;
      reference[id].a *= k;
      reference[id].b *= k;
    }
    for (const prompt_id id : visited) {
      const outcome o = visit(i++, step);
      lazy.observe(id, o);
      reference[id].a += o.successes();
      reference[id].b += o.failures();
    }
    if (lazy.clock().step != step) continue;  // a step that nobody visited is seen with the next visit
    for (prompt_id id = 0; id < n; ++id) {
      CHECK(lazy[id].alpha == Approx(1 + reference[id].a).epsilon(1e-6));
      CHECK(lazy[id].beta == Approx(2 + reference[id].b).epsilon(1e-6));
    }
  }
}

TEST_CASE("VADE's and MoPPS's counts are those of their figures and formulas", "[select]") {
  // the three triples of VADE's first figure: keep .2, fade .999, groups of 8
  beta_tracker<> vade(3, {.keep = {0.2}, .fade = 0.999});
  vade.set_counts(std::vector<double>{0.1, 2.7, 9.0}, std::vector<double>{8.4, 5.3, 3.0});
  vade.observe(0, binary_outcome(1, 8, 1));
  vade.observe(1, binary_outcome(4, 8, 1));
  CHECK(vade[0].alpha - 1 == Approx(1.02));
  CHECK(vade[0].beta - 1 == Approx(8.68));
  CHECK(vade[1].alpha - 1 == Approx(4.54));
  CHECK(vade[1].beta - 1 == Approx(5.06));
  CHECK(vade[2].alpha - 1 == Approx(8.991));

  beta_tracker<> mopps(1, {.keep = {0.5}});
  double a = 1, b = 1;
  for (std::uint64_t i = 0; i < 5; ++i) {
    const outcome o = visit(i, 3 * i);
    mopps.observe(0, o);
    a = 0.5 * a + 0.5 + o.successes();
    b = 0.5 * b + 0.5 + o.failures();
    CHECK(mopps[0].alpha == Approx(a));
    CHECK(mopps[0].beta == Approx(b));
  }
  mopps.observe(0, binary_outcome(1, 1, 20));  // groups of one are groups
  CHECK(mopps[0].alpha == Approx(0.5 * a + 0.5 + 1));

  const double known = mopps[0].alpha;
  mopps.observe(0, outcome{.step = 30});  // nothing scored: nothing forgotten
  CHECK(mopps[0].alpha == known);
  beta_tracker<> fading(2, {.fade = 0.5});
  fading.observe(1, binary_outcome(1, 2, 100));
  fading.set_counts(std::vector<double>{4, 4}, std::vector<double>{4, 4});
  CHECK(fading[0].alpha == 5);
  CHECK(fading[1].alpha == 5);

  CHECK_THROWS_WITH(beta_tracker<>(2, {.prior_alpha = -1}), Catch::Contains("prior Beta(-1, 1)"));
  CHECK_THROWS_WITH(beta_tracker<>(2, {.fade = 0}), Catch::Contains("factor is 0"));
  CHECK_THROWS_WITH(vade.set_counts(std::vector<double>{1, 2, 3}, std::vector<double>{1, -2, 3}),
                    Catch::Contains("counts of prompt 1 are 2 and -2"));
}

TEST_CASE("SPO's tracker forgets by divergence and begins as its recipe", "[select]") {
  const keep_by_divergence keep;
  CHECK(keep(outcome{.divergence = 0}) == 0.96);
  CHECK(keep(outcome{.divergence = 1}) == 0.875);
  CHECK(keep(outcome{.divergence = 0.06 * std::log2(1 / 0.9)}) == Approx(0.9));
  spo_selector s = make_spo(3);
  CHECK(s.tracker()[0].alpha == 0.5);
  outcome o = binary_outcome(1, 1, 1);
  o.divergence = 0.06 * std::log2(1 / 0.9);
  s.observe(0, o);
  CHECK(s.tracker()[0].alpha == Approx(0.9 * 0.5 + 1));
  CHECK(s.tracker()[0].beta == Approx(0.9 * 0.5));
  const double v = s.tracker()[0].rate();
  CHECK(s.score(0, random_key(0)) == Approx(std::sqrt(v * (1 - v)) + 0.05));
  CHECK(make_spo(3, {.gamma = 1}).score(1, random_key(0)) == Approx(0.5 / 1 + 0.05));
  CHECK(spo_counts(3, 8).alpha == Approx(8 * 3.5 / 9));  // N_init = 8
  CHECK(spo_counts(3, 8).weight() == Approx(8));
  CHECK(spo_counts(0, 0).alpha == 0.5);
  CHECK_THROWS_WITH(spo_counts(9, 8), Catch::Contains("9 successes in 8"));
}

TEST_CASE("reward trackers follow their definitions", "[select]") {
  const double w = 0.3;
  moving_reward_tracker moving(2, w), last(2, 1);
  window_reward_tracker window(2, 3);
  CHECK_FALSE(moving[0].seen);
  double mean = 0, variance = 0;
  std::vector<double> rates;
  for (std::uint64_t i = 0; i < 7; ++i) {
    const outcome o = visit(i, i);
    moving.observe(1, o);
    last.observe(1, o);
    window.observe(1, o);
    rates.push_back(o.mean);
    if (i == 0) {
      mean = o.mean, variance = o.variance;
    } else {  // the moments of a mixture: second moments mix linearly
      const double second = (1 - w) * (variance + mean * mean) + w * (o.variance + o.mean * o.mean);
      mean = (1 - w) * mean + w * o.mean;
      variance = second - mean * mean;
    }
    CHECK(moving[1].mean == Approx(mean).epsilon(1e-6));
    CHECK(moving[1].variance == Approx(variance).epsilon(1e-5));
    CHECK(last[1].variance == Approx(o.variance).epsilon(1e-6));
    const std::size_t n = std::min<std::size_t>(rates.size(), 3);
    const moments m = moments_of(std::span(rates).last(n));
    CHECK(window[1].mean == Approx(m.mean).epsilon(1e-6));
    CHECK(window[1].variance == Approx(m.variance(0)).margin(1e-7));
  }
  const reward_belief before = moving[1];
  moving.observe(1, outcome{.step = 9});  // nothing scored
  CHECK(moving[1].mean == before.mean);
  CHECK_FALSE(window[0].seen);
  CHECK_THROWS_WITH(moving_reward_tracker(2, 0), Catch::Contains("weight is 0"));
  CHECK_THROWS_WITH(window_reward_tracker(2, 0), Catch::Contains("window is 0"));
}

TEST_CASE("fading counts and gains are sums over the visits, late ones included", "[select]") {
  constexpr std::size_t n = 4;
  const double fade = 0.9;
  visit_counter counter(n, fade);
  gain_tracker<gain_of_rate<rate_variance>> gains(n, fade);
  gain_window_tracker<gain_of_rate<rate_variance>> window(n, 6);
  struct record {
    prompt_id id;
    std::uint64_t at;
    double gain;
  };
  std::vector<record> all;
  std::array<std::uint64_t, n> latest{};
  std::uint64_t now = 0;
  for (std::uint64_t i = 0; i < 40; ++i) {
    const auto id = static_cast<prompt_id>(random_key(3).below(n, i));
    const std::uint64_t step = i % 7 == 3 ? i - 2 : i + 1;  // some are late
    const outcome o = visit(i, step);
    counter.observe(id, o);
    gains.observe(id, o);
    window.observe(id, o);
    latest[id] = std::max(latest[id], step);  // one before the prompt's last visit counts as at that
    all.push_back({id, latest[id], o.mean * (1 - o.mean)});
    now = std::max(now, step);

    double total = 0;
    for (prompt_id p = 0; p < n; ++p) {
      double visits = 0, sum = 0, squares = 0, recent = 0, recent_sum = 0;
      for (std::size_t j = 0; j < all.size(); ++j) {
        if (all[j].id != p) continue;
        const double weight = std::pow(fade, static_cast<double>(now - all[j].at));
        visits += weight;
        sum += weight * all[j].gain;
        if (j + 6 >= all.size()) recent += 1, recent_sum += all[j].gain;
      }
      total += visits;
      for (const record& r : all)
        if (r.id == p)
          squares += std::pow(fade, static_cast<double>(now - r.at)) * std::pow(r.gain - sum / visits, 2);
      CHECK(counter[p].visits == Approx(visits).epsilon(1e-5).margin(1e-12));
      CHECK(gains[p].visits == Approx(visits).epsilon(1e-5).margin(1e-12));
      if (visits > 0) {
        CHECK(gains[p].mean == Approx(sum / visits).epsilon(1e-5));
        CHECK(gains[p].variance == Approx(squares / visits).epsilon(1e-4).margin(1e-7));
      }
      CHECK(window[p].visits == recent);
      if (recent > 0) CHECK(window[p].mean == Approx(recent_sum / recent));
    }
    CHECK(counter.clock().visits == Approx(total).epsilon(1e-5));
    CHECK(gains.clock().visits == Approx(total).epsilon(1e-5));
  }
}

TEST_CASE("bandit indices are their closed forms", "[select]") {
  const gain_belief b{.visits = 10, .mean = 0.3, .variance = 0.05};
  const pool_clock now(9, 200);
  const double l = std::log(200.0);
  CHECK(ucb1{}(b, now) == Approx(0.3 + std::sqrt(2 * l / 10)));
  CHECK(ucb1_tuned{}(b, now) == Approx(0.3 + std::sqrt(l / 10 * 0.25)));
  const gain_belief sure{.visits = 5000, .mean = 0.3, .variance = 0.05};
  CHECK(ucb1_tuned{}(sure, now) == Approx(0.3 + std::sqrt(l / 5000 * (0.05 + std::sqrt(2 * l / 5000)))));
  CHECK(ucb_v{}(b, now) == Approx(0.3 + std::sqrt(2 * 1.2 * l / 10 * 0.05) + 3 * 1.2 * l / 10));
  CHECK(discounted_ucb{}(b, now) == Approx(0.3 + 2 * std::sqrt(0.5 * l / 10)));
  CHECK(discounted_ucb{.bound = 3, .xi = 0.6}(b, now) == Approx(0.3 + 6 * std::sqrt(0.6 * l / 10)));
  CHECK(sliding_window_ucb{}(b, now) == Approx(0.3 + std::sqrt(0.5 * l / 10)));
  CHECK(sliding_window_ucb{.bound = 3, .xi = 0.6}(b, now) == Approx(0.3 + 3 * std::sqrt(0.6 * l / 10)));
  for (const double c : {0.0, 3.0}) {
    const double q = kl_ucb{c}(b, now), d = (l + c * std::log(l)) / 10;
    CHECK(0.3 * std::log(0.3 / q) + 0.7 * std::log(0.7 / (1 - q)) == Approx(d).epsilon(1e-8));
    CHECK(q > 0.3);
  }
  CHECK(kl_ucb{}({.visits = 10, .mean = 1}, now) == 1);
  CHECK(-std::log(1 - kl_ucb{}({.visits = 10, .mean = 0}, now)) == Approx(l / 10));
  CHECK(kl_ucb{}(b, {0, 1}) == Approx(0.3));  // ln 1 = 0: no bonus, and no NaN from ln ln 1
  CHECK(kl_ucb{3}(b, {0, 1}) == Approx(0.3));

  // optimism about p: a prompt that may be at 1/2 has the peak's value, a solved one its interval's end
  CHECK(optimistic<rate_variance>{}({.visits = 2, .mean = 0.5}, now) == 0.25);
  const gain_belief solved{.visits = 100, .mean = 1};
  const double low = std::exp(-l / 100);
  CHECK(optimistic<rate_variance>{}(solved, now) == Approx(low * (1 - low)));
  for (const double bound : {ucb1{}({}, now), ucb1_tuned{}({}, now), ucb_v{}({}, now), kl_ucb{}({}, now),
                             discounted_ucb{}({}, now), sliding_window_ucb{}({}, now),
                             optimistic<rate_variance>{}({}, now)})
    CHECK(bound == infinity);
  // a thousand halvings later a prompt is as good as new
  auto s = make_discounted_ucb(3, 0.5, {.xi = 2});
  for (prompt_id id = 0; id < 3; ++id) s.observe(id, binary_outcome(1, 2, 1));
  for (int i = 0; i < 2000; ++i) s.observe(1, binary_outcome(1, 2, 3000));
  CHECK(s.score(0, random_key(1)) == infinity);
  CHECK_THROWS_WITH(s.score(1000, random_key(1)), "pool_selector: prompt 1000 in a pool of 3");
  CHECK(chosen(s, 3, 1)[2] == 1);
}

TEST_CASE("the rules made by name have their papers' indices", "[select]") {
  // prompt 0 twice and prompt 1 once, all in step 1: gains 1/2 and 3/8, mean 7/16, variance 1/256; t = 3
  const auto score = [](auto s) {
    for (const std::uint32_t k : {2u, 3u}) s.observe(0, binary_outcome(k, 4, 1));
    s.observe(1, binary_outcome(2, 4, 1));
    CHECK(s.score(2, random_key(1)) == infinity);
    CHECK_FALSE(s.keep(binary_outcome(4, 4)));
    return s.score(0, random_key(1));
  };
  const double mean = 7.0 / 16, variance = 1.0 / 256, share = std::log(3.0) / 2;
  CHECK(score(make_ucb1(3)) == Approx(mean + std::sqrt(2 * share)));
  CHECK(score(make_ucb1(3, {.scale = 0.5})) == Approx(mean + std::sqrt(0.5 * share)));
  CHECK(score(make_ucb1_tuned(3)) == Approx(mean + std::sqrt(share / 4)));
  CHECK(score(make_ucb_v(3)) == Approx(mean + std::sqrt(2.4 * share * variance) + 3.6 * share));
  CHECK(score(make_ucb_v(3, {.c = 0.5})) == Approx(mean + std::sqrt(2.4 * share * variance) + 1.8 * share));
  CHECK(score(make_kl_ucb(3)) == Approx(kl_ucb{}({2, mean, variance}, {1, 3})));
  CHECK(score(make_kl_ucb(3, {3})) == Approx(kl_ucb{3}({2, mean, variance}, {1, 3})));
  CHECK(score(make_discounted_ucb(3, 0.9)) == Approx(mean + 2 * std::sqrt(0.5 * share)));
  CHECK(score(make_discounted_ucb(3, 0.9, {.xi = 2})) == Approx(mean + 2 * std::sqrt(2 * share)));
  CHECK(score(make_sliding_window_ucb(3, 9)) == Approx(mean + std::sqrt(0.5 * share)));
  CHECK(score(make_sliding_window_ucb(3, 9, {.bound = 2})) == Approx(mean + 2 * std::sqrt(0.5 * share)));
  CHECK(score(make_optimistic(3)) == Approx(0.25));
  CHECK(score(make_ucb1(3, {}, gain_of_rate<rate_variance>{})) == Approx(mean / 2 + std::sqrt(2 * share)));

  // what they forget by
  auto faded = make_discounted_ucb(3, 0.5);
  faded.observe(0, binary_outcome(1, 2, 1));
  faded.observe(1, binary_outcome(1, 2, 3));
  CHECK(faded.score(0, random_key(1)) == Approx(0.5 + 2 * std::sqrt(0.5 * std::log(1.25) / 0.25)));
  auto windowed = make_sliding_window_ucb(3, 2);
  for (const prompt_id id : {0, 1, 1}) windowed.observe(id, binary_outcome(1, 2, 1));
  CHECK(windowed.score(0, random_key(1)) == infinity);
  CHECK(windowed.score(1, random_key(1)) == Approx(0.5 + std::sqrt(0.5 * std::log(2.0) / 2)));

  for (const double fade : {0.0, 1.0, 1.5, -0.5, std::nan("")})
    CHECK_THROWS_WITH(make_discounted_ucb(3, fade), Catch::Contains("make_discounted_ucb: fade is"));
  CHECK_THROWS_WITH(make_sliding_window_ucb(3, 0), Catch::Contains("window is 0"));
  CHECK_THROWS_WITH(make_ucb1(0), Catch::Contains("the pool is empty"));
}

TEST_CASE("utilities of the pass rate peak where they say", "[select]") {
  const auto check = [](auto rate) {
    double best = -infinity, at = 0;
    for (int i = 0; i <= 1200; ++i)
      if (const double value = rate(i / 1200.0); value > best) best = value, at = i / 1200.0;
    CHECK(at == Approx(rate.peak).margin(1e-3));
  };
  check(rate_itself{});
  check(rate_variance{});
  check(rate_information{});
  check(rate_deviation{});
  check(rate_advantage{});
  check(rate_mixed{16});
  check(rate_near{0.4});
  CHECK(rate_band{}(0.3) == 0);
  CHECK(rate_band{}(0.2) == Approx(-0.1));
  CHECK(rate_band{}(0.9) == Approx(-0.2));
  CHECK(rate_mixed{3}(0.5) == Approx(0.75));
}

TEST_CASE("group filters: DAPO's and SPEED's mixed groups, the difficulty window, every scored group", "[select]") {
  const keep_mixed mixed;
  const keep_window window{.low = 0.25, .high = 0.75};
  const keep_all all;
  for (std::uint32_t right = 0; right <= 8; ++right) {
    const outcome o = binary_outcome(right, 8);
    CHECK(mixed(o) == (right != 0 && right != 8));
    CHECK(window(o) == (right >= 2 && right <= 6));  // both bounds belong to it
    CHECK(all(o));
  }
  // Equal rewards teach nothing whatever they are, nor does a group of one; credit in part counts where it differs.
  CHECK_FALSE(mixed(outcome_of(std::vector<double>(5, 0.2))));
  CHECK(mixed(outcome_of(std::vector<double>{0.2, 0.2, 0.3})));
  CHECK_FALSE(mixed(outcome_of(std::vector<double>{1})));
  // Without a scored rollout no filter keeps the group, also where the window holds the mean of nothing.
  const outcome none = outcome_of({});
  CHECK_FALSE(mixed(none));
  CHECK_FALSE(keep_window{.low = 0, .high = 1}(none));
  CHECK_FALSE(all(none));
  // A selector asks the filter that it was made with.
  const pool_selector<beta_tracker<>, sampled<rate_variance>, draw_top, keep_window> selector(
      beta_tracker<>(4), {}, {}, {.low = 0.5, .high = 0.75});
  CHECK_FALSE(selector.keep(binary_outcome(3, 8)));
  CHECK(selector.keep(binary_outcome(4, 8)));
}

TEST_CASE("DoPR's score is volatility plus bonus", "[select]") {
  auto s = make_dopr_selector(moving_reward_tracker(4, 0.5), {.bonus = {.scale = 0.7}});
  outcome o = binary_outcome(2, 8, 1);
  o.entropy = 0.4;
  s.observe(2, o);
  CHECK(s.score(2, random_key(0)) == Approx(std::sqrt(0.1875) + 0.7 * 0.4 * std::sqrt(std::log(2.0) / 2)).epsilon(1e-6));
  CHECK(s.score(0, random_key(0)) == Approx(0.7 * std::sqrt(std::log(2.0))));
  auto plain = make_dopr_selector(moving_reward_tracker(4, 0.5), {.weight = 0, .bonus = {1, modulation::none}});
  plain.observe(2, o);
  CHECK(plain.score(2, random_key(0)) == Approx(std::sqrt(std::log(2.0) / 2)));
  CHECK(volatility{}(beta_belief{3, 1}) == Approx(std::sqrt(0.75 * 0.25)));
  CHECK(volatility{}(beta_belief{0, 0}) == 0);
  CHECK_FALSE(s.keep(binary_outcome(0, 8)));
  CHECK(s.keep(binary_outcome(1, 8)));
  // without bonus the most volatile prompt is picked for ever
  auto greedy = make_dopr_selector(moving_reward_tracker(4, 1), {.bonus = {.scale = 0}});
  greedy.observe(1, binary_outcome(1, 8, 1));
  greedy.observe(3, binary_outcome(4, 8, 1));
  CHECK(chosen(greedy, 1, 9) == std::vector<prompt_id>{3});
}

TEST_CASE("the best k come first, ties at random, NaN refused", "[select]") {
  const std::vector<double> scores{3, 1, 4, 1, 5, 9, 2, 6, 5, 3};
  std::vector<prompt_id> out(4);
  keep_largest(candidate_list(10), [&](prompt_id id) { return scores[id]; }, out, random_key(1));
  CHECK(out[0] == 5);
  CHECK(out[1] == 7);
  CHECK(std::set<prompt_id>{out[2], out[3]} == std::set<prompt_id>{4, 8});
  // ties: each of 5 equal ones is first with probability 1/5 (5 sigma of 4000 draws)
  std::array<int, 5> first{};
  for (std::uint64_t seed = 0; seed < 4000; ++seed) {
    std::vector<prompt_id> one(1);
    keep_largest(candidate_list(5), [](prompt_id) { return infinity; }, one, random_key(seed));
    ++first[one[0]];
  }
  for (const int count : first) CHECK(std::abs(count - 800) < 6.5 * std::sqrt(4000 * 0.2 * 0.8));
  CHECK_THROWS_WITH(
      keep_largest(candidate_list(3), [](prompt_id id) { return id == 2 ? std::nan("") : 1.0; }, out, random_key(1)),
      Catch::Contains("4 prompts wanted of 3"));
  out.resize(1);
  CHECK_THROWS_WITH(
      keep_largest(candidate_list(3), [](prompt_id id) { return id == 2 ? std::nan("") : 1.0; }, out, random_key(1)),
      Catch::Contains("score of prompt 2 is NaN"));
}

namespace {

/// Chi-square of the observed sequences of two distinct draws of weights w against successive sampling. With 6 x 5 = 30
/// cells and 29 degrees of freedom 100 is exceeded with probability below 1e-9.
template <class Draw>
double chi_square_of_pairs(const std::vector<double>& w, Draw&& draw) {
  const std::size_t n = w.size();
  const double total = std::accumulate(w.begin(), w.end(), 0.0);
  std::map<std::pair<prompt_id, prompt_id>, double> count;
  constexpr int rounds = 30000;
  for (int i = 0; i < rounds; ++i) {
    std::vector<prompt_id> out(2);
    draw(out, random_key(static_cast<std::uint64_t>(i)));
    count[{out[0], out[1]}] += 1;
  }
  double statistic = 0;
  for (prompt_id a = 0; a < n; ++a)
    for (prompt_id b = 0; b < n; ++b) {
      if (a == b) continue;
      const double expected = rounds * w[a] / total * w[b] / (total - w[a]);
      statistic += std::pow(count[{a, b}] - expected, 2) / expected;
    }
  return statistic;
}

}  // namespace

TEST_CASE("weighted draws without replacement have the exact distribution", "[select]") {
  const std::vector<double> w{0.5, 1, 2, 3, 0.7, 1.3};
  const candidate_list all(w.size());
  CHECK(chi_square_of_pairs(w, [&](std::span<prompt_id> out, random_key key) {
          draw_proportional{}(all, [&](prompt_id id) { return w[id]; }, out, key);
        }) < 100);
  CHECK(chi_square_of_pairs(w, [&](std::span<prompt_id> out, random_key key) {
          draw_softmax{0.25}(all, [&](prompt_id id) { return 0.25 * std::log(w[id]) + 1e4; }, out, key);
        }) < 100);
  // the test sees weights that are off by a tenth
  std::vector<double> off = w;
  off[3] *= 1.1;
  CHECK(chi_square_of_pairs(off, [&](std::span<prompt_id> out, random_key key) {
          draw_proportional{}(all, [&](prompt_id id) { return w[id]; }, out, key);
        }) > 100);

  // the tree: weights by observed gains, 64 prompts so that it does not take the pass; pairs among six of them
  prioritized_selector<> s(64, {.exponent = 1, .floor = 0.01, .initial = 0});
  for (prompt_id id = 0; id < 6; ++id) s.observe(id, binary_outcome(id + 1, 14, 1));
  std::vector<double> weights(64);
  double total = 0;
  for (prompt_id id = 0; id < 64; ++id) total += weights[id] = 0.01 + (id < 6 ? 2.0 * (id + 1) / 14 * (13.0 - id) / 14 : 0);
  for (prompt_id id = 0; id < 64; ++id) CHECK(s.probability(id) == Approx(weights[id] / total));
  CHECK_THROWS_WITH(s.probability(64), "prioritized_selector: prompt 64 in a pool of 64");
  CHECK_THROWS_WITH(s.importance(1000), "prioritized_selector: prompt 1000 in a pool of 64");
  double statistic = 0;  // first and second draw of 40,000, 7 cells each: the six and the rest
  std::array<double, 7> first{}, second{};
  constexpr int rounds = 40000;
  for (int i = 0; i < rounds; ++i) {
    std::vector<prompt_id> out(2);
    s.select(out, random_key(static_cast<std::uint64_t>(i)));
    first[std::min<prompt_id>(out[0], 6)] += 1;
    second[std::min<prompt_id>(out[1], 6)] += 1;
  }
  for (prompt_id c = 0; c < 7; ++c) {
    double p1 = 0, p2 = 0;
    for (prompt_id id = 0; id < 64; ++id) {
      if (std::min<prompt_id>(id, 6) != c) continue;
      p1 += weights[id] / total;
      for (prompt_id a = 0; a < 64; ++a)
        if (a != id) p2 += weights[a] / total * weights[id] / (total - weights[a]);
    }
    statistic += std::pow(first[c] - rounds * p1, 2) / (rounds * p1);
    statistic += std::pow(second[c] - rounds * p2, 2) / (rounds * p2);
  }
  CHECK(statistic < 80);  // 12 degrees of freedom: probability below 1e-11
  CHECK(s.importance(3, 1) == Approx(1 / (64 * s.probability(3))));

  // a prompt with more than half of the weight, and what is drawn after it
  prioritized_selector<gain_of_rate<rate_itself>> heavy(64, {.exponent = 1, .floor = 1e-3, .initial = 0});
  heavy.observe(3, binary_outcome(8, 8, 1));
  heavy.observe(5, binary_outcome(4, 8, 1));
  int before = 0, after = 0;
  for (std::uint64_t i = 0; i < rounds; ++i) {
    const std::vector<prompt_id> out = chosen(heavy, 2, i);
    before += out[0] == 3;
    after += out[0] == 3 && out[1] == 5;
  }
  const double p3 = heavy.probability(3), p35 = p3 * heavy.probability(5) / (1 - p3);
  CHECK(std::abs(before - rounds * p3) < 6.2 * std::sqrt(rounds * p3 * (1 - p3)));
  CHECK(std::abs(after - rounds * p35) < 6.2 * std::sqrt(rounds * p35 * (1 - p35)));
}

TEST_CASE("weights of zero, infinity and below zero", "[select]") {
  std::vector<double> w{0, 2, 0, infinity, 1};
  std::vector<prompt_id> out(5);
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    draw_proportional{}(candidate_list(5), [&](prompt_id id) { return w[id]; }, out, random_key(seed));
    CHECK(out[0] == 3);
    CHECK(std::set<prompt_id>{out[3], out[4]} == std::set<prompt_id>{0, 2});
  }
  w[1] = -1;
  CHECK_THROWS_WITH(draw_proportional{}(candidate_list(5), [&](prompt_id id) { return w[id]; }, out, random_key(1)),
                    Catch::Contains("weight of prompt 1 is -1"));
  CHECK_THROWS_WITH(draw_softmax{0}(candidate_list(5), [&](prompt_id id) { return w[id]; }, out, random_key(1)),
                    Catch::Contains("temperature is 0"));
}

TEST_CASE("the mixed draw splits the batch", "[select]") {
  const draw_mixed<draw_top> mixed{.share = 0.6};
  std::vector<prompt_id> out(5);
  std::array<int, 20> uniform{};
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    mixed(candidate_list(20), [](prompt_id id) { return static_cast<double>(id); }, out, random_key(seed));
    CHECK(out[0] == 19);
    CHECK(out[1] == 18);
    CHECK(out[2] == 17);
    ++uniform[out[3]];
  }
  for (int i = 0; i < 17; ++i) CHECK(std::abs(uniform[static_cast<std::size_t>(i)] - 2000.0 / 17) < 70);  // 6.6 sigma
  CHECK(uniform[17] + uniform[18] + uniform[19] == 0);

  // one prompt, epsilon 0.7: the best one with probability 0.3 + 0.7 / 20
  int best = 0;
  for (std::uint64_t seed = 0; seed < 4000; ++seed) {
    draw_mixed<draw_top>{.share = 0.3}(candidate_list(20), [](prompt_id id) { return static_cast<double>(id); },
                                       std::span(out).first(1), random_key(seed));
    best += out[0] == 19;
  }
  CHECK(std::abs(best - 4000 * 0.335) < 190);  // 6.3 sigma
  // shares whose product is whole are not off by one for rounding
  std::vector<prompt_id> many(100);
  draw_mixed<draw_top>{.share = 0.07}(candidate_list(1000), [](prompt_id id) { return static_cast<double>(id); }, many,
                                      random_key(1));
  CHECK(many[6] == 993);
  CHECK(many[7] != 992);
}

TEST_CASE("Beta draws have the moments of their distribution", "[select]") {
  for (const auto& [a, b] : {std::pair{1.0, 1.0}, {0.3, 0.2}, {2.5, 7.0}, {40.0, 3.0}, {1e-3, 2e-3}}) {
    moments m;
    constexpr int n = 40000;
    for (prompt_id id = 0; id < n; ++id) {
      const double x = beta_draw(a, b, prompt_draws(random_key(8), id));
      REQUIRE((x >= 0 && x <= 1));
      m.add(x);
    }
    const double mean = a / (a + b), variance = mean * (1 - mean) / (a + b + 1);
    INFO("Beta(" << a << ", " << b << ")");
    CHECK(std::abs(m.mean - mean) < 6.2 * std::sqrt(variance / n));
    // fourth moments are at most mean (1 - mean)
    CHECK(std::abs(m.variance() - variance) < 6.2 * std::sqrt(mean * (1 - mean) / n));
  }
  CHECK(beta_draw(0, 1, prompt_draws(random_key(1), 0)) == 0);
  CHECK(beta_draw(1, 0, prompt_draws(random_key(1), 0)) == 1);
  for (const double tiny : {0.0, 1e-320, 1e-308}) {
    int ones = 0;
    for (prompt_id id = 0; id < 400; ++id) {
      const double either = beta_draw(tiny, tiny, prompt_draws(random_key(1), id));
      REQUIRE((either == 0 || either == 1));
      ones += either == 1;
    }
    CHECK(std::abs(ones - 200) < 65);  // 6.5 sigma
  }
}

TEST_CASE("MMR1, LILO, DOTS, Kimi, historical variance and pairs choose what they should", "[select]") {
  auto lilo = make_learnability(5);
  const std::vector<std::uint32_t> successes{0, 8, 4, 2, 7};
  for (prompt_id id = 0; id < 5; ++id) lilo.observe(id, binary_outcome(successes[id], 8, 1));
  CHECK(chosen(lilo, 3, 1) == std::vector<prompt_id>{2, 3, 4});

  auto mmr1 = make_mmr1(5, 1);
  for (prompt_id id = 0; id < 5; ++id) mmr1.observe(id, binary_outcome(successes[id], 8, 1));
  CHECK(mmr1.score(3, random_key(0)) == Approx(0.8 * 0.1875));
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const auto ids = chosen(mmr1, 3, seed);
    CHECK(std::set<prompt_id>(ids.begin(), ids.end()) == std::set<prompt_id>{2, 3, 4});
  }

  auto dots = make_difficulty(4);
  auto rates = predicted_rates(4);
  rates.predict(std::vector<double>{0.1, 0.48, 0.9, 0.55});
  const difficulty_selector predicted(rates, {0.5}, {1e-3});
  CHECK(chosen(predicted, 2, 3) == std::vector<prompt_id>{1, 3});
  CHECK_THROWS_WITH(rates.predict(std::vector<double>{0, 0, 0, 2}), Catch::Contains("rate 3 is 2"));
  dots.observe(2, binary_outcome(0, 8));
  CHECK(dots.tracker()[2] == 0);

  auto kimi = make_failure(3, 0);
  kimi.observe(0, binary_outcome(8, 8, 1));
  kimi.observe(1, binary_outcome(6, 8, 1));
  CHECK(kimi.score(0, random_key(0)) == Approx(0).margin(1e-9));
  CHECK(kimi.score(1, random_key(0)) == Approx(0.25));
  CHECK(kimi.score(2, random_key(0)) == Approx(1));
  CHECK(chosen(kimi, 3, 4).back() == 0);

  auto hard = make_curriculum(std::vector<double>{0.1, 0.9, 0.2, 0.8}, {.warm_up = 10});
  std::set<prompt_id> early;
  for (std::uint64_t seed = 0; seed < 60; ++seed) early.insert(chosen(hard, 1, seed)[0]);
  CHECK(early.size() == 4);
  hard.observe(0, binary_outcome(0, 8, 10));  // labels stay what they are
  for (std::uint64_t seed = 0; seed < 60; ++seed) CHECK(chosen(hard, 1, seed)[0] % 2 == 1);

  auto history = make_historical_variance(3, 4);
  for (const std::uint32_t k : {4u, 4u, 4u}) history.observe(0, binary_outcome(k, 8));
  for (const std::uint32_t k : {0u, 8u, 0u}) history.observe(1, binary_outcome(k, 8));
  for (const std::uint32_t k : {3u, 4u, 5u}) history.observe(2, binary_outcome(k, 8));
  CHECK(chosen(history, 3, 1) == std::vector<prompt_id>{1, 2, 0});

  auto pairs = make_pairs(6, 1);
  const std::vector<std::uint32_t> k{0, 1, 3, 5, 7, 8};
  for (prompt_id id = 0; id < 6; ++id) pairs.observe(id, binary_outcome(k[id], 8));
  CHECK(chosen(pairs, 2, 1) == std::vector<prompt_id>{1, 4});
  CHECK(chosen(pairs, 4, 1) == std::vector<prompt_id>{1, 2, 4, 3});
  const auto rest = chosen(pairs, 6, 1);
  CHECK(rest[0] == 1);
  CHECK(std::set<prompt_id>(rest.begin(), rest.end()).size() == 6);
}

TEST_CASE("GRESO keeps less often what had no variance, and adapts per step", "[select]") {
  greso_tracker t(4);
  CHECK(t[0].kept == 1);
  t.observe(0, binary_outcome(8, 8, 1));
  t.observe(1, binary_outcome(0, 8, 1));
  t.observe(2, binary_outcome(4, 8, 1));
  CHECK(t[0].kept == 0.5);
  CHECK(t[1].kept == 0.5);
  CHECK(t[2].kept == 1);
  t.observe(0, binary_outcome(8, 8, 2));  // step 1 ends: easy 1/3 >= 1/12, hard 1/3 >= 1/6
  CHECK(t.keep_easy() == Approx(0.49));
  CHECK(t.keep_hard() == Approx(0.49));
  CHECK(t[0].kept == Approx(0.49 * 0.49));
  t.observe(1, binary_outcome(4, 8, 3));  // step 2 ends: easy 1 >= 1/12, hard 0 < 1/6
  CHECK(t.keep_easy() == Approx(0.48));
  CHECK(t.keep_hard() == Approx(0.50));
  CHECK(t[1].kept == 1);
  t.observe(0, binary_outcome(0, 8, 3));  // the other side begins anew
  CHECK(t[0].kept == Approx(0.50));
  for (int i = 0; i < 300; ++i) t.observe(0, binary_outcome(0, 8, 3));
  CHECK(t[0].kept == 0.01);
  // skipped prompts come only when the kept ones run out
  const greso_selector s(t);
  int skipped_first = 0;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    const auto ids = chosen(s, 3, seed);
    skipped_first += std::find(ids.begin(), ids.end(), 0u) != ids.end();
  }
  CHECK(skipped_first < 25);  // expected 400 * .01 * 3/4
  CHECK_THROWS_WITH(greso_tracker(3, {.low = 0.6}), Catch::Contains("bounds 0.6"));
}

TEST_CASE("SEC learns per step, DUMP over a window, and slots follow the values", "[select]") {
  sec_values<gain_centred_advantage> sec(3, {.learning_rate = 0.5});
  sec.observe(0, binary_outcome(4, 8, 1));  // mean |A| = .5
  sec.observe(0, binary_outcome(8, 8, 1));  // 0
  sec.observe(1, binary_outcome(2, 8, 1));  // .375
  CHECK(sec.score(0) == 0);                 // the step has not ended
  sec.observe(2, binary_outcome(4, 8, 2));
  CHECK(sec.score(0) == Approx(0.5 * 0.25));
  CHECK(sec.score(1) == Approx(0.5 * 0.375));
  sec.observe(2, binary_outcome(4, 8, 3));
  CHECK(sec.score(0) == Approx(0.25 * 0.25));  // absent: decays
  CHECK(sec.score(2) == Approx(0.5 * 0.5));
  sec_values<gain_centred_advantage> stays(3, {.learning_rate = 0.5, .absent = absent_category::stays});
  stays.observe(0, binary_outcome(4, 8, 1));
  stays.observe(1, binary_outcome(4, 8, 2));
  stays.observe(1, binary_outcome(4, 8, 3));
  CHECK(stays.score(0) == Approx(0.25));
  CHECK(gain_normalized_advantage{}(binary_outcome(4, 8)) == Approx(1));
  CHECK(gain_normalized_advantage{}(binary_outcome(8, 8)) == 0);

  dump_values<gain_centred_advantage> dump(2, 4);
  dump.observe(0, binary_outcome(4, 8, 1));
  dump.observe(0, binary_outcome(1, 2, 1));
  CHECK(dump.score(0) == Approx(0.5 + std::sqrt(2 * std::log(11.0) / 11)));
  CHECK(dump.score(1) == Approx(std::sqrt(2 * std::log(11.0))));

  // P(category) = softmax(Q / temperature) for the first slot (6.2 sigma)
  category_selector s({0, 0, 0, 1, 2, 2}, sec, category_softmax{0.2});
  std::array<double, 3> count{};
  for (std::uint64_t seed = 0; seed < 20000; ++seed) {
    const prompt_id id = chosen(s, 1, seed)[0];
    count[id < 3 ? 0 : id == 3 ? 1 : 2] += 1;
  }
  double total = 0;
  for (std::size_t c = 0; c < 3; ++c) total += std::exp(sec.score(c) / 0.2);
  for (std::size_t c = 0; c < 3; ++c) {
    const double p = std::exp(sec.score(c) / 0.2) / total;
    CHECK(std::abs(count[c] - 20000 * p) < 6.2 * std::sqrt(20000 * p * (1 - p)));
  }
  CHECK_THROWS_WITH(category_selector({0, 3}, sec), Catch::Contains("prompt 1 has category 3 of 3"));
  const category_selector flat({0, 1, 1}, sec_values<>(2), category_proportional{.floor = 0});
  CHECK(chosen(flat, 3, 1).size() == 3);  // all values 0: categories alike
}

TEST_CASE("a category's softmax has a temperature above 0", "[select]") {
  const category_selector s({0, 1, 1}, sec_values<>(2), category_softmax{0});
  CHECK_THROWS_WITH(chosen(s, 1, 1), Catch::Contains("temperature is 0"));
}

TEST_CASE("PREPO slides its window from low to high perplexity", "[select]") {
  perplexity_window s(10, 100);
  std::vector<float> ppl{5, 3, 9, 1, 7, 2, 8, 4, 10, 6};
  s.set_perplexities(ppl);
  CHECK(chosen(s, 2, 1) == std::vector<prompt_id>{3, 5});
  s.observe(0, binary_outcome(1, 8, 50));
  CHECK(chosen(s, 2, 1) == std::vector<prompt_id>{0, 9});  // floor(.5 * 8) = 4
  s.observe(0, binary_outcome(1, 8, 400));
  CHECK(chosen(s, 2, 1) == std::vector<prompt_id>{2, 8});
  perplexity_window wide(101, 100);
  std::vector<float> rising(101);
  std::iota(rising.begin(), rising.end(), 1.f);
  wide.set_perplexities(rising);
  for (std::uint64_t step = 1; step <= 100; ++step) {
    wide.observe(0, outcome{.step = step});
    CHECK(chosen(wide, 1, 1)[0] == step);
  }
  ppl[4] = 0.5;
  CHECK_THROWS_WITH(s.set_perplexities(ppl), Catch::Contains("perplexity 4 is 0.5"));
  const auto w = entropy_weights(std::vector<double>{1, 2, 3});
  CHECK(w == std::vector<double>{0.5, 1, 1.5});
  CHECK(entropy_weights(std::vector<double>{0, 0}) == std::vector<double>{1, 1});
  CHECK_THROWS_WITH(entropy_weights(std::vector<double>{1, -1}), Catch::Contains("entropy 1 is -1"));
}

TEST_CASE("attention over a reference set predicts its rates", "[select]") {
  const std::vector<float> references{10, 0, 0, 10};
  const std::vector<double> rates{0.2, 0.9};
  const auto p = attention_rates(references, rates, std::vector<float>{10, 0, 0, 10, 1, 1}, 2);
  CHECK(p[0] == Approx(0.2));
  CHECK(p[1] == Approx(0.9));
  CHECK(p[2] == Approx(0.55));
  CHECK_THROWS_WITH(attention_rates(references, rates, std::vector<float>{1}, 2), Catch::Contains("1 query values"));
}

TEST_CASE("sum trees find by mass and never a weight of zero", "[select]") {
  sum_tree tree(5);
  tree.assign(std::vector<double>{0, 2, 0, 3, 0});
  CHECK(tree.total() == 5);
  CHECK(tree.find(0) == 1);
  CHECK(tree.find(1.999) == 1);
  CHECK(tree.find(2) == 3);
  CHECK(tree.find(5) == 3);
  CHECK(tree.find(1e9) == 3);
  tree.set(4, 1);
  CHECK(tree.find(5.5) == 4);
  tree.set(3, 0);
  CHECK(tree.find(2.5) == 4);
  CHECK_THROWS_WITH(tree.set(5, 1), Catch::Contains("index 5 of 5"));
  CHECK_THROWS_WITH(tree.set(0, -1), Catch::Contains("weight 0 is -1"));
  // a million updates later the total is still the sum, to rounding of one addition per level
  sum_tree busy(1000);
  for (std::uint64_t i = 0; i < 1000000; ++i) busy.set(random_key(1).below(1000, i), random_key(2).uniform(i));
  double sum = 0;
  for (std::size_t i = 0; i < 1000; ++i) sum += busy[i];
  CHECK(busy.total() == Approx(sum).epsilon(1e-13));
}

TEST_CASE("a selector is built only of parts that fit", "[select]") {
  STATIC_REQUIRE(utility_of<ucb1, gain_tracker<gain_entropy>>);
  STATIC_REQUIRE_FALSE(utility_of<ucb1, beta_tracker<>>);
  STATIC_REQUIRE_FALSE(utility_of<dopr_score, moving_reward_tracker>);
  STATIC_REQUIRE_FALSE(tracker<sum_tree>);
  CHECK_THROWS_WITH(make_vade(0), Catch::Contains("pool is empty"));
  CHECK_THROWS_WITH(joint_tracker(moving_reward_tracker(3), visit_counter(4)), Catch::Contains("pools of 3 and 4"));
}
