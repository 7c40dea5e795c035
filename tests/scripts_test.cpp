/// The scripts that share build/: what they ask of CMake, and what they run.

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "catch.hpp"
#include "scratch_folder.hpp"

namespace {

namespace fs = std::filesystem;

/// The scripts alone, among programs that only say how they were called.
struct stage {
  rlvr::testing::scratch_folder folder;

  stage() {
    const fs::path root = RLVR_SOURCE_DIR;
    for (const char* script : {".ci/build.sh", "examples/run.sh", "examples/dopr.sh", "tests/run.sh"}) {
      fs::create_directories((folder.path / script).parent_path());
      fs::copy_file(root / script, folder.path / script);
    }
    put("bin/dpkg-query", "echo installed");
    for (const char* program : {"bin/cmake", "bin/ctest", "build/examples/one_shot_rlvr", "build/examples/dopr"})
      put(program, "echo \"${0##*/} $*\"");
  }
  void put(const char* name, std::string_view commands) const {
    fs::create_directories((folder.path / name).parent_path());
    std::ofstream(folder.path / name) << "#!/bin/sh\n" << commands << "\n";
    fs::permissions(folder.path / name, fs::perms::owner_all);
  }
  /// What a command line in the folder prints.
  std::string operator()(const std::string& command) const {
    const std::string line = "cd '" + folder.path.string() + "' && PATH=$PWD/bin:$PATH " + command + " 2>&1";
    std::FILE* const pipe = popen(line.c_str(), "r");
    REQUIRE(pipe);
    std::string out;
    char block[4096];
    while (const std::size_t count = std::fread(block, 1, sizeof block, pipe)) out.append(block, count);
    CHECK(pclose(pipe) == 0);
    return out;
  }
};

}  // namespace

TEST_CASE("scripts: examples compile kernels for CUDA only when they are to run there", "[scripts]") {
  const stage run;
  const auto on = Catch::Contains("-DRLVR_CUDA=ON -DRLVR_REQUIRE_CUDA=ON");
  const auto off = Catch::Contains("-DRLVR_CUDA=OFF -DRLVR_REQUIRE_CUDA=OFF");
  const std::string programs[][2] = {{"examples/run.sh", "one_shot_rlvr"}, {"examples/dopr.sh", "dopr"}};
  for (const auto& [script, program] : programs) {
    CHECK_THAT(run("bash " + script),
               off && Catch::Contains("--target " + program) && Catch::EndsWith(program + " \n"));
    CHECK_THAT(run("bash " + script + " --device cpu --seed 1"),
               off && Catch::EndsWith(program + " --device cpu --seed 1\n"));
    CHECK_THAT(run("bash " + script + " --seed 1 --device cuda"),
               on && Catch::EndsWith(program + " --seed 1 --device cuda\n"));
    CHECK_THAT(run("bash " + script + " --device=cuda"), on && Catch::EndsWith(program + " --device=cuda\n"));
  }
}

TEST_CASE("scripts: the tests compile kernels whatever an example asked for before them", "[scripts]") {
  const stage run;
  const std::string printed = run("bash tests/run.sh");
  CHECK_THAT(printed, Catch::Contains("-DRLVR_CUDA=ON") && !Catch::Contains("-DRLVR_CUDA=OFF") &&
                          Catch::Contains("--target all") && Catch::Contains("ctest --test-dir build"));
  // The last of two is what CMake takes.
  const std::string without = run("bash tests/run.sh -DRLVR_CUDA=OFF");
  CHECK(without.rfind("-DRLVR_CUDA=OFF") > without.rfind("-DRLVR_CUDA=ON"));
}
