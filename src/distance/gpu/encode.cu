// Rows as code records. A lane of a warp has a row, whose sums it makes one
// after the other as the CPU does; tiles of 64 dimensions are turned round in
// shared memory, so that reading them is whole lines all the same.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "src/distance/gpu/canonical.cuh"
#include "src/distance/gpu/encode_kernels.h"
#include "src/distance/gpu/rank.cuh"
#include "src/distance/gpu/unit.cuh"

namespace vicinal::gpu {
namespace {

constexpr uint32_t kThreads = 128;
constexpr uint32_t kWarps = kThreads / 32;
constexpr uint32_t kTile = 64;      // dimensions; sums are f32 within one
constexpr uint32_t kSumLanes = 16;  // of a product with a centre

// The last centre that begins at or before the row.
__device__ inline uint32_t CentreOf(const RowCoding& terms, uint32_t row) {
  uint32_t low = 0;
  uint32_t high = terms.num_centres;
  while (high - low > 1) {
    const uint32_t middle = (low + high) / 2;
    (terms.offsets[middle] <= row ? low : high) = middle;
  }
  return low;
}

template <class Element>
__global__ __launch_bounds__(kThreads) void CentreKernel(
    const DeviceRows rows, const DeviceCoding coding, uint32_t first,
    uint32_t count, float* centred) {
  const RowCoding& terms = coding.terms;
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t dim = rows.dim;
  for (uint32_t i = blockIdx.x * kWarps + threadIdx.x / 32; i < count;
       i += gridDim.x * kWarps) {
    const uint32_t row = first + i;
    const Element* from =
        static_cast<const Element*>(rows.exact) + size_t{row} * dim;
    const float* centre =
        terms.centres == nullptr
            ? terms.mean
            : terms.centres + size_t{CentreOf(terms, row)} * dim;
    float norm = 1;
    if (coding.metric == Metric::kCosine) {
      float largest = 0;
      for (uint32_t j = lane; j < dim; j += 32) {
        largest = fmaxf(largest, fabsf(ToFloat(from[j])));
      }
      for (int half = 16; half > 0; half /= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, half));
      }
      norm = NormOf(from, dim, largest, lane);
    }
    float* const to = centred + size_t{i} * dim;
    for (uint32_t j = lane; j < dim; j += 32) {
      const float x = coding.metric == Metric::kCosine
                          ? UnitElement(from, dim, j, norm)
                          : ToFloat(from[j]);
      to[j] = __fsub_rn(x, centre[j]);
    }
  }
}

// One row a block: Rotation::Apply.
__global__ __launch_bounds__(kThreads) void RotateFastKernel(
    const DeviceCoding coding, const float* centred, float* coded) {
  constexpr float kHalfTurn = 0.70710678118654752440f;
  extern __shared__ float values[];
  const uint32_t dim = coding.terms.dim;
  const uint32_t size = coding.terms.num_coded;
  const uint32_t power = coding.rotation_size;
  const float* from = centred + size_t{blockIdx.x} * dim;
  for (uint32_t i = threadIdx.x; i < size; i += kThreads) {
    values[i] = i < dim ? from[i] : 0.0f;
  }
  for (uint32_t round = 0; round < 4; ++round) {
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < size; i += kThreads) {
      values[i] *= coding.terms.signs[round * size + i];
    }
    float* const part = values + (round % 2 == 0 ? 0 : size - power);
    for (uint32_t h = 1; h < power; h *= 2) {
      __syncthreads();
      for (uint32_t p = threadIdx.x; p < power / 2; p += kThreads) {
        const uint32_t at = 2 * p - (p & (h - 1));
        const float a = part[at];
        const float b = part[at + h];
        part[at] = __fadd_rn(a, b);
        part[at + h] = __fsub_rn(a, b);
      }
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < power; i += kThreads) {
      part[i] = __fmul_rn(part[i], coding.rotation_scale);
    }
    if (power == size) continue;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < size / 2; i += kThreads) {
      const float a = values[i];
      const float b = values[i + size / 2];
      values[i] = __fmul_rn(__fadd_rn(a, b), kHalfTurn);
      values[i + size / 2] = __fmul_rn(__fsub_rn(a, b), kHalfTurn);
    }
  }
  __syncthreads();
  float* const to = coded + size_t{blockIdx.x} * size;
  for (uint32_t i = threadIdx.x; i < size; i += kThreads) to[i] = values[i];
}

