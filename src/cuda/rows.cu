// What goes number by number or row by row.
#include "cuda/numbers.cuh"

namespace inkstone::cuda {
namespace {

constexpr unsigned kMaxGridRows = 65535;

__device__ int64_t thread_index() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }

template <bool kFours>
__global__ void finish_rows(Finish f, int64_t rows, int64_t d) {
  const int64_t j = thread_index() * (kFours ? 4 : 1);
  if (j >= d) return;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const int64_t i = row * d + j;
    if constexpr (kFours) {
      float4 y = activate(load4(f.x, i), f.activation);
      if (f.gate.table.data != nullptr) {
        const float4 g = load4(f.gate.table, vector_start(f.gate, row, d) + j);
        y = make_float4(y.x * g.x, y.y * g.y, y.z * g.z, y.w * g.w);
      }
      if (f.residual.data != nullptr) {
        const float4 r = load4(f.residual, i);
        y = make_float4(y.x + r.x, y.y + r.y, y.z + r.z, y.w + r.w);
      }
      store4(f.out, i, y);
    } else {
      float y = activate(load(f.x, i), f.activation);
      if (f.gate.table.data != nullptr) y *= load(f.gate.table, vector_start(f.gate, row, d) + j);
      if (f.residual.data != nullptr) y += load(f.residual, i);
      store(f.out, i, y);
    }
  }
}

__global__ void swiglu_elements(Output out, Numbers x, int64_t count, int64_t m) {
  const int64_t i = thread_index();
  if (i >= count) return;
  const int64_t from = i / m * 2 * m + i % m;
  store(out, i, silu(load(x, from)) * load(x, from + m));
}

__global__ void embed_times(float* out, const float* t, int64_t n, int64_t half) {
  constexpr double kTimeScale = 1000;
  constexpr double kLongestPeriod = 10000;
  const int64_t i = thread_index();
  if (i >= n * half) return;
  const int64_t row = i / half, j = i % half;
  const double frequency = pow(kLongestPeriod, -static_cast<double>(j) / static_cast<double>(half));
  const double angle = kTimeScale * t[row] * frequency;
  out[row * 2 * half + j] = static_cast<float>(cos(angle));
  out[row * 2 * half + half + j] = static_cast<float>(sin(angle));
}

/// A warp for each row.
__global__ void guided_step_rows(GuidedStep step, int64_t rows, int64_t d) {
  const int64_t row = thread_index() / kWarp;
  const int lane = threadIdx.x % kWarp;
  if (row >= rows) return;
  const float s = step.scale[0], by = step.factor[0];
  float cond_squares = 0, squares = 0;
  for (int64_t j = row * d + lane; j < (row + 1) * d; j += kWarp) {
    const float c = load(step.cond, j), u = load(step.uncond, j);
    const float guided = u + s * (c - u);
    cond_squares += c * c;
    squares += guided * guided;
  }
  cond_squares = group_sum<kWarp>(cond_squares, nullptr);
  squares = group_sum<kWarp>(squares, nullptr);
  const float rescale = squares > 0 ? sqrtf(cond_squares / squares) : 0.0f;
  for (int64_t j = row * d + lane; j < (row + 1) * d; j += kWarp) {
    const float c = load(step.cond, j), u = load(step.uncond, j);
    step.out[j] = load(step.x, j) + by * ((u + s * (c - u)) * rescale);
  }
}

__global__ void add_scaled_elements(float* out, Numbers x, Numbers y, const float* factor, int64_t count) {
  const int64_t i = thread_index();
  if (i < count) out[i] = load(x, i) + factor[0] * load(y, i);
}

__global__ void scale_shift_elements(float* out, Numbers x, const float* scale, const float* shift, int64_t count,
                                     int64_t d) {
  const int64_t i = thread_index();
  if (i < count) out[i] = load(x, i) * scale[i % d] + shift[i % d];
}

__global__ void bytes_of_pixels(uint8_t* out, Numbers x, int64_t count) {
  const int64_t i = thread_index();
  if (i >= count) return;
  const float unit = load(x, i) / 2.0f + 0.5f;
  const float clamped = fminf(fmaxf(0.0f, unit), 1.0f);  // in this order NaN becomes 0
  out[i] = static_cast<uint8_t>(rintf(255.0f * clamped));
}

