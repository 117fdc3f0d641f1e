// What plans of memory count beside a device's tensors: what ops say that they take, for the types that tensors will
// have there.
#include <gmock/gmock.h>
#include <map>
#include <set>

#include "engine/plan_on_device.h"
#include "io/host_device.h"

namespace inkstone {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

constexpr size_t kAmple = size_t{1} << 40;

/// Takes so many bytes for every row of x, and for every pixel, and keeps what it was asked for.
class TakingDevice final : public HostDevice {
 public:
  DType narrow_type() const override { return DType::bf16; }
  std::optional<OwnMemory> own_memory() const override { return OwnMemory{.bytes = kAmple}; }
  size_t step_bytes(std::span<const LinearPart> parts) const override {
    size_t rows = 0;
    for (const LinearPart& part : parts) {
      rows += static_cast<size_t>(part.x.dim(0));
      inputs[{part.layer->in(), part.layer->out()}].insert(part.x.dtype());
    }
    return rows * for_row;
  }
  size_t conv_bytes(const Tensor& x, const Conv2d& conv) const override {
    const auto pixels = static_cast<size_t>(x.dim(0) * x.dim(1) * x.dim(2));
    most_pixels = std::max(most_pixels, pixels);
    pictures[conv.upsampling > 1].insert(x.dtype());
    return pixels * for_pixel;
  }

  size_t for_row = 0, for_pixel = 0;
  mutable std::map<std::pair<int64_t, int64_t>, std::set<DType>> inputs;  // of layers of these sizes
  mutable std::map<bool, std::set<DType>> pictures;                       // that convolutions double, or do not
  mutable size_t most_pixels = 0;
};

class ScratchPlanTest : public PlanOnDevice<TakingDevice> {
 protected:
  /// Bytes of encoding, drawing and decoding.
  std::vector<size_t> stages() const {
    std::vector<size_t> bytes;
    for (const auto& stage : plan(kAmple, kAmple).told.stages) bytes.push_back(stage.own_bytes);
    return bytes;
  }
};

TEST_F(ScratchPlanTest, GrowsWithRowsAndPixels) {
  constexpr size_t kForRow = 1000, kForPixel = 10;
  const std::vector<size_t> without = stages();
  ASSERT_EQ(without.size(), 3u);
  device_.for_row = kForRow;
  const std::vector<size_t> of_rows = stages();
  ASSERT_TRUE(job_.guided);
  const int64_t text_rows = job_.prompt_tokens.kept() + job_.negative_tokens.kept();
  const auto block_rows = static_cast<size_t>(2 * job_.grid.tokens() + text_rows);  // of both streams
  EXPECT_EQ(of_rows[1], without[1] + block_rows * kForRow);
  EXPECT_GT(of_rows[0], without[0]);
  const auto pixels = static_cast<size_t>(job_.width * job_.height);
  EXPECT_EQ(of_rows[2], without[2] + pixels * kForRow) << "decoding has its own alone";
  device_.for_row = 0;
  device_.for_pixel = kForPixel;
  const std::vector<size_t> of_pixels = stages();
  EXPECT_EQ(device_.most_pixels, static_cast<size_t>(job_.width * job_.height));
  EXPECT_THAT(of_pixels, ElementsAre(without[0], without[1], without[2] + device_.most_pixels * kForPixel));
}

TEST_F(ScratchPlanTest, SeesTensorsInTheTypesThatTheDeviceHasThemIn) {
  stages();
  const int64_t width = model_.transformer.width(), in = model_.transformer.in_channels;
  const auto of_layer = [&](int64_t from, int64_t to) { return device_.inputs.at({from, to}); };
  EXPECT_THAT(of_layer(in, width), UnorderedElementsAre(DType::f32)) << "latents";
  EXPECT_THAT(of_layer(width, 3 * width), UnorderedElementsAre(DType::bf16)) << "a norm's result";
  EXPECT_THAT(of_layer(width, 4 * width), UnorderedElementsAre(DType::bf16)) << "a norm's result";
  EXPECT_THAT(of_layer(4 * width, width), UnorderedElementsAre(DType::i8)) << "what a layer feeds";
  EXPECT_THAT(device_.pictures.at(true), UnorderedElementsAre(DType::f32)) << "a residual stream";
  EXPECT_THAT(device_.pictures.at(false), UnorderedElementsAre(DType::f32, DType::bf16)) << "latents, and norms";
}

}  // namespace
}  // namespace inkstone
