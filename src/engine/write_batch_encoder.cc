#include "src/engine/write_batch_encoder.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"
#include "src/base/check.h"
#include "src/base/coding.h"
#include "src/base/half.h"
#include "src/distance/distance.h"
#include "src/engine/element_values.h"
#include "src/engine/id_table.h"
#include "src/engine/multi_rows.h"
#include "src/engine/write_batch_multi.h"
#include "storage/collection_store.h"

namespace vicinal {
namespace {

// Accepts one JSON object of bounded depth, keeping nothing of it.
class PayloadChecker final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit PayloadChecker(size_t max_depth) : max_depth_(max_depth) {}
  const std::string& problem() const { return problem_; }

  bool null() override { return Value(); }
  bool boolean(bool) override { return Value(); }
  bool number_integer(int64_t) override { return Value(); }
  bool number_unsigned(uint64_t) override { return Value(); }
  bool number_float(double, const std::string&) override { return Value(); }
  bool string(std::string&) override { return Value(); }
  bool binary(nlohmann::json::binary_t&) override { return Value(); }
  bool key(std::string&) override { return true; }
  bool start_object(size_t) override { return Enter(); }
  bool end_object() override { return Leave(); }
  bool start_array(size_t) override { return Value() && Enter(); }
  bool end_array() override { return Leave(); }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::json::exception&) override {
    problem_ = absl::StrCat("is not valid JSON at byte ", position);
    return false;
  }

 private:
  bool Value() {
    if (depth_ > 0) return true;
    problem_ = "is not a JSON object; wrap the value in {\"key\": ...}";
    return false;
  }
  bool Enter() {
    if (++depth_ <= max_depth_) return true;
    problem_ =
        absl::StrCat("nests deeper than ", max_depth_, " levels; flatten it");
    return false;
  }
  bool Leave() {
    --depth_;
    return true;
  }

  const size_t max_depth_;
  size_t depth_ = 0;
  std::string problem_;
};

size_t VarintSize(uint64_t value) {
  size_t size = 1;
  for (; value >= 0x80; value >>= 7) ++size;
  return size;
}

}  // namespace

// One call of EncodeBatch.
class BatchEncoder {
 public:
  BatchEncoder(const CollectionSchema& schema, const Layout& layout,
               const Limits& limits, const PointBatch& batch, bool atomic,
               EncodedBatch* out)
      : schema_(schema),
        layout_(layout),
        limits_(limits),
        batch_(batch),
        atomic_(atomic),
        out_(*out),
        multi_(schema, layout, batch) {}

  EncodeOutcome Run();

 private:
  struct Column {
    size_t number = 0;  // in the batch
    const VectorColumn* source = nullptr;
    std::string converted;   // empty: source->data is of the right type
    absl::string_view data;  // of the field's type
    bool all_present = true;
    std::vector<int64_t> position;  // of each point; -1: absent

    int64_t PositionOf(size_t point) const {
      return all_present ? static_cast<int64_t>(point) : position[point];
    }
  };

  // A sparse vector of the batch.
  struct Sparse {
    const SparseColumn* source = nullptr;
    size_t number = 0;  // in the batch
  };

  void CheckStructure();
  void CheckColumn(size_t number);
  void CheckSparseColumn(size_t number);
  void CheckSparseItems(size_t s);
  // Why the entry cannot be kept; empty: it can.
  std::string SparseProblem(size_t s, size_t begin, size_t entry) const;
  // The entries of a point that are not zero, into sparse_[s].
  void TakeSparse(size_t s, size_t point);
  bool CheckPresent(const VectorColumn& source, const std::string& path);
  void CheckItems();
  void CheckElements(size_t f);
  void ConvertColumn(size_t f);
  void CheckZeroVectors(size_t f);
  void Normalize(const RecordView::Vector& vector, size_t* offset);
  size_t PointAt(const Column& column, size_t position) const {
    return column.all_present ? position : column.source->present[position];
  }
  void RefuseBatch(std::string field, const std::string& why) {
    errors_.push_back(
        {kWholeBatch, field,
         absl::InvalidArgumentError(absl::StrCat(field, " ", why))});
  }
  void RefuseItem(size_t i, std::string field, const std::string& why) {
    if (!bad_.empty() && bad_[i]) return;  // the first reason is enough
    if (bad_.empty()) bad_.resize(batch_.ids.size(), false);
    bad_[i] = true;
    errors_.push_back(
        {i, field, absl::InvalidArgumentError(absl::StrCat(field, " ", why))});
  }
  // Points to keep, ascending: the last valid one of each id.
  std::vector<uint32_t> Survivors();
  void Encode(const std::vector<uint32_t>& points);
  void EncodePoint(size_t point);

