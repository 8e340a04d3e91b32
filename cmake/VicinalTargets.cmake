function(vicinal_compile_options target)
  # -pthread also where no dependency brings it: it defines a macro that all
  # who share a precompiled header must have alike.
  target_compile_options(${target} PRIVATE -pthread -Wall -Wextra -Wshadow
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

# For files that parse options, print, or test what is optimized in its library.
function(vicinal_lighter_optimization target)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
endfunction()

# Compiles TARGET's files eight at a time where VICINAL_UNITY is on; not those in
# SEPARATE, which name something in an unnamed namespace as another file does,
# nor those with options of their own.
function(vicinal_unity target)
  cmake_parse_arguments(ARG "" "" "SEPARATE" ${ARGN})
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${VICINAL_UNITY}
    UNITY_BUILD_BATCH_SIZE 8)
  if(ARG_SEPARATE)
    set_property(SOURCE ${ARG_SEPARATE}
      PROPERTY SKIP_UNITY_BUILD_INCLUSION ON)
  endif()
endfunction()

# vicinal_library(NAME SOURCES ... DEPS ... PRIVATE_DEPS ... [PCH set]): one
# static library of the house, includes written from the repository's root. PCH
# names its set of precompiled headers; see VicinalPch.cmake.
function(vicinal_library name)
  cmake_parse_arguments(ARG "" "PCH" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  if(ARG_SOURCES)
    add_library(${name} STATIC ${ARG_SOURCES})
    vicinal_compile_options(${name})
    target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
    target_link_libraries(${name} PUBLIC ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
    if(ARG_PCH)
      vicinal_precompile(${name} ${ARG_PCH})
    endif()
  else()
    add_library(${name} INTERFACE)
    target_include_directories(${name} INTERFACE ${PROJECT_SOURCE_DIR})
    target_link_libraries(${name} INTERFACE ${ARG_DEPS})
  endif()
endfunction()

function(vicinal_executable name)
  cmake_parse_arguments(ARG "" "PCH" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  vicinal_compile_options(${name})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  if(ARG_PCH)
    vicinal_precompile(${name} ${ARG_PCH})
  endif()
endfunction()

# vicinal_test(NAME SOURCES ... DEPS ... [LABEL fast|slow] [TIMEOUT s] [PCH set]):
# one test binary, one ctest entry per TEST. LABEL is fast, PCH test unless said.
function(vicinal_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT;PCH" "SOURCES;DEPS" ${ARGN})
  if(NOT ARG_LABEL)
    set(ARG_LABEL fast)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(NOT ARG_PCH)
    set(ARG_PCH test)
  endif()
  vicinal_executable(${name} SOURCES ${ARG_SOURCES} PCH ${ARG_PCH}
    DEPS ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  vicinal_lighter_optimization(${name})
  gtest_discover_tests(${name} TEST_PREFIX "${name}." DISCOVERY_MODE PRE_TEST
    PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
endfunction()
