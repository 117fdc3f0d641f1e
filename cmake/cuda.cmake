# src/cuda, or where there is no CUDA compiler src/cuda_stub, as inkstone_cuda.
set(INKSTONE_CUDA AUTO CACHE STRING "The cuda device: ON, OFF, or AUTO, which means if nvcc is found")
set(INKSTONE_CUDA_ARCHITECTURES 80 90a CACHE STRING
    "Compute capabilities to compile for, such as 80;86;89;90a;120; others run the first one's PTX")
set(oldest_toolkit 12.4)

# Tells whether the cuda device is compiled, and keeps the sentence for test.sh.
function(tell_of_cuda sentence)
  message(STATUS "${sentence}")
  set(INKSTONE_CUDA_STATUS "${sentence}" CACHE INTERNAL "Whether the cuda device is compiled, or why not")
endfunction()

set(obstacle "")
if(INKSTONE_CUDA STREQUAL "OFF")
  set(obstacle "INKSTONE_CUDA is OFF")
elseif(INKSTONE_SANITIZE)
  set(obstacle "nvcc's host code knows no sanitizers")
else()
  include(CheckLanguage)
  set(CMAKE_CUDA_ARCHITECTURES OFF)  # the flags below say it: CMake 3.22 does not know 90a
  check_language(CUDA)
  find_package(CUDAToolkit QUIET)
  # CUDAToolkit_INCLUDE_DIRS is a list: newer CMake adds the folders that nvcc adds, as of CUDA 13 include/cccl.
  find_path(cublaslt_folder cublasLt.h PATHS ${CUDAToolkit_INCLUDE_DIRS} NO_DEFAULT_PATH NO_CACHE)
  set(toolkit ${CUDAToolkit_VERSION})
  if(CMAKE_CUDA_COMPILER)  # CUDACXX may name another than the one on the PATH
    execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version OUTPUT_VARIABLE compiler_words)
    if(compiler_words MATCHES "release ([0-9.]+)")
      set(toolkit ${CMAKE_MATCH_1})
    endif()
  endif()
  if(toolkit AND toolkit VERSION_LESS oldest_toolkit)
    set(obstacle "CUDA ${toolkit} was found, ${oldest_toolkit} or newer is needed; CUDACXX says where it is")
  elseif(NOT CMAKE_CUDA_COMPILER)
    set(obstacle "nvcc was not found; CUDACXX says where it is")
  elseif(NOT CUDAToolkit_FOUND OR NOT cublaslt_folder)
    set(obstacle "the headers of CUDA's runtime and of cuBLASLt were not found")
  endif()
endif()
if(obstacle)
  if(INKSTONE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "INKSTONE_CUDA is ON, but ${obstacle}")
  endif()
  tell_of_cuda("Without the cuda device: ${obstacle}")
  inkstone_module(cuda FOLDER cuda_stub LINK inkstone_ops)
  return()
endif()

enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake before 3.26 does not know it
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
endif()
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
if(CCACHE_PROGRAM AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

inkstone_module(cuda LINK inkstone_ops CUDA::cudart_static ${CMAKE_DL_LIBS})
file(GLOB kernels CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/cuda/*.cu)
target_sources(inkstone_cuda PRIVATE ${kernels})
foreach(exact weights changed_weights)  # packed.cuh wants it
  set_source_files_properties(${PROJECT_SOURCE_DIR}/src/cuda/${exact}.cu PROPERTIES COMPILE_OPTIONS
                                                                                    "-fmad=false;-DINKSTONE_NO_FMAD")
endforeach()
foreach(mixed mix int8_product)  # they ask ops/mixed_order.h where codes lie
  set_source_files_properties(${PROJECT_SOURCE_DIR}/src/cuda/${mixed}.cu PROPERTIES COMPILE_OPTIONS
                                                                                    --expt-relaxed-constexpr)
endforeach()
set_target_properties(inkstone_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Static)
execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-code OUTPUT_VARIABLE known_codes)
set(capabilities ${INKSTONE_CUDA_ARCHITECTURES})
foreach(capability ${INKSTONE_CUDA_ARCHITECTURES})
  string(REGEX MATCH "^[0-9]+" number ${capability})  # 90a is listed as 90
  if(NOT known_codes MATCHES "sm_${number}\n")
    message(STATUS "This nvcc does not know compute capability ${capability}")
    list(REMOVE_ITEM capabilities ${capability})
  endif()
endforeach()
if(NOT capabilities)
  message(FATAL_ERROR "INKSTONE_CUDA_ARCHITECTURES: ${CMAKE_CUDA_COMPILER} knows none of ${INKSTONE_CUDA_ARCHITECTURES}")
endif()
tell_of_cuda("With the cuda device, by CUDA ${toolkit} for compute capabilities ${capabilities}")
list(GET capabilities 0 first)
set(targets "-gencode=arch=compute_${first},code=compute_${first}")
foreach(capability ${capabilities})
  list(APPEND targets "-gencode=arch=compute_${capability},code=sm_${capability}")
endforeach()
target_compile_options(inkstone_cuda PRIVATE
                       "$<$<COMPILE_LANGUAGE:CUDA>:${targets};-Werror=all-warnings;-Xcompiler=-Wall,-Wextra,-Wshadow>")
