# vicinal_version: version and source revision as a library of its own, so that
# a new revision recompiles one small file. The revision is read when CMake
# configures; a build alone never changes it.
set(VICINAL_REVISION "")
find_package(Git QUIET)
if(GIT_FOUND AND EXISTS "${PROJECT_SOURCE_DIR}/.git")
  execute_process(COMMAND "${GIT_EXECUTABLE}" describe --always --dirty --abbrev=12
    WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
    OUTPUT_VARIABLE VICINAL_REVISION OUTPUT_STRIP_TRAILING_WHITESPACE
    ERROR_QUIET)
endif()
configure_file("${PROJECT_SOURCE_DIR}/cmake/version.cc.in"
  "${PROJECT_BINARY_DIR}/generated/version.cc" @ONLY)
vicinal_library(vicinal_version
  SOURCES "${PROJECT_BINARY_DIR}/generated/version.cc" DEPS absl::strings)