// A product and a sum, each rounded.
__device__ inline float AddProduct(float sum, float a, float b) {
  return __fadd_rn(sum, __fmul_rn(a, b));
}

// What the lanes of a warp share.
struct Room {
  float tile[kTile][kEncodedRows + 1];
  uint8_t codes[kEncodedRows][kTile + 4];
};

// `n` (<= kTile) dimensions from `from` on of the rows of a warp, `pitch`
// apart.
__device__ inline void Fill(Room* room, const float* from, uint32_t pitch,
                            uint32_t num_rows, uint32_t n, uint32_t lane) {
  __syncwarp();
#pragma unroll 8
  for (uint32_t row = 0; row < kEncodedRows; ++row) {
    const float* const at = from + size_t{row} * pitch;
    const bool is_there = row < num_rows;
    room->tile[lane][row] = is_there && lane < n ? at[lane] : 0.0f;
    room->tile[lane + 32][row] =
        is_there && lane + 32 < n ? at[lane + 32] : 0.0f;
  }
  __syncwarp();
}

// How a segment's codes begin, and what they stand for.
struct Levels {
  uint32_t bits;
  float center;
  float step;         // 2 bits
  float scale;        // 8 bits
  float limits[7];    // 4 bits
  const float* less;  // levels less the centre, of up to 4 bits

  __device__ uint32_t StartOf(float v) const {
    if (bits == 1) return v > 0;
    if (bits == 2) return (v > -step) + (v > 0) + (v > step);
    if (bits == 4) {
      uint32_t rank = 0;
#pragma unroll
      for (int k = 0; k < 7; ++k) rank += fabsf(v) > limits[k];
      return v > 0 ? 8 + rank : 7 - rank;
    }
    const float level = __fadd_rn(__fmul_rn(v, scale), 128.0f);
    return min(255, static_cast<int>(level));
  }
  __device__ float LessCenter(uint32_t code) const {
    return bits == 8 ? static_cast<float>(code) - center : less[code];
  }
};

// Codes that are adjusted: number i of a lane's row at i * 32.
__device__ void Adjust(const Levels& levels, const float* from, uint32_t pitch,
                       uint32_t num_rows, uint32_t num_dims, uint32_t rounds,
                       uint8_t* codes, Room* room, uint32_t lane) {
  const int largest = (1 << levels.bits) - 1;
  for (uint32_t round = 0; round < rounds; ++round) {
    double ip = 0;
    double norm2 = 0;
    for (uint32_t first = 0; first < num_dims; first += kTile) {
      const uint32_t n = min(kTile, num_dims - first);
      Fill(room, from + first, pitch, num_rows, n, lane);
      float ip_of_tile = 0;
      float norm2_of_tile = 0;
      for (uint32_t i = 0; i < n; ++i) {
        const float x = levels.LessCenter(codes[(first + i) * 32]);
        ip_of_tile = AddProduct(ip_of_tile, x, room->tile[i][lane]);
        norm2_of_tile = AddProduct(norm2_of_tile, x, x);
      }
      ip += ip_of_tile;
      norm2 += norm2_of_tile;
    }
    for (uint32_t first = 0; first < num_dims; first += kTile) {
      const uint32_t n = min(kTile, num_dims - first);
      Fill(room, from + first, pitch, num_rows, n, lane);
      for (uint32_t i = 0; i < n; ++i) {
        const double value = room->tile[i][lane];
        const int code = codes[(first + i) * 32];
        const double x = levels.LessCenter(code);
        for (int step = 1; step >= -1; step -= 2) {
          const int other = code + step;
          if (other < 0 || other > largest) continue;
          const double y = levels.LessCenter(other);
          // Products of small numbers and floats are exact.
          const double new_ip = ip + (y - x) * value;
          const double new_norm2 = norm2 + y * y - x * x;
          if (new_ip <= 0 || __dmul_rn(__dmul_rn(new_ip, new_ip), norm2) <=
                                 __dmul_rn(__dmul_rn(ip, ip), new_norm2)) {
            continue;
          }
          ip = new_ip;
          norm2 = new_norm2;
          codes[(first + i) * 32] = static_cast<uint8_t>(other);
          break;
        }
      }
    }
  }
}

