/// The GPU policy of a model folder, and back, on the GPU's host double.

#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include <rlvr/backend/cuda/host_device.cuh>
#include <rlvr/backend/cuda/load.hpp>

#include "catch.hpp"
#include "cuda/models.hpp"

TEST_CASE("cuda load: what is saved is what is loaded", "[cuda]") {
  using namespace rlvr;
  namespace fs = std::filesystem;
  const fs::path folder = fs::temp_directory_path() / "rlvr_cuda_load_test";
  const decoder::config c = cuda_models::small("qwen2");
  const std::vector<float> theta = cuda_models::parameters(c);
  const auto where = std::make_shared<cuda::host_device>();
  {
    const cuda::decoder made(where, c, theta);
    decoder::save_model(folder, c, decoder::char_tokenizer("01"), cuda::parameter_reader(made), decoder::storage::f32);
  }
  const cuda::decoder loaded = cuda::load_decoder(folder, where, {.compute = cuda::scalar_type::float32});
  CHECK(loaded.config() == c);
  std::vector<float> got(theta.size());
  loaded.space().download(loaded.parameters(), got);
  CHECK(got == theta);
  decoder::write_file(folder / "model.safetensors", "damaged");
  CHECK_THROWS_AS(cuda::load_decoder(folder, where), decoder::file_error);
  fs::remove_all(folder);
}
