"""The mistakes that tools/mutations.py makes: those that other implementations of the model were found to make, and
traps that the sources name."""
from dataclasses import dataclass


@dataclass
class Mutation:
    mistake: str
    file: str
    edits: list  # (old, new), each old exactly once in the file


def one(mistake, file, old, new):
    return Mutation(mistake, file, [(old, new)])


SCHEDULE = [
    one('no stretch to shift_terminal', 'src/model/schedule.cpp', 'if (config.shift_terminal) stretch(', 'if (false) stretch('),
    one("scheduler defaults of diffusers' code, for a folder without the file", 'src/model/schedule.h',
        'double max_shift = 0.9;', 'double max_shift = 1.15;'),
    one('Euler step in the wrong direction', 'src/model/pipeline.cpp',
        'differences.push_back(sigmas[i + 1] - sigmas[i])', 'differences.push_back(sigmas[i] - sigmas[i + 1])'),
    one('modulation of the next step', 'src/model/pipeline.cpp', 'rows_of_step(ops_, step, ',
        'rows_of_step(ops_, step + 1 < steps() ? step + 1 : step, '),
]

NOISE = [
    one('noise drawn as packed tokens', 'src/engine/generation.cpp', 'ops.patchify(noise, model_.transformer.patch)',
        'noise.reshape({noise.count() / model_.transformer.in_channels, model_.transformer.in_channels})'),
    one('every picture of a batch from one seed', 'src/model/latents.cpp', 'seed + static_cast<uint64_t>(i)', 'seed'),
    one('features of a token by place, then channel', 'src/reference/latents.cpp',
        '(p.channel * side + p.row % side) * side + p.column % side',
        '((p.row % side) * side + p.column % side) * channels + p.channel'),
]

POSITIONS = [
    one('odd grids split at floor(g/2), rows', 'src/model/rope.cpp', 'grid.height - grid.height / 2;', 'grid.height / 2;'),
    one('odd grids split at floor(g/2), columns', 'src/model/rope.cpp', 'grid.width - grid.width / 2;', 'grid.width / 2;'),
    one('text positions from 0', 'src/model/rope.cpp', 'start = std::max(grid.height / 2, grid.width / 2)', 'start = 0'),
    one('text positions from half of the rows', 'src/model/rope.cpp', 'start = std::max(grid.height / 2, grid.width / 2)',
        'start = grid.height / 2'),
    one('image rotated in halves', 'src/model/transformer.cpp',
        '.img_rope = {ops.upload(image_rope(grid, pictures, config_.rope_axes))}',
        '.img_rope = {ops.upload(image_rope(grid, pictures, config_.rope_axes)), RopeTable::Pairs::halves}'),
    one('text encoder rotated in neighbours', 'src/model/text_encoder.cpp', 'RopeTable::Pairs::halves', 'RopeTable::Pairs::neighbours'),
    one('rope_theta fixed at 1e6', 'src/model/text_encoder.cpp', 'config.rope_theta', '1e6'),
]

PROMPT = [
    one('prompts cut to 77 tokens', 'src/model/prompt.cpp', 'if (limit && tokens.kept() > *limit) {',
        'limit = std::min<int64_t>(77, limit.value_or(77));\n  if (tokens.kept() > *limit) {'),
    one('33 template tokens dropped', 'src/model/prompt.cpp', 'static_cast<int64_t>(tokenizer.encode(kHead).size())',
        'static_cast<int64_t>(tokenizer.encode(kHead).size()) - 1'),
    one('template and prompt tokenised apart', 'src/model/prompt.cpp', '.ids = tokenizer.encode(apply_template(prompt)),',
        '.ids = [&] {\n'
        '    std::vector<int32_t> all = tokenizer.encode(kHead);\n'
        '    for (const std::string_view part : {prompt, kTail})\n'
        '      for (const int32_t id : tokenizer.encode(part)) all.push_back(id);\n'
        '    return all;\n'
        '  }(),'),
]

