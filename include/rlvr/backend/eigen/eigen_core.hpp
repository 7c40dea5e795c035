#pragma once
/// Eigen without threads of its own.

#ifndef EIGEN_DONT_PARALLELIZE
#define EIGEN_DONT_PARALLELIZE  // the threads are ours: with OpenMP, Eigen's would start inside them and change bits
#endif
#include <Eigen/Core>
#ifdef EIGEN_HAS_OPENMP
#error "Eigen was included before with OpenMP: define EIGEN_DONT_PARALLELIZE for the whole program"
#endif