// Packs a lane's n codes of a tile.
__device__ inline void Pack(const uint8_t* codes, uint32_t n, uint32_t bits,
                            uint8_t* out) {
  const uint32_t width = n == kTile ? kTile : 16;
  const uint32_t plane = width * bits / 8;
  for (uint32_t at = 0; at < n; at += width) {
    if (plane % 4 == 0 && reinterpret_cast<uintptr_t>(out) % 4 == 0) {
      for (uint32_t i = 0; i < plane; i += 4) {
        uint32_t word = 0;
        for (uint32_t p = 0; p < 8 / bits; ++p) {
          word |= *reinterpret_cast<const uint32_t*>(codes + at + p * plane + i)
                  << (bits * p);
        }
        *reinterpret_cast<uint32_t*>(out + i) = word;
      }
    } else {
      for (uint32_t i = 0; i < plane; ++i) {
        uint32_t byte = 0;
        for (uint32_t p = 0; p < 8 / bits; ++p) {
          byte |= codes[at + p * plane + i] << (bits * p);
        }
        out[i] = static_cast<uint8_t>(byte);
      }
    }
    out += plane;
  }
}

__device__ inline float PutRescale(const CodeLayout& layout, float value,
                                   uint32_t segment, uint8_t* record) {
  uint8_t* const factors = record + layout.additive_offset + sizeof(float);
  if (!layout.rescale_is_f16) {
    reinterpret_cast<float*>(factors)[segment] = value;
    return value;
  }
  const __half half = __float2half_rn(fminf(fmaxf(value, -65504.0f), 65504.0f));
  reinterpret_cast<__half*>(factors)[segment] = half;
  return __half2float(half);
}

// Sums over one segment of a lane's row.
struct SegmentSums {
  double ip = 0;  // of the row with what its codes stand for
  float with_centre = 0;
};

