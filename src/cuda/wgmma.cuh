// Hopper's products of a warpgroup (PTX ISA: wgmma.mma_async) and copies of boxes (cp.async.bulk.tensor, mbarrier).
// Left operands are bf16 or E4M3 in registers, or bf16, E4M3 or int8 in shared memory; there are 8 to 256 columns.
#pragma once
#include <cstdint>
#include <cuda.h>

namespace inkstone::cuda {

constexpr int kGroup = 128;           // threads of a warpgroup
constexpr int kRegisterFile = 65536;  // of a multiprocessor
/// Where boxes may be copied to, by the bytes of their rows: eight rows of 128 bytes change places among themselves, or
/// of 64.
constexpr uint32_t kSwizzleBytes = 1024, kShortSwizzleBytes = 512;

/// The first such place from an address on.
template <uint32_t kUnit = kSwizzleBytes>
__host__ __device__ constexpr uint32_t swizzle_aligned(uint32_t address) {
  return (address + (kUnit - 1)) / kUnit * kUnit;
}

/// 64 rows and 128 columns over the 128 threads of a warpgroup: d[4 j + e] is in row 16 * warp + lane / 4 + 8 (e / 2),
/// column 8 j + 2 (lane % 4) + e % 2.
using Accumulator = float[64];
/// The same with 8 columns.
using SlimmestAccumulator = float[4];
/// With 32.
using SlimAccumulator = float[16];
/// With 96.
using NarrowAccumulator = float[48];
/// With 192.
using WideAccumulator = float[96];
/// With 256.
using WidestAccumulator = float[128];
/// With 96, in whole numbers.
using WholeAccumulator = int32_t[48];
/// With 136, of which the last eight may sum up what the others are weighted with.
using SummingAccumulator = float[68];

constexpr int kProductDepth = 32;   // bytes of each row of both operands that an instruction takes
constexpr uint32_t kOnePanel = 16;  // what stands for the bytes between panels where an instruction spans one

/// What wgmma is told of a matrix in shared memory: panels of 64 numbers (128 bytes) a row, chunks of 16 bytes placed
/// at chunk ^ (row % 8) of the panel's rows, wherever the matrix begins in it. `panels`: bytes between panels, where
/// the instruction spans two; `eight_rows`: from eight rows to the next.
__device__ inline uint64_t describe(uint32_t address, uint32_t panels = kOnePanel,
                                    uint32_t eight_rows = kSwizzleBytes) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  return kSwizzle128 | uint64_t{eight_rows >> 4} << 32 | uint64_t{panels >> 4} << 16 | (address & 0x3ffff) >> 4;
}
/// The same of rows of 32 numbers (64 bytes), which change places as copies of such boxes have them.
__device__ inline uint64_t describe_short(uint32_t address, uint32_t eight_rows = kShortSwizzleBytes) {
  constexpr uint64_t kSwizzle64 = uint64_t{2} << 62;
  return kSwizzle64 | uint64_t{eight_rows >> 4} << 32 | uint64_t{kOnePanel >> 4} << 16 | (address & 0x3ffff) >> 4;
}

/// The same so many bytes behind, by one addition: a loop's steps need no description of their own.
__device__ inline uint64_t described_further(uint64_t description, uint32_t bytes) {
  return description + (bytes >> 4);
}

// Sixty-four registers as operands of an instruction.
#define INKSTONE_EIGHT_AS(c, d, i) \
  c(d[i]), c(d[i + 1]), c(d[i + 2]), c(d[i + 3]), c(d[i + 4]), c(d[i + 5]), c(d[i + 6]), c(d[i + 7])
#define INKSTONE_EIGHT(d, i) INKSTONE_EIGHT_AS("+f", d, i)
#define INKSTONE_SIXTY_FOUR(d)                                                                                     \
  INKSTONE_EIGHT(d, 0), INKSTONE_EIGHT(d, 8), INKSTONE_EIGHT(d, 16), INKSTONE_EIGHT(d, 24), INKSTONE_EIGHT(d, 32), \
      INKSTONE_EIGHT(d, 40), INKSTONE_EIGHT(d, 48), INKSTONE_EIGHT(d, 56)
