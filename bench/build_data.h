// The data sets on which builds are compared, read without the formats library
// (so that a build without the server has them), or generated.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "bench/dataset.h"

namespace vicinal::bench {

// "fashion" (Debian's dataset-fashion-mnist, 60,000 x 784, L2), "latent"
// (100,000 x 128, L2: set B of the study ../shared/research/indexes.md section
// 8.2), "glove" (../shared/data/glove100-100k, 100-d, cosine) or "use"
// (../shared/data/use512-40k, inner product); prepared. At most max_queries
// queries. NotFound: no such set or its files are not there.
absl::StatusOr<Dataset> LoadBuildData(absl::string_view name,
                                      size_t max_queries);

// Rows of the study's set B: 200 clusters of weight 1 / (rank + 5) in a latent
// space of 32 dimensions with the spectrum i^-0.25, sigma 0.6 within a
// cluster, lifted to 128 dimensions by a random orthonormal matrix, plus noise
// of 0.05. `stream` tells rows from queries.
FloatMatrix LatentClusters(size_t num_rows, uint64_t seed, uint64_t stream);

}  // namespace vicinal::bench
