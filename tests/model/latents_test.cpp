#include "model/latents.h"

#include <gmock/gmock.h>

#include "model/parity.h"

namespace inkstone {
namespace {

using ::testing::HasSubstr;

TEST(LatentsTest, NoiseIsWhatDiffusersDraws) {
  for (const std::string model : {"random_a", "random_b"}) {
    const Expected expected(model);
    for (const auto& run : expected.cases("runs")) {
      if (!run.at("detailed").get<bool>()) continue;
      const Tensor noise = expected[run.at("name").get<std::string>() + ".noise"];
      EXPECT_LE(relative_error(make_noise(run.at("seeds")[0].get<uint64_t>(), noise.shape()), noise), 1e-6);
    }
  }
}

TEST(LatentsTest, PictureIOfABatchHasTheNoiseOfSeedPlusI) {
  const Tensor two = make_noise(11, {2, 4, 6, 8});
  EXPECT_EQ(relative_error(two.rows(1, 2), make_noise(12, {1, 4, 6, 8})), 0);
}

TEST(LatentsTest, PackedNoiseIsThePipelines) {
  const Expected expected("random_b");
  const Tensor tokens = expected["runs.cfg.first.sample"];
  const Tensor noise = expected["runs.cfg.noise"];
  EXPECT_EQ(relative_error(unpack_latents(tokens, noise.shape(), 2), noise), 0);
}

class LatentsDeviceTest : public DeviceTest {};

TEST_P(LatentsDeviceTest, PackingThereAndBack) {
  const Tensor noise = make_noise(3, {2, 16, 10, 6});
  const Tensor tokens = ops_.download(ops_.patchify(ops_.upload(noise), 2));
  EXPECT_EQ(relative_error(unpack_latents(tokens, noise.shape(), 2), noise), 0);
}

INKSTONE_ON_ALL_DEVICES(LatentsDeviceTest);

TEST(LatentsTest, GridsAreWholeTokens) {
  EXPECT_EQ(grid_of(1664, 928, 16), (Grid{.height = 58, .width = 104}));
  EXPECT_EQ(grid_of(1328, 1328, 16).tokens(), 6889);
  const auto error_of = [](int64_t width, int64_t height) -> std::string {
    try {
      grid_of(width, height, 16);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_THAT(error_of(1140, 1472), HasSubstr("width 1140"));
  EXPECT_THAT(error_of(1140, 1472), HasSubstr("the nearest are 1136 and 1152"));
  EXPECT_THAT(error_of(64, 0), HasSubstr("height 0"));
  EXPECT_THAT(error_of(-16, 64), HasSubstr("width -16"));
}

}  // namespace
}  // namespace inkstone
