#include "engine/quantize_matrix.h"

#include <algorithm>
#include <cmath>

#include "ops/mixed_codes.h"
#include "ops/quantize.h"

namespace inkstone {
namespace {

constexpr int64_t kPiece = int64_t{1} << 20;  // numbers that a thread takes at once

/// Mixed codes are written in whole strips.
int64_t rows_of_piece(const TensorPlan& plan) {
  const int64_t unit = plan.mixed ? kMixedStrip : 1;
  return std::max<int64_t>(1, kPiece / plan.matrix.in / unit) * unit;
}

int64_t pieces_of(const TensorPlan& plan) { return (plan.matrix.out - 1) / rows_of_piece(plan) + 1; }

/// Rows of a matrix as f32.
struct Piece {
  Piece(const TensorPlan& plan, int64_t index)
      : first_row(index * rows_of_piece(plan)),
        rows(std::min(rows_of_piece(plan), plan.matrix.out - first_row)),
        in(plan.matrix.in),
        numbers(static_cast<size_t>(rows * in)) {
    dequantize_rows(plan.matrix, first_row, first_row + rows, numbers.data());
  }

  int64_t first_row, rows, in;
  std::vector<float> numbers;
};

float greatest_of(const Piece& piece, const std::string& where) {
  float greatest = 0;
  for (const float x : piece.numbers) {
    check(std::isfinite(x), "{}: holds a number that is not finite", where);
    greatest = std::max(greatest, std::abs(x));
  }
  return greatest;
}

Weight in_groups(const Piece& piece, const TensorPlan& plan) {
  const WeightFormat format = plan.target == Target::int4 ? WeightFormat::affine4 : WeightFormat::affine8;
  const BlockLayout& layout = layout_of(format);
  Weight made = {.format = format, .out = piece.rows, .in = piece.in, .group = plan.group};
  made.data = host_tensor({piece.rows, piece.in / layout.numbers * layout.bytes}, DType::u8);
  made.scales = host_tensor({piece.rows, piece.in / plan.group}, DType::bf16);
  made.offsets = host_tensor({piece.rows, piece.in / plan.group}, DType::bf16);
  for (int64_t row = 0; row < piece.rows; ++row)
    quantize_affine(format, piece.numbers.data() + row * piece.in,
                    plan.importance.empty() ? nullptr : plan.importance.data(), piece.in, plan.group,
                    {.blocks = made.data.rows(row, row + 1).data<uint8_t>(),
                     .scales = made.scales.rows(row, row + 1).data<bf16_t>(),
                     .offsets = made.offsets.rows(row, row + 1).data<bf16_t>()});
  return made;
}

Weight in_fp8(const Piece& piece, float scale) {
  Weight made = dense_weight(host_tensor({piece.rows, piece.in}, DType::f8_e4m3));
  made.scales = host_tensor({piece.rows, 1}, DType::f32);
  made.group = piece.in;
  std::ranges::fill(made.scales.span<float>(), scale);
  std::ranges::transform(piece.numbers, made.data.data<uint8_t>(), [&](float x) { return to_e4m3(x / scale); });
  return made;
}

Weight in_floats(const Piece& piece, Target target) {
  const Tensor data = host_tensor({piece.rows, piece.in}, target == Target::f32 ? DType::f32 : DType::bf16);
  if (target == Target::f32) {
    std::ranges::copy(piece.numbers, data.data<float>());
  } else {
    std::ranges::transform(piece.numbers, data.data<bf16_t>(), to_bf16);
  }
  return dense_weight(data);
}

Weight in_mixed_codes(const Piece& piece, Target target, const Tensor& factors) {
  const WeightFormat format = target == Target::int4 ? WeightFormat::affine4 : WeightFormat::affine8;
  Weight made = empty_mixed(format, piece.rows, piece.in, factors);
  quantize_mixed(piece.numbers.data(), made);
  return made;
}

/// What a matrix has beside its numbers.
struct OfMatrix {
  float scale = 1;  // of fp8
  Tensor factors;   // of mixed codes
};

Weight converted(const Piece& piece, const TensorPlan& plan, const OfMatrix& all) {
  if (plan.mixed) return in_mixed_codes(piece, plan.target, all.factors);
  switch (plan.target) {
    case Target::int8:
    case Target::int4:
      return in_groups(piece, plan);
    case Target::fp8:
      return in_fp8(piece, all.scale);
    default:
      return in_floats(piece, plan.target);
  }
}

void write_rows(const Tensor& rows, int64_t first_row, const std::string& name, ShardFile& shard) {
  const size_t row_bytes = rows.bytes() / static_cast<size_t>(rows.dim(0));
  shard.write(name, static_cast<size_t>(first_row) * row_bytes,
              std::as_bytes(std::span(rows.data<char>(), rows.bytes())));
}

/// Of each panel of the matrix the strips that the piece has.
void write_strips(const Weight& made, const Piece& piece, const TensorPlan& plan, ShardFile& shard) {
  const MixedOrder here = {made.out, made.in}, all = {plan.matrix.out, plan.matrix.in};
  const auto write = [&](size_t output, const Tensor& from, int64_t begin, int64_t end, int64_t to) {
    const auto numbers = std::as_bytes(std::span(from.data<char>(), from.bytes()));
    const size_t bytes = size_of(from.dtype());
    shard.write(plan.outputs[output].name, static_cast<size_t>(to) * bytes,
                numbers.subspan(static_cast<size_t>(begin) * bytes, static_cast<size_t>(end - begin) * bytes));
  };
  for (int64_t panel = 0; panel < made.in; panel += kMixedPanel) {
    if (made.offsets) {
      write(0, made.data, here.pairs(0, panel), here.pairs(made.out, panel), all.pairs(piece.first_row, panel));
      write(4, made.offsets, here.steps(0, panel), here.steps(made.out, panel), all.steps(piece.first_row, panel));
    } else {
      write(0, made.data, here.codes(0, panel), here.codes(made.out, panel), all.codes(piece.first_row, panel));
    }
    write(1, made.scales, here.scales(0, panel), here.scales(made.out, panel), all.scales(piece.first_row, panel));
  }
}

void write_piece(const Weight& made, const Piece& piece, const TensorPlan& plan, ShardFile& shard) {
  if (plan.mixed) return write_strips(made, piece, plan, shard);
  write_rows(made.data, piece.first_row, plan.outputs[0].name, shard);
  if (!made.offsets) return;
  write_rows(made.scales, piece.first_row, plan.outputs[1].name, shard);
  write_rows(made.offsets, piece.first_row, plan.outputs[2].name, shard);
}

/// Sums over pieces.
struct Squares {
  double errors = 0;
  double numbers = 0;
};

/// `importance`: of each input; empty: all alike.
Squares squares_of(const Piece& piece, const Weight& made, const std::vector<float>& importance) {
  Squares s;
  std::vector<float> row(static_cast<size_t>(piece.in));
  for (int64_t r = 0; r < piece.rows; ++r) {
    dequantize_rows(made, r, r + 1, row.data());
    const float* numbers = piece.numbers.data() + r * piece.in;
    for (size_t i = 0; i < row.size(); ++i) {
      const double x = numbers[i], difference = double{row[i]} - x, weight = importance.empty() ? 1 : importance[i];
      s.errors += weight * difference * difference;
      s.numbers += weight * x * x;
    }
  }
  return s;
}

float scale_of_fp8(const TensorPlan& plan, const std::string& where, ThreadPool& pool) {
  std::vector<float> greatest(static_cast<size_t>(pieces_of(plan)));
  pool.run(pieces_of(plan),
           [&](int64_t index, int) { greatest[static_cast<size_t>(index)] = greatest_of(Piece(plan, index), where); });
  const float scale = *std::ranges::max_element(greatest) / kGreatestE4m3;
  return scale > 0 ? scale : 1;
}

/// Parts that the whole matrix has, and not each piece.
OfMatrix write_common_parts(const TensorPlan& plan, const std::string& where, ShardFile& shard, ThreadPool& pool) {
  OfMatrix all;
  if (plan.target == Target::fp8) {
    all.scale = scale_of_fp8(plan, where, pool);
    shard.write(plan.outputs[1].name, 0, std::as_bytes(std::span(&all.scale, 1)));
    shard.write(plan.outputs[2].name, 0, std::as_bytes(std::span(kFp8Description)));
  } else if (plan.mixed) {
    all.factors = plan.mixed->factors(pool);
    shard.write(plan.outputs[2].name, 0, std::as_bytes(all.factors.span<const float>()));
    const std::string_view description = plan.target == Target::int4 ? kMixedSmallDescription : kMixedDescription;
    shard.write(plan.outputs[3].name, 0, std::as_bytes(std::span(description)));
  }
  return all;
}

}  // namespace

double write_matrix(const TensorPlan& plan, const std::string& where, ShardFile& shard, ThreadPool& pool,
                    const PieceDone& done) {
  const OfMatrix common = write_common_parts(plan, where, shard, pool);
  std::vector<Squares> squares(static_cast<size_t>(pieces_of(plan)));
  pool.run(pieces_of(plan), [&](int64_t index, int) {
    const Piece piece(plan, index);
    greatest_of(piece, where);
    const Weight made = converted(piece, plan, common);
    write_piece(made, piece, plan, shard);
    squares[static_cast<size_t>(index)] = squares_of(piece, made, plan.importance);
    done(piece.rows * piece.in);
  });
  Squares all;
  for (const Squares& s : squares) all = {all.errors + s.errors, all.numbers + s.numbers};
  check(std::isfinite(all.errors), "{}: its numbers are too large for {}", where, name_of(plan.target));
  return all.numbers > 0 ? std::sqrt(all.errors / all.numbers) : 0;
}

}  // namespace inkstone
