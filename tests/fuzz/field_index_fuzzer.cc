// libFuzzer: a file of a payload index with sound checksums and hostile
// sections is refused, or answers within its bounds.
//
// Input: type (u8), num_rows (u8), num_keys (u16), num_entries (u16), then
// KEYS, KEYOFFS, STARTS and ROWS, each as its size (u16) and its bytes;
// little-endian, what is missing is zero or empty.
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/bitmap.h"
#include "src/base/coding.h"
#include "src/base/section_file.h"
#include "src/payload/field_index.h"
#include "src/payload/filter.h"
#include "src/payload/payload_key.h"
#include "tests/fuzz/require.h"

namespace vicinal {
namespace {

constexpr uint64_t kSegment = 7;
constexpr absl::string_view kPath = "a.b";

class Input {
 public:
  Input(const uint8_t* data, size_t size_bytes)
      : rest_(reinterpret_cast<const char*>(data), size_bytes) {}
  template <typename T>
  T Number() {
    T value = 0;
    const absl::string_view bytes = Bytes(sizeof(T));
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }
  absl::string_view Bytes(size_t size) {
    const absl::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(taken.size());
    return taken;
  }

 private:
  absl::string_view rest_;
};

// A folder of the process, removed at its end; in memory where TMPDIR is.
const std::string& Folder() {
  struct Temporary {
    Temporary()
        : path((std::filesystem::temp_directory_path() /
                absl::StrCat("vicinal-fuzz-", getpid()))
                   .string()) {
      std::filesystem::create_directories(path);
    }
    ~Temporary() { std::filesystem::remove_all(path); }
    const std::string path;
  };
  static const Temporary folder;
  return folder.path;
}

struct Header {
  uint8_t type = 0;
  uint8_t num_rows = 0;
};

Header WriteFile(Input input, const std::string& path) {
  const Header header{input.Number<uint8_t>(), input.Number<uint8_t>()};
  std::string meta;
  PutFixed(&meta, kSegment);
  PutFixed(&meta, uint64_t{header.num_rows});
  PutFixed(&meta, uint64_t{input.Number<uint16_t>()});
  PutFixed(&meta, uint64_t{input.Number<uint16_t>()});
  PutFixed(&meta, uint64_t{header.type});
  absl::StrAppend(&meta, kPath);
  auto writer = SectionFileWriter::Create(path, "FIDX", 1, 5);
  Require(writer.ok(), "no file");
  const auto add = [&](absl::string_view name, absl::string_view bytes) {
    Require((*writer)->BeginSection(name).ok() && (*writer)->Append(bytes).ok(),
            "no section");
  };
  add("META", meta);
  for (const char* name : {"KEYS", "KEYOFFS", "STARTS", "ROWS"}) {
    add(name, input.Bytes(input.Number<uint16_t>()));
  }
  Require((*writer)->Finish().ok(), "the file is not finished");
  return header;
}

void Ask(const FieldIndex& index, size_t num_rows) {
  const PayloadType type = index.field().type;
  Bitmap by_key(num_rows);
  for (size_t i = 0; i < index.num_keys(); ++i) {
    Require(index.LowerBound(index.key(i)) == i, "a key is elsewhere");
    for (const RowId row : index.rows(i)) by_key.Set(row);
    if (type != PayloadType::kGeo) ValueOfKey(index.key(i), type);
  }
  Bitmap all(num_rows);
  index.AddRows({{KeyRange{}}}, 0, &all);
  Require(all.Count() == by_key.Count(), "a range of all misses rows");
  Bitmap some(num_rows);
  index.AddRows({{KeyRange{"1", "2"}, KeyRange{"a", std::nullopt}}}, 0, &some);
  Require(some.Count() <= all.Count(), "a part is larger than all");
  if (type != PayloadType::kGeo) return;
  Bitmap near(num_rows);
  index.AddRowsIn({.kind = FilterNode::Kind::kGeoRadius,
                   .points = {{52.5, 13.4}},
                   .meters = 1e6},
                  0, &near);
  Require(near.Count() <= all.Count(), "an area has more rows than the earth");
}

}  // namespace
}  // namespace vicinal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes) {
  using vicinal::FieldIndex;
  const std::string path = vicinal::Folder() + "/index";
  const auto header = vicinal::WriteFile({data, size_bytes}, path);
  // A schema has no other types.
  const auto type = static_cast<vicinal::PayloadType>(header.type);
  if (header.type < 1 || header.type > 7) return 0;
  const auto index = FieldIndex::Open(path, {std::string(vicinal::kPath), type},
                                      vicinal::kSegment, header.num_rows);
  if (index.ok()) vicinal::Ask(**index, header.num_rows);
  return 0;
}
