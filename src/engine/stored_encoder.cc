#include "src/engine/stored_encoder.h"

#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/status_macros.h"
#include "src/base/types.h"
#include "src/distance/distance.h"
#include "src/engine/id_table.h"
#include "src/engine/multi_rows.h"
#include "storage/collection_store.h"

namespace vicinal {

StoredEncoder::StoredEncoder(const Layout& layout) : layout_(layout) {
  batch_.num_fields = layout.fields.size();
  batch_.num_multi = layout.multi.size();
  batch_.body_offsets.push_back(0);
  batch_.payload_offsets.push_back(0);
}

absl::Status StoredEncoder::Add(absl::string_view record,
                                absl::string_view payload) {
  VICINAL_ASSIGN_OR_RETURN(const RecordView view, RecordView::Decode(record));
  // The committer puts the new sequence before the body.
  const absl::string_view body = record.substr(sizeof(Sequence));
  const size_t begin = batch_.bodies.size();
  const size_t first_offset = batch_.vector_offsets.size();
  batch_.vector_offsets.resize(first_offset + batch_.num_fields,
                               EncodedBatch::kNone);
  sparse_.assign(layout_.num_sparse, {});
  tokens_.assign(layout_.multi.size(), {});
  for (const RecordView::Vector& vector : view.vectors) {
    if (vector.field >= kFirstMultiRecordField) {
      VICINAL_RETURN_IF_ERROR(TakeRecordTokens(layout_, vector, &tokens_));
      continue;
    }
    if (vector.field >= kFirstSparseRecordField) {
      VICINAL_RETURN_IF_ERROR(DecodeRecordSparse(layout_, vector, &sparse_));
      continue;
    }
    if (vector.field >= batch_.num_fields ||
        vector.bytes.size() != layout_.fields[vector.field].row_bytes) {
      return absl::DataLossError(absl::StrCat("the record of point ",
                                              view.id.ToString(),
                                              " does not fit the schema"));
    }
    batch_.vector_offsets[first_offset + vector.field] =
        begin + static_cast<size_t>(vector.bytes.data() - body.data());
  }
  for (const absl::string_view tokens : tokens_) {
    const size_t at =
        tokens.empty() ? 0 : static_cast<size_t>(tokens.data() - body.data());
    batch_.token_ranges.emplace_back(begin + at, tokens.size());
  }
  batch_.bodies.append(body.data(), body.size());
  batch_.body_offsets.push_back(batch_.bodies.size());
  batch_.payloads.append(payload.data(), payload.size());
  batch_.payload_offsets.push_back(batch_.payloads.size());
  AddLexical(layout_, sparse_, payload, &batch_.lexical);
  batch_.hashes.push_back(HashPointId(view.id));
  batch_.ids.push_back(view.id);
  return absl::OkStatus();
}

EncodedBatch StoredEncoder::Take() {
  Normalize();
  return std::exchange(batch_, {});
}

void StoredEncoder::Normalize() {
  size_t floats = 0;
  const auto for_each = [&](auto visit) {
    for (size_t i = 0; i < batch_.vector_offsets.size(); ++i) {
      const FieldLayout& field = layout_.fields[i % batch_.num_fields];
      size_t& offset = batch_.vector_offsets[i];
      if (field.normalized && offset != EncodedBatch::kNone) {
        visit(field, offset);
      }
    }
  };
  for_each([&](const FieldLayout& field, size_t&) { floats += field.dim; });
  if (floats == 0) return;
  batch_.normalized.reset(new float[floats]);
  size_t used = 0;
  std::vector<float> aligned;
  for_each([&](const FieldLayout& field, size_t& offset) {
    aligned.resize(field.dim);
    std::memcpy(aligned.data(), batch_.bodies.data() + offset, field.row_bytes);
    NormalizeInto(aligned.data(), field.dim, batch_.normalized.get() + used);
    offset = EncodedBatch::kInNormalized | used;
    used += field.dim;
  });
}

}  // namespace vicinal
