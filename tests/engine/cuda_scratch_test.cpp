// What the cuda device takes beside tensors: that it is what a plan counts, and that a plan is enough.
#include <gmock/gmock.h>

#include "engine/bound_memory.h"
#include "engine/tiny_model.h"
#include "model/block_source.h"
#include "ops/attention_problem.h"
#include "ops/random_conv.h"
#include "why_no_fp8.h"

namespace inkstone {
namespace {

constexpr size_t kF32 = sizeof(float);

/// A cuda device, and memory of its pool.
class Metered {
 public:
  explicit Metered(const CudaOptions& options) : device(make_cuda_device(options)), ops(*device) {}

  /// What an op takes at most beside a result of so many bytes. Results have whole blocks of the pool.
  size_t taken_beside(size_t result, const auto& op) {
    op();  // forms of layers, tables and workspaces are made once
    device->reset_peak();
    const size_t before = device->memory().current;
    op();
    return device->memory().peak - before - result;
  }

  Linear placed(Linear layer) {
    device->upload_weights(layer);
    layer.tolerance = std::make_shared<Tolerance>();
    device->round_weights(layer);
    return layer;
  }

  std::unique_ptr<Device> device;
  Ops ops;
};

std::vector<CudaArithmetic> arithmetics() {
  std::vector<CudaArithmetic> all = {CudaArithmetic::f32, CudaArithmetic::bf16, CudaArithmetic::int8};
  if (why_no_fp8().empty()) all.insert(all.end(), {CudaArithmetic::fp8, CudaArithmetic::fp8_all});
  return all;
}

class CudaScratchTest : public TinyModelTest {
 protected:
  void SetUp() override {
    TinyModelTest::SetUp();
    if (const std::string reason = why_no_cuda(); !reason.empty()) GTEST_SKIP() << reason;
  }
};

/// For every arithmetic, with the kernels that every GPU can run and with those that this one takes.
void for_every_way(const auto& check) {
  for (const CudaArithmetic arithmetic : arithmetics())
    for (const bool ampere : {false, true}) {
      SCOPED_TRACE(fmt::format("arithmetic {}, ampere {}", static_cast<int>(arithmetic), ampere));
      Metered metered({.arithmetic = arithmetic, .ampere_kernels = ampere});
      check(metered);
    }
}

TEST_F(CudaScratchTest, OfLinearLayersIsCounted) {
  constexpr int64_t kRows = 1024, kWidth = 512;  // enough to be fused
  const Sequences sequences = Sequences::equal(1, kRows);
  for_every_way([&](Metered& on) {
    const WeightFormat format = *dense_format(on.device->narrow_type());  // not expanded in each call
    const Linear layer = on.placed(tolerant(format, {kWidth}, kWidth, 3));
    const Linear next = on.placed(tolerant(format, {kWidth}, kWidth, 4));
    const Tensor x = on.device->upload(random_normal({kRows, kWidth}, 1));
    const SequenceRows gate = {on.device->upload(random_normal({2, kWidth}, 2)),
                               on.device->upload(host_tensor(std::vector<int32_t>{0})), 1, &sequences};
    const Epilogue epilogues[] = {{},
                                  {.activation = Activation::gelu_tanh, .feeds = &next},
                                  {.activation = Activation::silu},
                                  {.residual = x},
                                  {.gate = gate, .residual = x},
                                  {.activation = Activation::gelu_tanh, .gate = gate, .residual = x}};
    for (const Epilogue& epilogue : epilogues) {
      const std::vector<LinearPart> parts = {{x, &layer, epilogue}};
      EXPECT_EQ(on.taken_beside(kRows * kWidth * kF32, [&] { on.ops.linear(parts); }), on.device->step_bytes(parts))
          << &epilogue - epilogues;
    }
    const Tensor fed = on.ops.linear(x, layer, epilogues[1]);
    const std::vector<LinearPart> parts = {{fed, &next, {.gate = gate, .residual = x}}};
    EXPECT_EQ(on.taken_beside(kRows * kWidth * kF32, [&] { on.ops.linear(parts); }), on.device->step_bytes(parts));
  });
}

TEST_F(CudaScratchTest, OfConvolutionsIsCountedWithWhatTheirReadersCopy) {
  constexpr int64_t kSide = 128, kIn = 64, kOut = 96;
  constexpr size_t kResult = kSide * kSide * kOut * kF32;
  for_every_way([&](Metered& on) {
    const auto placed = [&](Conv2d conv, bool normed) {
      if (normed) conv.norm = random_normal({conv.out()}, 5), conv.norm_options.activation = Activation::silu;
      if (on.device->narrow_type() == DType::bf16) conv.weight = as_bf16(conv.weight);
      for (Tensor* t : {&conv.weight, &conv.bias, &conv.norm})
        if (*t) *t = on.device->upload(*t);
      return conv;
    };
    const Tensor x = on.device->upload(random_normal({1, kSide, kSide, kIn}, 1));
    const Conv2d first = placed(random_conv(kOut, kIn), true), second = placed(random_conv(kOut, kOut), false);
    const Tensor y = on.ops.conv2d(x, first);
    if (on.device->narrow_type() == DType::f32) return;  // bands of a constant size
    const size_t taken = on.taken_beside(kResult, [&] { on.ops.conv2d(x, first); }) +
                         on.taken_beside(kResult, [&] { on.ops.conv2d(y, second); });
    const Tensor as_planned = {y.buffer(), y.offset(), y.shape(), on.device->narrow_type()};
    EXPECT_EQ(taken, on.device->conv_bytes(x, first) + on.device->conv_bytes(as_planned, second));
  });
}

/// Results of a multiple of the pool's blocks. Rows so many, and heads so wide, that fp8_all rounds them.
TEST_F(CudaScratchTest, OfAttentionIsCounted) {
  constexpr int64_t kRows = 4096, kHeads = 4;
  for_every_way([&](Metered& on) {
    const DType type = on.device->narrow_type();
    if (type == DType::f32) return;  // bands of a constant size
    Qkv in = random_qkv({"", {{kRows}}, {kHeads, kHeads, 128}});
    for (Tensor* t : {&in.q, &in.k, &in.v}) *t = on.device->upload(as_bf16(*t));
    const size_t result = static_cast<size_t>(in.q.count()) * size_of(type);
    EXPECT_LE(on.taken_beside(result, [&] { on.ops.attention(in, {.tolerant = true}); }),
              on.device->attention_bytes(in));
  });
}

/// Four pictures whose rows take the kernels of large ones.
Request large_batch() {
  Request request = small_request();
  request.width = request.height = 384;
  request.count = 4;
  request.negative_prompt = "a square";
  request.cfg = 3;
  return request;
}

TEST_F(CudaScratchTest, TheLeastMemoryThatARefusalNamesAndThatOfThePlanAreEnoughForLargeBatches) {
  constexpr size_t kGibibyte = size_t{1} << 30;
  std::vector<Arithmetic> all = {Arithmetic::f32, Arithmetic::int8};
  if (why_no_fp8().empty()) all.push_back(Arithmetic::fp8);
  for (const Arithmetic arithmetic : all) {
    const EngineOptions options = {.model = kTiny, .device = DeviceKind::cuda, .arithmetic = arithmetic};
    const auto pictures_with = [&](size_t limit) {
      EngineOptions bounded = options;
      bounded.memory_limit = limit;
      return Engine::open(bounded).generate(large_batch()).pictures.size();
    };
    const std::string refusal = error_of([&] { pictures_with(kGibibyte); });
    ASSERT_GT(memory_named(refusal), 0) << refusal;
    EXPECT_EQ(pictures_with(memory_named(refusal)), 4u) << static_cast<int>(arithmetic);
    const Plan plan = Engine::open(options).plan(large_batch());
    EXPECT_EQ(plan.batch, 4);
    EXPECT_EQ(pictures_with(plan.needed_bytes), 4u) << static_cast<int>(arithmetic);
  }
}

}  // namespace
}  // namespace inkstone
