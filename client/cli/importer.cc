#include "client/cli/importer.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "client/cli/command.h"
#include "client/cli/multi_options.h"
#include "client/cli/output.h"
#include "client/client.h"
#include "client/formats/elements.h"
#include "client/formats/mapped_file.h"
#include "client/formats/npy.h"
#include "client/formats/vector_reader.h"
#include "client/token_pooling.h"
#include "client/uploader.h"
#include "src/base/coding.h"
#include "src/base/io_error.h"
#include "src/base/mutex.h"
#include "src/base/point_id.h"
#include "src/base/status_macros.h"
#include "src/base/types.h"
#include "vicinal/v1/common.pb.h"
#include "vicinal/v1/point.pb.h"

namespace vicinal::cli {
namespace {

using Clock = std::chrono::steady_clock;

// Bytes of vectors and payloads of a frame: a sync costs little beside it, and
// eight of them are under way within the usual credit of 16 MiB.
constexpr size_t kFrameBytes = size_t{2} << 20;
// Points of tiny vectors per frame.
constexpr size_t kFramePoints = 8'192;

// Two 64-bit hashes (FNV-1a with different offsets, finished by SplitMix64's
// mixer): not for secrets, but two imports meet by chance once in 2^64.
class Fingerprint {
 public:
  void Add(absl::string_view bytes) {
    AddRaw(absl::StrCat(bytes.size(), ":"));
    AddRaw(bytes);
  }
  void Add(uint64_t number) { Add(absl::StrCat(number)); }
  std::string Hex() const {
    return absl::StrFormat("%016x%016x", Mix(a_), Mix(b_));
  }

 private:
  static constexpr uint64_t kPrime = 0x100000001B3;

  void AddRaw(absl::string_view bytes) {
    for (const char c : bytes) {
      a_ = (a_ ^ static_cast<uint8_t>(c)) * kPrime;
      b_ = (b_ ^ static_cast<uint8_t>(c)) * (kPrime + 0x2A);
    }
  }
  static uint64_t Mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }

  uint64_t a_ = 0xCBF29CE484222325ULL;
  uint64_t b_ = 0x9AE16A3B2F90404FULL;
};

// What a file is: name, size, time of change, first and last 64 KiB.
absl::Status AddFile(const std::string& path, Fingerprint* out) {
  struct stat info{};
  if (stat(path.c_str(), &info) != 0) return IoError(errno, "stat", path);
  out->Add(path.substr(path.rfind('/') + 1));
  out->Add(static_cast<uint64_t>(info.st_size));
  out->Add(static_cast<uint64_t>(info.st_mtim.tv_sec));
  out->Add(static_cast<uint64_t>(info.st_mtim.tv_nsec));
  VICINAL_ASSIGN_OR_RETURN(const client::MappedFile file,
                           client::MappedFile::Open(path));
  constexpr size_t kSample = 65'536;
  const absl::string_view bytes = file.bytes();
  out->Add(bytes.substr(0, kSample));
  out->Add(bytes.substr(bytes.size() - std::min(bytes.size(), kSample)));
  return absl::OkStatus();
}

// The ids of an --ids file, row by row.
class IdSource {
 public:
  virtual ~IdSource() = default;
  // InvalidArgument: a line is no id. OutOfRange: no line for that row.
  virtual absl::StatusOr<PointId> Get(uint64_t row) = 0;
};

class NpyIds : public IdSource {
 public:
  NpyIds(std::string path, client::MappedFile file, client::NpyHeader header)
      : path_(std::move(path)),
        file_(std::move(file)),
        header_(std::move(header)) {}
  absl::StatusOr<PointId> Get(uint64_t row) override {
    if (row >= header_.num_rows) {
      return absl::OutOfRangeError(absl::StrCat(
          path_, ": has ", header_.num_rows, " ids, but the file has a row ",
          row, "; give one id per row."));
    }
    const char* at = file_.bytes().data() + header_.data_offset +
                     row * header_.element_bytes;
    const bool is_signed = header_.descr[1] == 'i';
    int64_t value = 0;
    if (header_.element_bytes == 8) {
      value = GetFixed<int64_t>(at);
    } else {
      value = is_signed ? GetFixed<int32_t>(at)
                        : static_cast<int64_t>(GetFixed<uint32_t>(at));
    }
    if (is_signed && value < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(path_, ": the id of row ", row, " is ", value,
                       "; numbers from 0 to 2^64 - 1 are allowed."));
    }
    return PointId(static_cast<uint64_t>(value));
  }

