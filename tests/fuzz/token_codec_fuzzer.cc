// libFuzzer: the bytes of a codec of tokens, with a sound checksum, are
// refused, or it codes and scores within its bounds and says the same again.
//
// Input: what TokenCodec::Serialize gives, without its checksum.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "quant/token_codec.h"
#include "src/base/coding.h"
#include "src/base/crc32c.h"
#include "src/base/vector_set.h"
#include "tests/fuzz/require.h"

namespace vicinal {
namespace {

void Score(const TokenCodec& codec) {
  const size_t dim = codec.dim();
  constexpr size_t kTokens = 5;
  std::vector<float> tokens(kTokens * dim);
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<float>(i * 7 % 11) - 5;
  }
  std::vector<uint8_t> records(kTokens * codec.record_bytes());
  codec.Encode({tokens.data(), kTokens, dim, dim}, records.data());
  // Records are not checked when files are opened: any bytes are some.
  std::vector<uint8_t> any(records.size());
  for (size_t i = 0; i < any.size(); ++i) {
    any[i] = static_cast<uint8_t>(i * 37 + records[0]);
  }
  const std::vector<float> weights = {1, 0, 2};
  for (const size_t n : {size_t{1}, weights.size()}) {
    const TokenCodeQuery query = codec.Prepare(
        {tokens.data(), n, dim, dim}, {weights.data(), n == 1 ? 0 : n});
    std::vector<float> scratch(16 * query.num_panels);
    for (const auto* coded : {&records, &any}) {
      codec.Score(query, coded->data(), kTokens, scratch.data());
      codec.Score(query, coded->data(), 1, scratch.data());
    }
  }
}

}  // namespace
}  // namespace vicinal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size_bytes) {
  using vicinal::TokenCodec;
  std::string bytes(reinterpret_cast<const char*>(data), size_bytes);
  vicinal::PutFixed(&bytes, vicinal::Crc32c(bytes));
  const auto codec = TokenCodec::Parse(bytes);
  if (!codec.ok()) {
    vicinal::Require(absl::IsDataLoss(codec.status()) ||
                         absl::IsFailedPrecondition(codec.status()),
                     "another error");
    return 0;
  }
  vicinal::Require((*codec)->dim() > 0 && (*codec)->record_bytes() > 4,
                   "a codec without dimensions");
  vicinal::Score(**codec);
  const std::string again = (*codec)->Serialize();
  const auto same = TokenCodec::Parse(again);
  vicinal::Require(same.ok() && (*same)->Serialize() == again &&
                       again.size() == bytes.size(),
                   "it does not say the same again");
  return 0;
}
