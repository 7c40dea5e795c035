#pragma once
/// The laws of objectives, in parts where they are separable.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include <rlvr/core/error.hpp>
#include <rlvr/core/random.hpp>
#include <rlvr/laws/report.hpp>
#include <rlvr/objective/objective.hpp>

namespace rlvr::laws {

/// A ragged batch with every array an objective may ask for, to try objectives on: 12 sequences of 0 to 9 tokens in 3
/// groups, a third of the tokens masked, log-ratios of some tenths and a few of several nats.
struct objective_world {
  std::vector<std::size_t> offsets{0}, groups{0, 4, 8, 12};
  std::vector<double> advantages, log_probs, old_log_probs, sampled_log_probs, reference_log_probs, entropies, weights;
  std::vector<std::uint8_t> mask;

  explicit objective_world(random_key key) {
    const auto noise = [&](std::uint64_t what, std::size_t t) { return key.fold(what).uniform(t) - 0.5; };
    for (std::size_t i = 0; i < 12; ++i) {
      offsets.push_back(offsets.back() + (i == 5 ? 0 : 1 + key.below(9, i)));
      advantages.push_back(i == 3 ? 0 : 3 * noise(1, i));
      weights.push_back(0.1 + key.fold(2).uniform(i));
    }
    for (std::size_t t = 0; t < offsets.back(); ++t) {
      const double now = -0.1 - 3 * key.fold(3).uniform(t);
      log_probs.push_back(now);
      old_log_probs.push_back(now + (t % 7 == 2 ? 6 : 0.6) * noise(4, t));
      sampled_log_probs.push_back(now + (t % 5 == 3 ? 4 : 0.4) * noise(5, t));
      reference_log_probs.push_back(now + noise(6, t));
      entropies.push_back(2 * key.fold(7).uniform(t));
      mask.push_back(key.fold(8).uniform(t) < 0.67);
    }
  }

  token_batch<double> batch() const {
    token_batch<double> b;
    b.offsets = offsets;
    b.advantages = advantages;
    b.log_probs = log_probs;
    b.old_log_probs = old_log_probs;
    b.sampled_log_probs = sampled_log_probs;
    b.reference_log_probs = reference_log_probs;
    b.entropies = entropies;
    b.mask = mask;
    b.groups = groups;
    return b;
  }
};

/// Tries what objective promises on worlds of its own: finite coefficients, exact zeros and branch::masked outside the
/// mask whatever stands there, coefficients proportional to the weights, the same bits with and without branches and,
/// for a separable one, in parts; NaN and infinity inside the mask are refused or never read; sizes that differ
/// are refused; an empty batch is fine.
template <objective<double> O>
violations objective_laws(const O& o, law_options options = {}) {
  report out(options);
  const auto bits_equal = [](const std::vector<double>& a, const std::vector<double>& b) {
    for (std::size_t t = 0; t < a.size(); ++t)
      if (!(a[t] == b[t])) return false;
    return a.size() == b.size();
  };
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    objective_world world{random_key(seed)};
    const token_batch<double> b = world.batch();
    const std::span<const double> weights(world.weights);
    std::vector<double> c(b.tokens(), std::numeric_limits<double>::quiet_NaN());
    std::vector<branch> branches(b.tokens(), branch::masked);
    o(b, weights, std::span<double>(c), std::span<branch>(branches));

    bool finite = true, zeros = true, named = true;
    for (std::size_t t = 0; t < c.size(); ++t) {
      finite = finite && std::isfinite(c[t]);
      if (b.active(t)) continue;
      zeros = zeros && c[t] == 0;
      named = named && branches[t] == branch::masked;
    }
    out.check(finite, "a coefficient is always finite");
    out.check(zeros, "tokens outside the mask get exactly 0");
    out.check(named, "tokens outside the mask have branch::masked");
    out.check(bits_equal(coefficients(o, b, weights), c), "the same arguments give the same bits, branches or not");

    const std::vector<double> plain = coefficients(o, b);
    std::vector<double> doubled(world.weights);
    for (double& w : doubled) w *= 2;
    const std::vector<double> twice = coefficients(o, b, std::span<const double>(doubled));
    for (std::size_t i = 0; i < b.size(); ++i)
      for (std::size_t t = b.begin(i); t < b.end(i); ++t) {
        out.near(c[t], world.weights[i] * plain[t], std::fabs(c[t]), "the coefficient is weight times kappa");
        out.near(twice[t], 2 * c[t], std::fabs(c[t]), "twice the weights are twice the coefficients");
      }

    objective_world dirty = world;
    for (std::size_t t = 0; t < c.size(); ++t)
      if (!b.active(t))
        for (std::vector<double>* array : {&dirty.log_probs, &dirty.old_log_probs, &dirty.sampled_log_probs,
                                           &dirty.reference_log_probs, &dirty.entropies})
          (*array)[t] = std::numeric_limits<double>::quiet_NaN();
    out.check(bits_equal(coefficients(o, dirty.batch(), weights), c), "what stands outside the mask is never looked at");

    if constexpr (separable<O, double>)
      for (const std::size_t parts : {std::size_t{2}, std::size_t{5}, std::size_t{40}}) {
        std::vector<double> cut(c.size());
        run_in_parts(o, b, weights, std::span<double>(cut), std::span<branch>{}, parts, [](std::size_t n, auto&& f) {
          for (std::size_t k = n; k > 0; --k) f(k - 1);
        });
        out.check(bits_equal(cut, c), "parts of a batch give the bits of the whole");
      }

    for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
      for (int which = 0; which < 5; ++which) {
        objective_world broken = world;
        std::vector<double>* const arrays[] = {&broken.log_probs, &broken.old_log_probs, &broken.sampled_log_probs,
                                               &broken.reference_log_probs, &broken.entropies};
        std::size_t t = 0;
        while (t < c.size() && !(b.active(t) && c[t] != 0)) ++t;
        if (t == c.size()) continue;
        (*arrays[which])[t] = bad;
        try {
          out.check(bits_equal(coefficients(o, broken.batch(), weights), c),
                    "a value inside the mask that is not finite is refused, or never read");
        } catch (const std::invalid_argument&) {
        }
      }
    out.rejects([&] { o(b, weights.first(5), std::span<double>(c), std::span<branch>{}); },
                "weights of another size are refused");
    out.rejects([&] { o(b, weights, std::span<double>(c).first(c.size() - 1), std::span<branch>{}); },
                "too little room is refused");
  }
  const std::vector<std::size_t> nothing{0};
  token_batch<double> empty;
  empty.offsets = nothing;
  try {
    out.check(coefficients(o, empty).empty(), "an empty batch has no coefficients");
  } catch (const std::exception& e) {
    out.fail(concat("an empty batch is fine: ", std::string_view(e.what())));
  }
  return out.take();
}

}  // namespace rlvr::laws
