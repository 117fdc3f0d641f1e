// Which products of 16 bits are taken: by rates of machines that tests do not have, and by those of this one.
#include "cpu/half_choice.h"

#include <gtest/gtest.h>

namespace inkstone {
namespace {

constexpr double kF32 = 100;

TEST(HalfChoiceTest, TakesTheFasterKindIfItIsClearlyFasterThanF32) {
  struct Case {
    const char* what;
    double fp16, bf16;
    std::optional<HalfKind> expected;
  };
  const Case cases[] = {{"neither is there", 0, 0, std::nullopt},
                        {"bf16 at half of f32, alone", 0, 50, std::nullopt},
                        {"bf16 at half of f32, beside FP16", 200, 50, HalfKind::fp16},
                        {"bf16 at twice f32, alone", 0, 200, HalfKind::bf16},
                        {"bf16 is faster than FP16", 150, 200, HalfKind::bf16},
                        {"FP16 has more digits", 200, 200, HalfKind::fp16},
                        {"both are a little faster", 124, 120, std::nullopt},
                        {"one is clearly faster", 126, 120, HalfKind::fp16}};
  for (const Case& c : cases)
    EXPECT_EQ(fastest_kind({.f32 = kF32, .fp16 = c.fp16, .bf16 = c.bf16}), c.expected) << c.what;
}

TEST(HalfChoiceTest, IsMadeOnceOfWhatThisMachineHas) {
  if (!supports(Isa::avx512)) GTEST_SKIP() << "this processor lacks it";
  const HalfChoice choice = fastest_half(Isa::avx512);
  for (const auto& [kind, rate] : {std::pair{HalfKind::fp16, choice.rates.fp16}, {HalfKind::bf16, choice.rates.bf16}})
    EXPECT_EQ(rate > 0, half_ops(Isa::avx512, kind) != nullptr) << name_of(kind);
  const std::optional<HalfKind> kind = fastest_kind(choice.rates);
  EXPECT_EQ(choice.ops, kind ? half_ops(Isa::avx512, *kind) : nullptr);
  EXPECT_EQ(fastest_half(Isa::avx512).rates.f32, choice.rates.f32) << "measured again";
}

}  // namespace
}  // namespace inkstone
