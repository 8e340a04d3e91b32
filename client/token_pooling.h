// Token pooling: fewer token vectors for a document, by the means of like ones.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace vicinal::client {

// tokens: n x dim. Ward's hierarchical clustering cut at ceil(n / factor)
// clusters; returns their means, in the order of their first tokens. Each
// stretch of about 2,048 tokens is clustered by itself (time grows with the
// square). unit: tokens are compared, and means returned, at length 1, as for
// cosine; a mean of length 0 stays. factor 1: all tokens as they are. Lossy.
std::vector<float> PoolTokens(std::span<const float> tokens, size_t dim,
                              size_t factor, bool unit);

}  // namespace vicinal::client
