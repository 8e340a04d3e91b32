// Sparse vectors and texts of a new collection; vicinal encoder.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/App.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/output.h"
#include "client/client.h"
#include "src/base/status_macros.h"

namespace vicinal::cli {
namespace {

absl::Status FillSparse(const std::string& text, v1::SparseConfig* out) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  out->set_name(parts[0]);
  for (size_t i = 1; i < parts.size(); ++i) {
    if (parts[i] == "f16") {
      out->set_weight_type(v1::ELEMENT_TYPE_FLOAT16);
    } else if (parts[i] == "idf") {
      out->set_idf(true);
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("--sparse: \"", text, "\" is not NAME[:f16][:idf]."));
    }
  }
  return absl::OkStatus();
}

void FillText(const std::string& text, v1::TextConfig* out) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  out->set_path(parts[0]);
  for (size_t i = 1; i < parts.size(); ++i) {
    if (parts[i] == "positions") {
      out->set_positions(true);
    } else {
      out->mutable_analyzer()->set_name(parts[i]);
    }
  }
}

struct EncoderOptions {
  std::string collection;
  std::string vector;
  std::string file;
};

int SetEncoder(const Globals& globals, const EncoderOptions& options) {
  auto file = ReadTextFile(options.file);
  if (!file.ok()) return Report(file.status());
  const auto client = globals.Connect();
  if (!client.ok()) return Report(client.status());
  v1::SetSparseEncoderRequest request;
  request.set_collection(options.collection);
  request.set_vector(options.vector);
  const size_t first = file->find_first_not_of(" \t\r\n");
  if (first != std::string::npos && (*file)[first] == '{') {
    request.set_idf_json(*std::move(file));
  } else {
    request.set_vocabulary(*std::move(file));
  }
  const auto reply = (*client)->SetSparseEncoder(request);
  if (!reply.ok()) return Report(reply.status());
  absl::PrintF("Sparse vector %s of %s can be asked with text: %s tokens.\n",
               options.vector, options.collection,
               WithCommas(reply->num_tokens()));
  return kOk;
}

}  // namespace

void AddLexicalOptions(CLI::App& command, LexicalOptions& options) {
  command
      .add_option("--sparse", options.sparse,
                  "Sparse vector, NAME[:f16][:idf]; repeatable")
      ->allow_extra_args(false);
  command
      .add_option("--text", options.texts,
                  "Text in the payload, PATH[:ANALYZER][:positions], e.g. "
                  "body:english:positions; repeatable")
      ->allow_extra_args(false);
}

absl::Status FillLexicalConfig(const LexicalOptions& options,
                               v1::Collection* collection) {
  for (const std::string& text : options.sparse) {
    VICINAL_RETURN_IF_ERROR(FillSparse(text, collection->add_sparse_vectors()));
  }
  for (const std::string& text : options.texts) {
    FillText(text, collection->add_texts());
  }
  return absl::OkStatus();
}

void AddEncoderCommand(CLI::App& app, Globals& globals) {
  CLI::App* command = app.add_subcommand(
      "encoder", "Encoders by which sparse vectors are asked with text");
  command->require_subcommand(1);
  CLI::App* set = command->add_subcommand(
      "set", "Gives a sparse vector a vocabulary with weights");
  auto options = std::make_shared<EncoderOptions>();
  set->add_option("collection", options->collection, "Its collection")
      ->required();
  set->add_option("vector", options->vector, "The sparse vector")->required();
  set->add_option("file", options->file,
                  "idf.json of an inference-free model, or vocab.txt")
      ->required();
  set->callback([&globals, options] {
    globals.run = [&globals, options] { return SetEncoder(globals, *options); };
  });
}

}  // namespace vicinal::cli