// Writes the codes of a segment; true where it is not zero.
template <bool kHasCentres>
__device__ bool EncodeSegment(const DeviceCoding& coding, uint32_t s,
                              const float* less, const float* from,
                              uint32_t num_rows, const float* coded_centre,
                              uint8_t* adjusted, Room* room, uint32_t lane,
                              uint8_t* record, double* norm2,
                              SegmentSums* sums) {
  const RowCoding& terms = coding.terms;
  const CodeSegment& segment = coding.layout.segments[s];
  const uint32_t num_dims = segment.num_dims;
  const uint32_t pitch = terms.num_coded;
  float largest = 0;
  *norm2 = 0;
  for (uint32_t first = 0; first < num_dims; first += kTile) {
    const uint32_t n = min(kTile, num_dims - first);
    Fill(room, from + first, pitch, num_rows, n, lane);
    float sum = 0;
    for (uint32_t i = 0; i < n; ++i) {
      const float v = room->tile[i][lane];
      sum = AddProduct(sum, v, v);
      largest = fmaxf(largest, fabsf(v));
    }
    *norm2 += sum;
  }
  const bool is_zero = !(*norm2 > 0);
  const float deviation =
      __double2float_rn(__dsqrt_rn(__ddiv_rn(*norm2, num_dims)));
  Levels levels;
  levels.bits = segment.bits;
  levels.center =
      (segment.has_levels ? segment.levels[15] : (1u << segment.bits) - 1) /
      2.0f;
  levels.step = __double2float_rn(__dmul_rn(terms.step_of_two, deviation));
  levels.scale = __fdiv_rn(127.5f, largest);
#pragma unroll
  for (int k = 0; k < 7; ++k) {
    levels.limits[k] = __fmul_rn(terms.limits_of_four[k], deviation);
  }
  levels.less = less;
  if (adjusted != nullptr) {
    for (uint32_t first = 0; first < num_dims; first += kTile) {
      const uint32_t n = min(kTile, num_dims - first);
      Fill(room, from + first, pitch, num_rows, n, lane);
      for (uint32_t i = 0; i < n; ++i) {
        adjusted[(first + i) * 32] =
            static_cast<uint8_t>(levels.StartOf(room->tile[i][lane]));
      }
    }
    Adjust(levels, from, pitch, num_rows, num_dims, terms.adjust_rounds,
           adjusted, room, lane);
  }
  float lanes[kSumLanes] = {};
  uint8_t* const codes = room->codes[lane];
  uint8_t* out = record + segment.payload_offset;
  for (uint32_t first = 0; first < num_dims; first += kTile) {
    const uint32_t n = min(kTile, num_dims - first);
    Fill(room, from + first, pitch, num_rows, n, lane);
    float ip = 0;
    for (uint32_t group = 0; group < n; group += kSumLanes) {
#pragma unroll
      for (uint32_t l = 0; l < kSumLanes; ++l) {
        const uint32_t i = group + l;
        const float v = room->tile[i][lane];
        const uint32_t code = is_zero               ? 0
                              : adjusted != nullptr ? adjusted[(first + i) * 32]
                                                    : levels.StartOf(v);
        codes[i] = static_cast<uint8_t>(code);
        const float x = levels.LessCenter(code);
        ip = AddProduct(ip, x, v);
        if constexpr (kHasCentres) {
          lanes[l] = AddProduct(lanes[l], x, coded_centre[first + i]);
        }
      }
    }
    sums->ip += ip;
    if (lane < num_rows) Pack(codes, n, segment.bits, out);
    out += n * segment.bits / 8;
  }
#pragma unroll
  for (uint32_t l = 0; l < kSumLanes; ++l) {
    sums->with_centre = __fadd_rn(sums->with_centre, lanes[l]);
  }
  return !is_zero;
}