 private:
  const std::string path_;
  const client::MappedFile file_;
  const client::NpyHeader header_;
};

class TextIds : public IdSource {
 public:
  TextIds(std::string path, client::MappedFile file, std::string kind)
      : path_(std::move(path)),
        file_(std::move(file)),
        kind_(std::move(kind)) {}
  absl::StatusOr<PointId> Get(uint64_t row) override {
    while (true) {
      const absl::string_view rest = file_.bytes().substr(offset_);
      if (rest.empty()) {
        return absl::OutOfRangeError(absl::StrCat(
            path_, ": has ", next_, " ids, but the file has a row ", row,
            "; give one id per row."));
      }
      const size_t end = std::min(rest.find('\n'), rest.size());
      offset_ += std::min(end + 1, rest.size());
      if (next_++ < row) continue;  // rows of an earlier run
      absl::string_view line = rest.substr(0, end);
      if (absl::EndsWith(line, "\r")) line.remove_suffix(1);
      auto id = ParseId(line, kind_);
      if (id.ok()) return id;
      return absl::InvalidArgumentError(
          absl::StrCat(path_, ": line ", next_, ": ", id.status().message()));
    }
  }

 private:
  const std::string path_;
  const client::MappedFile file_;
  const std::string kind_;
  size_t offset_ = 0;
  uint64_t next_ = 0;  // line at offset_
};

absl::StatusOr<std::unique_ptr<IdSource>> OpenIds(const std::string& path,
                                                  const std::string& kind) {
  VICINAL_ASSIGN_OR_RETURN(client::MappedFile file,
                           client::MappedFile::Open(path));
  if (!absl::EndsWith(path, ".npy")) {
    return std::make_unique<TextIds>(path, std::move(file), kind);
  }
  VICINAL_ASSIGN_OR_RETURN(client::NpyHeader header,
                           client::ParseNpyHeader(path, file.bytes()));
  const bool integers = header.descr == "<u8" || header.descr == "<i8" ||
                        header.descr == "<u4" || header.descr == "<i4";
  if (!header.one_dimensional || !integers) {
    return absl::InvalidArgumentError(absl::StrCat(
        path,
        ": ids are a 1-d array of (unsigned) 32- or 64-bit integers; "
        "this is \"",
        header.descr, "\", ", header.one_dimensional ? "1-d" : "2-d", "."));
  }
  return std::make_unique<NpyIds>(path, std::move(file), std::move(header));
}

// What the acks told, and which rows their frames hold.
class AckLog {
 public:
  AckLog(const ImportOptions& options, const ImportProgress& progress,
         uint64_t rows_resumed)
      : max_refused_(options.max_refused_kept),
        progress_(progress),
        rows_done_(rows_resumed) {}

  void AddFrame(uint64_t frame, uint64_t first_row, size_t num_rows,
                double fraction) {
    MutexLock lock(mu_);
    frames_.push_back({frame, first_row, num_rows, fraction});
  }

  void Take(const v1::WriteAck& ack) {
    uint64_t done = 0;
    double fraction = 0;
    {
      MutexLock lock(mu_);
      // Earlier ones were durable before a broken stream was resumed.
      while (!frames_.empty() && frames_.front().frame <= ack.frame()) {
        const Frame frame = frames_.front();
        frames_.pop_front();
        rows_done_ += frame.num_rows;
        fraction = frame.fraction;
        if (frame.frame == ack.frame()) TakeErrors(ack, frame.first_row);
      }
      done = rows_done_;
    }
    if (progress_) progress_(done, fraction);
  }

  std::vector<RefusedRow> refused() {
    MutexLock lock(mu_);
    return std::move(refused_);
  }

 private:
  struct Frame {
    uint64_t frame = 0;
    uint64_t first_row = 0;
    size_t num_rows = 0;
    double fraction = 0;
  };

