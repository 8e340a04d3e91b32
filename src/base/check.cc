#include "src/base/check.h"

#include <cstdio>
#include <cstdlib>
#include <string>

namespace vicinal {

void CheckFailed(const char* file, int line, const std::string& message) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line,
               message.c_str());
  std::abort();
}

}  // namespace vicinal