#define INKSTONE_REGISTERS                                                                                           \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%" \
  "30,"                                                                                                              \
  "%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58," \
  "%59,%60,%61,%62,%63}"
#define INKSTONE_FORTY_EIGHT_REGISTERS                                                                               \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%" \
  "30,"                                                                                                              \
  "%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47}"
#define INKSTONE_SIXTY_EIGHT_REGISTERS                                                                               \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%" \
  "30,"                                                                                                              \
  "%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58," \
  "%59,%60,%61,%62,%63,%64,%65,%66,%67}"
#define INKSTONE_NINETY_SIX_REGISTERS                                                                \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,"  \
  "%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49," \
  "%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73," \
  "%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95}"

#define INKSTONE_FORTY_EIGHT_AS(c, d)                                                                               \
  INKSTONE_EIGHT_AS(c, d, 0), INKSTONE_EIGHT_AS(c, d, 8), INKSTONE_EIGHT_AS(c, d, 16), INKSTONE_EIGHT_AS(c, d, 24), \
      INKSTONE_EIGHT_AS(c, d, 32), INKSTONE_EIGHT_AS(c, d, 40)
#define INKSTONE_HUNDRED_TWENTY_EIGHT_AS(c, d)                                                                      \
  INKSTONE_EIGHT_AS(c, d, 0), INKSTONE_EIGHT_AS(c, d, 8), INKSTONE_EIGHT_AS(c, d, 16), INKSTONE_EIGHT_AS(c, d, 24), \
      INKSTONE_EIGHT_AS(c, d, 32), INKSTONE_EIGHT_AS(c, d, 40), INKSTONE_EIGHT_AS(c, d, 48),                        \
      INKSTONE_EIGHT_AS(c, d, 56), INKSTONE_EIGHT_AS(c, d, 64), INKSTONE_EIGHT_AS(c, d, 72),                        \
      INKSTONE_EIGHT_AS(c, d, 80), INKSTONE_EIGHT_AS(c, d, 88), INKSTONE_EIGHT_AS(c, d, 96),                        \
      INKSTONE_EIGHT_AS(c, d, 104), INKSTONE_EIGHT_AS(c, d, 112), INKSTONE_EIGHT_AS(c, d, 120)
#define INKSTONE_HUNDRED_TWENTY_EIGHT_REGISTERS                                              \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"  \
  "%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45," \
  "%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67," \
  "%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89," \
  "%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,"    \
  "%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,"    \
  "%126,%127}"

/// d += a b, with a in registers and 16 rows of b in shared memory.
__device__ inline void multiply_async(Accumulator& d, const uint32_t* a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " INKSTONE_REGISTERS
               ", {%64,%65,%66,%67}, %68, 1, 1, 1, 1;"
               : INKSTONE_SIXTY_FOUR(d)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

/// d = a bᵀ (+ d if `add`), with a in registers.
__device__ inline void multiply_async(Accumulator& d, const uint32_t* a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " INKSTONE_REGISTERS
      ", {%64,%65,%66,%67}, %68, p, 1, 1, 0;\n}"
      : INKSTONE_SIXTY_FOUR(d)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)));
}

/// d += a bᵀ over 8 columns, both operands in shared memory, 16 numbers of each row.
__device__ inline void multiply_async(SlimmestAccumulator& d, uint64_t a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0,%1,%2,%3}, %4, %5, 1, 1, 1, 0, 0;"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "l"(a), "l"(b));
}

/// d = a bᵀ (+ d if `add`) over 32 columns, both operands in shared memory, 16 numbers of each row.
__device__ inline void multiply_async(SlimAccumulator& d, uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %18, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, "
      "%16, %17, p, 1, 1, 0, 0;\n}"
      : INKSTONE_EIGHT(d, 0), INKSTONE_EIGHT(d, 8)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}