  const CollectionSchema& schema_;
  const Layout& layout_;
  const Limits& limits_;
  const PointBatch& batch_;
  const bool atomic_;
  EncodedBatch& out_;
  std::vector<std::optional<Column>> columns_;  // by field
  std::vector<Sparse> sparse_columns_;          // by number
  std::vector<SparseEntries> sparse_;           // scratch of EncodePoint
  std::vector<std::string> sparse_bytes_;       // scratch of EncodePoint
  MultiColumns multi_;
  std::vector<bool> bad_;         // by point; empty: none
  std::vector<uint64_t> hashes_;  // by point
  std::vector<ItemError> errors_;
  std::vector<RecordView::Vector> record_vectors_;  // scratch of EncodePoint
  std::vector<float> aligned_;                      // scratch of Normalize
  size_t num_normalized_ = 0;  // floats used in out_.normalized
};

const std::byte* EncodedBatch::vector(size_t i, size_t f) const {
  const size_t offset = vector_offsets[i * num_fields + f];
  if (offset == kNone) return nullptr;
  if ((offset & kInNormalized) != 0) {
    return reinterpret_cast<const std::byte*>(normalized.get() +
                                              (offset & ~kInNormalized));
  }
  return reinterpret_cast<const std::byte*>(bodies.data() + offset);
}

EncodeOutcome BatchEncoder::Run() {
  columns_.resize(layout_.fields.size());
  sparse_columns_.resize(layout_.num_sparse);
  CheckStructure();
  if (!errors_.empty()) {
    absl::Status status = errors_.front().status;
    return {std::move(status), std::move(errors_)};
  }
  CheckItems();
  std::stable_sort(
      errors_.begin(), errors_.end(),
      [](const ItemError& a, const ItemError& b) { return a.index < b.index; });
  if (atomic_ && !errors_.empty()) {
    absl::Status status = absl::InvalidArgumentError(
        absl::StrCat(errors_.size(), " of ", batch_.ids.size(),
                     " points are not valid, so none was written; first: ",
                     errors_.front().status.message()));
    return {std::move(status), std::move(errors_)};
  }
  Encode(Survivors());
  return {absl::OkStatus(), std::move(errors_)};
}

void BatchEncoder::CheckStructure() {
  const size_t n = batch_.ids.size();
  if (n > limits_.max_batch_points) {
    RefuseBatch("ids", absl::StrCat("has ", n, " points; at most ",
                                    limits_.max_batch_points,
                                    " are allowed: send smaller batches"));
  }
  if (!batch_.payloads.empty() && batch_.payloads.size() != n) {
    RefuseBatch("payloads",
                absl::StrCat("has ", batch_.payloads.size(),
                             " elements; give none or one for each of the ", n,
                             " ids"));
  }
  for (size_t c = 0; c < batch_.vectors.size(); ++c) CheckColumn(c);
  for (size_t c = 0; c < batch_.sparse.size(); ++c) CheckSparseColumn(c);
  multi_.CheckStructure([this](std::string field, const std::string& why) {
    RefuseBatch(std::move(field), why);
  });
}

