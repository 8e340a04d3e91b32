// MaxSim by the backend of the CPU: every candidate's tokens are compared with
// every query token by the kernels of src/distance.
#pragma once

#include <cstddef>
#include <memory>

#include "src/base/top_k.h"
#include "src/distance/gpu/backend.h"

namespace vicinal {

// As DistanceBackend::LoadTokens and ::MaxSim say; documents are a segment of
// the first.
BackendStatus LoadTokensOnCpu(const TokenDocuments& documents,
                              std::shared_ptr<const LoadedSegment>* out);
BackendStatus MaxSimOnCpu(const LoadedSegment& documents,
                          const TokenQueries& queries,
                          const DocumentLists& lists, size_t k,
                          size_t num_threads, Neighbor* out,
                          BackendReport* report);

// The same of LoadTokenCodes and MaxSimCodes.
BackendStatus LoadTokenCodesOnCpu(const CodedTokenDocuments& documents,
                                  std::shared_ptr<const LoadedSegment>* out);
BackendStatus MaxSimCodesOnCpu(const LoadedSegment& documents,
                               const CodedTokenQuery* queries,
                               size_t num_queries, const DocumentLists& lists,
                               size_t k, size_t num_threads, Neighbor* out,
                               BackendReport* report);

}  // namespace vicinal
