// Files of vectors, read in blocks: the common face of all formats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "src/base/point_id.h"
#include "src/base/types.h"

namespace vicinal::client {

// Most elements of a vector: the wire contract's limit.
inline constexpr size_t kMaxDim = 65'536;

// A named vector as the file has it.
struct VectorField {
  std::string name;  // empty: the file does not name it
  size_t dim = 0;
  ElementType type = ElementType::kFloat32;
};

// The rows of one field in a block.
struct VectorColumnData {
  std::string data;  // rows one after the other, little-endian
  // Rows of the block that have this vector, ascending; empty: all.
  std::vector<uint32_t> present;
};

// The rows of one sparse vector in a block, as CSR.
struct SparseColumnData {
  std::string name;               // empty: the file does not name it
  std::vector<uint64_t> indptr;   // one more than rows
  std::vector<uint32_t> indices;  // ascending in each row
  std::vector<float> values;
};

// The token vectors of one name in a block, those of row i being offsets[i] to
// offsets[i + 1].
struct MultiColumnData {
  std::string name;
  size_t dim = 0;  // 0: no row has a token
  ElementType type = ElementType::kFloat32;
  std::vector<uint64_t> offsets;  // one more than rows
  std::string data;               // tokens one after the other, little-endian
  // Rows that name this vector, ascending; empty: those with a token.
  std::vector<uint32_t> present;
};

// Some consecutive rows of a file.
struct VectorBlock {
  uint64_t first_row = 0;  // its number in the file, 0-based
  size_t num_rows = 0;
  std::vector<VectorColumnData> columns;  // as VectorReader::fields()
  std::vector<SparseColumnData> sparse;   // those that any row has
  std::vector<MultiColumnData> multi;     // those that any row names
  std::vector<PointId> ids;               // empty: the file has none
  std::vector<std::string> payloads;      // JSON; empty: the file has none
};

// How large a block may become. The cuts depend on the file and on these
// numbers only, so a second reading yields the same blocks.
struct BlockLimits {
  size_t max_rows = 1024;
  // Rows are added while the block is smaller than this; at least one.
  size_t max_bytes = size_t{2} << 20;
};

// Reads a file of vectors from front to back without holding it in memory.
// Files are not trusted: every count is compared with the file's size before
// it is used; a bad file gives InvalidArgument that names file, place, value
// and remedy. Not thread-safe.
class VectorReader {
 public:
  virtual ~VectorReader() = default;

  // The dense vectors; may be none.
  virtual const std::vector<VectorField>& fields() const = 0;
  // About what else a row has, in bytes; 0: not known before it is read.
  virtual size_t other_row_bytes() const { return 0; }
  // Rows of the file; nullopt when only reading to its end can tell.
  virtual std::optional<uint64_t> num_rows() const = 0;
  // Part of the file read so far, 0 to 1; for progress.
  virtual double progress() const = 0;
  // Replaces *block (its memory is not reused: it may have been moved away).
  // False at the end of the file.
  virtual absl::StatusOr<bool> Read(const BlockLimits& limits,
                                    VectorBlock* block) = 0;
  // Passes over the next rows. OutOfRange when there are fewer.
  virtual absl::Status Skip(uint64_t num_rows) = 0;
  // "euclidean", "angular", ... when the file says it; else empty.
  virtual std::string distance() const { return {}; }

  size_t dim() const { return fields()[0].dim; }
  ElementType type() const { return fields()[0].type; }
};

enum class FileFormat {
  kAuto,
  kFvecs,
  kBvecs,
  kNpy,
  kJsonl,
  kHdf5,
  kIdx,
  kCsr,   // sparse vectors as big-ann-benchmarks has them
  kBeir,  // a folder with corpus.jsonl
};

// The names of the JSON fields of a JSONL file.
struct JsonlFields {
  std::string id = "id";            // a number, a string or {"uuid": "..."}
  std::string vector = "vector";    // an array, for unnamed vectors
  std::string vectors = "vectors";  // {"name": array, ...}, for named ones
  std::string sparse = "sparse";    // {"name": {"indices", "values"}, ...}
  std::string multi = "multi";      // {"name": array of arrays, ...}
  std::string payload = "payload";  // an object; ".": the whole line
  bool uuid_strings = false;        // strings are UUIDs
};

struct OpenOptions {
  FileFormat format = FileFormat::kAuto;
  std::string dataset = "train";  // of an HDF5 file
  JsonlFields jsonl;
  // What the vectors of a JSONL file must be; empty: taken from its first row.
  std::vector<VectorField> expected_fields;
  // What its multi-vectors must be; empty: whatever the first rows have.
  std::vector<VectorField> expected_multi;
  // Whether rows of a JSONL file may have no dense vector.
  bool may_lack_vectors = false;
};

// Opens a file. kAuto goes by the name's ending (.fvecs, .bvecs, .npy, .jsonl,
// .ndjson, .hdf5, .h5, .idx, *-ubyte, each of the last two also with .gz,
// .csr), and takes a folder for a BEIR data set.
absl::StatusOr<std::unique_ptr<VectorReader>> OpenVectorFile(
    const std::string& path, const OpenOptions& options = {});

// "npy" etc. InvalidArgument: no such format, with the list.
absl::StatusOr<FileFormat> ParseFileFormat(absl::string_view name);

// Bytes of one row over all fields.
size_t RowBytes(const std::vector<VectorField>& fields);

// InvalidArgument: dim is 0 or above kMaxDim.
absl::Status CheckDim(absl::string_view path, uint64_t dim);

// Rows first .. first + n of a file of one field as float32.
absl::StatusOr<std::vector<float>> ReadRowsAsFloat(VectorReader& reader,
                                                   uint64_t first, uint64_t n);

}  // namespace vicinal::client
