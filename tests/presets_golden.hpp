#pragma once
/// Golden files of golden/frameworks for the tests of presets.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/core/rollouts.hpp>
#include <rlvr/objective/kl_penalty.hpp>
#include <rlvr/objective/preference.hpp>

#include "catch.hpp"
#include "view_of.hpp"

namespace presets_golden {

using values = std::vector<double>;
using nlohmann::json;

constexpr double infinity = std::numeric_limits<double>::infinity();

/// A number, or "nan", "inf", "-inf".
inline double number(const json& x) {
  if (x.is_number()) return x.get<double>();
  if (x.is_null()) return infinity;  // an option that is off: a bound that never holds
  return x == "nan" ? std::nan("") : x == "inf" ? infinity : -infinity;
}

inline values numbers(const json& array) {
  values out;
  for (const json& x : array) out.push_back(number(x));
  return out;
}

/// One verdict per reward; NaN is unscored.
inline std::vector<rlvr::verdict> verdicts_of(const values& rewards) {
  std::vector<rlvr::verdict> out;
  for (double r : rewards) out.push_back(std::isnan(r) ? rlvr::verdict{0, false} : rlvr::verdict{r, true});
  return out;
}

/// One batch of a golden file.
struct batch {
  std::vector<std::size_t> offsets;
  values reward, advantages, log_probs, old_log_probs, sampled_log_probs, reference_log_probs, entropies, value,
      token_rewards, greedy_rewards;
  std::vector<std::uint8_t> mask;
  rlvr::groups groups;
  double padded_width;

  explicit batch(const json& b)
      : offsets(b["offsets"]),
        reward(b["reward"]),
        advantages(b["advantage"]),
        log_probs(b["log_prob"]),
        old_log_probs(b["old_log_prob"]),
        sampled_log_probs(b["rollout_log_prob"]),
        reference_log_probs(b["ref_log_prob"]),
        entropies(b.value("entropy", values{})),
        value(b.value("value", values{})),
        token_rewards(b.value("token_reward", values{})),
        greedy_rewards(b.value("greedy_reward", values{})),
        padded_width(b["padded_width"]) {
    for (const json& m : b["mask"]) mask.push_back(m.get<double>() != 0);
    const std::vector<std::size_t> group = b["group"];
    for (std::size_t i = 1; i <= group.size(); ++i)
      if (i == group.size() || group[i] != group[i - 1]) groups.offsets.push_back(i);
  }

  std::size_t size() const { return offsets.size() - 1; }
  std::vector<rlvr::verdict> verdicts() const { return verdicts_of(reward); }
  /// Active tokens of each sequence.
  std::vector<std::size_t> token_counts() const {
    std::vector<std::size_t> out(size());
    for (std::size_t i = 0; i < size(); ++i)
      for (std::size_t t = offsets[i]; t < offsets[i + 1]; ++t) out[i] += mask[t];
    return out;
  }
  rlvr::token_batch<double> view() const { return rlvr::testing::view_of<double>(*this); }
};

/// A golden file with the options of each case in full.
inline json golden(const std::string& name) {
  std::ifstream file(std::string(RLVR_SOURCE_DIR "/tests/golden/frameworks/") + name + "_golden.json");
  REQUIRE(file);
  json all = json::parse(file);
  for (json& c : all["cases"]) {
    json options = all["common"][c["function"].get<std::string>()];
    options.update(c["options"]);
    c["options"] = options;
  }
  return all;
}

/// A call of one of the framework's functions.
struct golden_case {
  std::string function, batch_name;
  json options, inputs, outputs;
  batch data;

  /// For INFO.
  std::string name() const { return function + " on " + batch_name + " with " + options.dump(); }
};

/// The cases of a golden file whose function has this in its name, and how many that must be.
inline std::vector<golden_case> cases(const std::string& framework, const std::string& function, std::size_t count) {
  const json all = golden(framework);
  std::vector<golden_case> out;
  for (const json& c : all["cases"]) {
    if (c["function"].get<std::string>().find(function) == std::string::npos) continue;
    const std::string on = c["batch"];
    out.push_back({c["function"], on, c["options"], c["inputs"], c["outputs"], batch(all["batches"][on])});
  }
  REQUIRE(out.size() == count);
  return out;
}

/// The enumerator at the place that a name has among its names.
template <class Enum>
Enum by_name(const json& name, const std::vector<std::string>& names) {
  const auto at = std::find(names.begin(), names.end(), name.get<std::string>());
  REQUIRE(at != names.end());
  return static_cast<Enum>(at - names.begin());
}

inline void check_equal(const values& ours, const values& theirs, double relative, double absolute) {
  REQUIRE(ours.size() == theirs.size());
  for (std::size_t t = 0; t < ours.size(); ++t) {
    INFO("entry " << t << ": " << ours[t] << ", expected " << theirs[t]);
    CHECK(std::fabs(ours[t] - theirs[t]) <= absolute + relative * std::fabs(theirs[t]));
  }
}

/// Coefficients are minus the framework's gradients. Tolerance: 1e-8, which the frameworks add to some counts of at
/// least 5 and we do not, the 12 digits of the file, and some roundings.
inline void check_gradient(const values& ours, const json& gradient, double relative = 3e-9) {
  values theirs = numbers(gradient);
  for (double& x : theirs) x = -x;
  check_equal(ours, theirs, relative, 1e-13);
}

/// Advantages per sequence or per token, theirs and ours, at the tokens whose mask is 1.
inline void check_advantages(const batch& b, const values& ours, const values& theirs, double relative = 1e-10,
                             double absolute = 1e-10) {
  values x, y;
  for (std::size_t i = 0; i < b.size(); ++i) {
    for (std::size_t t = b.offsets[i]; t < b.offsets[i + 1]; ++t)
      if (b.mask[t]) {
        x.push_back(ours.size() == b.size() ? ours[i] : ours[t]);
        y.push_back(theirs.size() == b.size() ? theirs[i] : theirs[t]);
      }
  }
  check_equal(x, y, relative, absolute);
}

/// The gradient of a KL with coefficient 1 in the loss, and the value of a penalty with coefficient 1 in the reward.
template <class Loss>
void check_kl(const Loss& loss, const rlvr::kl_penalty& penalty, const golden_case& c) {
  rlvr::token_batch<double> b = c.data.view();
  values ours(b.tokens()), value(b.tokens());
  loss(b, {}, std::span<double>(ours));
  check_gradient(ours, c.outputs["gradient"]);
  b.old_log_probs = b.log_probs;
  penalty.add_to_rewards(b, std::span<double>(value));
  const values theirs = numbers(c.outputs["value"]);
  for (std::size_t t = 0; t < value.size(); ++t)
    if (b.active(t)) CHECK(-value[t] == Approx(theirs[t]).epsilon(1e-10).margin(1e-15));
}

/// Pairs of a batch whose second half are the rejected ones.
inline std::vector<rlvr::preference_pair> halves(const batch& b) {
  std::vector<rlvr::preference_pair> out;
  for (std::size_t i = 0; i < b.size() / 2; ++i) out.push_back({i, i + b.size() / 2});
  return out;
}

/// The coefficients that a preset's loss writes.
template <class Loss>
values run(const Loss& loss, const rlvr::token_batch<double>& b) {
  values out(b.tokens());
  loss(b, std::span<double>(out));
  return out;
}

}  // namespace presets_golden
