// Files of sealed multi-vectors with sound checksums that hold what was not
// written are refused, or answer without harm.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "index/multi_field.h"
#include "index/sealed_multi.h"
#include "index/sealed_multi_state.h"
#include "src/base/bitmap.h"
#include "src/base/crc32c.h"
#include "src/base/random.h"
#include "src/base/section_file.h"
#include "src/base/top_k.h"
#include "src/base/types.h"
#include "tests/index/multi_testing.h"

namespace vicinal {
namespace {

using Kind = MultiEncoderParams::Kind;
using sealed_multi::Header;

constexpr const char* kOfVectors[] = {"MO0", "MT0", "MX0", "ME0"};
constexpr const char* kOfIndex[] = {"MR0", "ML0", "MK0", "MC0", "MM0"};

using Sections = std::vector<std::pair<std::string, std::string>>;

// A field, its sections, and what is opened with others in their place.
class Damage {
 public:
  Damage(const MultiSpec& spec, size_t num_rows, size_t max_tokens,
         uint64_t seed)
      : random(SeededTokens(seed)),
        spec_(spec),
        documents_(MakeDocuments(spec, num_rows, max_tokens, 9, &random)),
        files_(Seal(documents_)) {
    for (const char* name : kOfVectors) Read(*files_->vectors, name, &vectors_);
    for (const char* name : kOfIndex) Read(*files_->index, name, &index_);
  }

  size_t num_rows() const { return documents_.rows.size(); }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const Sections* sections : {&vectors_, &index_}) {
      for (const auto& [name, bytes] : *sections) out.push_back(name);
    }
    return out;
  }
  // Empty where there is none.
  std::string Section(const std::string& name) const {
    for (const Sections* sections : {&vectors_, &index_}) {
      for (const auto& [of, bytes] : *sections) {
        if (of == name) return bytes;
      }
    }
    return "";
  }
  Header header() const {
    Header out;
    std::memcpy(&out, Section("MM0").data(), sizeof(out));
    return out;
  }
  std::string WithHeader(const Header& header) const {
    std::string out = Section("MM0");
    std::memcpy(out.data(), &header, sizeof(header));
    return out;
  }

  // With `bytes` as that section, or without it, searched where it opens.
  absl::Status Open(const std::string& name,
                    const std::optional<std::string>& bytes) {
    return OpenAs(name, bytes, spec_, num_rows());
  }
  absl::Status OpenAs(const std::string& name,
                      const std::optional<std::string>& bytes,
                      const MultiSpec& spec, size_t num_rows);
  // The same, and it must be DataLoss where it is not opened; or that of a
  // coder of a version to come, where its checksum fits.
  void Try(const std::string& name, const std::string& bytes) {
    const absl::Status status = Open(name, bytes);
    EXPECT_TRUE(status.ok() || absl::IsDataLoss(status) ||
                (name == "MM0" && absl::IsFailedPrecondition(status)))
        << status;
  }

  Random random;

 private:
  static void Read(const SectionFile& file, const char* name, Sections* out) {
    const auto bytes = file.Section(name);
    if (bytes.ok()) out->emplace_back(name, *bytes);
  }
  void UseAll(SealedMultiField* field);

  const MultiSpec spec_;
  const Documents documents_;
  const std::unique_ptr<SealedFiles> files_;
  Sections vectors_;
  Sections index_;
};

absl::Status Damage::OpenAs(const std::string& name,
                            const std::optional<std::string>& bytes,
                            const MultiSpec& spec, size_t num_rows) {
  const bool is_index = std::find(std::begin(kOfIndex), std::end(kOfIndex),
                                  name) != std::end(kOfIndex);
  const client::TemporaryFolder folder;
  const char* kind = is_index ? "SEGM" : "VECS";
  auto writer = SectionFileWriter::Create(folder.File("f"), kind, 1, 6);
  EXPECT_TRUE(writer.ok()) << writer.status();
  for (const auto& [of, content] : is_index ? index_ : vectors_) {
    if (of == name && !bytes.has_value()) continue;
    EXPECT_TRUE((*writer)->BeginSection(of).ok());
    EXPECT_TRUE((*writer)->Append(of == name ? *bytes : content).ok());
  }
  EXPECT_TRUE((*writer)->Finish().ok());
  const auto file =
      SectionFile::Open(folder.File("f"), kind, 1, SectionFile::Verify::kAll);
  EXPECT_TRUE(file.ok()) << file.status();
  const auto field = SealedMultiField::Open(
      is_index ? *files_->vectors : **file, is_index ? **file : *files_->index,
      0, spec, num_rows, [](absl::string_view hot) { return hot; });
  if (!field.ok()) return field.status();
  UseAll(field->get());
  return absl::OkStatus();
}