void BatchEncoder::CheckSparseColumn(size_t number) {
  const SparseColumn& source = batch_.sparse[number];
  const std::string path = absl::StrCat("sparse_vectors[", number, "]");
  const std::optional<size_t> s = schema_.FindSparse(source.name);
  if (!s.has_value()) {
    const auto kind = KindOfVector(schema_, source.name);
    RefuseBatch(
        path + ".name",
        kind.has_value()
            ? absl::StrCat("\"", source.name, "\" ", HowToWrite(*kind))
            : absl::StrCat("is \"", source.name,
                           "\"; the collection has no such sparse vector"));
    return;
  }
  if (sparse_columns_[*s].source != nullptr) {
    RefuseBatch(path + ".name", absl::StrCat("\"", source.name,
                                             "\" stands twice; send one column "
                                             "for each vector name"));
    return;
  }
  const size_t n = batch_.ids.size();
  if (source.indptr.size() != n + 1) {
    RefuseBatch(path + ".indptr",
                absl::StrCat("has ", source.indptr.size(), " elements; ", n,
                             " points take ", n + 1));
    return;
  }
  const size_t num_entries = source.indices.size() / sizeof(uint32_t);
  if (source.indices.size() % sizeof(uint32_t) != 0 ||
      source.values.size() != source.indices.size()) {
    RefuseBatch(path + ".values",
                absl::StrCat("has ", source.values.size(), " bytes beside ",
                             source.indices.size(),
                             " bytes of indices; both take 4 per entry"));
    return;
  }
  for (size_t i = 0; i <= n; ++i) {
    const uint64_t least = i == 0 ? 0 : source.indptr[i - 1];
    const uint64_t most = i == 0 ? 0 : num_entries;
    const bool is_end = i == n && source.indptr[i] != num_entries;
    if (source.indptr[i] >= least && source.indptr[i] <= most && !is_end) {
      continue;
    }
    RefuseBatch(absl::StrCat(path, ".indptr[", i, "]"),
                absl::StrCat("is ", source.indptr[i],
                             "; indptr begins with 0, does not descend and "
                             "ends with the number of entries, ",
                             num_entries));
    return;
  }
  sparse_columns_[*s] = {&source, number};
}

std::string BatchEncoder::SparseProblem(size_t s, size_t begin,
                                        size_t entry) const {
  const SparseColumn& source = *sparse_columns_[s].source;
  const auto dim_of = [&](size_t i) {
    return GetFixed<uint32_t>(source.indices.data() + i * sizeof(uint32_t));
  };
  if (entry > begin && dim_of(entry) <= dim_of(entry - 1)) {
    return absl::StrCat("has index ", dim_of(entry), " after ",
                        dim_of(entry - 1), "; indices must ascend, none twice");
  }
  const auto value =
      GetFixed<float>(source.values.data() + entry * sizeof(float));
  const auto type = layout_.lexical[s].weight == SparseWeight::kFloat16
                        ? ElementType::kFloat16
                        : ElementType::kFloat32;
  char scratch[sizeof(float)];
  if (!PutElement(value, type, scratch)) {
    return absl::StrCat("has a value at index ", dim_of(entry), " that ",
                        WhyRefused(value, type));
  }
  if (std::abs(value) > kMaxSparseWeight) {
    return absl::StrCat("has the value ", value, " at index ", dim_of(entry),
                        "; at most ", kMaxSparseWeight, " is allowed");
  }
  return "";
}

void BatchEncoder::CheckSparseItems(size_t s) {
  const Sparse& column = sparse_columns_[s];
  for (size_t i = 0; i < batch_.ids.size(); ++i) {
    const size_t begin = column.source->indptr[i];
    const size_t end = column.source->indptr[i + 1];
    const std::string path =
        absl::StrCat("sparse_vectors[", column.number, "][", i, "]");
    if (end - begin > limits_.max_sparse_entries) {
      RefuseItem(i, path,
                 absl::StrCat("has ", end - begin, " entries; at most ",
                              limits_.max_sparse_entries, " are allowed"));
      continue;
    }
    for (size_t entry = begin; entry < end; ++entry) {
      std::string problem = SparseProblem(s, begin, entry);
      if (problem.empty()) continue;
      RefuseItem(i, path, problem);
      break;
    }
  }
}

