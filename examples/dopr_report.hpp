#pragma once
/// What a comparison of selectors reports, and its text forms: JSON, CSV, tables, and the gnuplot scripts of its
/// pictures.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include <rlvr/diagnose/interval.hpp>

#include "dopr_statistics.hpp"
#include "pictures.hpp"
#include "report.hpp"

namespace report {

/// Accuracy on test prompts over the seeds, after so many rollouts.
struct curve_point {
  double rollouts = 0;
  rlvr::interval accuracy;
};

/// One way to choose prompts on one pool, at the step size that was best for it.
struct method_result {
  std::string name;
  std::size_t step_prompts = 1;
  double learning_rate = 0;
  std::vector<curve_point> curve{};
  std::vector<time_to_accuracy> rollouts_to_target{};
  std::vector<factor_saved> saved{};  ///< against the pool's first method, target by target
  double kept = 0;                    ///< share of the groups that could teach anything
};

struct pool_result {
  std::string name;
  std::size_t prompts = 0;
  double hopeless = 0, learnable = 0, always = 0;  ///< shares by the base's pass rate: 0, between, 1
  double wrong = 0;                                ///< share of wrong labels
  double noise_scale = 0;                          ///< of the gradient at the base, in rollouts
  std::vector<method_result> methods;
  std::vector<factor_saved> from_batch, from_selection;  ///< the factor of DoPR, split: target by target
};

struct selection_comparison {
  std::size_t rollouts = 0, group_size = 0, seeds = 0, tuning_seeds = 0, pool_rollouts = 0;
  std::vector<double> learning_rates, targets;
  std::vector<pool_result> pools;
};

/// Accuracy after a fixed number of rollouts of n distinct prompts.
struct distinct_point {
  std::size_t prompts = 0;
  std::string picked;  ///< "random" or "historical variance"
  double learning_rate = 0;
  rlvr::interval accuracy;
};

struct distinct_report {
  std::size_t rollouts = 0, group_size = 0, seeds = 0, history_rollouts = 0;
  rlvr::interval base;
  std::vector<distinct_point> points;
};

namespace detail {

inline nlohmann::ordered_json bounds_of(const char* name, const rlvr::interval& i) {
  return {{name, number(i.mean)}, {"low", number(i.low)}, {"high", number(i.high)}};
}

inline nlohmann::ordered_json list_of(const std::vector<factor_saved>& factors, const std::vector<double>& targets) {
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (std::size_t t = 0; t < factors.size(); ++t) {
    nlohmann::ordered_json one = bounds_of("factor", factors[t].factor);
    one["accuracy"] = number(targets[t]);
    one["bound"] = to_string(factors[t].kind);
    out.push_back(std::move(one));
  }
  return out;
}

/// What stands before a number that is a bound: "≥ ", "≤ ", or "? " where it may err to either side.
inline std::string sign_of(bound b) {
  return b == bound::at_least ? "≥ " : b == bound::at_most ? "≤ " : b == bound::unknown ? "? " : "";
}

}  // namespace detail

/// "≥ 1.7 [1.2, 2.4]"; "?" alone where no run of either side told anything.
inline std::string to_text(const factor_saved& f) {
  using detail::text;
  if (f.kind == bound::unknown && f.factor.low == f.factor.high) return "?";
  return detail::sign_of(f.kind) + text("%.2f", f.factor.mean, "-") + " [" + text("%.2f", f.factor.low, "0") + ", " +
         text("%.2f", f.factor.high, "∞") + "]";
}

/// "≥ 15.2K [9.8K, 20.5K] (2/3)": at the end how many runs reached it, where not all did. "≥ 24.6K (0/3)": none did.
inline std::string to_text(const time_to_accuracy& t) {
  using detail::text;
  const auto thousands = [](double x, const char* otherwise) { return text("%.1fK", x / 1000, otherwise); };
  std::string out = detail::sign_of(t.kind) + thousands(t.rollouts.mean, "-");
  if (t.reached > 0) out += " [" + thousands(t.rollouts.low, "0") + ", " + thousands(t.rollouts.high, "∞") + "]";
  if (t.reached < t.runs) out += " (" + std::to_string(t.reached) + "/" + std::to_string(t.runs) + ")";
  return out;
}

/// report.json of a comparison. A method stands in the list once per pool.
inline std::string to_json(const selection_comparison& r) {
  using detail::number;
  nlohmann::ordered_json methods = nlohmann::ordered_json::array(), pools = nlohmann::ordered_json::array();
  for (const pool_result& p : r.pools) {
    pools.push_back({{"name", p.name},
                     {"prompts", p.prompts},
                     {"always_right", number(p.always)},
                     {"learnable", number(p.learnable)},
                     {"hopeless", number(p.hopeless)},
                     {"wrong_labels", number(p.wrong)},
                     {"noise_scale", number(p.noise_scale)},
                     {"saved_by_smaller_batches", detail::list_of(p.from_batch, r.targets)},
                     {"saved_by_selection", detail::list_of(p.from_selection, r.targets)}});
    for (const method_result& m : p.methods) {
      nlohmann::ordered_json curve = nlohmann::ordered_json::array(), times = nlohmann::ordered_json::array();
      for (const curve_point& c : m.curve) {
        nlohmann::ordered_json point = {{"rollouts", number(c.rollouts)}};
        point.update(detail::bounds_of("accuracy", c.accuracy));
        curve.push_back(std::move(point));
      }
      for (const time_to_accuracy& t : m.rollouts_to_target) {
        nlohmann::ordered_json one = {{"accuracy", number(t.accuracy)}};
        one.update(detail::bounds_of("rollouts", t.rollouts));
        one["bound"] = to_string(t.kind);
        one["reached"] = t.reached;
        one["runs"] = t.runs;
        times.push_back(std::move(one));
      }
      methods.push_back({{"name", m.name},
                         {"pool", p.name},
                         {"step_prompts", m.step_prompts},
                         {"learning_rate", number(m.learning_rate)},
                         {"kept", number(m.kept)},
                         {"curve", std::move(curve)},
                         {"rollouts_to_target", std::move(times)},
                         {"saved", detail::list_of(m.saved, r.targets)}});
    }
  }
  nlohmann::ordered_json out;
  out["rollouts"] = r.rollouts;
  out["group_size"] = r.group_size;
  out["seeds"] = r.seeds;
  out["tuning_seeds"] = r.tuning_seeds;
  out["pool_rollouts"] = r.pool_rollouts;
  out["learning_rates"] = r.learning_rates;
  out["targets"] = r.targets;
  out["pools"] = std::move(pools);
  out["methods"] = std::move(methods);
  return out.dump(2) + "\n";
}

inline std::string to_json(const distinct_report& r) {
  nlohmann::ordered_json points = nlohmann::ordered_json::array();
  for (const distinct_point& p : r.points) {
    nlohmann::ordered_json one = {
        {"prompts", p.prompts}, {"picked", p.picked}, {"learning_rate", detail::number(p.learning_rate)}};
    one.update(detail::bounds_of("accuracy", p.accuracy));
    points.push_back(std::move(one));
  }
  nlohmann::ordered_json out;
  out["rollouts"] = r.rollouts;
  out["group_size"] = r.group_size;
  out["seeds"] = r.seeds;
  out["history_rollouts"] = r.history_rollouts;
  out["base"] = detail::bounds_of("accuracy", r.base);
  out["distinct_prompts"] = std::move(points);
  return out.dump(2) + "\n";
}

/// curves.csv: one line per pool, method and number of rollouts.
inline std::string to_csv(const selection_comparison& r) {
  using detail::text;
  std::string out = "pool,method,rollouts,accuracy,low,high\n";
  for (const pool_result& p : r.pools)
    for (const method_result& m : p.methods)
      for (const curve_point& c : m.curve)
        out += p.name + ",\"" + m.name + "\"," + text("%.0f", c.rollouts, "") + "," +
               text("%.6f", c.accuracy.mean, "") + "," + text("%.6f", c.accuracy.low, "") + "," +
               text("%.6f", c.accuracy.high, "") + "\n";
  return out;
}

/// distinct.csv.
inline std::string to_csv(const distinct_report& r) {
  using detail::text;
  std::string out = "prompts,picked,accuracy,low,high\n";
  for (const distinct_point& p : r.points)
    out += std::to_string(p.prompts) + "," + p.picked + "," + text("%.6f", p.accuracy.mean, "") + "," +
           text("%.6f", p.accuracy.low, "") + "," + text("%.6f", p.accuracy.high, "") + "\n";
  return out;
}

/// The tables of a pool, in Markdown: rollouts to each accuracy, and how many times fewer than the first method's.
inline std::string to_table(const pool_result& p, const std::vector<double>& targets) {
  using detail::text;
  std::string head = "| " + p.name + " | step size | final accuracy |", rule = "|---|---|---|", rows;
  std::string saved_head = "| fewer rollouts than " + (p.methods.empty() ? "" : p.methods[0].name) + ", times |",
              saved_rule = "|---|", saved_rows;
  for (double t : targets) {
    head += " rollouts to " + text("%.2f", t, "") + " |";
    saved_head += " to " + text("%.2f", t, "") + " |";
    rule += "---|";
    saved_rule += "---|";
  }
  const auto add = [](std::string& to, const std::string& name, const std::vector<factor_saved>& factors) {
    to += "| " + name + " |";
    for (const factor_saved& f : factors) to += " " + to_text(f) + " |";
    to += "\n";
  };
  for (const method_result& m : p.methods) {
    const rlvr::interval last = m.curve.empty() ? rlvr::interval{unknown, unknown, unknown} : m.curve.back().accuracy;
    rows += "| " + m.name + " | " + text("%g", m.learning_rate, "-") + " | " + text("%.3f", last.mean, "-") + " [" +
            text("%.3f", last.low, "-") + ", " + text("%.3f", last.high, "-") + "] |";
    for (const time_to_accuracy& t : m.rollouts_to_target) rows += " " + to_text(t) + " |";
    rows += "\n";
    if (&m != &p.methods.front()) add(saved_rows, m.name, m.saved);
  }
  add(saved_rows, "of DoPR's: by smaller batches", p.from_batch);
  add(saved_rows, "of DoPR's: by selection", p.from_selection);
  return head + "\n" + rule + "\n" + rows + "\n" + saved_head + "\n" + saved_rule + "\n" + saved_rows;
}

/// The methods whose step size stands at an end of its grid, and which may hence have a better one; empty without any.
inline std::string at_grid_ends(const pool_result& p, const std::vector<double>& learning_rates) {
  const auto [low, high] = std::minmax_element(learning_rates.begin(), learning_rates.end());
  std::string out;
  for (const method_result& m : p.methods)
    if (m.learning_rate == *low || m.learning_rate == *high)
      out += (out.empty() ? "" : "; ") + m.name + " (" + detail::text("%g", m.learning_rate, "-") + ")";
  return out;
}

inline std::string to_table(const distinct_report& r) {
  using detail::text;
  std::string out = "| distinct prompts | picked | learning rate | accuracy [95% interval] |\n|---|---|---|---|\n";
  for (const distinct_point& p : r.points)
    out += "| " + std::to_string(p.prompts) + " | " + p.picked + " | " + text("%g", p.learning_rate, "-") + " | " +
           text("%.3f", p.accuracy.mean, "-") + " [" + text("%.3f", p.accuracy.low, "-") + ", " +
           text("%.3f", p.accuracy.high, "-") + "] |\n";
  return out;
}

namespace detail {

/// Colours that stay apart for colour-blind eyes (Okabe and Ito); the rest are greys.
inline std::string colour_of(std::size_t i) {
  static const char* const colours[] = {"#8a96a1", "#4a5561", "#1b232b", "#e69f00", "#56b4e9",
                                        "#d55e00", "#009e73", "#cc79a7", "#0072b2", "#b8a800"};
  return colours[i % 10];
}

}  // namespace detail

/// accuracy_POOL.svg: accuracy against rollouts, one line per method, the band of DoPR and of the first method.
inline std::string curves_script(const pool_result& p) {
  using detail::value;
  std::string s = detail::svg_preamble(860, 560), blocks, plots;
  std::vector<double> accuracies;
  double last = 1;
  for (std::size_t i = 0; i < p.methods.size(); ++i) {
    const method_result& m = p.methods[i];
    const std::string name = "$m" + std::to_string(i), colour = detail::colour_of(i);
    const bool band = i == 0 || m.name == "DoPR";
    blocks += name + " << EOD\n";
    for (const curve_point& c : m.curve) {
      blocks += value(c.rollouts) + " " + value(c.accuracy.mean) + " " + value(std::max(c.accuracy.low, 0.0)) + " " +
                value(std::min(c.accuracy.high, 1.0)) + "\n";
      accuracies.push_back(c.accuracy.mean);
      last = std::max(last, c.rollouts);
    }
    blocks += "EOD\n";
    if (band)
      plots += name + " using 1:3:4 with filledcurves fillcolor '" + colour +
               "' fillstyle transparent solid 0.15 noborder notitle, ";
    plots += name + " using 1:2 with lines linecolor '" + colour + "' linewidth " + (m.name == "DoPR" ? "3" : "1.8") +
             " title '" + m.name + "'" + (i + 1 < p.methods.size() ? ", " : "\n");
  }
  const detail::range y = detail::around(accuracies, false);
  return s + blocks + "set label 1 '{/:Bold=18 Pool: " + p.name +
         "}' at screen 0.035,0.955 left textcolor '#1b232b'\n"
         "set lmargin at screen 0.1\nset rmargin at screen 0.74\nset bmargin at screen 0.11\nset tmargin at screen "
         "0.9\n"
         "set key outside right center textcolor '#27313b' samplen 2\n"
         "set grid linecolor '#e6eaee' linewidth 1 linetype 1\nset tics scale 0.6\n"
         "set xlabel 'training rollouts' textcolor '#27313b'\nset ylabel 'accuracy on test prompts' offset 1.5,0 "
         "textcolor '#27313b'\n"
         "set xrange [0:" +
         value(last) + "]\nset yrange [" + value(std::max(y.low, 0.0)) + ":" + value(std::min(y.high, 1.0)) +
         "]\nset format x '%.0s%c'\nplot " + plots;
}

/// distinct.svg: accuracy against the number of distinct prompts.
inline std::string distinct_script(const distinct_report& r) {
  using detail::value;
  std::string s = detail::svg_preamble(760, 500), plots;
  std::vector<double> accuracies{r.base.mean}, prompts;
  std::size_t i = 0;
  for (const char* picked : {"random", "historical variance"}) {
    const std::string name = "$d" + std::to_string(i), colour = detail::colour_of(i == 0 ? 2 : 5);
    s += name + " << EOD\n";
    for (const distinct_point& p : r.points) {
      if (p.picked != picked) continue;
      s += std::to_string(p.prompts) + " " + value(p.accuracy.mean) + " " + value(std::max(p.accuracy.low, 0.0)) + " " +
           value(std::min(p.accuracy.high, 1.0)) + "\n";
      accuracies.push_back(p.accuracy.mean);
      prompts.push_back(static_cast<double>(p.prompts));
    }
    s += "EOD\n";
    plots += name + " using 1:2:3:4 with yerrorlines linecolor '" + colour +
             "' linewidth 2 pointtype 7 pointsize 0.6 "
             "title '" +
             picked + "', ";
    ++i;
  }
  const detail::range y = detail::around(accuracies, false), x = detail::around(prompts, true);
  return s + "set label 1 '{/:Bold=18 " + std::to_string(r.rollouts) +
         " rollouts of n distinct prompts}' at screen 0.035,0.945 left textcolor '#1b232b'\n"
         "set lmargin at screen 0.1\nset rmargin at screen 0.965\nset bmargin at screen 0.13\nset tmargin at screen "
         "0.88\n"
         "set key bottom right textcolor '#27313b' samplen 2\nset logscale x 2\n"
         "set grid linecolor '#e6eaee' linewidth 1 linetype 1\nset tics scale 0.6\n"
         "set xlabel 'distinct training prompts' textcolor '#27313b'\n"
         "set ylabel 'accuracy on test prompts' textcolor '#27313b'\n"
         "set xrange [" +
         value(x.low) + ":" + value(x.high) + "]\nset yrange [" + value(std::max(y.low, 0.0)) + ":" +
         value(std::min(y.high, 1.0)) + "]\nplot " + plots + value(r.base.mean) +
         " with lines linecolor '#8a96a1' dashtype (8,5) title 'base'\n";
}

}  // namespace report