/// d += a b over 192 columns, with a in registers and 16 rows of b in shared memory.
__device__ inline void multiply_async(WideAccumulator& d, const uint32_t* a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 " INKSTONE_NINETY_SIX_REGISTERS
               ", {%96,%97,%98,%99}, %100, 1, 1, 1, 1;"
               : INKSTONE_SIXTY_FOUR(d), INKSTONE_EIGHT(d, 64), INKSTONE_EIGHT(d, 72), INKSTONE_EIGHT(d, 80),
                 INKSTONE_EIGHT(d, 88)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

/// d += a bᵀ over 96 columns, both operands in shared memory, 16 numbers of each row.
__device__ inline void multiply_async(NarrowAccumulator& d, uint64_t a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 " INKSTONE_FORTY_EIGHT_REGISTERS
               ", %48, %49, 1, 1, 1, 0, 0;"
               : INKSTONE_FORTY_EIGHT_AS("+f", d)
               : "l"(a), "l"(b));
}

/// The same over 192 columns.
__device__ inline void multiply_async(WideAccumulator& d, uint64_t a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 " INKSTONE_NINETY_SIX_REGISTERS
               ", %96, %97, 1, 1, 1, 0, 0;"
               : INKSTONE_SIXTY_FOUR(d), INKSTONE_EIGHT(d, 64), INKSTONE_EIGHT(d, 72), INKSTONE_EIGHT(d, 80),
                 INKSTONE_EIGHT(d, 88)
               : "l"(a), "l"(b));
}

/// d = a bᵀ over 256 columns, both operands in shared memory, 16 bf16 numbers of each row. What d was need not be kept.
__device__ inline void begin_bf16_async(WidestAccumulator& d, uint64_t a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 " INKSTONE_HUNDRED_TWENTY_EIGHT_REGISTERS
               ", %128, %129, 0, 1, 1, 0, 0;"
               : INKSTONE_HUNDRED_TWENTY_EIGHT_AS("=f", d)
               : "l"(a), "l"(b));
}
/// The same added to d.
__device__ inline void add_bf16_async(WidestAccumulator& d, uint64_t a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 " INKSTONE_HUNDRED_TWENTY_EIGHT_REGISTERS
               ", %128, %129, 1, 1, 1, 0, 0;"
               : INKSTONE_HUNDRED_TWENTY_EIGHT_AS("+f", d)
               : "l"(a), "l"(b));
}
/// Both with 32 numbers in E4M3.
__device__ inline void begin_e4m3_async(WidestAccumulator& d, uint64_t a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n256k32.f32.e4m3.e4m3 " INKSTONE_HUNDRED_TWENTY_EIGHT_REGISTERS
               ", %128, %129, 0, 1, 1;"
               : INKSTONE_HUNDRED_TWENTY_EIGHT_AS("=f", d)
               : "l"(a), "l"(b));
}
__device__ inline void add_e4m3_async(WidestAccumulator& d, uint64_t a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n256k32.f32.e4m3.e4m3 " INKSTONE_HUNDRED_TWENTY_EIGHT_REGISTERS
               ", %128, %129, 1, 1, 1;"
               : INKSTONE_HUNDRED_TWENTY_EIGHT_AS("+f", d)
               : "l"(a), "l"(b));
}

/// d = a bᵀ (+ d if `add`) in whole numbers, both operands int8 in shared memory, 32 numbers of each row.
__device__ inline void multiply_async(WholeAccumulator& d, uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %50, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n96k32.s32.s8.s8 " INKSTONE_FORTY_EIGHT_REGISTERS ", %48, %49, p;\n}"
      : INKSTONE_FORTY_EIGHT_AS("+r", d)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}