void BatchEncoder::TakeSparse(size_t s, size_t point) {
  SparseEntries& out = sparse_[s];
  out.dims.clear();
  out.weights.clear();
  const SparseColumn* source = sparse_columns_[s].source;
  if (source == nullptr) return;
  const bool is_half = layout_.lexical[s].weight == SparseWeight::kFloat16;
  for (size_t i = source->indptr[point]; i < source->indptr[point + 1]; ++i) {
    auto value = GetFixed<float>(source->values.data() + i * sizeof(float));
    if (is_half) value = HalfToFloat(FloatToHalf(value));
    if (value == 0) continue;
    out.dims.push_back(
        GetFixed<uint32_t>(source->indices.data() + i * sizeof(uint32_t)));
    out.weights.push_back(value);
  }
}

void BatchEncoder::CheckColumn(size_t number) {
  const VectorColumn& source = batch_.vectors[number];
  const std::string path = absl::StrCat("vectors[", number, "]");
  const std::optional<size_t> f = schema_.FindVector(source.name);
  if (!f.has_value()) {
    if (const auto kind = KindOfVector(schema_, source.name)) {
      RefuseBatch(path + ".name",
                  absl::StrCat("\"", source.name, "\" ", HowToWrite(*kind)));
      return;
    }
    std::string names;
    for (const VectorField& field : schema_.vectors) {
      absl::StrAppend(&names, names.empty() ? "" : ", ", "\"", field.name,
                      "\"");
    }
    RefuseBatch(
        path + ".name",
        absl::StrCat("is \"", source.name,
                     "\", which the collection does not have; it has ", names));
    return;
  }
  if (columns_[*f].has_value()) {
    RefuseBatch(path + ".name", absl::StrCat("\"", source.name,
                                             "\" stands twice; send one column "
                                             "for each vector name"));
    return;
  }
  const auto type = static_cast<int>(source.type);
  if (type < 1 || type > 5) {
    RefuseBatch(path + ".type", "is not f32, f16, bf16, int8 or uint8");
    return;
  }
  const size_t dim = layout_.fields[*f].dim;
  if (source.dim != dim) {
    RefuseBatch(path + ".dim",
                absl::StrCat("is ", source.dim, "; vector \"", source.name,
                             "\" of this collection has ", dim));
    return;
  }
  if (!CheckPresent(source, path)) return;
  const size_t num_rows =
      source.present.empty() ? batch_.ids.size() : source.present.size();
  const size_t wanted = num_rows * dim * ElementSize(source.type);
  if (source.data.size() != wanted) {
    RefuseBatch(path + ".data",
                absl::StrCat("has ", source.data.size(), " bytes; ", num_rows,
                             " vectors of ", dim, " ", TypeName(source.type),
                             " elements take ", wanted));
    return;
  }
  Column& column = columns_[*f].emplace();
  column.number = number;
  column.source = &source;
  column.data = source.data;
  column.all_present = source.present.empty();
  if (column.all_present) return;
  column.position.assign(batch_.ids.size(), -1);
  for (size_t i = 0; i < source.present.size(); ++i) {
    column.position[source.present[i]] = static_cast<int64_t>(i);
  }
}

bool BatchEncoder::CheckPresent(const VectorColumn& source,
                                const std::string& path) {
  for (size_t i = 0; i < source.present.size(); ++i) {
    const uint32_t point = source.present[i];
    if (point >= batch_.ids.size()) {
      RefuseBatch(absl::StrCat(path, ".present[", i, "]"),
                  absl::StrCat("is ", point, "; the batch has ",
                               batch_.ids.size(), " points"));
      return false;
    }
    if (i > 0 && point <= source.present[i - 1]) {
      RefuseBatch(absl::StrCat(path, ".present[", i, "]"),
                  absl::StrCat("is ", point, " after ", source.present[i - 1],
                               "; the list must ascend"));
      return false;
    }
  }
  return true;
}

