# VICINAL_HAS_CUDA: whether GPU kernels are built. CMake 3.25 does not know
# C++20 of nvcc 13, so that flag is passed by hand.
set(VICINAL_CUDA AUTO CACHE STRING
    "GPU kernels: AUTO where nvcc is found, ON (it must be) or OFF")
set_property(CACHE VICINAL_CUDA PROPERTY STRINGS AUTO ON OFF)
# Machine code of Ampere and its kin and of Hopper, and PTX for later ones.
set(VICINAL_CUDA_ARCHITECTURES "80-real;90a-real;80-virtual" CACHE STRING
    "What GPU kernels are compiled for; those of Hopper alone are always 90a")

set(VICINAL_HAS_CUDA OFF)
if(NOT VICINAL_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  # Before the language is there, or CMake asks for an architecture.
  set(CMAKE_CUDA_ARCHITECTURES "90a-real")
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    # 12.5 is the first with cudaGetDriverEntryPointByVersion.
    execute_process(COMMAND "${CMAKE_CUDA_COMPILER}" --version
      OUTPUT_VARIABLE nvcc_version ERROR_QUIET)
    string(REGEX MATCH "release ([0-9.]+)" nvcc_version "${nvcc_version}")
    if(CMAKE_MATCH_1 VERSION_LESS 12.5)
      message(STATUS "nvcc ${CMAKE_MATCH_1} is older than 12.5")
      set(CMAKE_CUDA_COMPILER NOTFOUND)
    endif()
  endif()
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    set(VICINAL_HAS_CUDA ON)
  elseif(VICINAL_CUDA STREQUAL "ON")
    message(FATAL_ERROR "VICINAL_CUDA is ON and there is no nvcc of 12.5 or later. "
      "Add its folder to PATH, or set VICINAL_CUDA to AUTO or OFF.")
  endif()
endif()
message(STATUS "GPU kernels: ${VICINAL_HAS_CUDA}")

# vicinal_cuda_objects(NAME ARCHITECTURES ... SOURCES ...): an object library.
function(vicinal_cuda_objects name)
  cmake_parse_arguments(ARG "" "" "ARCHITECTURES;SOURCES" ${ARGN})
  add_library(${name} OBJECT ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES
    CUDA_ARCHITECTURES "${ARG_ARCHITECTURES}"
    CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED OFF)
  target_compile_options(${name} PRIVATE -std=c++20)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
endfunction()
