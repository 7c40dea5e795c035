#pragma once
/// The GPU policy of a model folder, and back.

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <rlvr/backend/cuda/decoder.hpp>
#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/model_folder.hpp>
#include <rlvr/backend/decoder/parameters.hpp>

namespace rlvr::cuda {

/// The decoder of config.json and the weights in a folder. On the host the weights are there once, as floats, until
/// they are on the device. A config without eos gets none from the tokenizer.
/// Throws as rlvr::decoder::load_config and rlvr::decoder::load_parameters, out_of_memory and device_error.
inline decoder load_decoder(const std::filesystem::path& folder, std::shared_ptr<device> where = open_device(),
                            decoder_options options = {}) {
  rlvr::decoder::config config = rlvr::decoder::load_config(folder);
  std::vector<float> theta;
  rlvr::decoder::load_parameters(folder, config, [&theta](std::size_t count) {
    theta.resize(count);
    return std::span<float>(theta);
  });
  return decoder(std::move(where), std::move(config), theta, options);
}

/// The parameters on the host, for rlvr::decoder::save_model.
inline std::vector<float> host_parameters(const decoder& policy) {
  std::vector<float> out(policy.space().dimension());
  policy.space().download(policy.parameters(), out);
  return out;
}

}  // namespace rlvr::cuda