void BatchEncoder::CheckItems() {
  for (size_t i = 0; i < batch_.ids.size(); ++i) {
    const PointId& id = batch_.ids[i];
    if (id.is_string() &&
        (id.string().empty() || id.string().size() > limits_.max_id_bytes)) {
      RefuseItem(
          i, absl::StrCat("ids[", i, "]"),
          absl::StrCat("has ", id.string().size(),
                       " bytes; string ids have 1 to ", limits_.max_id_bytes));
    }
    // A point with a text may have nothing else.
    bool has_vector = layout_.has_texts() || multi_.Has(i);
    for (const Sparse& column : sparse_columns_) {
      has_vector |= column.source != nullptr &&
                    column.source->indptr[i] < column.source->indptr[i + 1];
    }
    for (const std::optional<Column>& column : columns_) {
      has_vector |= column.has_value() && column->PositionOf(i) >= 0;
    }
    if (!has_vector) {
      RefuseItem(i, absl::StrCat("ids[", i, "]"),
                 absl::StrCat("(", id.ToString(),
                              ") has no vector; give it at least one of the "
                              "collection's"));
    }
  }
  for (size_t f = 0; f < columns_.size(); ++f) {
    if (!columns_[f].has_value()) continue;
    if (columns_[f]->source->type == layout_.fields[f].type) {
      CheckElements(f);
    } else {
      ConvertColumn(f);
    }
    if (layout_.fields[f].metric == Metric::kCosine) CheckZeroVectors(f);
  }
  for (size_t s = 0; s < sparse_columns_.size(); ++s) {
    if (sparse_columns_[s].source != nullptr) CheckSparseItems(s);
  }
  multi_.CheckItems(
      [this](size_t i, std::string field, const std::string& why) {
        RefuseItem(i, std::move(field), why);
      });
  for (size_t i = 0; i < batch_.payloads.size(); ++i) {
    if (batch_.payloads[i].empty()) continue;
    const absl::Status status = ValidatePayload(batch_.payloads[i], limits_);
    if (!status.ok()) {
      RefuseItem(i, absl::StrCat("payloads[", i, "]"),
                 std::string(status.message()));
    }
  }
}

// The column is of the field's type already: only floats can be bad.
void BatchEncoder::CheckElements(size_t f) {
  const Column& column = *columns_[f];
  const FieldLayout& layout = layout_.fields[f];
  if (layout.type != ElementType::kFloat32 &&
      layout.type != ElementType::kFloat16) {
    return;
  }
  const size_t num_rows = column.data.size() / layout.row_bytes;
  if (layout.type == ElementType::kFloat32 &&
      AllFinite(reinterpret_cast<const float*>(column.data.data()),
                num_rows * layout.dim)) {
    return;
  }
  const size_t size = ElementSize(layout.type);
  for (size_t row = 0; row < num_rows; ++row) {
    for (size_t e = 0; e < layout.dim; ++e) {
      const float value = ElementAsFloat(
          column.data.data() + row * layout.row_bytes + e * size, layout.type);
      if (std::isfinite(value)) continue;
      RefuseItem(
          PointAt(column, row),
          absl::StrCat("vectors[", column.number, "].data[", row, "][", e, "]"),
          WhyRefused(value, layout.type));
      break;
    }
  }
}

void BatchEncoder::ConvertColumn(size_t f) {
  Column& column = *columns_[f];
  const FieldLayout& layout = layout_.fields[f];
  const ElementType from = column.source->type;
  const size_t from_size = ElementSize(from);
  const size_t to_size = ElementSize(layout.type);
  const size_t num_rows = column.source->data.size() / (layout.dim * from_size);
  column.converted.resize(num_rows * layout.row_bytes);
  for (size_t row = 0; row < num_rows; ++row) {
    const char* in = column.source->data.data() + row * layout.dim * from_size;
    char* out = column.converted.data() + row * layout.row_bytes;
    for (size_t e = 0; e < layout.dim; ++e) {
      const float value = ElementAsFloat(in + e * from_size, from);
      if (PutElement(value, layout.type, out + e * to_size)) continue;
      RefuseItem(
          PointAt(column, row),
          absl::StrCat("vectors[", column.number, "].data[", row, "][", e, "]"),
          WhyRefused(value, layout.type));
      break;
    }
  }
  column.data = column.converted;
}

