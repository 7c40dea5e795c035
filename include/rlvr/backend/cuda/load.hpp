#pragma once
/// The GPU policy of a model folder, and back. The weights pass through the host in pieces.

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <utility>

#include <rlvr/backend/cuda/decoder.hpp>
#include <rlvr/backend/cuda/device.hpp>
#include <rlvr/backend/decoder/config.hpp>
#include <rlvr/backend/decoder/model_folder.hpp>
#include <rlvr/backend/decoder/parameters.hpp>

namespace rlvr::cuda {

/// The decoder of config.json and the weights in a folder. A config without eos gets none from the tokenizer.
/// Throws as rlvr::decoder::load_config and rlvr::decoder::read_parameters, out_of_memory and device_error.
inline decoder load_decoder(const std::filesystem::path& folder, std::shared_ptr<device> where = open_device(),
                            decoder_options options = {}) {
  const rlvr::decoder::config config = rlvr::decoder::load_config(folder);
  const auto fill = [&](parameter_sink& put) { rlvr::decoder::read_parameters(folder, config, put); };
  return decoder(std::move(where), config, fill, options);
}

/// The parameters as rlvr::decoder::write_model and save_model read them. Requires: the policy outlives it.
inline auto parameter_reader(const decoder& policy) {
  return [&policy](std::size_t offset, std::span<float> out) {
    policy.space().download(policy.parameters(), offset, out);
  };
}

}  // namespace rlvr::cuda
