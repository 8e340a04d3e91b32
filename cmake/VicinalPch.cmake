# Precompiled headers (VICINAL_PCH): what most files include of other people's
# headers, parsed once per set instead of once per file. None of ours is in a
# set, so that a change of ours recompiles no set. A missing include of theirs is
# seen only in the builds without (presets dev, asan and tsan) and in
# vicinal_headers_stand_alone.
set(VICINAL_PCH_lib
  <algorithm> <array> <atomic> <chrono> <cmath> <cstddef> <cstdint> <cstdio>
  <cstdlib> <cstring> <filesystem> <fstream> <functional> <iterator> <limits>
  <map> <memory> <mutex> <numeric> <optional> <set> <span> <string>
  <string_view> <thread> <unordered_map> <utility> <variant> <vector>
  <absl/container/flat_hash_map.h> <absl/container/flat_hash_set.h>
  <absl/status/status.h> <absl/status/statusor.h> <absl/strings/match.h>
  <absl/strings/numbers.h> <absl/strings/str_cat.h>
  <absl/strings/str_format.h> <absl/strings/str_join.h>
  <absl/strings/str_split.h> <absl/strings/string_view.h>
  <absl/synchronization/mutex.h> <nlohmann/json.hpp>)
set(VICINAL_PCH_lib_libraries absl::flat_hash_map absl::flat_hash_set
  absl::status absl::statusor absl::str_format absl::strings
  absl::synchronization nlohmann_json::nlohmann_json Threads::Threads)

set(VICINAL_PCH_test ${VICINAL_PCH_lib} <gmock/gmock.h> <gtest/gtest.h>)
set(VICINAL_PCH_test_libraries ${VICINAL_PCH_lib_libraries} GTest::gmock)

set(VICINAL_PCH_proto ${VICINAL_PCH_lib} <grpcpp/grpcpp.h>
  # Generated from the contract, so that only a change of it makes them anew.
  <google/rpc/error_details.pb.h> <vicinal/v1/admin.grpc.pb.h>
  <vicinal/v1/collection.grpc.pb.h> <vicinal/v1/operation.grpc.pb.h>
  <vicinal/v1/point.grpc.pb.h> <vicinal/v1/search.grpc.pb.h>)
set(VICINAL_PCH_proto_libraries ${VICINAL_PCH_lib_libraries} vicinal_proto)

set(VICINAL_PCH_proto_test ${VICINAL_PCH_proto} <gmock/gmock.h>
  <gtest/gtest.h>)
set(VICINAL_PCH_proto_test_libraries ${VICINAL_PCH_proto_libraries}
  GTest::gmock)

# vicinal_precompile(TARGET SET): TARGET's files begin with the headers of SET,
# which is lib, test, proto or proto_test. Files with options of their own that
# change macros or instructions are to have SKIP_PRECOMPILE_HEADERS.
function(vicinal_precompile target set)
  if(NOT VICINAL_PCH)
    return()
  endif()
  set(holder vicinal_pch_${set})
  if(NOT TARGET ${holder})
    set(source "${PROJECT_BINARY_DIR}/generated/${holder}.cc")
    file(CONFIGURE OUTPUT "${source}" CONTENT "// Holds a precompiled header.\n")
    add_library(${holder} OBJECT "${source}")
    vicinal_compile_options(${holder})
    if(set MATCHES "test$")
      vicinal_lighter_optimization(${holder})
    endif()
    target_link_libraries(${holder} PRIVATE ${VICINAL_PCH_${set}_libraries})
    target_precompile_headers(${holder} PRIVATE ${VICINAL_PCH_${set}})
  endif()
  target_precompile_headers(${target} REUSE_FROM ${holder})
endfunction()
