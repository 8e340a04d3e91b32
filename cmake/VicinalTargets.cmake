# vicinal_library(NAME SOURCES ... DEPS ... PRIVATE_DEPS ...): one static
# library of the house, includes written from the repository's root.
function(vicinal_compile_options target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wshadow
    -Wnon-virtual-dtor -Wno-missing-field-initializers)
  if(VICINAL_WERROR)
    # GCC 12 imagines uninitialized strings in every moved std::variant, and
    # overlaps where a string is assigned a literal (GCC bug 105329).
    target_compile_options(${target} PRIVATE -Werror
      -Wno-error=maybe-uninitialized -Wno-error=restrict)
  endif()
  if(VICINAL_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${VICINAL_SANITIZE}
      -fno-omit-frame-pointer -fno-sanitize-recover=all)
    target_link_options(${target} PRIVATE -fsanitize=${VICINAL_SANITIZE})
  endif()
endfunction()

function(vicinal_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  if(ARG_SOURCES)
    add_library(${name} STATIC ${ARG_SOURCES})
    vicinal_compile_options(${name})
    target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
    target_link_libraries(${name} PUBLIC ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
  else()
    add_library(${name} INTERFACE)
    target_include_directories(${name} INTERFACE ${PROJECT_SOURCE_DIR})
    target_link_libraries(${name} INTERFACE ${ARG_DEPS})
  endif()
endfunction()

function(vicinal_executable name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  vicinal_compile_options(${name})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
endfunction()

# vicinal_test(NAME SOURCES ... DEPS ... [LABEL fast|slow] [TIMEOUT s]): one
# test binary, one ctest entry per TEST. LABEL is fast unless said.
function(vicinal_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "SOURCES;DEPS" ${ARGN})
  if(NOT ARG_LABEL)
    set(ARG_LABEL fast)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  vicinal_executable(${name} SOURCES ${ARG_SOURCES}
    DEPS ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  # What is tested is optimized in its library; the test need not be.
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  gtest_discover_tests(${name} TEST_PREFIX "${name}." DISCOVERY_MODE PRE_TEST
    PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
endfunction()
