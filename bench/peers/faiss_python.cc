// Runs faiss_peer.py --serve. The script reads rows and queries from npy files,
// prints a line of JSON when its index is built, then takes one command per
// line from a pipe, {"k", "width", "k_factor", "labels"}, writes its answer
// (i32, one row of k per query) to the file `labels` and prints {"seconds"}.
#include "bench/peers/faiss_python.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "bench/child_process.h"
#include "bench/workspace.h"
#include "nlohmann/json.hpp"
#include "src/base/status_macros.h"

namespace vicinal::bench {
namespace {

constexpr std::chrono::seconds kBuildTimeout{1'200};
constexpr std::chrono::seconds kSearchTimeout{600};

absl::Status WriteNpy(const std::string& path, const FloatMatrix& matrix) {
  std::string header = absl::StrFormat(
      "{'descr': '<f4', 'fortran_order': False, 'shape': "
      "(%d, %d), }",
      matrix.num_rows, matrix.dim);
  // Magic, version and length are 10 bytes; the data begins at 64.
  while ((10 + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::ofstream out(path, std::ios::binary);
  out.write("\x93NUMPY\x01\x00", 8);
  out.put(static_cast<char>(header.size() & 0xff));
  out.put(static_cast<char>(header.size() >> 8));
  out << header;
  out.write(reinterpret_cast<const char*>(matrix.values.data()),
            matrix.values.size() * sizeof(float));
  out.close();
  if (out.good()) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("cannot write ", path));
}

class FaissPythonImpl final : public FaissPython {
 public:
  explicit FaissPythonImpl(FaissPythonOptions options)
      : options_(std::move(options)) {}

  ~FaissPythonImpl() override {
    if (commands_ >= 0) close(commands_);
  }

  std::string name() const override {
    return absl::StrCat("faiss ",
                        factory_.empty() ? options_.factory : factory_,
                        k_factor_ > 1 ? absl::StrCat(" x", k_factor_) : "");
  }

  absl::Status Build(const Dataset& dataset,
                     const BuildParams& params) override {
    VICINAL_ASSIGN_OR_RETURN(Workspace workspace, Workspace::Create());
    workspace_.emplace(std::move(workspace));
    num_queries_ = dataset.queries.num_rows;
    const std::string base = workspace_->NewPath("base") + ".npy";
    const std::string queries = workspace_->NewPath("queries") + ".npy";
    const std::string pipe = workspace_->NewPath("commands");
    labels_path_ = workspace_->NewPath("labels");
    VICINAL_RETURN_IF_ERROR(WriteNpy(base, dataset.base));
    VICINAL_RETURN_IF_ERROR(WriteNpy(queries, dataset.queries));
    if (mkfifo(pipe.c_str(), 0600) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", pipe));
    }
    // For both directions, so that neither this nor a write ever waits for the
    // other process or fails without it.
    commands_ = open(pipe.c_str(), O_RDWR | O_CLOEXEC);
    if (commands_ < 0) return absl::ErrnoToStatus(errno, pipe);
    const bool l2 = dataset.metric == Metric::kL2;
    VICINAL_ASSIGN_OR_RETURN(
        child_,
        ChildProcess::Start(
            {options_.python, VICINAL_SOURCE_DIR "/bench/peers/faiss_peer.py",
             "--base", base, "--queries", queries, "--metric", l2 ? "l2" : "ip",
             "--factory", options_.factory, "--ef-construction",
             absl::StrCat(params.ef_construction), "--build-threads",
             absl::StrCat(params.num_threads), "--pin",
             absl::StrCat(options_.pin_cpu), "--serve", pipe},
            workspace_->NewPath("output")));
    VICINAL_ASSIGN_OR_RETURN(const nlohmann::json built,
                             NextAnswer(kBuildTimeout));
    factory_ = built.value("factory", "");
    refines_ = built.value("refines", false);
    is_graph_ = built.value("is_graph", false);
    memory_bytes_ = static_cast<size_t>(built.value("bytes_per_vector", 0.0) *
                                        dataset.base.num_rows);
    compact_bytes_ = static_cast<size_t>(
        built.value("compact_bytes_per_vector", 0.0) * dataset.base.num_rows);
    remark_ = absl::StrCat("faiss ", built.value("version", ""),
                           " of PyPI, compiled ", built.value("compiled", ""),
                           ", all queries in one call on one thread");
    return absl::OkStatus();
  }

  absl::StatusOr<size_t> Search(const float*, size_t, size_t,
                                uint32_t*) override {
    return absl::UnimplementedError("faiss answers all queries at once");
  }

  bool answers_all_at_once() const override { return true; }

  absl::StatusOr<double> SearchAll(size_t k, size_t ef,
                                   std::vector<uint32_t>* rows) override {
    const std::string command = nlohmann::json{{"k", k},
                                               {"width", ef},
                                               {"k_factor", k_factor_},
                                               {"labels", labels_path_}}
                                    .dump() +
                                "\n";
    if (write(commands_, command.data(), command.size()) !=
        static_cast<ssize_t>(command.size())) {
      return absl::ErrnoToStatus(errno, "cannot write to faiss_peer.py");
    }
    VICINAL_ASSIGN_OR_RETURN(const nlohmann::json answer,
                             NextAnswer(kSearchTimeout));
    rows->resize(num_queries_ * k);
    std::ifstream in(labels_path_, std::ios::binary);
    in.read(reinterpret_cast<char*>(rows->data()),
            rows->size() * sizeof(uint32_t));
    if (!in) return absl::InternalError("faiss_peer.py wrote too few rows");
    return answer.at("seconds").get<double>();
  }

  size_t smallest_ef(size_t k) const override { return is_graph_ ? k : 1; }
  size_t memory_bytes() const override { return memory_bytes_; }
  size_t compact_bytes() const override { return compact_bytes_; }
  std::string remark() const override { return remark_; }
  void set_k_factor(size_t k_factor) override { k_factor_ = k_factor; }
  bool refines() const override { return refines_; }

 private:
  // Lines of JSON among what it wrote; warnings of faiss lie between them.
  std::vector<std::string> Answers() const {
    std::vector<std::string> lines = absl::StrSplit(child_->Output(), '\n');
    lines.pop_back();  // not ended yet
    std::erase_if(lines, [](const std::string& line) {
      return !absl::StartsWith(line, "{");
    });
    return lines;
  }
  absl::StatusOr<nlohmann::json> NextAnswer(std::chrono::seconds timeout) {
    VICINAL_RETURN_IF_ERROR(child_->WaitUntil(
        [this] { return Answers().size() > num_answers_; }, timeout));
    nlohmann::json answer = nlohmann::json::parse(
        Answers()[num_answers_++], nullptr, /*allow_exceptions=*/false);
    if (!answer.is_object()) {
      return absl::InternalError(
          "faiss_peer.py wrote something else than JSON");
    }
    return answer;
  }

  const FaissPythonOptions options_;
  std::optional<Workspace> workspace_;
  std::unique_ptr<ChildProcess> child_;
  int commands_ = -1;
  std::string labels_path_;
  size_t num_queries_ = 0;
  size_t num_answers_ = 0;
  size_t k_factor_ = 1;
  std::string factory_;
  std::string remark_;
  bool refines_ = false;
  bool is_graph_ = false;
  size_t memory_bytes_ = 0;
  size_t compact_bytes_ = 0;
};

}  // namespace

std::unique_ptr<FaissPython> MakeFaissPython(FaissPythonOptions options) {
  return std::make_unique<FaissPythonImpl>(std::move(options));
}

}  // namespace vicinal::bench