TEXT_ENCODER = [
    one('hidden state before the final norm', 'src/model/text_encoder.cpp',
        'return ops.rms_norm(x, weights.norm, {.eps = config.norm_eps});', 'return x;'),
    one('norm eps fixed at 1e-6', 'src/model/text_encoder.cpp', 'const NormOptions norm = {.eps = config.norm_eps};',
        'const NormOptions norm = {.eps = 1e-6f};'),
    one('attention not causal', 'src/model/text_encoder.cpp', '{.causal = true}', '{.causal = false}'),
    one('query head j reads key head j mod kv_heads', 'src/reference/attention.cpp', 'h / sharing', 'h % in.k.dim(1)'),
]

TRANSFORMER = [
    one('final norm without mean subtraction', 'src/reference/norm.cpp', 'mean = sum / static_cast<double>(d)', 'mean = 0'),
    one("txt_norm's eps 1e-5", 'src/model/transformer.cpp', 'kEps = 1e-6f', 'kEps = 1e-5f'),
    one('no txt_norm', 'src/model/transformer.cpp',
        'ops.linear(ops.rms_norm(embeddings, weights_.txt_norm, {.eps = kEps}), weights_.txt_in)',
        'ops.linear(embeddings, weights_.txt_in)'),
    one('blocks: scale before shift', 'src/model/transformer.cpp', '{ kShift1, kScale1, kGate1, kShift2, kScale2, kGate2,',
        '{ kScale1, kShift1, kGate1, kScale2, kShift2, kGate2,'),
    one('blocks: MLP vectors first', 'src/model/transformer.cpp', '{ kShift1, kScale1, kGate1, kShift2, kScale2, kGate2,',
        '{ kShift2, kScale2, kGate2, kShift1, kScale1, kGate1,'),
    one('output head: shift before scale', 'src/model/transformer.cpp', '{ kHeadScale, kHeadShift,', '{ kHeadShift, kHeadScale,'),
    one('no norm of q and k', 'src/model/transformer.cpp', 'h.w.q_norm, h.w.k_norm, h.rope', 'Tensor(), Tensor(), h.rope'),
    Mutation('text and image norms of q and k exchanged', 'src/model/transformer.cpp',
             [('"attn.norm_q", "attn.norm_k", "attn.to_out.0"', '"attn.norm_added_q", "attn.norm_added_k", "attn.to_out.0"'),
              ('"attn.norm_added_q", "attn.norm_added_k", "attn.to_add_out"', '"attn.norm_q", "attn.norm_k", "attn.to_add_out"')]),
    one('no SiLU before the modulation', 'src/model/transformer.cpp', 'weights_.time_2, {.activation = Activation::silu}',
        'weights_.time_2, {.activation = Activation::none}'),
    Mutation('time embedding: sines first', 'src/reference/pointwise.cpp',
             [('static_cast<float>(std::cos(angle))', 'static_cast<float>(std::sin(angle))'),
              ('half + half + j] = static_cast<float>(std::sin(angle))', 'half + half + j] = static_cast<float>(std::cos(angle))')]),
    one('time embedding without the factor 1000', 'src/reference/pointwise.cpp', 'kTimeScale = 1000', 'kTimeScale = 1'),
    one('exact GELU instead of the tanh form', 'src/reference/formulas.h', 'std::tanh(inner)', 'std::erf(x / std::sqrt(2.0))'),
    one('scores not divided by sqrt(c)', 'src/reference/attention.cpp', 'dot / std::sqrt(static_cast<double>(c))', 'dot'),
    one('text stream not fed by the block', 'src/model/transformer.cpp', 'return {.txt = y[0], .img = y[1]};',
        'return {.txt = x.txt, .img = y[1]};'),
    one('sequences of a batch attend to each other', 'src/reference/attention.cpp',
        'query + 1 : joined.end(s)', 'query + 1 : joined.rows()'),
]

GUIDANCE = [
    one('no rescale to the norm of the conditional', 'src/reference/pointwise.cpp',
        'squares > 0 ? std::sqrt(cond_squares / squares) : 0', '1'),
    one('rescale to the norm of the unconditional', 'src/reference/pointwise.cpp',
        'cond_squares += double{c[j]} * c[j]', 'cond_squares += double{u[j]} * u[j]'),
    one('branches exchanged', 'src/model/pipeline.cpp', 'velocity.rows(0, drawn), velocity.rows(drawn, 2 * drawn)',
        'velocity.rows(drawn, 2 * drawn), velocity.rows(0, drawn)'),
    one('both branches read the prompt', 'src/engine/generation.cpp', 'std::vector(pictures, embeddings_[1])',
        'std::vector(pictures, embeddings_[0])'),
]

