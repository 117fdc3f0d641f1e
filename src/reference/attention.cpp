#include <algorithm>
#include <cmath>

#include "reference/reference_kernels.h"

namespace inkstone {
namespace {

/// What one query row reads: the joined rows [begin, end) of one key head.
struct Keys {
  int64_t begin, end, head;
};

const float* head_of(const Tensor& t, int64_t row, int64_t head) {
  return t.data<const float>() + (row * t.dim(1) + head) * t.dim(2);
}

std::vector<double> softmax_scores(const float* query, const Tensor& k, const Keys& keys) {
  const int64_t c = k.dim(2);
  std::vector<double> scores;
  for (int64_t row = keys.begin; row < keys.end; ++row) {
    const float* key = head_of(k, row, keys.head);
    double dot = 0;
    for (int64_t j = 0; j < c; ++j) dot += double{query[j]} * key[j];
    scores.push_back(dot / std::sqrt(static_cast<double>(c)));
  }
  const double greatest = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - greatest);
  for (double& score : scores) score /= sum;
  return scores;
}

void attend(float* to, const float* query, const Qkv& in, const Keys& keys) {
  const std::vector<double> scores = softmax_scores(query, in.k, keys);
  for (int64_t j = 0; j < in.v.dim(2); ++j) {
    double sum = 0;
    for (int64_t row = keys.begin; row < keys.end; ++row)
      sum += scores[static_cast<size_t>(row - keys.begin)] * head_of(in.v, row, keys.head)[j];
    to[j] = static_cast<float>(sum);
  }
}

}  // namespace

void ReferenceKernels::attention(std::span<Tensor> out, const Qkv& in, const AttentionOptions& options) {
  const int64_t heads = in.q.dim(1), c = in.q.dim(2);
  const int64_t sharing = heads / in.k.dim(1);
  const JoinedSequences& joined = in.sequences;
  for (size_t p = 0; p < out.size(); ++p)
    for (int64_t s = 0; s < joined.count(); ++s)
      for (int64_t i = 0; i < joined.streams[p].length(s); ++i) {
        const int64_t query = joined.begin(s, p) + i;
        const int64_t end = options.causal ? query + 1 : joined.end(s);
        float* row = out[p].data<float>() + (joined.streams[p].begin(s) + i) * heads * c;
        for (int64_t h = 0; h < heads; ++h)
          attend(row + h * c, head_of(in.q, query, h), in, {joined.begin(s), end, h / sharing});
      }
}

}  // namespace inkstone
