// What a device must be able to do: one method per op. Ops has checked the arguments and allocated the results, so an
// implementation only computes. src/reference defines every op; each device is tested against it.
//
// Shapes: n rows (tokens), d width, h heads, c head width; pictures are (count, height, width, channels). Results are
// whole tensors that no one else holds yet; arguments may be views. Activations have one float type per device, f32 on
// the CPU; a device with a narrow type as well takes both everywhere. Ops allocates what only products read in the
// narrow type; of all else the device chooses which one it gives: then it replaces `out` by a tensor of that type, in
// the same memory or in less. Numbers that change from step to step are tensors, so that recorded launches can be
// replayed.
#pragma once
#include <span>

#include "ops/activation.h"
#include "ops/sequences.h"
#include "ops/weight.h"

namespace inkstone {

/// One (d) vector for each sequence of a stream: sequence s takes row `row[s] + slot` of `table`.
struct SequenceRows {
  Tensor table;  ///< (m, d)
  Tensor row;    ///< i32 (sequences)
  int64_t slot = 0;
  const Sequences* sequences = nullptr;  ///< of the stream that the vectors are applied to

  explicit operator bool() const { return static_cast<bool>(table); }
};

/// What happens to a linear layer's output: y = residual + gate * act(x Wᵀ + b + its side branches). Absent parts are
/// skipped.
struct Epilogue {
  Activation activation = Activation::none;
  SequenceRows gate = {};
  Tensor residual = {};           ///< like the output
  const Linear* feeds = nullptr;  ///< the output only feeds this layer: a device may write it in the form it wants
};

/// One stream of a linear step: x (n, in) -> (n, out).
struct LinearPart {
  Tensor x;
  const Linear* layer = nullptr;
  Epilogue epilogue = {};
};

/// One stream of an adaptive norm: y = layer_norm(x) * (1 + scale) + shift, with x (n, d).
struct ModulatePart {
  Tensor x;
  SequenceRows shift;
  SequenceRows scale;
  const Linear* feeds = nullptr;  ///< as in Epilogue
};

/// cos and sin of the angle of every pair of a head, per row.
struct RopeTable {
  enum class Pairs : uint8_t {
    neighbours,  ///< (x[2k], x[2k + 1]), the diffusion transformer's
    halves,      ///< (x[k], x[k + c / 2]), the text encoder's
  };
  Tensor cos_sin;  ///< f32 (n, c / 2, 2)
  Pairs pairs = Pairs::neighbours;

  explicit operator bool() const { return static_cast<bool>(cos_sin); }
};

/// One stream of a join: qkv (n, (heads + 2 kv_heads) * c) as one linear layer wrote it: q, then k, then v.
struct QkvPart {
  Tensor qkv;
  const Sequences* sequences = nullptr;
  Tensor q_norm = {};  ///< (c) weight of the RMS norm of each query head; absent: no norm
  Tensor k_norm = {};
  RopeTable rope = {};  ///< absent: no rotation
};

/// What attention reads: rows in the order of `sequences`.
struct Qkv {
  Tensor q;  ///< (n, heads, c)
  Tensor k;  ///< (n, kv_heads, c)
  Tensor v;  ///< (n, kv_heads, c)
  JoinedSequences sequences;
};

struct AttentionOptions {
  bool causal = false;
  bool tolerant = false;                      ///< a hint: a device that rounds tolerant layers may round here as well
  std::span<const Linear* const> feeds = {};  ///< as in Epilogue, a layer for each stream; or none
};

/// True classifier-free guidance: the velocity uncond + scale (cond - uncond), each row rescaled to the norm of cond's
/// row. A row that is zero stays zero (QwenImagePipeline of diffusers).
struct Guidance {
  Tensor cond, uncond;  ///< (n, d)
  Tensor scale;         ///< f32 (1)
};

class Kernels {
 public:
  virtual ~Kernels() = default;

  /// out (n, d): rows `ids` (i32, n) of the table.
  virtual void embed(Tensor& out, const Weight& table, const Tensor& ids) = 0;

  /// out[p] (n_p, out) of each part. The streams of a step come together, so that a device can run them as one launch.
  virtual void linear(std::span<Tensor> out, std::span<const LinearPart> parts) = 0;

  /// out = act(x / sqrt(mean(x²) + eps) * weight) over the last axis of x.
  virtual void rms_norm(Tensor& out, const Tensor& x, const Tensor& weight, const NormOptions& options) = 0;

  /// out[p] (n_p, d); the norm has no weights and uses the population variance.
  virtual void layer_norm_modulate(std::span<Tensor> out, std::span<const ModulatePart> parts, float eps) = 0;

  /// Splits q, k and v, norms and rotates q and k, and joins the streams sequence by sequence.
  virtual void join_qkv(Qkv& out, std::span<const QkvPart> parts, float eps) = 0;

  /// out[p] (n_p, heads * c): softmax(q kᵀ / sqrt(c)) v within each sequence, parted into streams again. Query head j
  /// reads key head j / (heads / kv_heads). Never holds a whole score matrix.
  virtual void attention(std::span<Tensor> out, const Qkv& in, const AttentionOptions& options) = 0;

  /// out (n, m) = silu(x[:, :m]) * x[:, m:], x (n, 2m).
  virtual void swiglu(Tensor& out, const Tensor& x) = 0;

  /// out (n, width): [cos(1000 t f_j)..., sin(1000 t f_j)...], f_j = 10000^(-j / (width / 2)); t f32 (n) in [0, 1].
  virtual void timestep_embedding(Tensor& out, const Tensor& t) = 0;

  /// Latents (count, z, height, width) to tokens (count * height/p * width/p, z * p * p); feature = (channel, dy, dx).
  virtual void patchify(Tensor& out, const Tensor& latents) = 0;

  /// Tokens back to latents (count, height, width, z), channels last.
  virtual void unpatchify(Tensor& out, const Tensor& tokens) = 0;

  /// out = x + factor * v, the Euler step along a guided velocity v, which is rounded as a result of its own would be.
  /// factor f32 (1).
  virtual void guided_step(Tensor& out, const Tensor& x, const Guidance& guidance, const Tensor& factor) = 0;

  /// out = x + factor * y; factor f32 (1).
  virtual void add_scaled(Tensor& out, const Tensor& x, const Tensor& y, const Tensor& factor) = 0;

  /// out = x * scale + shift along the last axis; scale and shift (d).
  virtual void scale_shift(Tensor& out, const Tensor& x, const Tensor& scale, const Tensor& shift) = 0;

  /// The parts one below the other.
  virtual void concat_rows(Tensor& out, std::span<const Tensor> parts) = 0;

  /// out (count, h', w', out) = conv(x) + residual, normed over the channels where `conv` says so; the residual may be
  /// absent.
  virtual void conv2d(Tensor& out, const Tensor& x, const Conv2d& conv, const Tensor& residual) = 0;

  /// Pixels in [-1, 1] to u8: round half to even of 255 * clamp(x / 2 + 1/2, 0, 1).
  virtual void to_rgb8(Tensor& out, const Tensor& x) = 0;

  /// u8 pixels to [-1, 1]: 2 (x / 255) - 1.
  virtual void from_rgb8(Tensor& out, const Tensor& x) = 0;
};

}  // namespace inkstone