void BatchEncoder::CheckZeroVectors(size_t f) {
  const Column& column = *columns_[f];
  const FieldLayout& layout = layout_.fields[f];
  const size_t num_rows = column.data.size() / layout.row_bytes;
  const size_t size = ElementSize(layout.type);
  for (size_t row = 0; row < num_rows; ++row) {
    const char* bytes = column.data.data() + row * layout.row_bytes;
    bool zero = true;
    for (size_t e = 0; zero && e < layout.dim; ++e) {
      zero = ElementAsFloat(bytes + e * size, layout.type) == 0;
    }
    if (!zero) continue;
    RefuseItem(
        PointAt(column, row),
        absl::StrCat("vectors[", column.number, "].data[", row, "]"),
        "is a zero vector, which has no cosine with anything; leave the point "
        "out or use another metric");
  }
}

std::vector<uint32_t> BatchEncoder::Survivors() {
  const size_t n = batch_.ids.size();
  hashes_.resize(n);
  for (size_t i = 0; i < n; ++i) hashes_[i] = HashPointId(batch_.ids[i]);
  // Equal hashes of different ids are as good as impossible, but not wrong:
  // the map then keeps both by their ids.
  struct Key {
    const PointId* id;
    uint64_t hash;
    bool operator==(const Key& other) const { return *id == *other.id; }
  };
  struct Hash {
    size_t operator()(const Key& key) const { return key.hash; }
  };
  absl::flat_hash_map<Key, uint32_t, Hash> last;
  last.reserve(n);
  std::vector<uint32_t> kept;
  kept.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    if (!bad_.empty() && bad_[i]) continue;
    last[{&batch_.ids[i], hashes_[i]}] = static_cast<uint32_t>(i);
    kept.push_back(static_cast<uint32_t>(i));
  }
  if (last.size() == kept.size()) return kept;
  std::erase_if(kept, [&](uint32_t i) {
    return last.at({&batch_.ids[i], hashes_[i]}) != i;
  });
  return kept;
}

void BatchEncoder::Encode(const std::vector<uint32_t>& points) {
  const size_t num_fields = layout_.fields.size();
  out_.num_fields = num_fields;
  out_.num_multi = layout_.multi.size();
  out_.ids.reserve(points.size());
  out_.hashes.reserve(points.size());
  out_.vector_offsets.reserve(points.size() * num_fields);
  out_.body_offsets.reserve(points.size() + 1);
  out_.payload_offsets.reserve(points.size() + 1);
  out_.token_ranges.reserve(points.size() * out_.num_multi);
  size_t vector_bytes = multi_.size_bytes();
  size_t normalized_floats = 0;
  for (size_t f = 0; f < num_fields; ++f) {
    if (!columns_[f].has_value()) continue;
    vector_bytes += columns_[f]->data.size();
    if (layout_.fields[f].normalized) {
      normalized_floats += columns_[f]->data.size() / sizeof(float);
    }
  }
  out_.bodies.reserve(vector_bytes + points.size() * (24 + 8 * num_fields));
  if (normalized_floats > 0) {
    out_.normalized.reset(new float[normalized_floats]);
  }
  out_.body_offsets.push_back(0);
  out_.payload_offsets.push_back(0);
  for (const uint32_t point : points) EncodePoint(point);
}