VAE = [
    one('first temporal slice of the kernels', 'src/io/weight_loader.cpp', '.last_slice = (slices - 1) * k * k * pixel', '.last_slice = 0'),
    one('encoder of four channels', 'src/model/vae.cpp', '"encoder.conv_in", c.base, c.image_channels',
        '"encoder.conv_in", c.base, c.image_channels + 1'),
    one('latents not denormalised', 'src/model/vae.cpp', 'pointwise(ops, denormalise(ops, config, latents), w.post_quant)',
        'pointwise(ops, latents, w.post_quant)'),
    one('denormalised by division', 'src/model/vae.cpp', '[](double, double std) { return std; }',
        '[](double, double std) { return 1 / std; }'),
    one('down-sampling padded on all sides', 'src/model/vae.cpp', 'to.resample->padding = Padding::after;',
        'to.resample->padding = Padding::same;'),
    one('attention over all pictures of a batch', 'src/model/vae.cpp', 'Sequences::equal(x.dim(0), x.dim(1) * x.dim(2))',
        'Sequences::equal(1, x.dim(0) * x.dim(1) * x.dim(2))'),
    one('encoder gives the variance', 'src/model/vae.cpp', '0, c.latent_channels)', 'c.latent_channels, moments)'),
    one('shortcut sees the normed input', 'src/model/vae.cpp', 'return pointwise(ops, t, *w_.shortcut)',
        'return pointwise(ops, norm_silu(ops, t, w_.norm_1), *w_.shortcut)'),
    Mutation('RMS norms subtract the mean', 'src/reference/norm.cpp',
             [('double root = std::sqrt(squares / static_cast<double>(d) + options.eps);',
               'double mean = std::accumulate(from, from + d, 0.0) / static_cast<double>(d);\n'
               '    const double root = std::sqrt(squares / static_cast<double>(d) + options.eps);'),
              ('from[j] / root * weight', '(from[j] - mean) / root * weight'),
              ('#include "reference/formulas.h"', '#include <numeric>\n\n#include "reference/formulas.h"')]),
    one('pixels truncated instead of rounded', 'src/reference/pointwise.cpp', 'std::nearbyint(255 * clamped)', 'std::floor(255 * clamped)'),
]

FORMATS = [
    one('packed codes: highest bits first', 'src/ops/expand.inl', 'static_cast<int>(first % kByte)',
        'static_cast<int>(kByte - bits - first % kByte)'),
]