  void TakeErrors(const v1::WriteAck& ack, uint64_t first_row)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    for (const v1::ItemError& error : ack.errors()) {
      if (refused_.size() >= max_refused_) return;
      refused_.push_back(
          {.row = first_row + error.index(),
           .field = error.field(),
           .status = absl::Status(static_cast<absl::StatusCode>(error.code()),
                                  error.message())});
    }
  }

  const size_t max_refused_;
  const ImportProgress& progress_;
  Mutex mu_;
  std::deque<Frame> frames_ ABSL_GUARDED_BY(mu_);
  uint64_t rows_done_ ABSL_GUARDED_BY(mu_);
  std::vector<RefusedRow> refused_ ABSL_GUARDED_BY(mu_);
};

// Pools the tokens of each row.
absl::Status PoolColumn(size_t factor, bool unit,
                        client::MultiColumnData* column) {
  VICINAL_ASSIGN_OR_RETURN(
      const std::string data,
      client::ConvertElements(column->type, ElementType::kFloat32,
                              std::move(column->data)));
  std::vector<float> values(data.size() / sizeof(float));
  std::memcpy(values.data(), data.data(), data.size());
  std::string pooled;
  std::vector<uint64_t> offsets = {0};
  for (size_t i = 0; i + 1 < column->offsets.size(); ++i) {
    const std::vector<float> tokens = client::PoolTokens(
        std::span<const float>(values).subspan(
            column->offsets[i] * column->dim,
            (column->offsets[i + 1] - column->offsets[i]) * column->dim),
        column->dim, factor, unit);
    pooled.append(reinterpret_cast<const char*>(tokens.data()),
                  tokens.size() * sizeof(float));
    offsets.push_back(
        column->dim == 0 ? 0 : offsets.back() + tokens.size() / column->dim);
  }
  column->offsets = std::move(offsets);
  VICINAL_ASSIGN_OR_RETURN(
      column->data, client::ConvertElements(ElementType::kFloat32, column->type,
                                            std::move(pooled)));
  return absl::OkStatus();
}

// One import from its plan to its last frame.
class Importer {
 public:
  Importer(client::Client& client, const v1::Collection& collection,
           client::VectorReader& reader, const ImportOptions& options)
      : client_(client),
        collection_(collection),
        reader_(reader),
        options_(options) {}

  absl::Status Plan();
  absl::StatusOr<ImportResult> Run(const ImportProgress& progress,
                                   const ImportNotice& notice);

 private:
  absl::Status CheckFields();
  absl::StatusOr<std::string> StreamId() const;
  absl::StatusOr<bool> ReadBlock(client::VectorBlock* block);
  absl::Status SkipFrames(uint64_t num_frames);
  absl::StatusOr<v1::PointBatch> MakeBatch(client::VectorBlock block);
  absl::Status SetIds(client::VectorBlock& block, v1::PointIds* ids);
  // Pools the tokens as the options say; they become the column's.
  absl::StatusOr<v1::MultiVectorColumn> MakeMulti(client::MultiColumnData from);
  // The collection's name of a sparse vector of the file.
  absl::StatusOr<std::string> SparseName(const std::string& in_file) const;
  absl::Status SendAll(client::Uploader& uploader, AckLog& acks,
                       ImportResult* result);

  client::Client& client_;
  const v1::Collection& collection_;
  client::VectorReader& reader_;
  const ImportOptions& options_;
  client::BlockLimits frame_limits_;
  std::vector<std::string> names_;       // of the columns, in the collection
  std::vector<ElementType> wire_types_;  // of the columns
  std::unique_ptr<IdSource> ids_;        // null: by row number
  uint64_t next_row_ = 0;
  uint64_t tokens_read_ = 0;
  uint64_t tokens_sent_ = 0;
};

absl::Status Importer::CheckFields() {
  for (const client::VectorField& field : reader_.fields()) {
    const std::string& name =
        field.name.empty() ? options_.vector_name : field.name;
    VICINAL_ASSIGN_OR_RETURN(const v1::VectorConfig config,
                             FindVector(collection_, name));
    if (config.dim() != field.dim) {
      return absl::InvalidArgumentError(absl::StrCat(
          options_.file, ": its vectors have dimension ", field.dim,
          ", but vector \"", config.name(), "\" of collection ",
          collection_.name(), " has ", config.dim(),
          "; choose another collection or --vector-name."));
    }
    names_.push_back(config.name());
    wire_types_.push_back(options_.wire_type.value_or(field.type));
    VICINAL_RETURN_IF_ERROR(
        client::ConvertElements(field.type, wire_types_.back(), "").status());
  }
  return absl::OkStatus();
}

