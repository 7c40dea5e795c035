# cmake -D way=find_package|add_subdirectory -D component=... -D folder=... -D compiler=... -D generator=...
#       [-D prefix=...] -P consumer.cmake
# Writes a project of somebody else's that uses one component, configures it, builds it and runs it.
cmake_minimum_required(VERSION 3.25)
cmake_path(SET root NORMALIZE "${CMAKE_CURRENT_LIST_DIR}/../..")

set(main_rlvr [[
#include <rlvr/core/moments.hpp>
int main() { return rlvr::moments_of(std::vector<double>{1, 2, 3}).mean == 2 ? 0 : 1; }
]])
string(PREPEND main_rlvr "#include <vector>\n")
set(main_eigen [[
#include <rlvr/backend/decoder/json.hpp>
#include <rlvr/backend/eigen/space.hpp>
#include <thread>
int main() {
  const rlvr::eigen::space<float> space({{"x", {3}, 0}});
  std::thread([] {}).join();
  return space.dot(space.zero(), space.zero()) == 0 && rlvr::decoder::parse_json("[1]", "here").size() == 1 ? 0 : 1;
}
]])
set(main_cuda [[
#include <rlvr/backend/cuda/load.hpp>
#include <string>
int main() {
  try {
    const rlvr::cuda::space space(rlvr::cuda::open_device(), {{"x", {3}, 0}});
    return space.dot(space.zero(), space.zero()) == 0 ? 0 : 1;
  } catch (const rlvr::cuda::device_error& e) { // there is no GPU here
    return std::string(e.what()).find(": cuda") != std::string::npos ? 0 : 1;
  }
}
]])
set(main_tokenizer [[
#include <rlvr/tokenizer/pre_tokenizer.hpp>
int main() {
  std::size_t words = 0;
  rlvr::tokenizer::word_splitter(rlvr::tokenizer::gpt2_words)(rlvr::tokenizer::to_nfc("two words"), [&](auto) { ++words; });
  return words == 2 ? 0 : 1;
}
]])
set(main_xtensor [[
#include <rlvr/xtensor/padded.hpp>
int main() {}
]])
set(main_ranges [[
#include <rlvr/ranges/views.hpp>
int main() {}
]])

if(way STREQUAL find_package)
  set(use "find_package(rlvr 0.1 REQUIRED COMPONENTS ${component})")
else()
  set(use "add_subdirectory(\"${root}\" rlvr)")
endif()
if(component STREQUAL cuda) # to save time: PTX only, not optimised
  string(PREPEND use "set(RLVR_CUDA ON)\nset(RLVR_CUDA_ARCHITECTURES 80-virtual)\nset(CMAKE_CUDA_FLAGS_DEBUG -G)\n")
endif()
file(REMOVE_RECURSE ${folder})
file(WRITE ${folder}/main.cpp "${main_${component}}")
file(WRITE ${folder}/CMakeLists.txt "cmake_minimum_required(VERSION 3.25)
project(consumer CXX)
${use}
add_executable(consumer main.cpp)
target_link_libraries(consumer PRIVATE rlvr::${component})
get_target_property(options rlvr::rlvr INTERFACE_COMPILE_OPTIONS)
if(options)
  message(FATAL_ERROR \"rlvr passes on the compiler flags \${options}\")
endif()
")

function(run)
  execute_process(COMMAND ${ARGN} OUTPUT_VARIABLE output ERROR_VARIABLE output RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${ARGN} ended with ${status}:\n${output}")
  endif()
endfunction()
run(${CMAKE_COMMAND} -S ${folder} -B ${folder}/build -G ${generator} -DCMAKE_CXX_COMPILER=${compiler}
    -DCMAKE_BUILD_TYPE=Debug -DCMAKE_PREFIX_PATH=${prefix})
run(${CMAKE_COMMAND} --build ${folder}/build --target consumer --config Debug)
find_program(consumer consumer PATHS ${folder}/build ${folder}/build/Debug NO_DEFAULT_PATH REQUIRED)
run(${consumer})
