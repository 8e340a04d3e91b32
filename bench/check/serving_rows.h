// Rows about the server: what gRPC costs, how fast the import tool is, and
// what the process holds in memory. One real vicinald serves all of them.
#pragma once

#include <cstddef>
#include <string>

#include "bench/check/report.h"
#include "bench/dataset.h"

namespace vicinal::bench {

struct ServingOptions {
  DatasetSpec dataset;  // the demo's; base is what the import tool reads
  size_t k = 10;
  size_t batch = 64;         // queries of one SearchBatch
  size_t batches = 2;        // in flight, on both sides
  size_t clients = 8;        // concurrent clients of the one-by-one row
  size_t local_threads = 2;  // that search in process beside them
  size_t passes = 5;         // of each side, in turns; the fastest counts
  size_t imports = 7;        // each into a new server; the fastest counts
  double batch_ratio = 0.85;
  double single_ratio = 0.5;
  double import_ratio = 0.6;
  double memory_ratio = 1.4;
  std::string work_dir;  // for data folders; on the disk to be measured
};

// Adds four rows: ingest_grpc, resident_memory, grpc_batch, grpc_single.
void MeasureServing(const ServingOptions& options, CheckReport* report);

}  // namespace vicinal::bench
