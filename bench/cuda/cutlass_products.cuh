// CUTLASS's kernels for Hopper, put together by its builders: see cutlass_products.h.
#pragma once
#include <cutlass/cutlass.h>
#include <cutlass/epilogue/collective/collective_builder.hpp>
#include <cutlass/epilogue/fusion/sm90_callbacks_tma_warpspecialized.hpp>
#include <cutlass/epilogue/thread/activation.h>
#include <cutlass/gemm/collective/collective_builder.hpp>
#include <cutlass/gemm/device/gemm_universal_adapter.h>
#include <cutlass/gemm/kernel/gemm_universal.hpp>
#include <cutlass/kernel_hardware_info.h>
#include <memory>
#include <string>
#include <type_traits>

#include "cutlass_products.h"

namespace ladder {

namespace fusion = cutlass::epilogue::fusion;
using Bf16 = cutlass::bfloat16_t;
using E4m3 = cutlass::float_e4m3_t;

template <template <class> class Function, class To, class... From>
using Node =
    fusion::Sm90EVT<fusion::Sm90Compute<Function, To, float, cutlass::FloatRoundStyle::round_to_nearest>, From...>;
template <class Tile, class T>
using PerOutput = fusion::Sm90RowBroadcast<0, Tile, T, float>;
template <class Tile, class T>
using PerRow = fusion::Sm90ColBroadcast<0, Tile, T, float>;

/// x wᵀ + bias, and in FP8 the factors of both.
template <class Tile, class Input>
struct Sums {
  using Tree = Node<cutlass::plus, float, fusion::Sm90AccFetch, PerOutput<Tile, Bf16>>;
  static typename Tree::Arguments arguments(const CutlassOperands& o) {
    return {{}, {reinterpret_cast<const Bf16*>(o.bias)}, {}};
  }
};
template <class Tile>
struct Sums<Tile, E4m3> {
  using Scaled = Node<cutlass::multiplies, float, fusion::Sm90AccFetch, PerRow<Tile, float>>;
  using Tree = Node<cutlass::homogeneous_multiply_add, float, Scaled, PerOutput<Tile, float>, PerOutput<Tile, Bf16>>;
  static typename Tree::Arguments arguments(const CutlassOperands& o) {
    return {{{}, {o.x_scales}, {}}, {o.w_scales}, {reinterpret_cast<const Bf16*>(o.bias)}, {}};
  }
};

template <class Tile, class Input, bool kGated>
struct Ending {
  using Tree = Node<cutlass::epilogue::thread::GELU_taylor, Bf16, typename Sums<Tile, Input>::Tree>;
  using Output = Bf16;
  using Source = void;
  static typename Tree::Arguments arguments(const CutlassOperands& o) { return {Sums<Tile, Input>::arguments(o), {}}; }
};
template <class Tile, class Input>
struct Ending<Tile, Input, true> {
  using Tree = Node<cutlass::homogeneous_multiply_add, float, PerOutput<Tile, float>, typename Sums<Tile, Input>::Tree,
                    fusion::Sm90SrcFetch<float>>;
  using Output = float;
  using Source = float;
  static typename Tree::Arguments arguments(const CutlassOperands& o) {
    return {{o.gate}, Sums<Tile, Input>::arguments(o), {}, {}};
  }
};

template <class Input, class Tile, class Schedule, class EndingSchedule, bool kGated>
struct CutlassKernel {
  using Row = cutlass::layout::RowMajor;
  using Column = cutlass::layout::ColumnMajor;
  using Cluster = cute::Shape<cute::_2, cute::_1, cute::_1>;
  using End = Ending<Tile, Input, kGated>;
  template <class T>
  static constexpr int kAligned = 16 / sizeof(T);

  using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Tile, Cluster,
      cutlass::epilogue::collective::EpilogueTileAuto, float, float, typename End::Source, Row,
      kAligned<typename End::Output>, typename End::Output, Row, kAligned<typename End::Output>, EndingSchedule,
      typename End::Tree>::CollectiveOp;
  using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Input, Row, kAligned<Input>, Input, Column, kAligned<Input>,
      float, Tile, Cluster,
      cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(sizeof(typename Epilogue::SharedStorage))>,
      Schedule>::CollectiveOp;
  using Kernel = cutlass::gemm::kernel::GemmUniversal<cute::Shape<int, int, int, int>, Mainloop, Epilogue,
                                                      cutlass::gemm::PersistentScheduler>;
  using Gemm = cutlass::gemm::device::GemmUniversalAdapter<Kernel>;