absl::Status Importer::Plan() {
  VICINAL_RETURN_IF_ERROR(CheckFields());
  size_t row_bytes = 0;
  for (size_t i = 0; i < wire_types_.size(); ++i) {
    row_bytes += reader_.fields()[i].dim * ElementSize(wire_types_[i]);
  }
  const uint64_t server_limit =
      client_.server_info().limits().max_batch_points();
  const uint64_t most = server_limit > 0
                            ? std::min<uint64_t>(server_limit, kFramePoints)
                            : kFramePoints;
  row_bytes += reader_.other_row_bytes();
  size_t rows =
      row_bytes == 0 ? most : std::max<size_t>(1, kFrameBytes / row_bytes);
  if (options_.batch_size > 0) {
    if (server_limit > 0 && options_.batch_size > server_limit) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--batch-size ", options_.batch_size,
          " is above the server's limit of ", server_limit, " points."));
    }
    rows = options_.batch_size;
  } else {
    rows = std::min<size_t>(rows, most);
  }
  frame_limits_.max_rows = rows;
  // Binary files: by rows alone. JSON lines: payloads count too.
  frame_limits_.max_bytes = reader_.num_rows().has_value()
                                ? std::numeric_limits<size_t>::max()
                                : kFrameBytes;
  if (!options_.ids_file.empty()) {
    VICINAL_ASSIGN_OR_RETURN(ids_,
                             OpenIds(options_.ids_file, options_.id_kind));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Importer::StreamId() const {
  if (!options_.stream_id.empty()) return options_.stream_id;
  if (options_.restart) return std::string();  // the uploader's random one
  Fingerprint print;
  print.Add(collection_.uuid());
  const bool is_beir = options_.open.format == client::FileFormat::kBeir ||
                       std::filesystem::is_directory(options_.file);
  if (!options_.file.empty()) {
    VICINAL_RETURN_IF_ERROR(AddFile(
        is_beir ? options_.file + "/corpus.jsonl" : options_.file, &print));
  }
  for (const TokenSource& source : options_.tokens) {
    print.Add(source.name);
    VICINAL_RETURN_IF_ERROR(AddFile(source.tokens, &print));
    VICINAL_RETURN_IF_ERROR(AddFile(source.lengths, &print));
  }
  if (options_.pool > 1) print.Add(absl::StrCat("pool ", options_.pool));
  if (!options_.ids_file.empty()) {
    VICINAL_RETURN_IF_ERROR(AddFile(options_.ids_file, &print));
  }
  print.Add(options_.open.dataset);
  print.Add(static_cast<uint64_t>(options_.open.format));
  const client::JsonlFields& jsonl = options_.open.jsonl;
  for (const std::string* name :
       {&jsonl.id, &jsonl.vector, &jsonl.vectors, &jsonl.sparse, &jsonl.multi,
        &jsonl.payload}) {
    print.Add(*name);
  }
  print.Add(jsonl.uuid_strings ? 1 : 0);
  for (const std::string& name : names_) print.Add(name);
  for (const ElementType type : wire_types_) {
    print.Add(static_cast<uint64_t>(type));
  }
  print.Add(options_.id_start);
  print.Add(options_.id_kind);
  print.Add(options_.limit);
  print.Add(frame_limits_.max_rows);
  print.Add(frame_limits_.max_bytes);
  return absl::StrCat("import-", print.Hex());
}

absl::StatusOr<bool> Importer::ReadBlock(client::VectorBlock* block) {
  client::BlockLimits limits = frame_limits_;
  limits.max_rows = static_cast<size_t>(
      std::min<uint64_t>(limits.max_rows, options_.limit - next_row_));
  if (limits.max_rows == 0) return false;
  VICINAL_ASSIGN_OR_RETURN(const bool more, reader_.Read(limits, block));
  if (more) next_row_ += block->num_rows;
  return more;
}

// Goes behind the frames of an earlier run.
absl::Status Importer::SkipFrames(uint64_t num_frames) {
  if (const auto num_rows = reader_.num_rows(); num_rows.has_value()) {
    const uint64_t total = std::min(*num_rows, options_.limit);
    // In this order, because the product may overflow for a foreign stream id.
    next_row_ = num_frames > total / frame_limits_.max_rows
                    ? total
                    : num_frames * frame_limits_.max_rows;
    return reader_.Skip(next_row_);
  }
  for (uint64_t i = 0; i < num_frames; ++i) {
    client::VectorBlock block;
    VICINAL_ASSIGN_OR_RETURN(const bool more, ReadBlock(&block));
    if (!more) break;
  }
  return absl::OkStatus();
}

absl::Status Importer::SetIds(client::VectorBlock& block, v1::PointIds* ids) {
  if (!block.ids.empty()) {
    *ids = client::ToProto(block.ids);
    return absl::OkStatus();
  }
  if (ids_ == nullptr) {
    const uint64_t first = options_.id_start + block.first_row;
    if (first < options_.id_start || first + (block.num_rows - 1) < first) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--id-start ", options_.id_start, " leaves no number for row ",
          block.first_row + block.num_rows - 1, "; start lower."));
    }
    ids->mutable_numbers()->Resize(static_cast<int>(block.num_rows), 0);
    for (size_t i = 0; i < block.num_rows; ++i) {
      ids->set_numbers(static_cast<int>(i), first + i);
    }
    return absl::OkStatus();
  }
  std::vector<PointId> out;
  out.reserve(block.num_rows);
  for (size_t i = 0; i < block.num_rows; ++i) {
    VICINAL_ASSIGN_OR_RETURN(PointId id, ids_->Get(block.first_row + i));
    out.push_back(std::move(id));
  }
  *ids = client::ToProto(out);
  return absl::OkStatus();
}

