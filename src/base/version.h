// What this binary was built from.
#pragma once

#include "absl/strings/string_view.h"

namespace vicinal {

// Semantic version of the product, e.g. "0.1.0".
absl::string_view Version();
// `git describe --always --dirty` of the tree when it was configured; empty
// when it was no git checkout.
absl::string_view Revision();

}  // namespace vicinal
