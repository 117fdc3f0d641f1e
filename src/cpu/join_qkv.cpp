#include <cstring>

#include "cpu/cpu_kernels.h"
#include "cpu/row_blocks.h"

namespace inkstone {
namespace {

/// What happens to the heads of q, or of k.
struct HeadSteps {
  const float* norm = nullptr;     // weight (c), or null
  const float* cos_sin = nullptr;  // of the row's position, or null
  RopeTable::Pairs pairs = RopeTable::Pairs::neighbours;
  float eps = 0;
};

void write_heads(const VectorOps& vector, const HeadSteps& steps, const float* from, float* to, int64_t count,
                 int64_t c) {
  for (int64_t head = 0; head < count; ++head, from += c, to += c) {
    const float* x = from;
    if (steps.norm != nullptr) {
      vector.rms_norm(x, steps.norm, steps.eps, Activation::none, c, to);
      x = to;
    }
    if (steps.cos_sin == nullptr) {
      if (x != to) std::memcpy(to, x, static_cast<size_t>(c) * sizeof(float));
    } else if (steps.pairs == RopeTable::Pairs::neighbours) {
      vector.rope_neighbours(x, steps.cos_sin, c, to);
    } else {
      vector.rope_halves(x, steps.cos_sin, c, to);
    }
  }
}

const float* numbers_of(const Tensor& tensor) { return tensor ? tensor.data<const float>() : nullptr; }

}  // namespace

void CpuKernels::join_qkv(Qkv& out, std::span<const QkvPart> parts, float eps) {
  const int64_t heads = out.q.dim(1), kv_heads = out.k.dim(1), c = out.q.dim(2);
  const int64_t q_width = heads * c, kv_width = kv_heads * c;
  std::vector<int64_t> rows;
  for (const QkvPart& part : parts) rows.push_back(part.qkv.dim(0));
  for_row_blocks(pool_, rows, q_width + 2 * kv_width, [&](const RowBlock& block) {
    const QkvPart& part = parts[block.part];
    const Sequences& sequences = *part.sequences;
    HeadSteps q = {.norm = numbers_of(part.q_norm), .pairs = part.rope.pairs, .eps = eps};
    HeadSteps k = {.norm = numbers_of(part.k_norm), .pairs = part.rope.pairs, .eps = eps};
    int64_t s = 0;
    for (int64_t row = block.begin; row < block.end; ++row) {
      while (row >= sequences.end(s)) ++s;
      const int64_t to = out.sequences.begin(s, block.part) + row - sequences.begin(s);
      if (part.rope) q.cos_sin = k.cos_sin = part.rope.cos_sin.data<const float>() + row * c;
      const float* from = part.qkv.data<const float>() + row * (q_width + 2 * kv_width);
      write_heads(vector_, q, from, out.q.data<float>() + to * q_width, heads, c);
      write_heads(vector_, k, from + q_width, out.k.data<float>() + to * kv_width, kv_heads, c);
      std::memcpy(out.v.data<float>() + to * kv_width, from + q_width + kv_width,
                  static_cast<size_t>(kv_width) * sizeof(float));
    }
  });
}

}  // namespace inkstone
