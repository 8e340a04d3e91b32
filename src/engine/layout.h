// How the vectors of a collection lie in memory and in segment files; derived
// from the schema once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "index/growing_lexical.h"
#include "index/multi_field.h"
#include "index/sparse.h"
#include "src/base/types.h"
#include "src/engine/schema.h"
#include "src/text/analyzer.h"

namespace vicinal {

// One vector field. f32 cosine fields keep unit vectors and are searched by
// inner product (the kernel then has one sum instead of three); everything
// else keeps what the user sent.
struct FieldLayout {
  size_t dim = 0;
  ElementType type = ElementType::kFloat32;
  Metric metric = Metric::kL2;         // the user's
  Metric search_metric = Metric::kL2;  // of the kernels and the index
  bool normalized = false;             // rows and queries are unit vectors
  size_t row_bytes = 0;                // dim elements
  size_t stride_bytes = 0;             // from row to row, >= row_bytes
};

// A sparse vector or a text.
struct LexicalLayout {
  LexicalKind kind = LexicalKind::kSparse;
  SparseWeight weight = SparseWeight::kFloat32;  // kCount of texts
  bool positions = false;                        // of texts: kept
  std::string path;                              // of texts
  std::shared_ptr<const Analyzer> analyzer;      // of texts
  // The same without a stemmer and stop words, for what words begin with.
  std::shared_ptr<const Analyzer> prefix_analyzer;
};

struct Layout {
  std::vector<FieldLayout> fields;
  // The sparse vectors in the schema's order, then the texts.
  std::vector<LexicalLayout> lexical;
  size_t num_sparse = 0;
  // The multi-vectors in the schema's order.
  std::vector<MultiSpec> multi;
  // Not OK: an analyzer of the schema is one that this version does not have.
  absl::Status status;
  // Memory of one row of a growing segment, all dense fields and its
  // bookkeeping.
  size_t memory_per_row = 0;

  bool has_texts() const { return lexical.size() > num_sparse; }
};

// The number of a field in a record (storage/collection_store.h): dense vectors
// have their own. Never changes.
inline constexpr uint8_t kFirstSparseRecordField = 64;
inline constexpr uint8_t kFirstMultiRecordField = 128;

Layout LayoutOf(const CollectionSchema& schema);
MultiSpec SpecOf(const MultiVectorField& field);

}  // namespace vicinal