  static typename Gemm::Arguments arguments(const CutlassOperands& o, const void* w, int swizzle) {
    const auto rows_of = [](int width) { return cute::make_stride(int64_t{width}, cute::_1{}, int64_t{0}); };
    typename Gemm::Arguments made{
        cutlass::gemm::GemmUniversalMode::kGemm,
        {o.rows, o.outs, o.depth, 1},
        {static_cast<const Input*>(o.x), rows_of(o.depth), static_cast<const Input*>(w), rows_of(o.depth)},
        {End::arguments(o), nullptr, rows_of(o.outs), static_cast<typename End::Output*>(o.out), rows_of(o.outs)}};
    if constexpr (kGated) made.epilogue.ptr_C = o.residual;
    made.hw_info.sm_count = cutlass::KernelHardwareInfo::query_device_multiprocessor_count();
    made.scheduler.max_swizzle_size = swizzle;
    return made;
  }

  /// What the host prepares is done here, once for each copy of the weights.
  static Step step(const std::string& name, const CutlassOperands& o, int swizzle) {
    auto gemms = std::make_shared<std::vector<Gemm>>(o.weights.size());
    for (size_t i = 0; i < gemms->size(); ++i) {
      const typename Gemm::Arguments given = arguments(o, o.weights[i], swizzle);
      must(Gemm::can_implement(given) == cutlass::Status::kSuccess, name + ": not for these sizes");
      must(Gemm::get_workspace_size(given) == 0, name + ": needs memory that it is not given");
      must((*gemms)[i].initialize(given) == cutlass::Status::kSuccess, name + ": preparing failed");
    }
    return {name, [gemms, name](int round) {
              Gemm& gemm = (*gemms)[static_cast<size_t>(round) % gemms->size()];
              must(gemm.run(nullptr) == cutlass::Status::kSuccess, name + ": starting failed");
            }};
  }
};

/// By the order of tiles, whose number is how many columns of them the kernel may take before it goes to the next rows.
template <class Kernel>
void add_steps(std::vector<Step>& steps, const std::string& name, const CutlassOperands& o) {
  for (const int order : {1, 8}) steps.push_back(Kernel::step(name + ", order " + std::to_string(order), o, order));
}

constexpr int kLineBytes = 128;  // of a tile's row
template <class Input>
using Depth = cute::Int<kLineBytes / sizeof(Input)>;

/// Two groups of warps have half of a tile each.
template <class Input, class Schedule, bool kGated>
void add_wide(std::vector<Step>& steps, const CutlassOperands& o) {
  using Tile = cute::Shape<cute::_128, cute::_256, Depth<Input>>;
  using Ending = cutlass::epilogue::TmaWarpSpecializedCooperative;
  add_steps<CutlassKernel<Input, Tile, Schedule, Ending, kGated>>(steps, "CUTLASS 128x256", o);
}

/// Two groups of warps have a tile each: one multiplies while the other writes.
template <class Input, class Schedule, bool kGated>
void add_square(std::vector<Step>& steps, const CutlassOperands& o) {
  using Tile = cute::Shape<cute::_128, cute::_128, Depth<Input>>;
  using Ending = cutlass::epilogue::TmaWarpSpecialized;
  add_steps<CutlassKernel<Input, Tile, Schedule, Ending, kGated>>(steps, "CUTLASS 128x128", o);
}

template <class Input, class Together, class InTurns>
std::vector<Step> cutlass_steps(const CutlassOperands& o) {
  std::vector<Step> steps;
  if (o.gate != nullptr) {
    add_wide<Input, Together, true>(steps, o);
    add_square<Input, InTurns, true>(steps, o);
  } else {
    add_wide<Input, Together, false>(steps, o);
    add_square<Input, InTurns, false>(steps, o);
  }
  return steps;
}

}  // namespace ladder
