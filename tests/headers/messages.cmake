# cmake -D compiler=... -D folder=... -P messages.cmake
# What compilers say of a type that models no concept names what it lacks.
cmake_minimum_required(VERSION 3.25)

# expect(sentence text...): a program with that text in it does not compile, and the compiler says why.
function(expect sentence)
  file(WRITE ${folder}/message.cpp "#include <string>
#include <rlvr/train/prompt_set.hpp>
#include <rlvr/verify/combine.hpp>
#include <rlvr/verify/decoded.hpp>
#include <rlvr/verify/numeric.hpp>
using namespace rlvr;
using text = std::string_view;
using tokens = std::span<const token>;
" ${ARGN})
  execute_process(COMMAND ${compiler} -std=c++20 -fsyntax-only -I${CMAKE_CURRENT_LIST_DIR}/../../include
                          ${folder}/message.cpp
                  OUTPUT_VARIABLE output ERROR_VARIABLE output RESULT_VARIABLE status)
  string(FIND "${output}" "${sentence}" position)
  if(status EQUAL 0 OR position EQUAL -1)
    message(SEND_ERROR "Expected an error with\n  ${sentence}\nfrom\n  ${ARGN}\nbut got\n  ${status}: ${output}")
  endif()
endfunction()

set(judge "verdict operator()(std::size_t prompt, std::span<const token> completion) const`")
expect("${judge}" "struct v { double operator()(std::size_t, tokens) const { return 1; } };
auto x = prompt_set{ragged<token>{}, v{}};")
expect("${judge}" "struct v { verdict operator()(std::size_t, tokens) { return {}; } };
auto x = prompt_set{ragged<token>{}, v{}};")
expect("one of text goes into a decoded_verifier" "auto x = prompt_set{ragged<token>{}, numeric_verifier{}};")

set(throwing "struct v { verdict operator()(text, text) const { return {}; } };\n")
set(judge "verdict operator()(std::string_view completion, std::string_view answer) const noexcept`")
expect("${judge}" ${throwing} "auto x = decoded_verifier(v{}, [](tokens) { return std::string(); }, {});")
expect("${judge}" ${throwing} "auto x = all_of(numeric_verifier{}, v{});")
expect("${judge}" ${throwing} "auto x = any_of(v{}, numeric_verifier{});")
expect("${judge}" ${throwing} "auto x = weighted_sum({1, 1}, v{}, numeric_verifier{});")
expect("decode is called as `std::string operator()(std::span<const token> completion) const`"
       "auto x = decoded_verifier(numeric_verifier{}, [](tokens) { return 7; }, {});")
