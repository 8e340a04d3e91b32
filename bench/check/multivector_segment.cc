#include "bench/check/multivector_segment.h"

#include <chrono>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "bench/check/report.h"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

constexpr size_t kMaxSections = 64;
constexpr char kVectorsKind[] = "VECS";
constexpr char kIndexKind[] = "SEGM";

}  // namespace

absl::StatusOr<std::unique_ptr<MultiSegment>> MultiSegment::Build(
    const MultiSet& set, const MultiSpec& spec, size_t num_threads) {
  VICINAL_ASSIGN_OR_RETURN(Workspace workspace, Workspace::Create());
  std::unique_ptr<MultiSegment> out(new MultiSegment(std::move(workspace)));
  const auto start = std::chrono::steady_clock::now();
  const SetField source(set);
  std::vector<MultiSource> rows;
  for (RowId row = 0; row < set.num_documents(); ++row) {
    rows.push_back({.field = &source, .row = row});
  }
  MultiFieldBuild build(
      spec, 0, std::move(rows),
      {.num_threads = num_threads, .on_phase = [&](absl::string_view phase) {
         TellProgress(absl::StrCat(set.name, ": ", phase));
       }});
  const std::string vectors = out->workspace_.NewPath("vectors");
  const std::string index = out->workspace_.NewPath("index");
  VICINAL_ASSIGN_OR_RETURN(
      auto writer,
      SectionFileWriter::Create(vectors, kVectorsKind, 1, kMaxSections));
  VICINAL_RETURN_IF_ERROR(build.WriteVectors(writer.get()));
  VICINAL_RETURN_IF_ERROR(writer->Finish());
  VICINAL_ASSIGN_OR_RETURN(out->vectors_,
                           SectionFile::Open(vectors, kVectorsKind, 1,
                                             SectionFile::Verify::kHeaders));
  VICINAL_ASSIGN_OR_RETURN(
      writer, SectionFileWriter::Create(index, kIndexKind, 1, kMaxSections));
  VICINAL_RETURN_IF_ERROR(build.WriteIndex(*out->vectors_, writer.get()));
  VICINAL_RETURN_IF_ERROR(writer->Finish());
  VICINAL_ASSIGN_OR_RETURN(
      out->index_,
      SectionFile::Open(index, kIndexKind, 1, SectionFile::Verify::kHeaders));
  const std::chrono::duration<double> took =
      std::chrono::steady_clock::now() - start;
  out->build_seconds_ = took.count();
  const auto place = [&](absl::string_view bytes) -> absl::string_view {
    MappedBuffer& copy = out->hot_.emplace_back(bytes.size());
    std::memcpy(copy.data(), bytes.data(), bytes.size());
    return {reinterpret_cast<const char*>(copy.data()), bytes.size()};
  };
  VICINAL_ASSIGN_OR_RETURN(
      out->field_, SealedMultiField::Open(*out->vectors_, *out->index_, 0, spec,
                                          set.num_documents(), place));
  VICINAL_ASSIGN_OR_RETURN(const sealed_multi::Header h, out->header());
  VICINAL_ASSIGN_OR_RETURN(const absl::string_view token_codes,
                           out->vectors_->Section("MX0"));
  out->token_code_bytes_ = token_codes.size();
  out->num_rows_ = set.num_documents();
  // Rows of the field by rows of the segment, and which are hidden.
  out->resident_bytes_ = out->num_rows_ * sizeof(uint32_t) +
                         h.num_field_rows / 8 + h.token_codec_bytes +
                         h.encoder_bytes + h.codec_bytes;
  for (const MappedBuffer& buffer : out->hot_) {
    out->resident_bytes_ += buffer.size_bytes();
  }
  return out;
}

absl::StatusOr<sealed_multi::Header> MultiSegment::header() const {
  VICINAL_ASSIGN_OR_RETURN(const absl::string_view bytes,
                           index_->Section("MM0"));
  sealed_multi::Header header;
  if (bytes.size() < sizeof(header)) return absl::DataLossError("MM0");
  std::memcpy(&header, bytes.data(), sizeof(header));
  return header;
}

absl::StatusOr<StoredEncodings> MultiSegment::encodings() const {
  VICINAL_ASSIGN_OR_RETURN(const sealed_multi::Header h, header());
  if (h.has_encodings == 0) {
    return absl::FailedPreconditionError("there are no encodings");
  }
  VICINAL_ASSIGN_OR_RETURN(const absl::string_view coders,
                           index_->Section("MM0"));
  VICINAL_ASSIGN_OR_RETURN(const absl::string_view rows,
                           index_->Section("MR0"));
  VICINAL_ASSIGN_OR_RETURN(const absl::string_view vectors,
                           vectors_->Section("ME0"));
  StoredEncodings out;
  VICINAL_ASSIGN_OR_RETURN(
      out.encoder, MultiEncoder::Parse(coders.substr(
                       sizeof(h) + h.token_codec_bytes, h.encoder_bytes)));
  out.vectors = {reinterpret_cast<const std::byte*>(vectors.data()),
                 h.num_field_rows, h.encoding_dim,
                 h.encoding_dim * sizeof(uint16_t), ElementType::kFloat16};
  out.to_row = {reinterpret_cast<const uint32_t*>(rows.data()),
                rows.size() / sizeof(uint32_t)};
  return out;
}

}  // namespace vicinal::bench
