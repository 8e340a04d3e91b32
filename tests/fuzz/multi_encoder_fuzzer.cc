// libFuzzer: the bytes of an encoder of multi-vectors, with a sound checksum,
// are refused, or it encodes within its bounds and says the same again.
//
// Input: what MultiEncoder::Serialize gives, without its checksum.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "quant/multi_encoder.h"
#include "src/base/coding.h"
#include "src/base/crc32c.h"
#include "src/base/vector_set.h"
#include "tests/fuzz/require.h"

namespace vicinal {
namespace {

// Filling blocks takes the square of their number, 2^k_sim, which is at this
// place in MUVERA's bytes.
constexpr size_t kKSimAt = 24;
constexpr uint32_t kMostKSim = 6;
constexpr size_t kMostDim = size_t{1} << 16;

void Encode(const MultiEncoder& encoder, uint32_t k_sim) {
  const size_t dim = encoder.token_dim();
  constexpr size_t kTokens = 5;
  std::vector<float> tokens(kTokens * dim);
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<float>(i * 7 % 11) - 5;
  }
  const std::vector<float> weights = {1, 0, 2, 0.5f, 1};
  const MatrixView view{tokens.data(), kTokens, dim, dim};
  std::vector<float> out(encoder.dim());
  encoder.EncodeQuery(view, {}, out.data());
  encoder.EncodeQuery(view, weights, out.data());
  encoder.EncodeQuery({tokens.data(), 0, dim, dim}, {}, out.data());
  if (!encoder.CanEncodeDocuments() || k_sim > kMostKSim ||
      encoder.dim() > kMostDim) {
    return;
  }
  // One of them without tokens.
  const std::vector<size_t> ends = {1, 1, kTokens};
  out.resize(ends.size() * encoder.dim());
  encoder.EncodeDocuments(view, ends, out.data());
}

}  // namespace
}  // namespace vicinal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes) {
  using vicinal::MultiEncoder;
  std::string bytes(reinterpret_cast<const char*>(data), size_bytes);
  vicinal::PutFixed(&bytes, vicinal::Crc32c(bytes));
  const auto encoder = MultiEncoder::Parse(bytes);
  if (!encoder.ok()) {
    vicinal::Require(absl::IsDataLoss(encoder.status()) ||
                         absl::IsFailedPrecondition(encoder.status()),
                     "another error");
    return 0;
  }
  vicinal::Require((*encoder)->token_dim() > 0 && (*encoder)->dim() > 0,
                   "an encoder without dimensions");
  vicinal::Require(!(*encoder)->Describe().empty(), "nothing is said");
  vicinal::Encode(**encoder,
                  vicinal::GetFixed<uint32_t>(bytes.data() + vicinal::kKSimAt));
  const std::string again = (*encoder)->Serialize();
  const auto same = MultiEncoder::Parse(again);
  vicinal::Require(same.ok() && (*same)->Serialize() == again &&
                       again.size() == bytes.size(),
                   "it does not say the same again");
  return 0;
}