absl::StatusOr<v1::PointBatch> Importer::MakeBatch(client::VectorBlock block) {
  v1::PointBatch batch;
  v1::PointColumns* columns = batch.mutable_columns();
  VICINAL_RETURN_IF_ERROR(SetIds(block, columns->mutable_ids()));
  for (size_t i = 0; i < block.columns.size(); ++i) {
    client::VectorColumnData& from = block.columns[i];
    if (from.data.empty()) continue;  // no row of the block has it
    v1::VectorColumn* column = columns->add_vectors();
    column->set_name(names_[i]);
    column->set_dim(static_cast<uint32_t>(reader_.fields()[i].dim));
    column->set_type(client::ToProto(wire_types_[i]));
    VICINAL_ASSIGN_OR_RETURN(
        *column->mutable_data(),
        client::ConvertElements(reader_.fields()[i].type, wire_types_[i],
                                std::move(from.data)));
    column->mutable_present()->Assign(from.present.begin(), from.present.end());
  }
  for (client::SparseColumnData& from : block.sparse) {
    v1::SparseColumn* column = columns->add_sparse_vectors();
    VICINAL_ASSIGN_OR_RETURN(*column->mutable_name(), SparseName(from.name));
    column->mutable_indptr()->Assign(from.indptr.begin(), from.indptr.end());
    column->mutable_indices()->assign(
        reinterpret_cast<const char*>(from.indices.data()),
        from.indices.size() * sizeof(uint32_t));
    column->mutable_values()->assign(
        reinterpret_cast<const char*>(from.values.data()),
        from.values.size() * sizeof(float));
  }
  for (client::MultiColumnData& from : block.multi) {
    VICINAL_ASSIGN_OR_RETURN(*columns->add_multi_vectors(),
                             MakeMulti(std::move(from)));
  }
  if (!block.payloads.empty()) {
    block.payloads.resize(block.num_rows);
    for (std::string& payload : block.payloads) {
      columns->add_payloads(std::move(payload));
    }
  }
  return batch;
}

absl::StatusOr<v1::MultiVectorColumn> Importer::MakeMulti(
    client::MultiColumnData from) {
  VICINAL_ASSIGN_OR_RETURN(const v1::MultiVectorConfig config,
                           FindMulti(collection_, from.name));
  tokens_read_ += from.offsets.back();
  if (options_.pool > 1) {
    if (from.type == ElementType::kInt8) {
      return absl::InvalidArgumentError(
          "--pool makes means of tokens, which int8 cannot hold; import them "
          "as they are, or give them as float16 or float32.");
    }
    VICINAL_RETURN_IF_ERROR(
        PoolColumn(options_.pool, config.metric() == v1::METRIC_COSINE, &from));
  }
  tokens_sent_ += from.offsets.back();
  const ElementType type = options_.wire_type.value_or(from.type);
  v1::MultiVectorColumn column;
  column.set_name(config.name());
  column.set_dim(config.dim());
  column.set_type(client::ToProto(type));
  VICINAL_ASSIGN_OR_RETURN(
      *column.mutable_data(),
      client::ConvertElements(from.type, type, std::move(from.data)));
  column.mutable_offsets()->Assign(from.offsets.begin(), from.offsets.end());
  column.mutable_present()->Assign(from.present.begin(), from.present.end());
  return column;
}