# Of each instruction set's vectors, and of the algorithms written over them.
KERNELS = [
    one('16 bytes: infinity of f16 read as a number', 'src/cpu/isa/simd_scalar.inl', 'magnitude >= 0x7c00', 'magnitude > 0x7c00'),
    one('16 bytes: rounding to even numbers', 'src/cpu/isa/simd_scalar.inl', 'splat(0x1.8p23f)', 'splat(0x1.8p24f)'),
    one('32 bytes: part vectors one short', 'src/cpu/isa/simd_avx2.inl', 'static_cast<int>(n)', 'static_cast<int>(n) - 1'),
    one('32 bytes: rotation in the other direction', 'src/cpu/isa/simd_avx2.inl', '_mm256_fmaddsub_ps', '_mm256_fmsubadd_ps'),
    one('32 bytes: numbers cut off instead of rounded', 'src/cpu/isa/simd_avx2.inl', '_MM_FROUND_TO_NEAREST_INT', '_MM_FROUND_TO_ZERO'),
    one('64 bytes: part vectors one short', 'src/cpu/isa/simd_avx512.inl', '((1u << n) - 1)', '((1u << n >> 1) - 1)'),
    one('64 bytes: codes of 4 bits in the wrong order', 'src/cpu/isa/simd_avx512.inl', '(0, 0, 1, 1, 2, 2, 3, 3,', '(0, 0, 1, 1, 3, 3, 2, 2,'),
    one('64 bytes: two lanes exchanged', 'src/cpu/isa/simd_avx512.inl', '(0, 2, 4, 6, 8, 10, 12, 14,', '(0, 2, 4, 6, 8, 10, 14, 12,'),
    one('8-bit products: offset of the weights left in the sums', 'src/cpu/isa/int8.inl', 'start *= -kOffset', 'start = 0'),
    one('8-bit products: scales of the group before', 'src/cpu/isa/numbers.inl', 'splat(scales[i / group])', 'splat(scales[(i - 1) / group])'),
    one('8-bit products: lesser magnitude of a row', 'src/cpu/isa/simd_int8_32_bytes.inl', '_mm256_max_epi32(_mm256_castps_si256(a), ',
        '_mm256_min_epi32(_mm256_castps_si256(a), '),
    one('8-bit products with AVX-VNNI: weights without their offset', 'src/cpu/isa/simd_int8_avx_vnni.inl', 'nearest(x[0]) + splat(kOffset)', 'nearest(x[0])'),
    one('8-bit attention: offset of the keys left in the scores', 'src/cpu/isa/int8_attention.inl', '-kOffset * block.k_sums[key + row]', '0'),
    one('8-bit attention: earlier keys keep their scale', 'src/cpu/isa/int8_attention.inl', 'store(out, load(out) * rescale)', 'store(out, load(out))'),
    one('attention: earlier keys keep their scale', 'src/cpu/isa/attention.inl', 'rescale[v] = exp2(before - greatest)', 'rescale[v] = splat(1)'),
    one('attention: each query sees one key too many', 'src/cpu/attention.cpp', '? p.begin - key :', '? p.begin - key + 1 :'),
    one('last numbers of a row not centred', 'src/cpu/isa/norms.inl', '(x[i] - mean) * (x[i] - mean)', 'x[i] * x[i]'),
    one('tiles at the edge forget earlier inputs', 'src/cpu/isa/product.inl', 't.accumulate ? load_some(y, width) + sum : sum', 'sum'),
    one('tiles forget earlier inputs', 'src/cpu/matrix_product.cpp', '.accumulate = started_', '.accumulate = false'),
    one('gates of the first slab for every slab', 'src/cpu/matrix_product.cpp', '+ p.gate_column + tile.out_begin', '+ tile.out_begin'),
    one('doubled pictures: last tap instead of the sum', 'src/cpu/conv_kinds.cpp', 'to[i] += from[i]', 'to[i] = from[i]'),
    one('packed codes: padding after a group that ends early', 'src/cpu/isa/expand.inl', 'codes += row.group * ', 'codes += (row.group + kLanes - 1) / kLanes * kLanes * '),
]

