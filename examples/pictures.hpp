#pragma once
/// The two pictures of a one-shot run, as gnuplot scripts that write SVG.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "report.hpp"

namespace report {

namespace detail {

/// For a script: gnuplot reads NaN as a missing point.
inline std::string value(double x) { return text("%.10g", x, "NaN"); }

/// What both pictures begin with.
inline std::string svg_preamble(int width, int height) {
  return "set encoding utf8\n"
         "set terminal svg size " + std::to_string(width) + "," + std::to_string(height) +
         " enhanced font 'Helvetica,Arial,DejaVu Sans,sans-serif,14' background '#ffffff' linewidth 1\n"
         "set border linecolor '#98a2ad' linewidth 1\n"
         "set tics textcolor '#4a5561' nomirror\n";
}

/// An axis range around values, with room; [0, 1] when there is none.
struct range {
  double low = 0, high = 1;
};
inline range around(const std::vector<double>& values, bool logarithmic) {
  double low = INFINITY, high = -INFINITY;
  for (double x : values)
    if (std::isfinite(x) && (x > 0 || !logarithmic)) low = std::min(low, x), high = std::max(high, x);
  if (low > high) return logarithmic ? range{0.1, 1} : range{};
  if (logarithmic) return {low / 2, high * 2};
  const double room = high > low ? 0.08 * (high - low) : 0.05;
  return {low - room, high + room};
}

/// The numbers of an axis, as gnuplot's list of tics: on a linear axis about `count` at a round distance.
inline std::string linear_tics(const range& r, int count) {
  const double wanted = (r.high - r.low) / count, decade = std::pow(10, std::floor(std::log10(wanted)));
  double step = 10 * decade;
  for (double digit : {5.0, 2.0, 1.0})
    if (wanted <= digit * decade) step = digit * decade;
  return "set ytics " + value(step) + "\n";
}

/// On a logarithmic axis the powers of ten, and 2 and 5 times them where there are less than three decades.
inline std::string logarithmic_tics(double low, double high) {
  std::string list;
  for (double decade = std::pow(10, std::floor(std::log10(low))); decade <= high; decade *= 10)
    for (double digit : {1.0, 2.0, 5.0})
      if (digit == 1 || high / low < 1e3) list += (list.empty() ? "" : ",") + value(digit * decade);
  return "set xtics (" + list + ")\n";
}

/// One panel of the landscape between two screen heights.
struct panel {
  double bottom, top;
  const char* label;
  range y;
};
inline std::string begin_panel(const panel& p) {
  return "set lmargin at screen 0.105\nset rmargin at screen 0.965\n"
         "set bmargin at screen " + value(p.bottom) + "\nset tmargin at screen " + value(p.top) + "\n" +
         "set label 9 '" + p.label + "' at screen 0.026," + value((p.bottom + p.top) / 2) +
         " center rotate textcolor '#27313b'\nset yrange [" + value(p.y.low) + ":" + value(p.y.high) + "]\n";
}

}  // namespace detail

/// The identifier of a status as words.
inline std::string status_words(std::string status) {
  std::replace(status.begin(), status.end(), '_', ' ');
  return status;
}

/// landscape.svg: accuracy with its 95% band, entropy and KL against alpha; the base is dashed, the chosen alpha
/// marked, collapsed points are crosses.
inline std::string landscape_script(const one_shot& r) {
  using detail::text;
  using detail::value;
  std::string s = detail::svg_preamble(820, 900);
  std::vector<double> alphas, accuracies{r.base.low, r.base.high}, entropies{r.base.entropy}, kls;
  s += "$points << EOD\n";
  for (const landscape_point& p : r.landscape) {
    if (!(p.alpha > 0)) continue;  // the base is drawn as a line: a logarithmic axis has no 0
    alphas.push_back(p.alpha);
    for (double x : {p.accuracy, p.low, p.high}) accuracies.push_back(x);
    entropies.push_back(p.entropy);
    kls.push_back(p.kl);
    for (double x : {p.alpha, p.accuracy, p.low, p.high, p.entropy, p.kl > 0 ? p.kl : unknown}) s += value(x) + " ";
    s += p.collapsed ? "1\n" : "0\n";
  }
  s += "EOD\n";
  if (alphas.empty()) return s + "unset border\nunset tics\nset label 'No step was tried.' at screen 0.5,0.5 center\n"
                                 "plot [0:1] [0:1] NaN notitle\n";

  const double first = alphas.front() / 1.25, last = alphas.back() * 1.25;
  s += "$base << EOD\n";
  for (double x : {first, last})
    s += value(x) + " " + value(r.base.accuracy) + " " + value(r.base.low) + " " + value(r.base.high) + " " +
         value(r.base.entropy) + "\n";
  s += "EOD\n"
       "set multiplot\nset logscale x\n"
       "set xrange [" + value(first) + ":" + value(last) + "]\n" +
       detail::logarithmic_tics(first, last) +
       "set grid xtics ytics linecolor '#e6eaee' linewidth 1 linetype 1\nunset key\n"
       "set tics scale 0.6\n";

  bool any_collapsed = false;
  for (const landscape_point& p : r.landscape) any_collapsed = any_collapsed || p.collapsed;
  const landscape_point* chosen = nullptr;
  for (const landscape_point& p : r.landscape)
    if (r.alpha > 0 && p.alpha == r.alpha) chosen = &p;
  const std::string headline =
      r.status == "improved" ? "Accuracy on test prompts " + text("%.3f", r.test.base_accuracy, "?") + " → " +
                                   text("%.3f", r.test.accuracy, "?")
                             : "No step was taken: " + status_words(r.status);
  const std::string below = "difference on test prompts " + text("%+.3f", r.test.difference, "?") + " [" +
                            text("%+.3f", r.test.low, "?") + ", " + text("%+.3f", r.test.high, "?") +
                            "]; drawn: validation prompts, 95% bands, " + std::to_string(r.rollouts) + " rollouts of " +
                            std::to_string(r.prompts) + " prompts";
  s += "set label 1 '{/:Bold=20 " + headline + "}' at screen 0.035,0.967 left textcolor '#1b232b'\n"
       "set label 2 '{/=13 " + below + "}' at screen 0.035,0.937 left textcolor '#5b6772'\n";
  if (chosen)
    s += "set arrow 1 from " + value(r.alpha) + ",graph 0 to " + value(r.alpha) +
         ",graph 1 nohead linecolor '#1b232b' linewidth 1.2 dashtype (2,3) front\n"
         "set label 3 'α = " + text("%.3g", r.alpha, "?") + "' at " + value(r.alpha) +
         ",graph 1.035 center textcolor '#1b232b'\n";

  // Three panels on one axis: only the last writes its numbers.
  const detail::range accuracy = detail::around(accuracies, false), entropy = detail::around(entropies, false);
  s += detail::begin_panel({0.475, 0.88, "accuracy (pass\\@1)", accuracy}) + detail::linear_tics(accuracy, 8) +
       "set format x ''\n"
       "set label 4 'base' at graph 0.992,first " + value(r.base.accuracy) + " right offset 0,0.6 textcolor '#5b6772'\n"
       + (any_collapsed ? "set label 5 '× collapsed' at graph 0.992,graph 0.05 right textcolor '#c0392b'\n" : "") +
       "plot $base using 1:3:4 with filledcurves fillcolor '#8a96a1' fillstyle transparent solid 0.18 noborder, "
       "$base using 1:2 with lines linecolor '#5b6772' linewidth 1.4 dashtype (8,5), "
       "$points using 1:3:4 with filledcurves fillcolor '#1f77b4' fillstyle transparent solid 0.20 noborder, "
       "$points using 1:2 with lines linecolor '#1f6fb0' linewidth 2.4, "
       "$points using 1:($7 > 0 ? NaN : $2) with points pointtype 7 pointsize 0.65 linecolor '#1f6fb0', "
       "$points using 1:($7 > 0 ? $2 : NaN) with points pointtype 2 pointsize 0.9 linewidth 2.5 linecolor '#c0392b'";
  s += chosen ? ", '+' using (" + value(r.alpha) + "):(" + value(chosen->accuracy) +
                    ") every ::0::0 with points pointtype 7 pointsize 1.1 linecolor '#1b232b'\n"
              : "\n";
  s += "unset label 1\nunset label 2\nunset label 3\nunset label 5\n" +
       detail::begin_panel({0.285, 0.445, "entropy (nats)", entropy}) + detail::linear_tics(entropy, 4) +
       "set label 4 'base' at graph 0.992,first " + value(r.base.entropy) + " right offset 0,-0.7 textcolor '#5b6772'\n"
       "plot $base using 1:5 with lines linecolor '#5b6772' linewidth 1.4 dashtype (8,5), "
       "$points using 1:5 with linespoints linecolor '#d9731a' linewidth 2.2 pointtype 7 pointsize 0.5\n"
       "unset label 4\n" +
       detail::begin_panel({0.085, 0.255, "KL (nats/sequence)", detail::around(kls, true)}) +
       "set ytics autofreq\nset logscale y\nset format x '%g'\nset format y '10^{%T}'\n"
       "set xlabel 'step size α' textcolor '#27313b'\n"
       "plot $points using 1:6 with linespoints linecolor '#2a8c6e' linewidth 2.2 pointtype 7 pointsize 0.5\n"
       "unset multiplot\n";
  return s;
}

/// subset_cosine.svg: the cosines between the gradients of disjoint prompt subsets, with their values.
inline std::string cosine_script(const one_shot& r) {
  using detail::text;
  using detail::value;
  const std::size_t M = r.subset_cosine.subsets;
  std::string s = detail::svg_preamble(760, 780), cells, values;
  double low = 0;
  for (double c : r.subset_cosine.matrix)
    if (std::isfinite(c)) low = std::min(low, std::floor(10 * c) / 10);
  for (std::size_t i = 0; i < M; ++i)
    for (std::size_t j = 0; j < M; ++j) {
      const double c = r.subset_cosine.matrix[i * M + j];
      const std::string at = std::to_string(j + 1) + " " + std::to_string(i + 1) + " ";
      if (i == j) continue;  // 1 by definition: left grey, so that the eye compares the rest
      cells += at + value(c) + "\n";
      values += at + text("%.2f", c, "-") + ((c - low) / (1 - low) < 0.55 ? " 0xffffff\n" : " 0x1b232b\n");
    }
  if (M < 2)
    return s + "unset border\nunset tics\nset label 'One subset has nothing to be compared with.' "
               "at screen 0.5,0.5 center\nplot [0:1] [0:1] NaN notitle\n";
  const std::string edge = value(static_cast<double>(M) + 0.5);
  s += "$cells << EOD\n" + cells + "EOD\n$values << EOD\n" + values + "EOD\n"
       "set lmargin at screen 0.085\nset rmargin at screen 0.865\n"
       "set bmargin at screen 0.085\nset tmargin at screen 0.845\n"
       "set label 1 '{/:Bold=20 Mean cosine of subset gradients: " +
       text("%.2f", r.subset_cosine.mean, "unknown") + "}' at screen 0.035,0.957 left textcolor '#1b232b'\n"
       "set label 2 '{/=13 gradients of " + std::to_string(M) + " disjoint prompt subsets; noise scale " +
       text("%.0f", r.noise_scale, "unknown") + " rollouts, batch " + std::to_string(r.rollouts) +
       "}' at screen 0.035,0.915 left textcolor '#5b6772'\n"
       "unset key\nunset border\nset tics scale 0\n"
       "set xrange [0.5:" + edge + "]\nset yrange [" + edge + ":0.5]\n"
       "set xtics 1 offset 0,0.4\nset ytics 1\n"
       "set xlabel 'prompt subset' textcolor '#27313b' offset 0,0.4\n"
       "set cbrange [" + value(low) + ":1]\nset cbtics textcolor '#4a5561'\n"
       "set colorbox user origin screen 0.89,0.085 size screen 0.022,0.76 noborder\n"
       // viridis: equal steps in value are equal steps to the eye, in grey too
       "set palette defined (0 '#440154', 1 '#482878', 2 '#3e4989', 3 '#31688e', 4 '#26828e', 5 '#1f9e89', "
       "6 '#35b779', 7 '#6ece58', 8 '#b5de2b', 9 '#fde725')\n"
       "set style fill solid 1 noborder\n"
       "set object 1 rectangle from 0.5,0.5 to " + edge + "," + edge +
       " fillcolor '#eef1f4' fillstyle solid noborder behind\n"
       "plot $cells using 1:2:(0.49):(0.49):3 with boxxyerror fillcolor palette, "
       "$values using 1:2:3:4 with labels font ',"  + std::to_string(M <= 8 ? 15 : M <= 16 ? 10 : 7) +
       "' textcolor rgb variable\n";
  return s;
}

}  // namespace report