// Everything that a field does, with whatever comes of it but blame on the
// query.
void Damage::UseAll(SealedMultiField* field) {
  const size_t n = num_rows();
  const MultiQuery query(spec_, GaussianTokens(spec_, 5, &random), {});
  size_t sum = field->Describe().size() + field->token_bytes() +
               field->index_bytes() + field->encoder_params().has_value();
  for (RowId row = 0; row < n; ++row) {
    const TokenRows tokens = field->TokensOf(row);
    const size_t size = tokens.num_tokens * spec_.token_bytes();
    for (size_t i = 0; i < size; i += 64) {
      sum += static_cast<size_t>(tokens.data[i]);
    }
  }
  Bitmap allowed(n);
  for (RowId row = 1; row < n; row += 2) allowed.Set(row);
  field->Kill(3);
  const MultiSearchParams plans[] = {
      {.k = 5},
      {.k = 5, .exact = true},
      {.k = 5, .candidates = 20, .force = ForcedPlan::kIndex}};
  for (const MultiSearchParams& params : plans) {
    for (const Bitmap* bits :
         std::initializer_list<const Bitmap*>{nullptr, &allowed}) {
      const Filter filter{.allowed = bits,
                          .num_allowed = bits == nullptr ? 0 : bits->Count()};
      TopK top(params.k);
      const absl::Status status =
          field->Search(query, params, filter, 0,
                        static_cast<RowId>(params.exact ? n / 16 + 10 : n), {},
                        &top, nullptr, nullptr);
      EXPECT_TRUE(status.ok() || absl::IsDataLoss(status)) << status;
      for (const Neighbor& neighbor : top.TakeSorted()) {
        EXPECT_LT(neighbor.row, n);
        EXPECT_EQ(neighbor.distance, neighbor.distance);  // no NaN
      }
    }
  }
  (void)sum;
}

MultiSpec Scanned() {
  MultiSpec spec{.dim = 6, .type = ElementType::kFloat16};
  spec.token_codec = TokenCodecKind::kInt2;
  return spec;
}
Damage ScannedField() { return Damage(Scanned(), 40, 12, 1); }

