#include "model/bands.h"

#include <algorithm>
#include <utility>

namespace inkstone {
namespace {

constexpr int64_t kTaps = 3;  // rows of a kernel

/// Which rows `x` allows for.
struct Reach {
  int64_t end = 0;         // of the output rows whose inputs are there
  int64_t next_input = 0;  // the first input row that those after them read
};

/// Output row o reads rows o * stride - before + [0, 3) of the input, after up-sampling.
Reach reach_of(const Conv2d& conv, const Band& x) {
  const int64_t up = conv.upsampling, stride = conv.stride;
  if (x.end() == x.height) return {.end = x.height * up / stride, .next_input = x.height};
  const int64_t before = conv.padding == Padding::same ? 1 : 0;
  const int64_t end = (x.end() * up + before - kTaps + stride) / stride;
  const int64_t first_read = std::max<int64_t>(0, end * stride - before);
  return {.end = end, .next_input = std::max(x.first, first_read / up / stride * stride)};
}

}  // namespace

Band Band::cut(int64_t begin, int64_t end) const {
  if (begin == first && end == this->end()) return *this;
  Band part = {.first = begin, .height = height};
  if (begin == end) return part;
  check(rows.dim(0) == 1, "{} pictures in one band: only one can be parted", rows.dim(0));
  const Shape& s = rows.shape();
  part.rows = rows.reshape({s[1], s[2], s[3]}).rows(begin - first, end - first).reshape({1, end - begin, s[2], s[3]});
  return part;
}

Band joined(Ops& ops, Band upper, Band lower) {
  if (!upper.rows) return lower;
  if (!lower.rows) return upper;
  const Shape& s = lower.rows.shape();
  const auto flat = [&](const Tensor& rows) { return rows.reshape({rows.dim(1), s[2], s[3]}); };
  const int64_t rows = upper.rows.dim(1) + s[1];
  upper.rows = ops.concat_rows({flat(upper.rows), flat(lower.rows)}).reshape({1, rows, s[2], s[3]});
  return upper;
}

Band copy_of(Ops& ops, Band band) {
  return by_row(std::move(band), [&](const Tensor& rows) {
    const Tensor flat = rows.reshape({rows.dim(1), rows.dim(2), rows.dim(3)});
    return ops.concat_rows({flat}).reshape(rows.shape());
  });
}

Band BandedConv::run(Ops& ops, const Conv2d& conv, Band x, const Band& residual) {
  x = joined(ops, std::exchange(held_, {}), std::move(x));
  if (!x.rows) return {};
  const Reach reach = reach_of(conv, x);
  Band y = {.first = x.first * conv.upsampling / conv.stride, .height = x.height * conv.upsampling / conv.stride};
  if (done_ < reach.end) {
    const Tensor added = residual.rows ? residual.cut(x.first, x.end()).rows : Tensor();
    y.rows = ops.conv2d(x.rows, conv, added);
    y = y.cut(done_, reach.end);
    done_ = reach.end;
  }
  held_ = copy_of(ops, x.cut(reach.next_input, x.end()));
  return y;
}

}  // namespace inkstone
