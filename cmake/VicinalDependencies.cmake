# Every package is Debian 12's; BUILD notes are in CONTRIBUTING.md.
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Without this sloppiness nothing that has a precompiled header is cached;
  # with the compiler's own list of files nothing is preprocessed beforehand.
  set(launcher "${CMAKE_COMMAND}" -E env CCACHE_DEPEND=1
    CCACHE_SLOPPINESS=pch_defines,time_macros "${CCACHE_PROGRAM}")
  set(CMAKE_C_COMPILER_LAUNCHER ${launcher})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
endif()

find_package(Threads REQUIRED)
find_package(absl CONFIG REQUIRED)
find_package(nlohmann_json CONFIG REQUIRED)
find_package(ICU REQUIRED COMPONENTS i18n uc)
# Debian's libstemmer has no package file of its own.
find_library(STEMMER_LIBRARY stemmer REQUIRED)
find_path(STEMMER_INCLUDE_DIR libstemmer.h REQUIRED)
add_library(stemmer::stemmer UNKNOWN IMPORTED)
set_target_properties(stemmer::stemmer PROPERTIES
  IMPORTED_LOCATION "${STEMMER_LIBRARY}"
  INTERFACE_INCLUDE_DIRECTORIES "${STEMMER_INCLUDE_DIR}")
if(VICINAL_FUZZ)
  find_package(LAPACK REQUIRED)
  find_package(ZLIB REQUIRED)
  find_package(HDF5 REQUIRED COMPONENTS C)
  return()  # clang has no OpenMP without one more package
endif()
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(RocksDB CONFIG REQUIRED)
find_package(LAPACK REQUIRED)  # OpenBLAS: brings BLAS, too
if(VICINAL_BUILD_SERVER)
  find_package(Protobuf REQUIRED)  # module mode, before gRPC
  find_package(gRPC CONFIG REQUIRED)
  find_package(CLI11 CONFIG REQUIRED)
  find_package(spdlog CONFIG REQUIRED)
  find_package(ZLIB REQUIRED)
  find_package(HDF5 REQUIRED COMPONENTS C)
endif()
if(VICINAL_BUILD_TESTS)
  find_package(GTest CONFIG REQUIRED)
  find_package(ZLIB REQUIRED)
  include(GoogleTest)
endif()
if(VICINAL_BUILD_BENCH)
  find_package(benchmark CONFIG REQUIRED)
endif()