void BatchEncoder::EncodePoint(size_t point) {
  const size_t num_fields = layout_.fields.size();
  record_vectors_.clear();
  for (size_t f = 0; f < num_fields; ++f) {
    if (!columns_[f].has_value()) continue;
    const int64_t position = columns_[f]->PositionOf(point);
    if (position < 0) continue;
    const size_t row_bytes = layout_.fields[f].row_bytes;
    record_vectors_.push_back(
        {static_cast<uint8_t>(f),
         columns_[f]->data.substr(position * row_bytes, row_bytes)});
  }
  sparse_.resize(layout_.num_sparse);
  sparse_bytes_.resize(layout_.num_sparse);
  for (size_t s = 0; s < layout_.num_sparse; ++s) {
    TakeSparse(s, point);
    if (sparse_[s].empty()) continue;
    sparse_bytes_[s].clear();
    EncodeSparse({sparse_[s].dims, sparse_[s].weights},
                 layout_.lexical[s].weight, &sparse_bytes_[s]);
    record_vectors_.push_back(
        {static_cast<uint8_t>(kFirstSparseRecordField + s), sparse_bytes_[s]});
  }
  for (size_t m = 0; m < layout_.multi.size(); ++m) {
    const absl::string_view tokens = multi_.TokensOf(point, m);
    if (tokens.empty()) continue;
    record_vectors_.push_back(
        {static_cast<uint8_t>(kFirstMultiRecordField + m), tokens});
  }
  AppendRecordBody(batch_.ids[point], record_vectors_, &out_.bodies);
  AddLexical(layout_, sparse_,
             batch_.payloads.empty() ? "" : batch_.payloads[point],
             &out_.lexical);
  // Vectors end the body: field (1 byte), length (varint), bytes. From the
  // back their places follow from their sizes.
  const size_t first_offset = out_.vector_offsets.size();
  out_.vector_offsets.resize(first_offset + num_fields, EncodedBatch::kNone);
  const size_t first_range = out_.token_ranges.size();
  out_.token_ranges.resize(first_range + out_.num_multi);
  size_t end = out_.bodies.size();
  for (auto it = record_vectors_.rbegin(); it != record_vectors_.rend(); ++it) {
    const size_t begin = end - it->bytes.size();
    VICINAL_DCHECK(std::memcmp(out_.bodies.data() + begin, it->bytes.data(),
                               it->bytes.size()) == 0);
    if (it->field < num_fields) {
      out_.vector_offsets[first_offset + it->field] = begin;
    } else if (it->field >= kFirstMultiRecordField) {
      out_.token_ranges[first_range + it->field - kFirstMultiRecordField] = {
          begin, it->bytes.size()};
    }
    end = begin - VarintSize(it->bytes.size()) - 1;
  }
  for (const RecordView::Vector& vector : record_vectors_) {
    if (vector.field >= num_fields) break;
    if (!layout_.fields[vector.field].normalized) continue;
    Normalize(vector, &out_.vector_offsets[first_offset + vector.field]);
  }
  out_.body_offsets.push_back(out_.bodies.size());
  if (!batch_.payloads.empty()) {
    out_.payloads.append(batch_.payloads[point].data(),
                         batch_.payloads[point].size());
  }
  out_.payload_offsets.push_back(out_.payloads.size());
  out_.ids.push_back(batch_.ids[point]);
  out_.hashes.push_back(hashes_[point]);
}

void BatchEncoder::Normalize(const RecordView::Vector& vector, size_t* offset) {
  const FieldLayout& field = layout_.fields[vector.field];
  aligned_.resize(field.dim);
  std::memcpy(aligned_.data(), vector.bytes.data(), field.row_bytes);
  NormalizeInto(aligned_.data(), field.dim,
                out_.normalized.get() + num_normalized_);
  *offset = EncodedBatch::kInNormalized | num_normalized_;
  num_normalized_ += field.dim;
}

EncodeOutcome EncodeBatch(const CollectionSchema& schema, const Layout& layout,
                          const Limits& limits, const PointBatch& batch,
                          bool atomic, EncodedBatch* out) {
  return BatchEncoder(schema, layout, limits, batch, atomic, out).Run();
}

absl::Status ValidatePayload(absl::string_view json, const Limits& limits) {
  if (json.size() > limits.max_payload_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("has ", json.size(), " bytes; at most ",
                     limits.max_payload_bytes, " are allowed"));
  }
  // The parser passes over a byte order mark, and a null byte is to it the end,
  // whatever follows.
  const size_t null = json.find('\0');
  const bool has_mark = absl::StartsWith(json, "\xEF\xBB\xBF");
  if (has_mark || null != absl::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("is not valid JSON at byte ", has_mark ? 1 : null + 1));
  }
  PayloadChecker checker(limits.max_payload_depth);
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &checker)) {
    return absl::InvalidArgumentError(checker.problem());
  }
  return absl::OkStatus();
}

}  // namespace vicinal