/// d += a bᵀ, both E4M3: a in registers, 32 numbers of each row of b in shared memory.
__device__ inline void add_e4m3_async(SummingAccumulator& d, const uint32_t* a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n136k32.f32.e4m3.e4m3 " INKSTONE_SIXTY_EIGHT_REGISTERS
               ", {%68,%69,%70,%71}, %72, 1, 1, 1;"
               : INKSTONE_SIXTY_FOUR(d), "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
/// Keeps the compiler from moving an accumulator's registers across products that still run.
template <int kRegisters>
__device__ void pin(float (&d)[kRegisters]) {
#pragma unroll
  for (int i = 0; i < kRegisters; ++i)
    asm volatile("" : "+f"(d[i])::"memory");  // an index, or d would leave the registers
}
template <int kRegisters>
__device__ void pin(int32_t (&d)[kRegisters]) {
#pragma unroll
  for (int i = 0; i < kRegisters; ++i) asm volatile("" : "+r"(d[i])::"memory");
}

/// A barrier in shared memory whose phases end after so many arrivals.
struct Barrier {
  static constexpr int kBytes = 8;
  uint32_t address;

  /// The one of this index among those that begin there.
  __device__ static Barrier at(uint32_t barriers, int index) { return {barriers + index * kBytes}; }

  __device__ void init(int arrivals) const {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(address), "r"(arrivals) : "memory");
  }
  __device__ void arrive() const {
    asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared.b64 state, [%0];\n}" ::"r"(address) : "memory");
  }
  /// Arrives at the barrier in the same place of a block of the cluster. It orders reads by products before copies;
  /// ordering a thread's own writes for the cluster would take a fence of the whole device.
  __device__ void arrive_at(uint32_t block) const {
    asm volatile(
        "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [there];\n}" ::"r"(address),
        "r"(block)
        : "memory");
  }
  /// Arrives; the phase ends when so many bytes have been copied as well.
  __device__ void arrive_expecting(uint32_t bytes) const {
    asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.expect_tx.shared.b64 state, [%0], %1;\n}" ::"r"(address),
                 "r"(bytes)
                 : "memory");
  }
  /// Until the phase of this parity has ended.
  __device__ void wait(int parity) const {
    asm volatile(
        "{\n.reg .pred done;\nagain_%=:\nmbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n@!done bra "
        "again_%=;\n}" ::"r"(address),
        "r"(parity)
        : "memory");
  }
};

/// Orders ordinary writes to shared memory before the products that read it.
__device__ inline void publish_to_products() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// Lets copies see barriers that this thread made.
__device__ inline void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

/// Copies the box of a tensor that begins at these coordinates into shared memory (PTX ISA: cp.async.bulk.tensor).
__device__ inline void copy_box(uint32_t to, const CUtensorMap& map, const Barrier& full, int x0, int x1, int x2 = 0,
                                int x3 = 0) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], "
      "[%6];" ::"r"(to),
      "l"(&map), "r"(x0), "r"(x1), "r"(x2), "r"(x3), "r"(full.address)
      : "memory");
}

/// The same into the same place of all blocks of the cluster that `blocks` has a bit for, each of whose barriers counts
/// it.
__device__ inline void copy_box_to(uint16_t blocks, uint32_t to, const CUtensorMap& map, const Barrier& full, int x0,
                                   int x1) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%2, "
      "%3, %4, %4}], [%5], %6;" ::"r"(to),
      "l"(&map), "r"(x0), "r"(x1), "r"(0), "r"(full.address), "h"(blocks)
      : "memory");
}

/// All threads of all blocks of the cluster have come here.
__device__ inline void meet_cluster() {
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}
__device__ inline uint32_t rank_in_cluster() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

/// Has the cache fetch a box.
__device__ inline void fetch_box(const CUtensorMap& map, int x0, int x1, int x2, int x3) {
  asm volatile("cp.async.bulk.prefetch.tensor.4d.L2.global.tile [%0, {%1, %2, %3, %4}];" ::"l"(&map), "r"(x0), "r"(x1),
               "r"(x2), "r"(x3)
               : "memory");
}

constexpr int kRegisterUnit = 8;  // of a thread
/// Whether a group that copies and so many that multiply, which begin with even shares, can share registers out anew
/// like this: who takes more than others have left waits for ever.
constexpr bool can_share_registers(int copying, int multiplying, int groups) {
  const int even = kRegisterFile / kGroup / (1 + groups) / kRegisterUnit * kRegisterUnit;
  return copying + groups * multiplying <= (1 + groups) * even;
}

/// Of a thread, where a group copies and two multiply.
template <int kOfCopying>
struct SharedRegisters {
  static constexpr int kGroups = 2;
  static constexpr int kCopying = kOfCopying;
  static constexpr int kMultiplying = (kRegisterFile / kGroup - kCopying) / kGroups / kRegisterUnit * kRegisterUnit;
  static_assert(can_share_registers(kCopying, kMultiplying, kGroups));
};

template <int kRegisters>
__device__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ void leave_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace inkstone::cuda
