# rlvr_cuda_library(target): a static library of the kernels, compiled in the project that asks for it, once.
# RLVR_CUDA_ARCHITECTURES says for which GPUs: 80, 90 and the newest that the compiler knows by default.
function(rlvr_cuda_library target)
  find_package(CUDAToolkit REQUIRED)
  if(NOT RLVR_CUDA_ARCHITECTURES)
    execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch OUTPUT_VARIABLE known ERROR_QUIET)
    string(REGEX MATCHALL "[0-9]+" known "${known}")
    list(SORT known COMPARE NATURAL)
    list(APPEND known 90)
    list(GET known -2 newest)
    set(RLVR_CUDA_ARCHITECTURES 80 90 ${newest})
    list(REMOVE_DUPLICATES RLVR_CUDA_ARCHITECTURES)
  endif()
  add_library(${target} STATIC ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/library.cu)
  set_target_properties(${target} PROPERTIES CUDA_ARCHITECTURES "${RLVR_CUDA_ARCHITECTURES}" EXCLUDE_FROM_ALL TRUE
                                             POSITION_INDEPENDENT_CODE TRUE)
  # CMake 3.25 drops CUDA_STANDARD 20 without a word.
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>)
  target_link_libraries(${target} PUBLIC CUDA::cudart_static CUDA::cublasLt)
endfunction()
