#include "src/payload/payload_strings.h"

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "src/payload/payload_json.h"

namespace vicinal {

void VisitStrings(absl::string_view payload, std::span<const std::string> paths,
                  absl::FunctionRef<void(size_t, absl::string_view)> visit) {
  if (payload.empty() || paths.empty()) return;
  const Json json = ParsePayload(payload);
  for (size_t i = 0; i < paths.size(); ++i) {
    const std::vector<std::string> names = absl::StrSplit(paths[i], '.');
    AnyValue(json, names, [&](const Json& value) {
      if (value.is_string()) visit(i, value.get_ref<const std::string&>());
      return false;
    });
  }
}

}  // namespace vicinal
