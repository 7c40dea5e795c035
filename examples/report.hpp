#pragma once
/// What a one-shot run reports, as plain values, and its text forms: JSON, CSV and the table on the terminal.
/// A quantity that is not known (not measured, infinite, undefined) is NaN or infinite here, null in JSON, empty in
/// CSV and "-" in the table.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace report {

inline constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

/// Accuracy with its 95% interval, and the entropy per token in nats.
struct base_point {
  double accuracy = unknown, low = unknown, high = unknown, entropy = unknown;
};

/// One alpha on the validation prompts; kl is KL(pi_alpha || pi_0) per sequence in nats.
struct landscape_point {
  double alpha = 0;
  double accuracy = unknown, low = unknown, high = unknown, entropy = unknown, kl = unknown;
  bool collapsed = false;
};

/// Two models on the same prompts and draws; [low, high] is the 95% interval of the difference.
struct comparison {
  double base_accuracy = unknown, accuracy = unknown, difference = unknown, low = unknown, high = unknown;
};

/// Cosines between the gradients of M disjoint prompt subsets: matrix is [M, M] row-major.
struct cosine_table {
  std::size_t subsets = 0;
  double mean = unknown;
  std::vector<double> matrix;
};

struct stage_seconds {
  double sample = 0, verify = 0, gradient = 0, search = 0;
};

struct one_shot {
  std::size_t rollouts = 0, prompts = 0, group_size = 0;
  std::uint64_t seed = 0;
  base_point base;
  double alpha = 0;                        ///< the best step on validation prompts, taken when improved; 0: none
  std::string status;                      ///< how the run ended: "improved", or why the model is unchanged
  std::string advice;                      ///< what to do about it; empty when the model improved
  std::vector<landscape_point> landscape;  ///< by increasing alpha
  comparison confirmation, test;           ///< the base against alpha, taken or not
  cosine_table subset_cosine;
  double correct_incorrect_cosine = unknown;
  double noise_scale = unknown;  ///< rollouts
  stage_seconds seconds;
};

namespace detail {

/// A number, or null when it is not finite: JSON has neither NaN nor infinity.
inline nlohmann::ordered_json number(double x) {
  return std::isfinite(x) ? nlohmann::ordered_json(x) : nlohmann::ordered_json(nullptr);
}

inline std::string text(const char* format, double x, const char* otherwise) {
  if (!std::isfinite(x)) return otherwise;
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, x);
  return buffer;
}

inline nlohmann::ordered_json object(const comparison& c) {
  return {{"base_accuracy", number(c.base_accuracy)}, {"accuracy", number(c.accuracy)},
          {"difference", number(c.difference)},       {"low", number(c.low)},
          {"high", number(c.high)}};
}

}  // namespace detail

/// report.json. `advice` appears only when there is some.
inline std::string to_json(const one_shot& r) {
  using detail::number;
  nlohmann::ordered_json landscape = nlohmann::ordered_json::array(), matrix = nlohmann::ordered_json::array();
  for (const landscape_point& p : r.landscape)
    landscape.push_back({{"alpha", number(p.alpha)}, {"accuracy", number(p.accuracy)}, {"low", number(p.low)},
                         {"high", number(p.high)}, {"entropy", number(p.entropy)}, {"kl", number(p.kl)},
                         {"collapsed", p.collapsed}});
  const std::size_t M = r.subset_cosine.subsets;
  for (std::size_t i = 0; i < M; ++i) {
    nlohmann::ordered_json row = nlohmann::ordered_json::array();
    for (std::size_t j = 0; j < M; ++j) row.push_back(number(r.subset_cosine.matrix[i * M + j]));
    matrix.push_back(std::move(row));
  }
  nlohmann::ordered_json out;
  out["rollouts"] = r.rollouts;
  out["prompts"] = r.prompts;
  out["group_size"] = r.group_size;
  out["seed"] = r.seed;
  out["base"] = {{"accuracy", number(r.base.accuracy)}, {"low", number(r.base.low)}, {"high", number(r.base.high)},
                 {"entropy", number(r.base.entropy)}};
  out["alpha"] = number(r.alpha);
  out["status"] = r.status;
  if (!r.advice.empty()) out["advice"] = r.advice;
  out["landscape"] = std::move(landscape);
  out["confirmation"] = detail::object(r.confirmation);
  out["test"] = detail::object(r.test);
  out["subset_cosine"] = {{"subsets", M}, {"mean", number(r.subset_cosine.mean)}, {"matrix", std::move(matrix)}};
  out["correct_incorrect_cosine"] = number(r.correct_incorrect_cosine);
  out["noise_scale"] = number(r.noise_scale);
  out["seconds"] = {{"sample", r.seconds.sample}, {"verify", r.seconds.verify}, {"gradient", r.seconds.gradient},
                    {"search", r.seconds.search}};
  return out.dump(2) + "\n";
}

/// landscape.csv: one line per alpha under a header; numbers that read back as the same doubles.
inline std::string to_csv(const std::vector<landscape_point>& landscape) {
  std::string out = "alpha,accuracy,low,high,entropy,kl,collapsed\n";
  for (const landscape_point& p : landscape) {
    for (double x : {p.alpha, p.accuracy, p.low, p.high, p.entropy, p.kl}) out += detail::text("%.17g", x, "") + ",";
    out += p.collapsed ? "true\n" : "false\n";
  }
  return out;
}

/// The landscape for a terminal, the chosen alpha marked by an arrow.
inline std::string to_table(const one_shot& r) {
  using detail::text;
  std::string out = "       alpha   accuracy   95% interval      entropy         kl\n";
  char line[160];
  for (const landscape_point& p : r.landscape) {
    const bool chosen = p.alpha > 0 && p.alpha == r.alpha;
    std::snprintf(line, sizeof line, "%s %9s   %8s   [%s, %s]   %8s   %8s%s\n", chosen ? "->" : "  ",
                  text("%.3g", p.alpha, "-").c_str(), text("%.4f", p.accuracy, "-").c_str(),
                  text("%.4f", p.low, "-").c_str(), text("%.4f", p.high, "-").c_str(),
                  text("%.4f", p.entropy, "-").c_str(), text("%.4f", p.kl, "-").c_str(),
                  p.collapsed ? "   collapsed" : "");
    out += line;
  }
  return out;
}

/// "0.4012 -> 0.5120, difference 0.1108 [0.0951, 0.1265]".
inline std::string to_sentence(const comparison& c) {
  using detail::text;
  return text("%.4f", c.base_accuracy, "-") + " -> " + text("%.4f", c.accuracy, "-") + ", difference " +
         text("%+.4f", c.difference, "-") + " [" + text("%+.4f", c.low, "-") + ", " + text("%+.4f", c.high, "-") + "]";
}

}  // namespace report
