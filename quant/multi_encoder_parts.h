// What the encoders share; for their .cc files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "quant/float_rows.h"
#include "quant/multi_encoder.h"
#include "src/base/cancel.h"
#include "src/base/random.h"
#include "src/base/vector_set.h"

namespace vicinal::multi_encoder {

// What random numbers are for; each purpose has a stream of its own.
enum class Purpose : uint64_t {
  kHyperplanes = 1,
  kProjection = 2,
  kSketch = 3,
  kFeatures = 4,
};

// The stream of one purpose and repetition: the same on every machine.
Random StreamOf(uint64_t seed, Purpose purpose, uint64_t repetition);
// Standard normal as far as twelve uniforms go; of integers and exact sums, so
// that no library's logarithm or cosine is in it.
float PortableGaussian(Random* random);

// Rows of floats packed for pair_ip, with the product for many tokens.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  PackedMatrix(std::span<const float> rows, size_t dim);

  // Floats from row to row of Multiply's result: the rows, rounded up to 16.
  size_t width() const { return num_panels_ * 16; }
  // out[token * width() + r] = <token, row r>.
  void Multiply(const float* tokens, size_t num_tokens, float* out) const;

 private:
  size_t dim_ = 0;
  size_t num_panels_ = 0;
  std::vector<float> panels_;
};

// The bytes after the kind of each, checksum verified.
absl::StatusOr<std::unique_ptr<const MultiEncoder>> ParseMuvera(
    absl::string_view bytes);
absl::StatusOr<std::unique_ptr<const MultiEncoder>> ParseOls(
    absl::string_view bytes);
absl::StatusOr<std::unique_ptr<const MultiEncoder>> TrainMuvera(
    const MultiEncoderParams& params, MatrixView sample);
absl::StatusOr<std::unique_ptr<const MultiEncoder>> TrainOls(
    const MultiEncoderParams& params, const SampleDocuments& sample,
    size_t num_threads, const CancelToken* cancel);

// Of an encoder's bytes: magic, version and kind; and the checksum after them.
std::string BeginBytes(MultiEncoderParams::Kind kind);
void EndBytes(std::string* bytes);

}  // namespace vicinal::multi_encoder
