// Local layers over pictures in bands of rows, from top to bottom, so that whole pictures need not fit into memory.
//
// What a layer still needs of one band is kept for the next: no row is computed twice but those at a band's edges, and
// the zeros around a picture are only ever its own. So a result does not depend on the bands.
#pragma once
#include "ops/ops.h"

namespace inkstone {

/// Some rows of pictures (count, n, w, c). Only a single picture can be parted.
struct Band {
  Tensor rows;  // absent: none
  int64_t first = 0;
  int64_t height = 0;  // rows of the whole picture

  int64_t end() const { return rows ? first + rows.dim(1) : first; }

  /// Rows [begin, end) of the picture; shares the memory.
  Band cut(int64_t begin, int64_t end) const;
};

/// All rows of pictures.
inline Band whole(Tensor pictures) {
  const int64_t height = pictures.dim(1);
  return {.rows = std::move(pictures), .first = 0, .height = height};
}

/// `upper` and what follows it as one band.
Band joined(Ops& ops, Band upper, Band lower);

/// The same rows in memory of their own, so that the band they were cut from need not be kept.
Band copy_of(Ops& ops, Band band);

/// A layer that computes each row from the same row alone.
Band by_row(Band x, const auto& layer) {
  if (x.rows) x.rows = layer(x.rows);
  return x;
}

/// A 3x3 convolution that is given a picture band by band.
class BandedConv {
 public:
  /// The rows of the output that `x` and what was given before allow for, in order; none may be.
  /// `residual`, if any, holds at least the rows of the picture from next_row() to the end of `x`.
  Band run(Ops& ops, const Conv2d& conv, Band x, const Band& residual = {});

  /// The first row of the picture that the next call will read.
  int64_t next_row() const { return held_.first; }

 private:
  Band held_;         // rows of the input that are still needed
  int64_t done_ = 0;  // rows of the output
};

}  // namespace inkstone
