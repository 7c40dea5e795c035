# cmake -D prefix=... -D folder=... -D components=... -P missing.cmake
# find_package says why a component cannot be had, and an optional one hides nothing but itself. `components` are
# those that rlvr was installed with.
cmake_minimum_required(VERSION 3.25)

# configure(result cmake-text option...): configures a project of that text.
function(configure result text)
  file(REMOVE_RECURSE ${folder}/build)
  file(WRITE ${folder}/CMakeLists.txt "cmake_minimum_required(VERSION 3.25)\nproject(consumer CXX)\n${text}\n")
  execute_process(COMMAND ${CMAKE_COMMAND} -S ${folder} -B ${folder}/build -G ${generator} -DCMAKE_CXX_COMPILER=${compiler}
                          -DCMAKE_PREFIX_PATH=${prefix} ${ARGN}
                  OUTPUT_VARIABLE output ERROR_VARIABLE output RESULT_VARIABLE status)
  string(REGEX REPLACE "[ \n]+" " " output "${output}") # CMake breaks lines where it likes
  set(${result} "${status}: ${output}" PARENT_SCOPE)
endfunction()
function(expect_error sentence text)
  configure(result "${text}" ${ARGN})
  string(FIND "${result}" "${sentence}" position)
  if(result MATCHES "^0: " OR position EQUAL -1)
    message(FATAL_ERROR "Expected an error with\n  ${sentence}\nfrom\n  ${text} ${ARGN}\nbut got\n  ${result}")
  endif()
endfunction()

expect_error("Component torch cannot be used: there is no such component, only rlvr, eigen, cuda, tokenizer, xtensor and ranges."
             "find_package(rlvr REQUIRED COMPONENTS torch)")
expect_error("version" "find_package(rlvr 0.2 REQUIRED)")

# cuda is in every installation. It stays out of what follows: with it every project there would be one in CUDA.
set(without -DCMAKE_DISABLE_FIND_PACKAGE_CUDAToolkit=ON)
expect_error("Component cuda cannot be used: it needs the package CUDAToolkit, which was not found."
             "find_package(rlvr REQUIRED COMPONENTS cuda)" ${without})
configure(result "find_package(rlvr REQUIRED OPTIONAL_COMPONENTS cuda)
if(rlvr_cuda_FOUND OR TARGET rlvr::cuda OR NOT TARGET rlvr::rlvr)
  message(FATAL_ERROR \"cuda is there without CUDAToolkit, or hides rlvr\")
endif()" ${without})
if(NOT result MATCHES "^0: ")
  message(FATAL_ERROR "${result}")
endif()
list(REMOVE_ITEM components cuda)

set(package_eigen Eigen3)
set(package_tokenizer libpcre2-8)
set(package_xtensor xtensor)
set(package_ranges range-v3)
foreach(component IN LISTS components)
  if(component STREQUAL rlvr)
    continue()
  endif()
  set(without -DCMAKE_DISABLE_FIND_PACKAGE_${package_${component}}=ON)
  if(component STREQUAL tokenizer)
    set(without -DCMAKE_DISABLE_FIND_PACKAGE_PkgConfig=ON)
  endif()
  expect_error("Component ${component} cannot be used: it needs the package ${package_${component}}, which was not found."
               "find_package(rlvr REQUIRED COMPONENTS ${component})" ${without})
  configure(result "find_package(rlvr REQUIRED OPTIONAL_COMPONENTS ${components})
if(rlvr_${component}_FOUND OR TARGET rlvr::${component})
  message(FATAL_ERROR \"${component} is there without ${package_${component}}\")
endif()
foreach(other ${components})
  if(NOT other STREQUAL ${component} AND NOT (rlvr_\${other}_FOUND AND TARGET rlvr::\${other}))
    message(FATAL_ERROR \"\${other} is hidden with ${component}\")
  endif()
endforeach()" ${without})
  if(NOT result MATCHES "^0: ")
    message(FATAL_ERROR "${result}")
  endif()
endforeach()

# An installation that lacks a component's export file.
file(REMOVE_RECURSE ${folder}/prefix)
file(COPY ${prefix}/ DESTINATION ${folder}/prefix)
set(prefix ${folder}/prefix)
file(GLOB_RECURSE exports ${prefix}/*/rlvr_eigen*.cmake)
if(exports)
  file(REMOVE ${exports})
endif()
expect_error("Component eigen cannot be used: it was left out when rlvr was installed, because what it needs was missing there."
             "find_package(rlvr REQUIRED COMPONENTS eigen)")
