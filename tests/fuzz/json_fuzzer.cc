// libFuzzer: JSON that a payload may be is JSON to the importer, too; and a
// file of lines is read or refused whatever its bytes, alike in blocks of any
// size.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/formats/json_scanner.h"
#include "client/formats/jsonl.h"
#include "client/formats/vector_reader.h"
#include "nlohmann/json.hpp"
#include "tests/fuzz/require.h"

namespace vicinal::client {
namespace {

void CheckScanner(absl::string_view text) {
  JsonScanner scan(text);
  absl::string_view value;
  const bool ok = scan.Value(&value) && scan.AtEnd();
  Require(scan.offset() <= text.size(), "the scanner went past the end");
  if (!ok && absl::StrContains(scan.error(), "128 levels")) return;
  // nlohmann's parser takes these, and ValidatePayload refuses them.
  const bool is_odd =
      absl::StrContains(text, '\0') || absl::StartsWith(text, "\xEF\xBB\xBF");
  Require(ok || is_odd || !nlohmann::json::accept(text.begin(), text.end()),
          "the scanner refuses JSON");
  std::string decoded;
  JsonScanner(text).String(&decoded);
  std::vector<float> floats;
  JsonScanner(text).Floats(&floats);
}

// What a reader found: an error or all rows.
struct Found {
  std::string error;
  size_t num_rows = 0;
  std::vector<std::string> columns;
  std::vector<PointId> ids;
  std::vector<std::string> payloads;
};

Found ReadAll(const std::string& path, const BlockLimits& limits) {
  Found found;
  auto reader = OpenJsonl(path, {});
  if (!reader.ok()) return {std::string(reader.status().message())};
  const std::vector<VectorField> fields = (*reader)->fields();
  found.columns.resize(fields.size());
  while (true) {
    VectorBlock block;
    const auto more = (*reader)->Read(limits, &block);
    // Rows of a block that ends in an error are lost with it.
    if (!more.ok()) return {std::string(more.status().message())};
    if (!*more) return found;
    Require(block.columns.size() == fields.size(), "columns are missing");
    for (size_t c = 0; c < fields.size(); ++c) {
      const VectorColumnData& column = block.columns[c];
      const size_t rows =
          column.present.empty() ? block.num_rows : column.present.size();
      Require(column.data.empty() ||
                  column.data.size() == rows * fields[c].dim * sizeof(float),
              "a column has another size than its rows");
      found.columns[c] += column.data;
    }
    found.num_rows += block.num_rows;
    found.ids.insert(found.ids.end(), block.ids.begin(), block.ids.end());
    found.payloads.insert(found.payloads.end(), block.payloads.begin(),
                          block.payloads.end());
  }
}

void CheckReader(absl::string_view bytes) {
  const int file = memfd_create("jsonl", MFD_CLOEXEC);
  Require(file >= 0 && write(file, bytes.data(), bytes.size()) ==
                           static_cast<ssize_t>(bytes.size()),
          "no memory for a file");
  const std::string path = absl::StrCat("/proc/self/fd/", file);
  const Found large = ReadAll(path, {});
  const Found small = ReadAll(path, {.max_rows = 2, .max_bytes = 64});
  close(file);
  Require(large.error == small.error, "another error in small blocks");
  Require(large.num_rows == small.num_rows && large.columns == small.columns &&
              large.ids == small.ids,
          "other rows in small blocks");
}

}  // namespace
}  // namespace vicinal::client

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data),
                                size_bytes);
  vicinal::client::CheckScanner(bytes);
  // Reading costs a hundred times as much, and refuses other lines at once.
  if (bytes.substr(0, 1) == "{") vicinal::client::CheckReader(bytes);
  return 0;
}