absl::StatusOr<std::string> Importer::SparseName(
    const std::string& in_file) const {
  if (!in_file.empty()) return in_file;
  if (!options_.vector_name.empty()) return options_.vector_name;
  if (collection_.sparse_vectors_size() == 1) {
    return collection_.sparse_vectors(0).name();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "Collection ", collection_.name(), " has ",
      collection_.sparse_vectors_size(),
      " sparse vectors; say with --vector-name which one the file holds."));
}

absl::Status Importer::SendAll(client::Uploader& uploader, AckLog& acks,
                               ImportResult* result) {
  const auto total = reader_.num_rows();
  while (true) {
    client::VectorBlock block;
    VICINAL_ASSIGN_OR_RETURN(const bool more, ReadBlock(&block));
    if (!more) return absl::OkStatus();
    double fraction = reader_.progress();
    if (total.has_value()) {
      fraction = static_cast<double>(next_row_) /
                 static_cast<double>(std::min(*total, options_.limit));
    }
    acks.AddFrame(uploader.next_frame(), block.first_row, block.num_rows,
                  fraction);
    result->rows_sent += block.num_rows;
    VICINAL_ASSIGN_OR_RETURN(v1::PointBatch batch, MakeBatch(std::move(block)));
    VICINAL_RETURN_IF_ERROR(uploader.Write(std::move(batch)));
  }
}

absl::StatusOr<ImportResult> Importer::Run(const ImportProgress& progress,
                                           const ImportNotice& notice) {
  VICINAL_ASSIGN_OR_RETURN(const std::string stream_id, StreamId());
  std::unique_ptr<AckLog> acks;
  client::UploadOptions upload{.collection = options_.collection,
                               .stream_id = stream_id,
                               .durability = options_.durability,
                               .max_points_per_s = options_.max_points_per_s};
  // No ack comes before the first frame is written, so `acks` exists by then.
  upload.on_ack = [&acks](const v1::WriteAck& ack) { acks->Take(ack); };
  upload.on_reconnect = [&notice](const absl::Status& status) {
    if (notice) {
      notice(absl::StrCat("The upload was interrupted (", status.message(),
                          "); trying to go on."));
    }
  };
  VICINAL_ASSIGN_OR_RETURN(const auto uploader,
                           client::Uploader::Open(client_, std::move(upload)));
  VICINAL_RETURN_IF_ERROR(SkipFrames(uploader->resumed_frame()));
  ImportResult result;
  result.rows_resumed = next_row_;
  result.stream_id = stream_id;
  acks = std::make_unique<AckLog>(options_, progress, next_row_);
  const auto start = Clock::now();
  const absl::Status sent = SendAll(*uploader, *acks, &result);
  // What was sent before the error is durable then, and the message names the
  // place of the error.
  const absl::Status finished = uploader->Finish();
  if (!sent.ok()) return sent;
  if (!finished.ok()) return finished;
  result.elapsed_s = Seconds(Clock::now() - start);
  const client::UploadStats stats = uploader->stats();
  result.tokens_read = tokens_read_;
  result.tokens_sent = tokens_sent_;
  result.rows_refused = stats.points_refused;
  result.bytes_sent = stats.bytes_acked;
  result.reconnects = stats.reconnects;
  result.acks_lost = stats.acks_lost;
  result.refused = acks->refused();
  return result;
}

}  // namespace

absl::StatusOr<ImportResult> Import(client::Client& client,
                                    const v1::Collection& collection,
                                    client::VectorReader& reader,
                                    const ImportOptions& options,
                                    const ImportProgress& progress,
                                    const ImportNotice& notice) {
  Importer importer(client, collection, reader, options);
  VICINAL_RETURN_IF_ERROR(importer.Plan());
  return importer.Run(progress, notice);
}

}  // namespace vicinal::cli
