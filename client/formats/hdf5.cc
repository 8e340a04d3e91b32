#include "client/formats/hdf5.h"

#include <hdf5.h>  // NOLINT(misc-include-cleaner)
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/formats/vector_reader.h"
#include "src/base/io_error.h"
#include "src/base/status_macros.h"
#include "src/base/types.h"

namespace vicinal::client {
namespace {

// An HDF5 handle with the function that closes it.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  Handle(Handle&& other) noexcept
      : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Handle& operator=(Handle&&) = delete;
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  hid_t get() const { return id_; }
  bool ok() const { return id_ >= 0; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

// The library prints its errors to stderr unless told not to.
void QuietLibrary() { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

absl::Status Bad(absl::string_view path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
}

absl::StatusOr<Handle> OpenFile(const std::string& path) {
  QuietLibrary();
  if (access(path.c_str(), R_OK) != 0) return IoError(errno, "open", path);
  Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose);
  if (!file.ok()) {
    return Bad(path,
               "is not an HDF5 file or is damaged; was the download complete?");
  }
  return file;
}

herr_t CollectName(hid_t, const char* name, const H5L_info_t*, void* out) {
  static_cast<std::vector<std::string>*>(out)->emplace_back(name);
  return 0;
}

absl::StatusOr<Handle> OpenDataset(const std::string& path, hid_t file,
                                   const std::string& name) {
  if (H5Lexists(file, name.c_str(), H5P_DEFAULT) > 0) {
    Handle set(H5Dopen2(file, name.c_str(), H5P_DEFAULT), H5Dclose);
    if (set.ok()) return set;
  }
  std::vector<std::string> names;
  H5Literate(file, H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, CollectName, &names);
  std::string known;
  for (size_t i = 0; i < std::min<size_t>(names.size(), 12); ++i) {
    absl::StrAppend(&known, i == 0 ? "" : ", ", names[i]);
  }
  return Bad(path, absl::StrCat("has no data set \"", name, "\"; it has ",
                                known.empty() ? "none" : known,
                                ". Name one with --dataset."));
}

struct Shape {
  uint64_t num_rows = 0;
  uint64_t dim = 0;
};

absl::StatusOr<Shape> ReadShape(const std::string& path, hid_t set,
                                const std::string& name) {
  const Handle space(H5Dget_space(set), H5Sclose);
  const int rank = space.ok() ? H5Sget_simple_extent_ndims(space.get()) : -1;
  if (rank != 2) {
    return Bad(path, absl::StrCat("data set \"", name, "\" has ", rank,
                                  " dimensions; vectors need 2 (rows, "
                                  "dimension)."));
  }
  hsize_t sizes[2] = {};
  H5Sget_simple_extent_dims(space.get(), sizes, nullptr);
  return Shape{sizes[0], sizes[1]};
}

// Reads rows first .. first + n into memory of type `type`.
absl::Status ReadRows(const std::string& path, const std::string& name,
                      hid_t set, const Shape& shape, uint64_t first, uint64_t n,
                      hid_t type, void* out) {
  const hsize_t start[2] = {first, 0};
  const hsize_t count[2] = {n, shape.dim};
  const Handle file_space(H5Dget_space(set), H5Sclose);
  const Handle memory_space(H5Screate_simple(2, count, nullptr), H5Sclose);
  if (file_space.ok() && memory_space.ok() &&
      H5Sselect_hyperslab(file_space.get(), H5S_SELECT_SET, start, nullptr,
                          count, nullptr) >= 0 &&
      H5Dread(set, type, memory_space.get(), file_space.get(), H5P_DEFAULT,
              out) >= 0) {
    return absl::OkStatus();
  }
  return Bad(path, absl::StrCat("rows ", first, " to ", first + n - 1,
                                " of data set \"", name,
                                "\" cannot be read; the file is cut off or "
                                "damaged: fetch it again."));
}

absl::StatusOr<ElementType> ReadType(const std::string& path, hid_t set,
                                     const std::string& name) {
  const Handle type(H5Dget_type(set), H5Tclose);
  const H5T_class_t kind = H5Tget_class(type.get());
  const size_t size = H5Tget_size(type.get());
  if (kind == H5T_FLOAT) return ElementType::kFloat32;
  if (kind == H5T_INTEGER && size == 1) {
    return H5Tget_sign(type.get()) == H5T_SGN_NONE ? ElementType::kUint8
                                                   : ElementType::kInt8;
  }
  return Bad(path,
             absl::StrCat("data set \"", name, "\" has elements of ",
                          kind == H5T_INTEGER ? "an integer" : "another",
                          " type of ", size,
                          " bytes; vectors can be floating point, int8 or "
                          "uint8: choose another with --dataset."));
}

// A string attribute of the file, of fixed or variable length; empty: none.
std::string ReadTextAttribute(hid_t file, const char* name) {
  if (H5Aexists(file, name) <= 0) return {};
  const Handle attribute(H5Aopen(file, name, H5P_DEFAULT), H5Aclose);
  if (!attribute.ok()) return {};
  const Handle type(H5Aget_type(attribute.get()), H5Tclose);
  if (!type.ok() || H5Tget_class(type.get()) != H5T_STRING) return {};
  const Handle space(H5Aget_space(attribute.get()), H5Sclose);
  if (!space.ok() || H5Sget_simple_extent_npoints(space.get()) != 1) return {};
  if (H5Tis_variable_str(type.get()) > 0) {
    char* text = nullptr;
    if (H5Aread(attribute.get(), type.get(), &text) < 0 || text == nullptr) {
      return {};
    }
    std::string out(text);
    H5free_memory(text);
    return out;
  }
  std::string out(std::min<size_t>(H5Tget_size(type.get()), 4096), '\0');
  if (out.size() != H5Tget_size(type.get()) ||
      H5Aread(attribute.get(), type.get(), out.data()) < 0) {
    return {};
  }
  return std::string(out.c_str());
}

class Hdf5Reader : public VectorReader {
 public:
  Hdf5Reader(std::string path, std::string name, Handle file, Handle set,
             Shape shape, ElementType type)
      : path_(std::move(path)),
        name_(std::move(name)),
        file_(std::move(file)),
        set_(std::move(set)),
        shape_(shape),
        fields_{{.name = "", .dim = shape.dim, .type = type}} {}

  const std::vector<VectorField>& fields() const override { return fields_; }
  std::optional<uint64_t> num_rows() const override { return shape_.num_rows; }
  double progress() const override {
    return shape_.num_rows == 0 ? 1.0
                                : static_cast<double>(next_) /
                                      static_cast<double>(shape_.num_rows);
  }
  std::string distance() const override {
    return ReadTextAttribute(file_.get(), "distance");
  }

  absl::StatusOr<bool> Read(const BlockLimits& limits,
                            VectorBlock* block) override {
    *block = VectorBlock{.first_row = next_};
    const size_t row_bytes = RowBytes(fields_);
    const size_t num_rows = static_cast<size_t>(std::min<uint64_t>(
        shape_.num_rows - next_,
        std::min(limits.max_rows,
                 std::max<size_t>(1, limits.max_bytes / row_bytes))));
    if (num_rows == 0) return false;
    std::string data(num_rows * row_bytes, '\0');
    const hid_t memory_type = type() == ElementType::kFloat32 ? H5T_NATIVE_FLOAT
                              : type() == ElementType::kInt8  ? H5T_NATIVE_INT8
                                                             : H5T_NATIVE_UINT8;
    VICINAL_RETURN_IF_ERROR(ReadRows(path_, name_, set_.get(), shape_, next_,
                                     num_rows, memory_type, data.data()));
    next_ += num_rows;
    block->num_rows = num_rows;
    block->columns.push_back({.data = std::move(data)});
    return true;
  }

  absl::Status Skip(uint64_t num_rows) override {
    if (num_rows > shape_.num_rows - next_) {
      return absl::OutOfRangeError(
          absl::StrCat(path_, ": has only ", shape_.num_rows,
                       " rows; cannot go to row ", next_ + num_rows, "."));
    }
    next_ += num_rows;
    return absl::OkStatus();
  }

 private:
  const std::string path_;
  const std::string name_;
  Handle file_;
  Handle set_;
  const Shape shape_;
  const std::vector<VectorField> fields_;
  uint64_t next_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<VectorReader>> OpenHdf5(
    const std::string& path, const std::string& dataset) {
  VICINAL_ASSIGN_OR_RETURN(Handle file, OpenFile(path));
  VICINAL_ASSIGN_OR_RETURN(Handle set, OpenDataset(path, file.get(), dataset));
  VICINAL_ASSIGN_OR_RETURN(const Shape shape,
                           ReadShape(path, set.get(), dataset));
  VICINAL_RETURN_IF_ERROR(CheckDim(path, shape.dim));
  VICINAL_ASSIGN_OR_RETURN(const ElementType type,
                           ReadType(path, set.get(), dataset));
  return std::make_unique<Hdf5Reader>(path, dataset, std::move(file),
                                      std::move(set), shape, type);
}

absl::StatusOr<IntMatrix> ReadHdf5Integers(const std::string& path,
                                           const std::string& dataset) {
  VICINAL_ASSIGN_OR_RETURN(const Handle file, OpenFile(path));
  VICINAL_ASSIGN_OR_RETURN(const Handle set,
                           OpenDataset(path, file.get(), dataset));
  VICINAL_ASSIGN_OR_RETURN(const Shape shape,
                           ReadShape(path, set.get(), dataset));
  const Handle type(H5Dget_type(set.get()), H5Tclose);
  if (H5Tget_class(type.get()) != H5T_INTEGER) {
    return Bad(path, absl::StrCat("data set \"", dataset,
                                  "\" has no integers; row numbers are "
                                  "needed."));
  }
  // Bounded before anything is allocated: row numbers of 100 neighbours of 10
  // million queries.
  constexpr uint64_t kMaxValues = 1'000'000'000;
  if (shape.dim == 0 || shape.num_rows > kMaxValues / shape.dim) {
    return Bad(path,
               absl::StrCat("data set \"", dataset, "\" has shape (",
                            shape.num_rows, ", ", shape.dim, "); at most ",
                            kMaxValues, " numbers can be read."));
  }
  IntMatrix out{shape.num_rows, shape.dim, {}};
  if (shape.num_rows == 0) return out;
  out.values.resize(shape.num_rows * shape.dim);
  VICINAL_RETURN_IF_ERROR(ReadRows(path, dataset, set.get(), shape, 0,
                                   shape.num_rows, H5T_NATIVE_INT64,
                                   out.values.data()));
  return out;
}

absl::StatusOr<std::unique_ptr<Hdf5Writer>> Hdf5Writer::Create(
    const std::string& path) {
  QuietLibrary();
  const hid_t file =
      H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  if (file < 0) {
    return absl::InternalError(absl::StrCat("Cannot create ", path, "."));
  }
  return std::unique_ptr<Hdf5Writer>(new Hdf5Writer(file));
}

Hdf5Writer::~Hdf5Writer() { H5Fclose(file_); }

namespace {

absl::Status WriteDataset(hid_t file, const std::string& name,
                          uint64_t num_rows, uint64_t dim, hid_t file_type,
                          hid_t memory_type, const void* values) {
  const hsize_t sizes[2] = {num_rows, dim};
  const Handle space(H5Screate_simple(2, sizes, nullptr), H5Sclose);
  const Handle set(H5Dcreate2(file, name.c_str(), file_type, space.get(),
                              H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                   H5Dclose);
  if (!set.ok() || H5Dwrite(set.get(), memory_type, H5S_ALL, H5S_ALL,
                            H5P_DEFAULT, values) < 0) {
    return absl::InternalError(
        absl::StrCat("Cannot write data set ", name, "."));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Hdf5Writer::WriteFloats(const std::string& name, uint64_t num_rows,
                                     uint64_t dim,
                                     const std::vector<float>& values) {
  return WriteDataset(file_, name, num_rows, dim, H5T_IEEE_F32LE,
                      H5T_NATIVE_FLOAT, values.data());
}

absl::Status Hdf5Writer::WriteBytes(const std::string& name, uint64_t num_rows,
                                    uint64_t dim,
                                    const std::vector<uint8_t>& values) {
  return WriteDataset(file_, name, num_rows, dim, H5T_STD_U8LE,
                      H5T_NATIVE_UINT8, values.data());
}

absl::Status Hdf5Writer::WriteInts(const std::string& name, uint64_t num_rows,
                                   uint64_t dim,
                                   const std::vector<int32_t>& values) {
  return WriteDataset(file_, name, num_rows, dim, H5T_STD_I32LE,
                      H5T_NATIVE_INT32, values.data());
}

absl::Status Hdf5Writer::WriteAttribute(const std::string& name,
                                        const std::string& value) {
  const Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.get(), value.size() + 1);
  const Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const Handle attribute(H5Acreate2(file_, name.c_str(), type.get(),
                                    space.get(), H5P_DEFAULT, H5P_DEFAULT),
                         H5Aclose);
  if (!attribute.ok() ||
      H5Awrite(attribute.get(), type.get(), value.c_str()) < 0) {
    return absl::InternalError(
        absl::StrCat("Cannot write attribute ", name, "."));
  }
  return absl::OkStatus();
}

}  // namespace vicinal::client
