#include <algorithm>
#include <cmath>

#include "cuda/cuda_kernels.h"
#include "cuda/views.h"

namespace inkstone {
namespace {

constexpr int64_t kBandScores = int64_t{16} << 20;  // scores held at a time, unless one row has more

/// What to add to a row of a stream to find its joined row, for each sequence.
std::vector<int32_t> shifts(const JoinedSequences& joined, size_t stream) {
  std::vector<int32_t> shift;
  for (int64_t s = 0; s < joined.count(); ++s)
    shift.push_back(static_cast<int32_t>(joined.begin(s, stream) - joined.streams[stream].begin(s)));
  return shift;
}

/// All tiles of all streams, of at most so many queries, which are of one stream and sequence. `keys`: where those of
/// each sequence begin.
std::vector<cuda::Tile> tiles_of(const JoinedSequences& joined, int64_t queries, const std::vector<int64_t>& keys) {
  std::vector<cuda::Tile> tiles;
  for (int64_t s = 0; s < joined.count(); ++s) {
    const int64_t first = keys[static_cast<size_t>(s)];
    for (size_t p = 0; p < joined.streams.size(); ++p) {
      const Sequences& stream = joined.streams[p];
      for (int64_t i = 0; i < stream.length(s); i += queries)
        tiles.push_back({.key_begin = static_cast<int32_t>(first),
                         .key_end = static_cast<int32_t>(first + joined.end(s) - joined.begin(s)),
                         .query = static_cast<int32_t>(joined.begin(s, p) + i),
                         .queries = static_cast<int32_t>(std::min(queries, stream.length(s) - i)),
                         .out_row = static_cast<int32_t>(stream.begin(s) + i),
                         .stream = static_cast<int32_t>(p)});
    }
  }
  return tiles;
}

/// On the device, as context.table() keeps them.
template <class Record>
const Record* table_of(CudaContext& context, const std::vector<Record>& records) {
  static_assert(sizeof(Record) % sizeof(int32_t) == 0);
  const auto* words = reinterpret_cast<const int32_t*>(records.data());
  return reinterpret_cast<const Record*>(
      context.table({words, words + records.size() * (sizeof(Record) / sizeof(int32_t))}));
}

cuda::FlashAttention flash_of(std::span<Tensor> out, const Qkv& in) {
  cuda::FlashAttention a = {.q = in.q.data<void>(),
                            .k = in.k.data<void>(),
                            .v = in.v.data<void>(),
                            .rows = in.q.dim(0),
                            .heads = static_cast<int32_t>(in.q.dim(1)),
                            .kv_heads = static_cast<int32_t>(in.k.dim(1)),
                            .width = static_cast<int32_t>(in.q.dim(2))};
  for (size_t p = 0; p < out.size(); ++p) a.out[p] = out[p].data<void>();
  return a;
}

void place_tiles(cuda::FlashAttention& a, CudaContext& context, const std::vector<cuda::Tile>& tiles) {
  a.tiles = table_of(context, tiles);
  a.tile_count = static_cast<int32_t>(tiles.size());
}

/// Blocks of keys of all sequences one after the other, and where the keys of each sequence begin in them.
struct KeyBlocks {
  std::vector<cuda::KeyBlock> blocks;
  std::vector<int64_t> begins;

  explicit KeyBlocks(const JoinedSequences& joined) {
    for (int64_t s = 0; s < joined.count(); ++s) {
      begins.push_back(static_cast<int64_t>(blocks.size()) * cuda::kCodedKeys);
      for (int64_t first = joined.begin(s); first < joined.end(s); first += cuda::kCodedKeys)
        blocks.push_back({.first = static_cast<int32_t>(first),
                          .begin = static_cast<int32_t>(joined.begin(s)),
                          .end = static_cast<int32_t>(joined.end(s))});
    }
  }
  int64_t count() const { return static_cast<int64_t>(blocks.size()); }
};

/// What coded attention holds: see CodedQkv.
struct CodedShapes {
  Shape q, q_scales, k, v, scales;