# Of the cuda device; they need one to be noticed.
CUDA = [
    one('cuda: numbers of a row not centred', 'src/cuda/norm.cu', '(x - m) * (x - m)', '(x - 0 * m) * (x - 0 * m)'),
    one("cuda: gates of the first sequence for every row", 'src/cuda/rows.cu', 'load4(f.gate.table, vector_start(f.gate, row, d) + j)',
        'load4(f.gate.table, vector_start(f.gate, 0, d) + j)'),
    one('cuda: rescale to the norm of the unconditional', 'src/cuda/rows.cu', 'cond_squares += c * c;', 'cond_squares += u * u;'),
    one('cuda: each query sees one key too many, in f32', 'src/cuda/softmax.cu', 's.first + row % s.queries + 1', 's.first + row % s.queries + 2'),
    one('cuda: each query sees one key too many, in bf16', 'src/cuda/attention_mma.cu', 'key > first_query + e / 2 * 8', 'key > first_query + 1 + e / 2 * 8'),
    one('cuda: a sequence sees the first key of the next on Hopper', 'src/cuda/flash.cuh', 'key >= span.end ||', 'key > span.end ||'),
    one('cuda: earlier keys keep their scale on Hopper', 'src/cuda/attention_wgmma.cu', 'out[e] *= running.weaken[e % 4 / 2];', 'out[e] *= 1.0f;'),
    one('cuda: a row of a picture below its last one', 'src/cuda/conv.cuh', 'y < c.height * c.upsampling', 'y <= c.height * c.upsampling'),
    one('cuda: odd columns of doubled pictures begin one too early on Hopper', 'src/cuda/conv_boxes.cuh', ': 1 - parity % 2;', ': 1;'),
    one('cuda: rotation in the other direction', 'src/cuda/join.cu', '(minus ? -factors[1] : factors[1])', '(minus ? factors[1] : -factors[1])'),
    one('cuda: mixed codes without the last, shorter group', 'src/cuda/int8_product.cu',
        'if (++of_group == kStagesOfGroup || c == loader.chunks - 1)', 'if (++of_group == kStagesOfGroup)'),
    one('cuda: mixed codes without the last row of a tile', 'src/cuda/int8_product.cu', 'rows_left_(static_cast<int>(min(product.rows - at.row, int64_t{kRows})))',
        'rows_left_(static_cast<int>(min(product.rows - at.row, int64_t{kRows})) - 1)'),
    one("cuda: gates of a tile's first row for rows of another sequence, in a product", 'src/cuda/fused_product.cu', 'if (gate[half] != tile_gate)', 'if (gate[0] != tile_gate)'),
    one('cuda: of two tiles beside each other the first alone', 'src/cuda/tile_product.cuh',
        '((index - pair_rows * t.column_tiles) * kPair + rank)', '((index - pair_rows * t.column_tiles) * kPair)'),
    one('cuda: weights of the first slice for all, where they stay in shared memory', 'src/cuda/conv_resident.cu', 'weights + slice * kSliceWeights',
        'weights + 0 * slice * kSliceWeights'),
    one("cuda: earlier keys keep their scale in the VAE's heads on Hopper", 'src/cuda/attention_wide.cu',
        'if (finish_scores(i))', 'if (finish_scores(i) && i == 0)'),
    one('cuda: scale and shift exchanged where a norm rounds', 'src/cuda/norm.cu', 'row.change(scale, shift, standard)', 'row.change(shift, scale, standard)'),
    one('cuda: the end of long rows is not rounded', 'src/cuda/round.cu', 'kLong = kMaxRounded / (4 * kThreads)', 'kLong = kMaxRounded / (8 * kThreads)'),
    one('cuda: replayed work reads its last input as it was recorded', 'src/cuda/recording.cpp', 'i < inputs.size()', 'i + 1 < inputs.size()'),
    one('cuda: weights of a shared block lie one over the other', 'src/cuda/weight_slabs.cpp', 'std::exchange(slab.used, slab.used + room)', 'slab.used'),
    one('cuda: earlier keys keep their scale in attention of 8 bits', 'src/cuda/attention_8bit.cu', 'out[e] *= running.weaken[e % 4 / 2];', 'out[e] *= 1.0f;'),
    one('cuda: sums put aside keep their scale in attention of 8 bits', 'src/cuda/attention_8bit.cu', 'exp2_fast(relative_to[half] - running.greatest[half])',
        'exp2_fast(0 * relative_to[half])'),
    one('cuda: heads take turns with keys instead of sharing them, in 8 bits', 'src/cuda/attention_8bit.cu', 'int64_t{head / (a.heads / a.kv_heads)}',
        'int64_t{head % a.kv_heads}'),
    one('cuda: keys keep what they have in common', 'src/cuda/code_qkv.cu', 'mean[threadIdx.x] = sum / kSampled;', 'mean[threadIdx.x] = 0 * sum;'),
    one('cuda: keys that a last block lacks are counted', 'src/cuda/code_qkv.cu', '< block.end ? one : 0.0f', '< block.end ? one : one'),
    one('cuda: values far above the sampled ones are cut off', 'src/cuda/code_qkv.cu', 'if (reach > kMostCode)', 'if (reach > INFINITY)'),
    one("cuda: a block's values are divided by a power that its weights lack", 'src/cuda/code_qkv.cu', '].power = log2f(power)', '].power = 0 * log2f(power)'),
    one('cuda: packed codes with the scale for the offset', 'src/cuda/weights.cu', 'offset = load(matrix.offsets, group)', 'offset = load(matrix.scales, group)'),
]

MUTATIONS = SCHEDULE + NOISE + POSITIONS + PROMPT + TEXT_ENCODER + TRANSFORMER + GUIDANCE + VAE + FORMATS + KERNELS + CUDA
