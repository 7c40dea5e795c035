#pragma once
/// Results as arrays: what a search saw, and square matrices such as the cosines of subset gradients.

#include <algorithm>
#include <cstddef>
#include <span>

#include <xtensor/xtensor.hpp>

#include <rlvr/core/error.hpp>
#include <rlvr/search/line_objective.hpp>

namespace rlvr {

/// The points of a line search as [N, 5]: alpha, value, kl, entropy, length. O(N).
inline xt::xtensor<double, 2> landscape_table(std::span<const line_point> points) {
  xt::xtensor<double, 2> table({points.size(), std::size_t{5}});
  for (std::size_t i = 0; i < points.size(); ++i) {
    const line_point& p = points[i];
    const double row[5] = {p.alpha, p.value, p.kl, p.entropy, p.length};
    std::copy(row, row + 5, &table(i, 0));
  }
  return table;
}

/// A row-major M x M matrix as [M, M]. Throws std::invalid_argument when the number of values is not a
/// square. O(M^2).
inline xt::xtensor<double, 2> square_matrix(std::span<const double> values) {
  std::size_t m = 0;
  while (m * m < values.size()) ++m;
  require(m * m == values.size(), "square_matrix: ", values.size(), " values do not fill a square");
  xt::xtensor<double, 2> matrix({m, m});
  std::copy(values.begin(), values.end(), matrix.begin());
  return matrix;
}

}  // namespace rlvr
