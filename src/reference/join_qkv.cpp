#include "reference/formulas.h"
#include "reference/reference_kernels.h"

namespace inkstone {
namespace {

using Head = std::vector<double>;  // the c numbers of one head in one row

Head read(const float* from, int64_t width) { return {from, from + width}; }

void write(const Head& head, float* to) {
  for (const double x : head) *to++ = static_cast<float>(x);
}

void norm(Head& head, const Tensor& weight, double eps) {
  double squares = 0;
  for (const double x : head) squares += x * x;
  const double root = std::sqrt(squares / static_cast<double>(head.size()) + eps);
  for (size_t j = 0; j < head.size(); ++j) head[j] = head[j] / root * weight.data<const float>()[j];
}

void rotate(Head& head, const RopeTable& rope, int64_t row) {
  const size_t pairs = head.size() / 2;
  const float* cos_sin = rope.cos_sin.data<const float>() + static_cast<size_t>(row) * pairs * 2;
  for (size_t k = 0; k < pairs; ++k) {
    const bool neighbours = rope.pairs == RopeTable::Pairs::neighbours;
    double& first = head[neighbours ? 2 * k : k];
    double& second = head[neighbours ? 2 * k + 1 : k + pairs];
    const double cos = cos_sin[2 * k], sin = cos_sin[2 * k + 1];
    const double x = first, y = second;
    first = x * cos - y * sin;
    second = x * sin + y * cos;
  }
}

/// One row of one stream to its joined row.
void join_row(Qkv& out, const QkvPart& part, int64_t row, int64_t joined, double eps) {
  const int64_t heads = out.q.dim(1), kv_heads = out.k.dim(1), c = out.q.dim(2);
  const float* from = part.qkv.data<const float>() + row * part.qkv.dim(1);
  for (int64_t h = 0; h < heads + 2 * kv_heads; ++h) {
    Head head = read(from + h * c, c);
    const bool is_q = h < heads, is_k = !is_q && h < heads + kv_heads;
    if (is_q && part.q_norm) norm(head, part.q_norm, eps);
    if (is_k && part.k_norm) norm(head, part.k_norm, eps);
    if ((is_q || is_k) && part.rope) rotate(head, part.rope, row);
    const Tensor& to = is_q ? out.q : is_k ? out.k : out.v;
    const int64_t index = is_q ? h : is_k ? h - heads : h - heads - kv_heads;
    write(head, to.data<float>() + (joined * to.dim(1) + index) * c);
  }
}

}  // namespace

void ReferenceKernels::join_qkv(Qkv& out, std::span<const QkvPart> parts, float eps) {
  for (size_t p = 0; p < parts.size(); ++p) {
    const Sequences& sequences = *parts[p].sequences;
    for (int64_t s = 0; s < sequences.count(); ++s)
      for (int64_t i = 0; i < sequences.length(s); ++i)
        join_row(out, parts[p], sequences.begin(s) + i, out.sequences.begin(s, p) + i, eps);
  }
}

}  // namespace inkstone
