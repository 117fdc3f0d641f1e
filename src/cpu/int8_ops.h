// Products of 8-bit numbers, compiled once per instruction set and picked when the program starts.
//
// Numbers are whole ones in [-127, 127] times a scale that a group of inputs shares. Sums over a group are exact in
// every instruction set; between groups they are f32. As vector_ops.h, this header names no std template.
#pragma once
#include "cpu/vector_ops.h"
#include "ops/mixed_order.h"

namespace inkstone {

/// Inputs that share a scale; the last group of a row may be shorter. Fewer follow outliers better, more cost less: the
/// end of a group takes the time of 5 products for each sum, a group of 128 has 32. Mixing makes up for more.
constexpr int64_t kInt8Group = kMixedGroup;

/// Before they are rounded, inputs and weights of a group are mixed alike.
constexpr int64_t kInt8MixSpacing = kMixedSpacing;

/// Groups of a panel of weights whose numbers take a byte: a strip of it and the rows it meets fit the caches.
constexpr int64_t kInt8Groups = 8;

/// Most numbers that can share a scale: their products' sums stay below 2^24, which f32 holds exactly.
constexpr int64_t kInt8MostGroup = 384;

/// Outputs in a vector, of any instruction set.
constexpr int64_t kInt8MostLanes = 16;

/// Greatest magnitude of a code.
constexpr int kInt8Greatest = 127;

/// Rows of codes that are read next, in groups without gaps. A tile fetches them to the second cache group by group:
/// all at once they would hold up what the tile itself waits for.
struct Int8Next {
  const int8_t* codes = nullptr;
  int64_t stride = 0;  ///< from row to row
  int64_t rows = 0;
};

/// Some rows by a strip of packed weights: y (rows, columns) = x (rows, depth) panel (depth, columns).
struct Int8Tile {
  const void* rows = nullptr;           ///< as prepare_rows leaves them, or codes where they are: see reads_codes
  int64_t rows_stride = 0;              ///< from row to row
  const float* row_scales = nullptr;    ///< of group g of row r: [g * tile_rows + r], missing rows among them
  const int32_t* row_sums = nullptr;    ///< likewise
  const void* panel = nullptr;          ///< as pack_lanes leaves it
  const float* panel_scales = nullptr;  ///< of group g: [g * panel_columns]
  int64_t panel_columns = 0;            ///< of the strip that the panel is part of; 0: those of the tile, whole vectors
  float* y = nullptr;
  int64_t y_stride = 0;
  int64_t rows_count = 0;  ///< at most tile_rows
  int64_t columns = 0;     ///< at most panel_vectors vectors
  int64_t depth = 0;
  bool accumulate = false;            ///< y += instead of y =
  int64_t group = kInt8Group;         ///< inputs that share a scale
  int64_t group_stride = kInt8Group;  ///< from group to group of a row; in a panel they have no gaps
  Int8Next next;
};

/// One group of weights of up to `lanes` outputs, on their way into a panel.
struct Int8Lanes {
  const float* w = nullptr;     ///< (outputs, depth), `stride` numbers apart
  const float* most = nullptr;  ///< (outputs, lanes) magnitudes, each output's greatest among them; null: to be found
  int64_t stride = 0;
  int64_t outputs = 0;
  int64_t depth = 0;        ///< at most kInt8MostGroup
  int64_t vectors = 0;      ///< of the panel's strip
  void* panel = nullptr;    ///< of the group: where the first lane's numbers go
  float* scales = nullptr;  ///< (lanes)
};

/// Codes of 4 bits in MixedOrder, on their way into a strip of a panel: its bytes are step * code + offset.
struct Int8SmallCodes {
  const uint8_t* codes = nullptr;  ///< of the strip's first output
  const uint8_t* steps = nullptr;  ///< likewise, of the first small group; `columns` bytes behind: its offset
  int64_t columns = 0;             ///< outputs side by side in memory
  int64_t depth = 0;               ///< in whole kMixedPair
  int64_t vectors = 0;             ///< of the panel's strip
  void* panel = nullptr;
};

/// A row of numbers and, unless null, what each is multiplied with before it is rounded.
struct Int8Source {
  const float* x = nullptr;
  const float* factors = nullptr;
};

/// A row of codes, and a scale and the sum of the codes of each group.
struct Int8Target {
  int8_t* codes = nullptr;
  float* scales = nullptr;
  int32_t* sums = nullptr;
};

/// Rows of numbers that share a scale each, on their way to codes.
struct Int8Pixels {
  const float* x = nullptr;  ///< (rows, depth), x_stride apart
  int64_t x_stride = 0;
  int64_t rows = 0;
  int64_t depth = 0;
  int8_t* codes = nullptr;  ///< (rows, depth), codes_stride apart
  int64_t codes_stride = 0;
  float* scales = nullptr;  ///< (rows)
  int32_t* sums = nullptr;  ///< (rows)
};

/// Mixes a group of weights, the first of a row, as Int8Ops::quantize() does numbers: `to` (depth) and `most` (lanes)
/// are for pack_lanes(). `factors` may be null.
using Mix = void (*)(const PackedRow& row, const float* factors, int64_t depth, float* to, float* most);

struct Int8Ops {
  const char* name;
  int64_t lanes;          ///< outputs in a vector
  int64_t tile_rows;      ///< most rows of a tile
  int64_t panel_vectors;  ///< most vectors of a tile's columns
  int64_t most_depth;     ///< of a panel, in whole groups
  int64_t code_bytes;     ///< of a number in a panel
  int64_t strip_bytes;    ///< that prepare_rows needs
  int64_t strip_stride;   ///< from row to row of what prepare_rows leaves
  int64_t depth_unit;     ///< inputs side by side in a lane: a group's depth is rounded up to these
  bool reads_mixed;       ///< panels may lie as in MixedOrder
  bool reads_codes;       ///< tile_rows whole rows of codes need no preparing, if their depth is in whole units

  /// A row of n numbers, mixed, as codes and a scale per group: scale = greatest magnitude / 127, code = x / scale to
  /// nearest, ties to even. A group with NaN or infinity has such a scale, and what it takes part in is not finite.
  void (*quantize)(const Int8Source& source, int64_t n, const Int8Target& to);

  /// Rounds as quantize() does, without mixing.
  void (*quantize_pixels)(const Int8Pixels& pixels);

  /// Inputs of up to tile_rows rows of codes as the kernel reads them; missing rows are zeros. At most most_depth of
  /// them.
  void (*prepare_rows)(const int8_t* codes, int64_t stride, int64_t rows, int64_t depth, void* to);

  /// For weights of a format, whose scales are those of `group` inputs; null: what was expanded is to be mixed, as f32.
  Mix (*mixer)(WeightFormat format, int64_t group);

  /// Rounds weights as quantize() does numbers, without mixing, to a column of vectors of a panel.
  void (*pack_lanes)(const Int8Lanes& lanes);

  /// Null unless reads_mixed.
  void (*unpack)(const Int8SmallCodes& codes);

  void (*multiply_tile)(const Int8Tile& tile);

  /// Independent chains of products in registers, for measuring what the processor can do.
  int32_t (*multiply_add_chains)(int64_t rounds, int8_t start);
  int64_t multiply_adds_per_round;
};

/// The best that an instruction set and this processor have. AVX-512 without VNNI has no 8-bit products and gives the
/// AVX2 ones. Throws Error if the processor lacks the instruction set.
const Int8Ops& int8_ops(Isa isa);

}  // namespace inkstone