template <bool kHasCentres>
__global__ __launch_bounds__(kThreads) void EncodeKernel(
    const __grid_constant__ DeviceCoding coding, uint32_t first_row,
    uint32_t count, const float* centred, const float* coded, uint8_t* codes,
    uint8_t* records) {
  __shared__ Room rooms[kWarps];
  __shared__ float less[kMaxCodeSegments][16];
  const RowCoding& terms = coding.terms;
  const CodeLayout& layout = coding.layout;
  const uint32_t lane = threadIdx.x % 32;
  for (uint32_t i = threadIdx.x; i < layout.num_segments * 16; i += kThreads) {
    const CodeSegment& segment = layout.segments[i / 16];
    const uint32_t code = i % 16;
    const float center =
        (segment.has_levels ? segment.levels[15] : (1u << segment.bits) - 1) /
        2.0f;
    less[i / 16][code] =
        (segment.has_levels ? segment.levels[code] : code) - center;
  }
  __syncthreads();
  Room* const room = &rooms[threadIdx.x / 32];
  const uint32_t base = (blockIdx.x * kWarps + threadIdx.x / 32) * kEncodedRows;
  if (base >= count) return;
  const uint32_t num_rows = min(kEncodedRows, count - base);
  // Lanes without a row do as the last one and write nothing.
  const uint32_t row = base + min(lane, num_rows - 1);
  uint8_t* const record = records + size_t{row} * layout.record_bytes;
  const bool writes = lane < num_rows;
  const uint32_t centre = kHasCentres ? CentreOf(terms, first_row + row) : 0;
  double with_centre = 0;
  uint32_t num_segments = layout.num_segments;
  while (num_segments > 0 && layout.segments[num_segments - 1].num_dims == 0) {
    --num_segments;
  }
  for (uint32_t s = 0; s < num_segments; ++s) {
    const uint32_t offset = layout.segments[s].query_offset;
    double norm2;
    SegmentSums sums;
    const bool is_there = EncodeSegment<kHasCentres>(
        coding, s, less[s], coded + size_t{base} * terms.num_coded + offset,
        num_rows,
        kHasCentres
            ? terms.coded_centres + size_t{centre} * terms.num_coded + offset
            : nullptr,
        terms.adjust_rounds == 0 ? nullptr
                                 : codes + size_t{base} * terms.num_coded +
                                       size_t{offset} * 32 + lane,
        room, lane, record, &norm2, &sums);
    const float rescale = is_there && sums.ip > 0
                              ? __double2float_rn(__ddiv_rn(norm2, sums.ip))
                              : 0.0f;
    const float unit = terms.units[s];
    float stored = unit > 0 ? __fdiv_rn(rescale, unit) : 0.0f;
    if (writes) stored = PutRescale(layout, stored, s, record);
    if constexpr (kHasCentres) {
      with_centre = __dadd_rn(
          with_centre, __dmul_rn(__dmul_rn(stored, unit), sums.with_centre));
    }
  }
  // Over the row itself; products of floats are exact.
  double squares = 0;
  double with_mean = 0;
  double product = 0;
  const float* const own =
      kHasCentres ? terms.centres + size_t{centre} * terms.dim : nullptr;
  for (uint32_t first = 0; first < terms.dim; first += kTile) {
    const uint32_t n = min(kTile, static_cast<uint32_t>(terms.dim) - first);
    Fill(room, centred + size_t{base} * terms.dim + first, terms.dim, num_rows,
         n, lane);
    float sum = 0;
    for (uint32_t i = 0; i < n; ++i) {
      const float v = room->tile[i][lane];
      sum = AddProduct(sum, v, v);
      with_mean = fma(double{v}, double{terms.mean[first + i]}, with_mean);
      if constexpr (kHasCentres) {
        product = fma(double{v}, double{own[first + i]}, product);
      }
    }
    squares += sum;
  }
  const bool is_l2 = coding.metric == Metric::kL2;
  double additive = is_l2 ? squares : -with_mean;
  if constexpr (kHasCentres) {
    product = __dsub_rn(product, with_mean);
    const double missing = __dsub_rn(product, with_centre);
    additive = is_l2 ? __dadd_rn(additive, 2 * product) : -missing;
    if (num_segments < layout.num_segments && terms.missing_unit > 0 &&
        writes) {
      PutRescale(layout,
                 __double2float_rn(__ddiv_rn(missing, terms.missing_unit)),
                 num_segments, record);
    }
  }
  if (writes) {
    *reinterpret_cast<float*>(record + layout.additive_offset) =
        __double2float_rn(additive);
  }
}

}  // namespace

cudaError_t CentreRows(const DeviceRows& rows, const DeviceCoding& coding,
                       uint32_t first, uint32_t count, float* centred,
                       cudaStream_t stream) {
  return ForType(rows, [&]<class Element>() {
    const uint32_t blocks =
        std::min((count + kWarps - 1) / kWarps, kManyBlocks);
    CentreKernel<Element>
        <<<blocks, kThreads, 0, stream>>>(rows, coding, first, count, centred);
    return cudaGetLastError();
  });
}

cudaError_t RotateFast(const DeviceCoding& coding, uint32_t count,
                       const float* centred, float* coded,
                       cudaStream_t stream) {
  const size_t shared = coding.terms.num_coded * sizeof(float);
  const cudaError_t allowed = AllowShared(RotateFastKernel, shared);
  if (allowed != cudaSuccess) return allowed;
  RotateFastKernel<<<count, kThreads, shared, stream>>>(coding, centred, coded);
  return cudaGetLastError();
}

cudaError_t EncodeRows(const DeviceCoding& coding, uint32_t first,
                       uint32_t count, const float* centred, const float* coded,
                       uint8_t* codes, uint8_t* records, cudaStream_t stream) {
  constexpr uint32_t kRows = kWarps * kEncodedRows;
  const uint32_t blocks = (count + kRows - 1) / kRows;
  const auto kernel = coding.terms.centres != nullptr ? EncodeKernel<true>
                                                      : EncodeKernel<false>;
  kernel<<<blocks, kThreads, 0, stream>>>(coding, first, count, centred, coded,
                                          codes, records);
  return cudaGetLastError();
}

}  // namespace vicinal::gpu