  CodedShapes(const Qkv& in, int64_t blocks)
      : q(in.q.shape()),
        q_scales({in.q.dim(1), in.q.dim(0)}),
        k({in.k.dim(1), blocks, cuda::kCodedKeys, cuda::kCodedHeadWidth}),
        v({in.k.dim(1), blocks, cuda::kCodedValueRows, cuda::kCodedSlots}),
        scales({in.k.dim(1), blocks, sizeof(cuda::KeyBlockScales) / sizeof(float)}) {}
};

}  // namespace

void CudaKernels::join_qkv(Qkv& out, std::span<const QkvPart> parts, float eps) {
  Waiting waiting = take_waiting(parts);  // before anything goes into the stream
  for (Tensor* t : {&out.q, &out.k, &out.v}) *t = retyped(*t, context_.operand_or(t->dtype()));
  const cuda::Joined joined = {.q = output(out.q),
                               .k = output(out.k),
                               .v = output(out.v),
                               .heads = static_cast<int32_t>(out.q.dim(1)),
                               .kv_heads = static_cast<int32_t>(out.k.dim(1)),
                               .width = static_cast<int32_t>(out.q.dim(2)),
                               .eps = eps};
  const auto floats = [](const Tensor& t) { return t ? t.data<const float>() : nullptr; };
  std::vector<cuda::JoinPart> placed;
  for (size_t p = 0; p < parts.size(); ++p) {
    const QkvPart& part = parts[p];
    placed.push_back({.rows = part.qkv.dim(0),
                      .qkv = numbers(part.qkv),
                      .q_norm = floats(part.q_norm),
                      .k_norm = floats(part.k_norm),
                      .cos_sin = floats(part.rope.cos_sin),
                      .halves = part.rope.pairs == RopeTable::Pairs::halves,
                      .sequences = sequence_starts(context_, *part.sequences),
                      .shift = context_.table(shifts(out.sequences, p))});
  }
  join(std::move(waiting), placed, joined);
  check_launch("join_qkv");
}

void CudaKernels::flash_attention(std::span<Tensor> out, const Qkv& in, bool causal) {
  cuda::FlashAttention a = flash_of(out, in);
  a.causal = causal;
  std::vector<int64_t> begins;
  for (int64_t s = 0; s < in.sequences.count(); ++s) begins.push_back(in.sequences.begin(s));
  place_tiles(a, context_, tiles_of(in.sequences, cuda::kTileQueries, begins));
  if (a.width == cuda::kWideFlashWidth) {
    cuda::attention_wide(a, context_.stream());
  } else if (context_.has_wgmma() && a.width == cuda::kMaxFlashWidth) {
    cuda::attention_wgmma(a, context_.stream());
  } else {
    cuda::attention_mma(a, context_.stream());
  }
}

/// In shorter sequences rounding takes longer than it saves: of bf16's time 1088 rows take 1.45, 2304 1.05, 3136 1.02,
/// 4160 0.88 and 6953 0.85 (24 heads, H200).
bool CudaKernels::codes_attention(const Qkv& in) const {
  constexpr int64_t kLeastRows = 3584;
  for (int64_t s = 0; s < in.sequences.count(); ++s)
    if (in.sequences.end(s) - in.sequences.begin(s) < kLeastRows) return false;
  return context_.rounds_attention() && context_.has_wgmma() && in.q.dim(2) == cuda::kCodedHeadWidth &&
         in.sequences.streams.size() <= cuda::kMaxStreams;
}

void CudaKernels::coded_attention(std::span<Tensor> out, const Qkv& in) {
  cuda::FlashAttention a = flash_of(out, in);
  const KeyBlocks keys(in.sequences);
  place_tiles(a, context_, tiles_of(in.sequences, cuda::kCodedQueries, keys.begins));
  const CodedShapes shapes(in, keys.count());
  const Tensor q = context_.empty(shapes.q, DType::i8), q_scales = context_.empty(shapes.q_scales, DType::f32);
  const Tensor k = context_.empty(shapes.k, DType::i8), v = context_.empty(shapes.v, DType::f8_e4m3);
  const Tensor scales = context_.empty(shapes.scales, DType::f32);
  const cuda::CodedQkv coded = {.q = q.data<int8_t>(),
                                .q_scales = q_scales.data<float>(),
                                .k = k.data<int8_t>(),
                                .v = static_cast<uint8_t*>(v.data<void>()),
                                .scales = static_cast<cuda::KeyBlockScales*>(scales.data<void>()),
                                .blocks = table_of(context_, keys.blocks),
                                .block_count = static_cast<int32_t>(keys.count())};
  cuda::code_qkv(coded, a, context_.stream());
  cuda::attention_8bit(a, coded, context_.stream());
}

/// One stream's queries, a band at a time: scores, softmax, sum, each a launch for all key heads.
void CudaKernels::attention_by_products(Tensor& out, const Qkv& in, size_t stream, bool causal) {
  const int64_t heads = in.q.dim(1), kv_heads = in.k.dim(1), c = in.q.dim(2), sharing = heads / kv_heads;
  const JoinedSequences& joined = in.sequences;
  const Sequences& queries = joined.streams[stream];
  const DType type = in.q.dtype();
  const auto at = [](const Tensor& t, int64_t row, int64_t head) {
    return t.data<std::byte>() + static_cast<size_t>((row * t.dim(-2) + head) * t.dim(-1)) * size_of(t.dtype());
  };
  const Tensor by_heads = out.reshape({out.dim(0), heads, c});
  for (int64_t s = 0; s < joined.count(); ++s) {
    const int64_t keys = joined.end(s) - joined.begin(s);
    const int64_t most = std::max<int64_t>(1, kBandScores / std::max<int64_t>(1, keys * kv_heads));
    for (int64_t first = 0; first < queries.length(s); first += most) {
      const int64_t band = std::min(most, queries.length(s) - first);
      const int64_t query = joined.begin(s, stream) + first;
      const Tensor scores = context_.empty({kv_heads, band, keys}, DType::f32);
      const Tensor weights = type == DType::f32 ? scores : context_.empty(scores.shape(), type);
      for (int64_t j = 0; j < sharing; ++j) {
        context_.multiply({.type = type,
                           .rows = band,
                           .outs = keys,
                           .depth = c,
                           .x = {at(in.q, query, j), heads * c, sharing * c},
                           .w = {at(in.k, joined.begin(s), 0), kv_heads * c, c},
                           .d = output(scores),
                           .d_stride = keys,
                           .d_step = band * keys,
                           .batch = kv_heads});
        cuda::softmax({.out = output(weights),
                       .scores = scores.data<const float>(),
                       .batch = kv_heads,
                       .queries = band,
                       .keys = keys,
                       .factor = 1 / std::sqrt(static_cast<float>(c)),
                       .first = causal ? query - joined.begin(s) : -1},
                      context_.stream());
        context_.multiply({.type = type,
                           .rows = band,
                           .outs = c,
                           .depth = keys,
                           .x = {weights.data<void>(), keys, band * keys},
                           .w = {at(in.v, joined.begin(s), 0), kv_heads * c, c},
                           .upright = true,
                           .d = {at(by_heads, queries.begin(s) + first, j), out.dtype()},
                           .d_stride = heads * c,
                           .d_step = sharing * c,
                           .batch = kv_heads});
      }
    }
  }
}

namespace {

/// What attention computes in. Flash attention copies 16 bytes at a time; products of odd widths have no fast kernels
/// in bf16 either.
DType type_for_heads(const CudaContext& context, int64_t width) {
  return context.narrow() && width % 8 == 0 ? DType::bf16 : DType::f32;
}

}  // namespace

/// Queries, keys and values come as the device holds operands, and so do results.
size_t CudaKernels::attention_bytes(const Qkv& in) const {
  const DType type = type_for_heads(context_, in.q.dim(2));
  ScratchBytes scratch(context_.memory());
  if (type != context_.operand_type())
    for (const Tensor& t : {in.q, in.k, in.v, in.q}) scratch.add(t.shape(), type);  // all results are as large as q
  if (codes_attention(in)) {
    const CodedShapes shapes(in, KeyBlocks(in.sequences).count());
    for (const Shape& shape : {shapes.q, shapes.k, shapes.v}) scratch.add(shape, DType::i8);
    for (const Shape& shape : {shapes.q_scales, shapes.scales}) scratch.add(shape, DType::f32);
  }
  return scratch.bytes();
}

void CudaKernels::attention(std::span<Tensor> out, const Qkv& in, const AttentionOptions& options) {
  const int64_t c = in.q.dim(2);
  const DType type = type_for_heads(context_, c);
  const Qkv operands = {as_type(context_, in.q, type), as_type(context_, in.k, type), as_type(context_, in.v, type),
                        in.sequences};
  std::vector<Tensor> results;
  for (const Tensor& t : out)
    results.push_back(size_of(type) > size_of(t.dtype()) ? context_.empty(t.shape(), type) : retyped(t, type));
  const bool has_kernel = c <= cuda::kMaxFlashWidth || (c == cuda::kWideFlashWidth && context_.has_wgmma());
  if (options.tolerant && !options.causal && codes_attention(operands)) {
    coded_attention(results, operands);
  } else if (type == DType::bf16 && has_kernel && out.size() <= cuda::kMaxStreams) {
    flash_attention(results, operands, options.causal);
  } else {
    for (size_t p = 0; p < out.size(); ++p) attention_by_products(results[p], operands, p, options.causal);
  }
  for (size_t p = 0; p < out.size(); ++p) {
    if (results[p].buffer() == out[p].buffer()) {
      out[p] = results[p];
    } else {
      cuda::convert(output(out[p]), numbers(results[p]), out[p].count(), context_.stream());
    }
  }
  check_launch("attention");
}

}  // namespace inkstone
