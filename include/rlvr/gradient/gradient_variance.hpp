#pragma once
/// How much a prompt's gradient changes from checkpoint to checkpoint.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include <rlvr/core/error.hpp>

namespace rlvr {

/// The variance-of-gradients score of every prompt of a pool:
///
///     VoG_i = 1/D sum_d sqrt( 1/K sum_k (S_{i,k,d} - mean_k S_{i,k,d})^2 )
///
/// over the K observations of prompt i, each a vector of D numbers. With D = 1 and norms of gradients
/// (prompt_gradient_norms) it is their deviation over the checkpoints; with D > 1 whatever stands for the gradient,
/// such as a sketch or one layer's. Means and squares are kept centred (Welford), so that K need not be known and
/// nothing is stored per checkpoint. 4 + 16 D bytes a prompt. A value; save_state keeps it.
/// Source: VoG (Agarwal, D'souza, Hooker, CVPR 2022), there of the gradient with respect to the input's pixels.
class gradient_variance {
 public:
  static constexpr std::string_view state_name = "gradient_variance";
  static constexpr std::uint32_t state_version = 1;

  /// Throws std::invalid_argument for dimension 0.
  explicit gradient_variance(std::size_t pool, std::size_t dimension = 1)
      : dimension_(dimension), counts_(pool), means_(pool * dimension), squares_(pool * dimension) {
    require(dimension > 0, "gradient_variance: dimension is 0");
  }

  std::size_t size() const { return counts_.size(); }
  std::size_t dimension() const { return dimension_; }

  /// Adds what one checkpoint says of prompt id. Throws std::invalid_argument for an unknown id, another dimension or a
  /// number that is not finite; nothing is then changed. O(D).
  void observe(std::size_t id, std::span<const double> gradient) {
    check_id(id);
    require(gradient.size() == dimension_, "gradient_variance: ", gradient.size(), " numbers, expected ", dimension_);
    for (std::size_t d = 0; d < dimension_; ++d)
      require(is_finite(gradient[d]), "gradient_variance: number ", d, " of prompt ", id, " is ", gradient[d]);
    const double k = static_cast<double>(++counts_[id]);
    for (std::size_t d = 0; d < dimension_; ++d) {
      double& mean = means_[id * dimension_ + d];
      const double delta = gradient[d] - mean;
      mean += delta / k;
      squares_[id * dimension_ + d] += delta * (gradient[d] - mean);
    }
  }
  void observe(std::size_t id, double norm) { observe(id, std::span(&norm, 1)); }

  /// K of prompt id.
  std::size_t count(std::size_t id) const {
    check_id(id);
    return counts_[id];
  }

  /// VoG of prompt id; 0 before the second observation. Throws std::invalid_argument for an unknown id. O(D).
  double score(std::size_t id) const {
    check_id(id);
    const double k = counts_[id] > 0 ? static_cast<double>(counts_[id]) : 1.0;
    double sum = 0;
    for (std::size_t d = 0; d < dimension_; ++d) sum += std::sqrt(squares_[id * dimension_ + d] / k);
    return sum / static_cast<double>(dimension_);
  }

  /// Forgets all observations: VoG early and late in training are told apart by starting anew.
  void reset() {
    counts_.assign(counts_.size(), 0);
    means_.assign(means_.size(), 0);
    squares_.assign(squares_.size(), 0);
  }

  template <class Self, class Visit>
  static void visit_state(Self& self, Visit&& visit) {
    visit(self.counts_, "counts");
    visit(self.means_, "means");
    visit(self.squares_, "squares");
  }

 private:
  void check_id(std::size_t id) const {
    require(id < counts_.size(), "gradient_variance: prompt ", id, " of a pool of ", counts_.size());
  }

  std::size_t dimension_;
  std::vector<std::uint32_t> counts_;
  std::vector<double> means_, squares_;  ///< [pool, D]
};

}  // namespace rlvr