MultiSpec Encoded(Kind kind) {
  MultiSpec spec{.dim = 6, .type = ElementType::kInt8};
  spec.encoder.kind = kind;
  spec.encoder.ols.features = 64;
  spec.encoder.muvera = {.repetitions = 4,
                         .k_sim = 2,
                         .d_proj = 4,
                         .fill = MuveraParams::Fill::kNone,
                         .centering = MuveraParams::Centering::kHash};
  return spec;
}
Damage EncodedField(Kind kind) { return Damage(Encoded(kind), 2'300, 140, 2); }

// Positions in a section, more of them where counts are.
std::vector<size_t> PositionsIn(size_t size, size_t count, Random* random) {
  std::vector<size_t> out;
  if (size <= count) {
    for (size_t at = 0; at < size; ++at) out.push_back(at);
    return out;
  }
  for (size_t i = 0; i < count; ++i) {
    out.push_back(
        random->Uniform(i % 3 == 0 ? std::min<size_t>(size, 128) : size));
  }
  out.push_back(size - 1);
  return out;
}

std::string Flipped(std::string bytes, size_t at, Random* random) {
  bytes[at] = static_cast<char>(
      bytes[at] ^ (random->Uniform(4) == 0 ? 0xFF : 1 << random->Uniform(8)));
  return bytes;
}

TEST(MultiDamageTest, WhatWasWrittenOpens) {
  Damage scanned = ScannedField();
  EXPECT_EQ(scanned.names().size(), 6u);
  for (const std::string& name : scanned.names()) {
    EXPECT_EQ(scanned.Open(name, scanned.Section(name)), absl::OkStatus());
  }
  Damage damage = EncodedField(Kind::kMuvera);
  EXPECT_EQ(damage.names().size(), 9u);
  EXPECT_EQ(damage.Open("MM0", damage.Section("MM0")), absl::OkStatus());
}

TEST(MultiDamageTest, RefusesFieldsOfOtherSchemas) {
  Damage damage = ScannedField();
  const std::string same = damage.Section("MM0");
  MultiSpec spec = Scanned();
  spec.dim = 7;
  EXPECT_TRUE(absl::IsDataLoss(damage.OpenAs("MM0", same, spec, 40)));
  spec = Scanned();
  spec.type = ElementType::kBfloat16;
  EXPECT_TRUE(absl::IsDataLoss(damage.OpenAs("MM0", same, spec, 40)));
  spec = Scanned();
  spec.cosine = false;
  EXPECT_TRUE(absl::IsDataLoss(damage.OpenAs("MM0", same, spec, 40)));
  EXPECT_TRUE(absl::IsDataLoss(damage.OpenAs("MM0", same, Scanned(), 41)));
}

TEST(MultiDamageTest, RefusesSectionsThatAreMissingOrCutShort) {
  for (const bool encoded : {false, true}) {
    Damage damage = encoded ? EncodedField(Kind::kOls) : ScannedField();
    for (const std::string& name : damage.names()) {
      SCOPED_TRACE(name);
      const std::string bytes = damage.Section(name);
      EXPECT_TRUE(absl::IsDataLoss(damage.Open(name, std::nullopt)));
      EXPECT_TRUE(absl::IsDataLoss(damage.Open(name, "")));
      EXPECT_TRUE(absl::IsDataLoss(damage.Open(name, bytes + "x")));
      for (const size_t at : PositionsIn(bytes.size(), 25, &damage.random)) {
        // Of calibration, what is at the end may be missing.
        if (name == "MC0") {
          damage.Try(name, bytes.substr(0, at));
        } else {
          EXPECT_TRUE(absl::IsDataLoss(damage.Open(name, bytes.substr(0, at))))
              << at;
        }
      }
    }
  }
}

TEST(MultiDamageTest, FlippedBitsAreRefusedOrHarmless) {
  for (const Kind kind : {Kind::kNone, Kind::kOls, Kind::kMuvera}) {
    Damage damage = kind == Kind::kNone ? ScannedField() : EncodedField(kind);
    for (const std::string& name : damage.names()) {
      SCOPED_TRACE(name);
      const std::string bytes = damage.Section(name);
      const size_t count = kind == Kind::kNone ? 300 : 24;
      for (const size_t at : PositionsIn(bytes.size(), count, &damage.random)) {
        damage.Try(name, Flipped(bytes, at, &damage.random));
        if (HasFailure()) FAIL() << "byte " << at << " of " << bytes.size();
      }
    }
  }
}

TEST(MultiDamageTest, WrongCountsAreRefusedOrHarmless) {
  for (const bool encoded : {false, true}) {
    Damage damage = encoded ? EncodedField(Kind::kMuvera) : ScannedField();
    const Header right = damage.header();
    for (uint64_t Header::* field :
         {&Header::num_rows, &Header::num_field_rows, &Header::num_tokens,
          &Header::encoding_dim, &Header::token_codec_bytes,
          &Header::encoder_bytes, &Header::codec_bytes, &Header::params_bytes,
          &Header::description_bytes}) {
      for (const uint64_t wrong :
           {uint64_t{0}, uint64_t{1}, right.*field - 1, right.*field + 1,
            right.*field * 2, uint64_t{UINT32_MAX}, uint64_t{1} << 61,
            UINT64_MAX}) {
        Header header = right;
        header.*field = wrong;
        damage.Try("MM0", damage.WithHeader(header));
        // That of the schema's checks, and all that are of bytes.
        if (field != &Header::encoding_dim && wrong != right.*field) {
          EXPECT_TRUE(
              absl::IsDataLoss(damage.Open("MM0", damage.WithHeader(header))));
        }
      }
    }
  }
}

TEST(MultiDamageTest, RefusesRowsAndOffsetsInDisorder) {
  Damage damage = ScannedField();
  const auto with = [&](const char* name, size_t at, auto value) {
    std::string bytes = damage.Section(name);
    std::memcpy(bytes.data() + at * sizeof(value), &value, sizeof(value));
    return damage.Open(name, bytes);
  };
  for (const uint64_t wrong : {uint64_t{0}, uint64_t{1} << 40, UINT64_MAX}) {
    for (const size_t at : {1, 2, 34}) {
      EXPECT_TRUE(absl::IsDataLoss(with("MO0", at, wrong))) << at;
    }
  }
  EXPECT_TRUE(absl::IsDataLoss(with("MO0", 0, uint64_t{1})));
  for (const uint32_t wrong : {uint32_t{2}, uint32_t{40}, UINT32_MAX}) {
    for (const size_t at : {0, 3, 34}) {
      EXPECT_TRUE(absl::IsDataLoss(with("MR0", at, wrong))) << at;
    }
  }
}

// The checksums of the coders within are made to fit, too.
TEST(MultiDamageTest, FlippedCodersAreRefusedOrHarmless) {
  for (const Kind kind : {Kind::kNone, Kind::kOls, Kind::kMuvera}) {
    Damage damage = kind == Kind::kNone ? ScannedField() : EncodedField(kind);
    const Header header = damage.header();
    const std::string bytes = damage.Section("MM0");
    size_t begin = sizeof(header);
    for (const uint64_t size :
         {header.token_codec_bytes, header.encoder_bytes, header.codec_bytes}) {
      if (size == 0) continue;
      for (const size_t at : PositionsIn(size - 4, 100, &damage.random)) {
        std::string changed = Flipped(bytes, begin + at, &damage.random);
        const uint32_t crc =
            Crc32c(absl::string_view(changed).substr(begin, size - 4));
        std::memcpy(changed.data() + begin + size - 4, &crc, sizeof(crc));
        damage.Try("MM0", changed);
        if (HasFailure()) FAIL() << "byte " << at << " of " << size;
      }
      begin += size;
    }
  }
}

TEST(MultiDamageTest, PartsOfOtherFieldsAreRefusedOrHarmless) {
  Damage muvera = EncodedField(Kind::kMuvera);
  const Damage ols = EncodedField(Kind::kOls);
  const Damage other(Encoded(Kind::kMuvera), 2'310, 140, 3);
  const Damage scanned = ScannedField();
  for (const std::string& name : muvera.names()) {
    SCOPED_TRACE(name);
    for (const Damage* from : {&ols, &other, &scanned}) {
      muvera.Try(name, from->Section(name));
    }
  }
}

}  // namespace
}  // namespace vicinal
