#pragma once
/// The CPU policy of a model folder.

#include <cstddef>
#include <filesystem>
#include <span>
#include <utility>

#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/model_folder.hpp>
#include <rlvr/backend/decoder/parameters.hpp>
#include <rlvr/backend/eigen/decoder.hpp>
#include <rlvr/backend/eigen/kernels.hpp>

namespace rlvr::eigen {

/// The decoder of config.json and the weights in a folder. The weights go from the mapped files to the policy's own
/// vector: they are in memory once. A config without eos gets none from the tokenizer.
/// Throws as rlvr::decoder::load_config and rlvr::decoder::load_parameters.
template <class T = float>
decoder<T> load_decoder(const std::filesystem::path& folder, decoder_options options = {}) {
  rlvr::decoder::config config = rlvr::decoder::load_config(folder);
  typename decoder<T>::vector theta;
  rlvr::decoder::load_parameters(folder, config, [&theta](std::size_t count) {
    theta.resize(as_index(count));
    return std::span<T>(theta.data(), count);
  });
  return decoder<T>(std::move(config), std::move(theta), options);
}

}  // namespace rlvr::eigen