__global__ void pixels_of_bytes(float* out, const uint8_t* x, int64_t count) {
  const int64_t i = thread_index();
  if (i < count) out[i] = 2.0f * (static_cast<float>(x[i]) / 255.0f) - 1.0f;
}

/// Where latent (picture, channel, row, column) lies among the tokens.
__device__ int64_t token_index(const Patches& p, int64_t picture, int64_t channel, int64_t row, int64_t column) {
  const int64_t token = (picture * (p.height / p.side) + row / p.side) * (p.width / p.side) + column / p.side;
  return ((token * p.channels + channel) * p.side + row % p.side) * p.side + column % p.side;
}

__global__ void patchify_elements(float* out, Numbers latents, Patches p, int64_t count) {
  const int64_t i = thread_index();  // (picture, channel, row, column)
  if (i >= count) return;
  const int64_t column = i % p.width, row = i / p.width % p.height, plane = i / (p.width * p.height);
  out[token_index(p, plane / p.channels, plane % p.channels, row, column)] = load(latents, i);
}

__global__ void unpatchify_elements(float* out, Numbers tokens, Patches p, int64_t count) {
  const int64_t i = thread_index();  // (picture, row, column, channel)
  if (i >= count) return;
  const int64_t channel = i % p.channels, pixel = i / p.channels;
  const int64_t column = pixel % p.width, row = pixel / p.width % p.height, picture = pixel / (p.width * p.height);
  out[i] = load(tokens, token_index(p, picture, channel, row, column));
}

}  // namespace

void finish(const Finish& f, int64_t rows, int64_t d, cudaStream_t stream) {
  if (rows == 0) return;
  const auto grid_rows = static_cast<unsigned>(rows < kMaxGridRows ? rows : kMaxGridRows);
  if (fours(f.x, d) && fours(f.out, d) && fours(f.residual, d) && fours(f.gate.table, d)) {
    finish_rows<true><<<dim3(blocks_for(d / 4), grid_rows), kThreads, 0, stream>>>(f, rows, d);
  } else {
    finish_rows<false><<<dim3(blocks_for(d), grid_rows), kThreads, 0, stream>>>(f, rows, d);
  }
}

void swiglu(const Output& out, const Numbers& x, int64_t rows, int64_t m, cudaStream_t stream) {
  if (rows > 0) swiglu_elements<<<blocks_for(rows * m), kThreads, 0, stream>>>(out, x, rows * m, m);
}

void timestep_embedding(float* out, const float* t, int64_t n, int64_t half, cudaStream_t stream) {
  if (n > 0) embed_times<<<blocks_for(n * half), kThreads, 0, stream>>>(out, t, n, half);
}

void guided_step(const GuidedStep& step, int64_t rows, int64_t d, cudaStream_t stream) {
  if (rows > 0) guided_step_rows<<<blocks_for(rows * kWarp), kThreads, 0, stream>>>(step, rows, d);
}

void add_scaled(float* out, const Numbers& x, const Numbers& y, const float* factor, int64_t count,
                cudaStream_t stream) {
  if (count > 0) add_scaled_elements<<<blocks_for(count), kThreads, 0, stream>>>(out, x, y, factor, count);
}

void scale_shift(float* out, const Numbers& x, const float* scale, const float* shift, int64_t count, int64_t d,
                 cudaStream_t stream) {
  if (count > 0) scale_shift_elements<<<blocks_for(count), kThreads, 0, stream>>>(out, x, scale, shift, count, d);
}

void to_rgb8(uint8_t* out, const Numbers& x, int64_t count, cudaStream_t stream) {
  if (count > 0) bytes_of_pixels<<<blocks_for(count), kThreads, 0, stream>>>(out, x, count);
}

void from_rgb8(float* out, const uint8_t* x, int64_t count, cudaStream_t stream) {
  if (count > 0) pixels_of_bytes<<<blocks_for(count), kThreads, 0, stream>>>(out, x, count);
}

void patchify(float* out, const Numbers& latents, const Patches& patches, int64_t count, cudaStream_t stream) {
  if (count > 0) patchify_elements<<<blocks_for(count), kThreads, 0, stream>>>(out, latents, patches, count);
}

void unpatchify(float* out, const Numbers& tokens, const Patches& patches, int64_t count, cudaStream_t stream) {
  if (count > 0) unpatchify_elements<<<blocks_for(count), kThreads, 0, stream>>>(out, tokens, patches, count);
}

}  // namespace inkstone::cuda
