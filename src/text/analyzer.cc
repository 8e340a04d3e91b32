#include "src/text/analyzer.h"

#include <cstddef>
#include <memory>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "src/base/status_macros.h"
#include "src/base/utf8.h"
#include "src/text/analysis.h"
#include "src/text/analyzer_spec.h"
#include "src/text/scratch_pool.h"
#include "unicode/uvernum.h"

namespace vicinal {

absl::string_view IcuVersion() { return U_ICU_VERSION; }

namespace {

constexpr size_t kLongText = size_t{4} << 20;

}  // namespace

struct AnalyzerState {
  AnalyzerState(const AnalyzerSpec& analyzer_spec, AnalyzerPlan analyzer_plan)
      : spec(analyzer_spec),
        plan(std::move(analyzer_plan)),
        scratches([this] { return std::make_unique<AnalysisScratch>(&plan); }) {
  }

  void Run(absl::string_view text, Analyzer::Sink sink, bool shortcuts) {
    TextScratchPool<AnalysisScratch>::Lease scratch(&scratches);
    Analysis(scratch.get(), sink).Run(text, shortcuts);
    // What it may have grown to is not kept for short ones.
    if (text.size() > kLongText) scratch.Discard();
  }

  const AnalyzerSpec spec;
  const AnalyzerPlan plan;
  TextScratchPool<AnalysisScratch> scratches;
};

absl::Status ValidateText(absl::string_view text) {
  if (text.size() > kMaxAnalyzedTextBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("text has ", text.size(), " bytes; at most ",
                     kMaxAnalyzedTextBytes, " are allowed: divide it"));
  }
  const size_t bad = FindBadUtf8(text);
  if (bad == text.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "text is not UTF-8: the byte at offset ", bad, " (0x",
      absl::Hex(static_cast<unsigned char>(text[bad]), absl::kZeroPad2),
      ") begins no character"));
}

Analyzer::Analyzer(std::unique_ptr<AnalyzerState> state)
    : state_(std::move(state)) {}
Analyzer::~Analyzer() = default;

absl::StatusOr<std::unique_ptr<const Analyzer>> Analyzer::Make(
    const AnalyzerSpec& spec) {
  VICINAL_ASSIGN_OR_RETURN(AnalyzerPlan plan, PlanAnalyzer(spec));
  return absl::WrapUnique<const Analyzer>(
      new Analyzer(std::make_unique<AnalyzerState>(spec, std::move(plan))));
}

void Analyzer::Analyze(absl::string_view text, Sink sink) const {
  state_->Run(text, sink, /*shortcuts=*/true);
}

void Analyzer::AnalyzeWithoutShortcuts(absl::string_view text,
                                       Sink sink) const {
  state_->Run(text, sink, /*shortcuts=*/false);
}

const AnalyzerSpec& Analyzer::spec() const { return state_->spec; }

}  // namespace vicinal
