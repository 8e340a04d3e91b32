// A process for the tests to kill: storage_child MODE DATA
//   hold    opens the store, reports 0, and waits
//   commit  opens the store, reports the length of its history, extends it
//           (see storage_test_util.h) and reports each length once it is
//           acknowledged
// Reports are 8 bytes each on standard output.
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/storage/storage_test_util.h"

namespace {

void Report(uint64_t number) {
  if (write(STDOUT_FILENO, &number, sizeof(number)) != sizeof(number)) {
    std::exit(2);  // the parent is gone
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::string mode = argv[1];
  auto store = vicinal::RecordStore::Open(argv[2], vicinal::SmallOptions());
  if (!store.ok()) {
    std::fprintf(stderr, "%s\n", store.status().ToString().c_str());
    return 1;
  }
  if (mode == "hold") {
    Report(0);
    for (;;) pause();
  }
  const auto head = (*store)->Get(vicinal::Table::kMeta, "head");
  if (!head.ok()) return 1;
  uint64_t length =
      head->has_value() ? vicinal::GetBigEndian64((*head)->data()) : 0;
  Report(length);
  for (;;) {
    const absl::Status status =
        (*store)->Commit(vicinal::HistoryBatch(length + 1),
                         length % 3 == 0 ? vicinal::Durability::kFsynced
                                         : vicinal::Durability::kBuffered);
    if (!status.ok()) return 1;
    Report(++length);
  }
}
