#include "engine/memory_plan.h"

#include <algorithm>
#include <span>

#include "core/option_error.h"
#include "engine/dry_run.h"
#include "engine/weight_bytes.h"

namespace inkstone {
namespace {

constexpr size_t kSmallDecoder = size_t{64} << 20;  // of whose memory nobody wants half
constexpr int64_t kLeastBand = 4;                   // rows of latents; below, work at the edges outgrows the rest
constexpr size_t kWorkerScratch = size_t{1} << 20;  // tiles of products and attention, see WorkerScratch
constexpr size_t kSlack = 50;                       // a part more would do: runs differ, and texts are rounded
constexpr size_t kPagesOfARow = size_t{64} << 10;   // that the system maps around the row of a table

/// In the units of --memory and of the plan's table.
std::string text(size_t bytes) {
  constexpr double kStep = 1024;
  const double mebibytes = static_cast<double>(bytes) / (kStep * kStep);
  return mebibytes < kStep ? fmt::format("{:.1f} MiB", mebibytes) : fmt::format("{:.2f} GiB", mebibytes / kStep);
}

/// What of the transformer is not in memory all the time, in order of preference. Only a device with memory of its own
/// gains by the modulation alone: elsewhere it is mapped, and read once anyway.
enum class Streamed : uint8_t { nothing, modulation, blocks };

/// The same, of the blocks with how many and from where.
struct Streaming {
  Streamed what = Streamed::nothing;
  BlockPlacement blocks = {};
};

struct StageNeed {
  Stage stage = Stage::load;
  size_t own = 0;
  size_t mapped = 0;
  size_t pool_limit = 0;
  size_t beside = 0;                  ///< of its own, by the device
  bool trims = false;                 ///< the pool gives back what it would keep otherwise
  std::vector<const Linear*> layers;  ///< that it uses

  size_t bytes() const { return own + mapped; }
};

class Planner {
 public:
  Planner(const Model& model, const VaeWeights& vae, const Job& job, const MemoryState& memory)
      : model_(model), job_(job), memory_(memory), dry_(model, vae, {*memory.device, memory.rounds_text}) {
    const WeightHolding holding = {memory.held, memory.weights_copied};
    text_encoder_ = weight_bytes(model.text_encoder_files, holding);
    transformer_ = weight_bytes(model.transformer_files, holding);
    if (memory.weights_copied) {
      vae_ = weight_bytes(model.vae_files, holding);
      uploads_ =
          upload_bytes(dry_.text_encoder(), text_encoder_.own, dry_.transformer(), transformer_.own, *memory.device);
      widening_ = widening_bytes(*memory.device, dry_.transformer(), memory.held);
    }
    block_bytes_ = block_bytes(dry_.transformer(), *memory.device, memory.weights_copied);
    const std::vector<EncoderLayer>& layers = dry_.text_encoder().layers;
    const std::vector<BlockWeights>& blocks = dry_.transformer().blocks;
    if (memory.weights_copied) {  // elsewhere no layer is rounded beside the mapped ones
      text_encoder_.own = bound_bytes(text_encoder_.own, layers, kEncoderLayers);
      transformer_.own = bound_bytes(transformer_.own, blocks, kBlockLayers);
      transformer_.own = bound_bytes(transformer_.own, blocks, kModulationLayers);
    }
    layers_ = file_blocks(layers, kEncoderLayers, all_of(layers));
    blocks_ = file_blocks(blocks, kBlockLayers, all_of(blocks));
    modulations_ = file_blocks(blocks, kModulationLayers, all_of(blocks));
  }

  MemoryPlan plan() {
    MemoryPlan plan;
    Plan& told = plan.told;
    told.available_bytes = memory_.available_bytes;
    StageNeed encode = choose_encoding(told);
    const std::vector<int64_t> bands = decoding_bands();
    StageNeed draw = choose_drawing(told, Streamed::nothing);
    if (memory_.weights_copied && streams())  // what is on the device stays there until the end
      for (const Streamed least : {Streamed::modulation, Streamed::blocks})
        if (streaming_.what < least &&
            decoding(bands.back(), memory_.available_bytes).bytes() > memory_.available_bytes)
          draw = choose_drawing(told, least);
    if (streaming_.what == Streamed::blocks && !refused_) {
      streaming_.blocks = keep_blocks(told.batch, bands.back());
      draw = drawing(told.batch, streaming_, memory_.available_bytes);
    }
    plan.blocks = streaming_.blocks;
    tell_streaming(told);
    if (!memory_.transformer && !memory_.weights_copied) beside_steps_ = draw.beside;
    StageNeed decode = first_that_fits(std::span<const int64_t>(bands), told.band_rows,
                                       [&](int64_t rows, size_t limit) { return decoding(rows, limit); });
    if (refused_) refuse(*refused_);
    keep_forms(plan, encode, draw, decode);
    widen(plan, draw, decode);
    keep_text_encoder(plan, encode, draw, decode);
    for (const StageNeed& need : {encode, draw, decode}) {
      told.stages.push_back({need.stage, need.own, need.mapped, need.trims});
      told.needed_bytes = std::max(told.needed_bytes, need.bytes());
    }
    plan.encode_pool = encode.pool_limit;
    plan.denoise_pool = draw.pool_limit;
    plan.decode_pool = decode.pool_limit;
    const size_t streamed = (told.text_encoder_streamed ? sum_of(layers_) : 0) +
                            sum_of_blocks(streaming_.blocks, true, &BlockBytes::in_files);
    const size_t of_host = memory_.weights_copied ? host_bytes(told) : told.needed_bytes;
    if (streamed + of_host > memory_.machine_bytes) plan.caching = Caching::direct;
    plan.read_ahead = parts_to_read_ahead(memory_.weights_copied ? 0 : std::max({encode.own, draw.own, decode.own}));
    told.transformer_beside = told.transformer_beside && !plan.read_ahead.empty();
    return plan;
  }

 private:
  /// What the device's pool gives for a component that is `bytes` as it is held, with those of its layers.
  template <class Block, class ForEach>
  size_t bound_bytes(size_t bytes, const std::vector<Block>& blocks, const ForEach& for_each) const {
    for (Block block : blocks)
      for_each(block, [&](const Linear& layer) {
        bytes = inkstone::bound_bytes(bytes, *memory_.device, layer, memory_.held);
      });
    return bytes;
  }

  size_t scratch() const { return memory_.weights_copied ? 0 : static_cast<size_t>(memory_.threads) * kWorkerScratch; }
  size_t noise() const { return static_cast<size_t>(job_.latents.count()) * sizeof(float); }
  bool streams() const { return !memory_.held; }  // else weights have memory of their own
  /// Copies of the transformer's weights that are not among own_bytes.
  size_t transformer_copies() const { return memory_.transformer && !memory_.weights_copied ? 0 : transformer_.own; }

  /// Of the blocks that are streamed, or of the others.
  size_t sum_of_blocks(const BlockPlacement& placement, bool streamed, size_t BlockBytes::*bytes) const {
    const StreamedSet set = {block_bytes_.size(), placement.streamed};
    size_t sum = 0;
    for (size_t i = 0; i < set.all; ++i)
      if (set.contains(i) == streamed) sum += block_bytes_[i].*bytes;
    return sum;
  }
  size_t in_place(const BlockPlacement& p) const { return sum_of_blocks(p, false, &BlockBytes::in_place); }
  size_t on_host(const BlockPlacement& p) const { return sum_of_blocks(p, true, &BlockBytes::on_host); }

  /// Where weights are copied.
  size_t host_bytes(const Plan& told) const {
    return memory_.device->upload_memory() + (told.transformer_on_host ? on_host(streaming_.blocks) : 0);
  }

  bool fits_on_host(const BlockPlacement& placement) const {
    constexpr size_t kLeft = 8;  // a part of the machine's memory for all else
    return placement == memory_.transformer || on_host(placement) + memory_.device->upload_memory() <=
                                                   memory_.machine_bytes - memory_.machine_bytes / kLeft;
  }

  /// Where streamed blocks may come from, in order of preference.
  std::vector<BlockPlace> streamed_places() const {
    if (memory_.weights_copied) return {BlockPlace::on_host, BlockPlace::files};
    return {BlockPlace::bound};
  }

  /// All of them, from where they may come.
  BlockPlacement all_streamed() const {
    BlockPlacement placement = {.streamed = block_bytes_.size()};
    for (const BlockPlace place : streamed_places()) {
      placement.place = place;
      if (place == BlockPlace::on_host && fits_on_host(placement)) break;
    }
    return placement;
  }

  /// As few streamed as there is room for the others. What an earlier call chose stays, if it fits: to bind the blocks
  /// anew takes longer than a few steps.
  BlockPlacement keep_blocks(int64_t batch, int64_t least_band) const {
    for (const BlockPlace place : streamed_places()) {
      const size_t all = block_bytes_.size(), room = room_for_blocks(batch, least_band, {place, all});
      std::vector<BlockPlacement> ways;
      if (memory_.weights_copied && memory_.transformer && memory_.transformer->place == place)
        ways.push_back(*memory_.transformer);
      for (size_t streamed = 1; streamed <= all; ++streamed) ways.push_back({place, streamed});
      const auto fitting = std::ranges::find_if(ways, [&](const BlockPlacement& way) {
        return in_place(way) <= room && (place != BlockPlace::on_host || fits_on_host(way));
      });
      if (fitting != ways.end()) return *fitting;
    }
    return all_streamed();
  }

  /// What is left while all blocks are streamed, the pool holds what it likes to hold and the device what it can keep;
  /// also while another prompt is encoded.
  size_t room_for_blocks(int64_t batch, int64_t least_band, const BlockPlacement& all) const {
    const Streaming streaming = {Streamed::blocks, all};
    const StageNeed draw = drawing(batch, streaming, kUnlimitedPool);
    const Device& device = *memory_.device;
    const size_t forms =
        device.kept_of(draw.layers, {kUnlimitedPool, kUnlimitedPool}).bytes - device.kept_of(draw.layers, {}).bytes;
    size_t needed = draw.bytes() + forms;
    if (memory_.weights_copied)  // elsewhere blocks leave the memory before others come
      needed = std::max({needed, decoding(least_band, streaming, kUnlimitedPool).bytes(),
                         encoding_beside(all, {.streamed = true}, {}, kUnlimitedPool).bytes()});
    return memory_.available_bytes - std::min(memory_.available_bytes, needed);
  }

  void tell_streaming(Plan& told) const {
    told.blocks = static_cast<int64_t>(block_bytes_.size());
    told.blocks_streamed = static_cast<int64_t>(streaming_.blocks.streamed);
    told.transformer_streamed = streaming_.what == Streamed::blocks;
    told.transformer_on_host = streaming_.blocks.place == BlockPlace::on_host;
    told.modulation_streamed = streaming_.what != Streamed::nothing;
  }

  /// A stage of `fixed` bytes beside the pool, which `run(limit)` dries; with too small a limit, what it would need.
  StageNeed need(Stage stage, WeightBytes fixed, size_t limit, const auto& run) const {
    fixed.own += memory_.own_bytes + vae_.own + scratch();
    fixed.mapped += memory_.mapped_bytes;
    const size_t taken = std::min(limit, fixed.own + fixed.mapped);
    StageNeed need = {.stage = stage, .own = fixed.own, .mapped = fixed.mapped, .pool_limit = limit - taken};
    std::optional<PoolUse> use = run(need.pool_limit);
    if (use && use->held + use->beside > need.pool_limit) {
      need.pool_limit -= std::min(need.pool_limit, use->beside);
      use = run(need.pool_limit);
    }
    const PoolUse whole = use ? *use : *run(kUnlimitedPool);
    need.own += (use ? whole.held : whole.in_use) + whole.beside;
    need.beside = whole.beside;
    need.trims = whole.trims;
    need.layers = whole.layers;
    return need;
  }

  /// How the text encoder runs.
  struct EncodingWay {
    bool streamed = false;
    bool beside = false;  ///< the transformer is bound meanwhile
  };

  /// Beside the transformer if both fit, streamed only if it does not fit otherwise.
  StageNeed choose_encoding(Plan& told) {
    std::vector<EncodingWay> ways = {{.beside = true}, {}};
    if (streams()) ways.push_back({.streamed = true});
    EncodingWay way;
    const StageNeed chosen = first_that_fits(std::span<const EncodingWay>(ways), way,
                                             [&](const auto& w, size_t limit) { return encoding(w, limit); });
    told.text_encoder_streamed = way.streamed;
    told.transformer_beside = way.beside;
    return chosen;
  }

  StageNeed encoding(const EncodingWay& way, size_t limit) const {
    WeightBytes fixed;
    if (way.beside && !memory_.weights_copied) fixed.own = transformer_copies();
    if (memory_.prompts_encoded)
      return need(Stage::encode, fixed, limit, [](size_t) { return std::optional<PoolUse>(PoolUse{}); });
    return encoding_beside(memory_.transformer, way, fixed, limit);
  }

  /// With the transformer of an earlier call, if any, on a device with memory of its own.
  StageNeed encoding_beside(const std::optional<BlockPlacement>& transformer, const EncodingWay& way, WeightBytes fixed,
                            size_t limit) const {
    fixed.own += text_encoder_.own;
    fixed.mapped = text_encoder_.mapped;
    const size_t layers = sum_of(layers_), rows = job_.prompt_tokens.ids.size() + job_.negative_tokens.ids.size();
    const size_t table = dry_.text_encoder().embedding.data.bytes();
    if (memory_.weights_copied) {
      if (way.streamed) fixed.own = uploads_.encoder_rest + uploads_.layers;
      if (transformer) fixed.own += on_device(*transformer);
    } else {
      if (file_of(dry_.text_encoder().embedding.data) != nullptr)
        fixed.mapped -= table - std::min(table, rows * kPagesOfARow);
      if (way.streamed) fixed.mapped -= layers, fixed.own += BlockReader::slab_bytes(layers_);
    }
    return need(Stage::encode, fixed, limit, [&](size_t pool) { return dry_.encode(job_, pool); });
  }

  /// All that is read of files in the order of its use, if the system's cache has room for it beside `own` bytes.
  std::vector<FilePart> parts_to_read_ahead(size_t own) const {
    std::vector<FilePart> parts;
    for (const std::vector<FileBlock>* blocks : {&layers_, &modulations_, &blocks_})
      if (blocks != &layers_ || !memory_.prompts_encoded)
        for (const FileBlock& block : *blocks) parts.insert(parts.end(), block.begin(), block.end());
    size_t bytes = own;
    for (const FilePart& part : parts) bytes += part.bytes;
    return bytes <= memory_.machine_bytes ? parts : std::vector<FilePart>();
  }

  /// What the device keeps of layers while there is room stays until the end; an earlier call's is there at the
  /// beginning, if there is room for it.
  void keep_forms(MemoryPlan& plan, StageNeed& encode, StageNeed& draw, StageNeed& decode) const {
    const Device& device = *memory_.device;
    const auto room_beside = [&](const StageNeed& need) { return memory_.available_bytes - need.bytes(); };
    const size_t modulations = std::min(transformer_.mapped, sum_of(modulations_));
    const size_t others = transformer_.mapped - modulations;  // that are mapped once the modulation is computed
    const bool mapped = streaming_.what != Streamed::blocks && streams() && !memory_.weights_copied;
    const Kept kept = device.kept_of(draw.layers, {room_beside(decode), room_beside(draw), mapped});
    plan.kept = kept.bytes - device.kept_of(draw.layers, {}).bytes;
    plan.round_again = device.kept_bytes() > std::min(plan.kept, room_beside(encode));
    if (!plan.round_again) encode.own += device.kept_bytes();
    draw.own += plan.kept;
    decode.own += plan.kept;
    if (kept.released == 0) return;
    draw.mapped -= std::max(others, modulations);
    draw.mapped += std::max(others - std::min(others, kept.released), modulations - std::min(modulations, plan.kept));
  }

  /// Steps are faster for it.
  void widen(MemoryPlan& plan, StageNeed& draw, StageNeed& decode) const {
    if (widening_ == 0 || streaming_.what != Streamed::nothing) return;
    const std::array<StageNeed*, 2> needs = {&draw, &decode};
    plan.told.lora_widens = std::ranges::all_of(
        needs, [&](const StageNeed* need) { return need->bytes() + widening_ <= memory_.available_bytes; });
    if (!plan.told.lora_widens) return;
    plan.blocks.place = BlockPlace::bound_wide;
    for (StageNeed* need : needs) need->own += widening_;
  }

  /// To a device with memory of its own it would be copied again for the next prompt.
  void keep_text_encoder(MemoryPlan& plan, StageNeed& encode, StageNeed& draw, StageNeed& decode) const {
    const bool comes = !memory_.prompts_encoded && !plan.told.text_encoder_streamed;
    if (!memory_.weights_copied || !memory_.encodes_again || !(comes || memory_.holds_text_encoder)) return;
    std::vector<StageNeed*> beside = {&draw, &decode};
    if (!comes) beside.push_back(&encode);
    plan.keeps_text_encoder = std::ranges::all_of(
        beside, [&](const StageNeed* need) { return need->bytes() + text_encoder_.own <= memory_.available_bytes; });
    if (!plan.keeps_text_encoder) return;
    for (StageNeed* need : beside) need->own += text_encoder_.own;
  }

  /// Modulation layers are read before the others, and are gone by then.
  StageNeed drawing(int64_t batch, const Streaming& streaming, size_t limit) const {
    WeightBytes fixed = transformer_;
    fixed.own = transformer_copies() + noise();
    const size_t modulations = std::min(fixed.mapped, sum_of(modulations_));
    fixed.mapped = std::max(fixed.mapped - modulations, modulations);
    if (memory_.weights_copied) {
      const size_t blocks = streaming.blocks.place == BlockPlace::on_host ? uploads_.blocks_from_host
                            : streaming.blocks.place == BlockPlace::files ? uploads_.blocks_from_files
                                                                          : 0;
      const size_t modulation = streaming.what == Streamed::nothing ? 0 : uploads_.modulations;
      fixed.own = on_device(streaming.blocks) + noise() + std::max(blocks, modulation);
    } else if (streaming.what == Streamed::blocks) {
      fixed.mapped = transformer_.mapped - modulations - sum_of(blocks_) + in_place(streaming.blocks);
      fixed.own += std::max(BlockReader::slab_bytes(blocks_), BlockReader::slab_bytes(modulations_));
    }
    return need(Stage::denoise, fixed, limit, [&](size_t pool) { return dry_.denoise(job_, batch, pool); });
  }

  /// Of the transformer's weights, on a device with memory of its own.
  size_t on_device(const BlockPlacement& placement) const {
    if (placement.streamed > 0) return uploads_.transformer_rest + in_place(placement);
    if (placement.place == BlockPlace::bound_wide) return transformer_.own + widening_;
    return transformer_.own - (placement.place == BlockPlace::bound_alone ? uploads_.all_modulations : 0);
  }

  /// Rows of latents at a time, in order of preference; 0 for all.
  std::vector<int64_t> decoding_bands() const {
    std::vector<int64_t> bands = {0};
    for (int64_t rows = job_.latents[2] / 2; rows >= kLeastBand; rows /= 2) bands.push_back(rows);
    if (!memory_.halves_decoding) return bands;
    const size_t half = dry_.decode(job_, 0, kUnlimitedPool)->held / 2;
    const auto takes_more = [&](int64_t rows) {
      const std::optional<PoolUse> use = dry_.decode(job_, rows, kUnlimitedPool);
      return use->held + use->beside > std::max(half, kSmallDecoder);
    };
    while (bands.size() > 1 && takes_more(bands.front())) bands.erase(bands.begin());
    return bands;
  }

  StageNeed decoding(int64_t band_rows, size_t limit) const { return decoding(band_rows, streaming_, limit); }

  StageNeed decoding(int64_t band_rows, const Streaming& streaming, size_t limit) const {
    const size_t transformer = memory_.weights_copied ? on_device(streaming.blocks) : transformer_copies();
    const auto pictures = static_cast<size_t>(job_.count * job_.width * job_.height * model_.vae.image_channels);
    return need(Stage::decode, {.own = transformer + beside_steps_ + noise() + pictures}, limit,
                [&](size_t pool) { return dry_.decode(job_, band_rows, pool); });
  }

  /// The whole batch if it fits, streamed only if not even one picture fits otherwise, and at least `least`.
  StageNeed choose_drawing(Plan& told, Streamed least) {
    struct Way {
      Streaming streaming;
      int64_t batch = 1;
    };
    std::vector<Streaming> streamings = {{}};
    if (streams() && memory_.weights_copied) streamings.push_back({Streamed::modulation, {BlockPlace::bound_alone}});
    if (streams()) streamings.push_back({Streamed::blocks, all_streamed()});
    std::vector<Way> ways;
    for (const Streaming& streaming : streamings) {
      if (streaming.what < least) continue;
      for (int64_t batch = job_.count; batch > 1; batch = (batch + 1) / 2) ways.push_back({streaming, batch});
      ways.push_back({streaming, 1});
    }
    Way way;
    const StageNeed chosen = first_that_fits(std::span<const Way>(ways), way, [&](const Way& w, size_t limit) {
      return drawing(w.batch, w.streaming, limit);
    });
    told.batch = way.batch;
    streaming_ = way.streaming;
    return chosen;
  }

  /// Ways are in order of preference. If none fits, the last one, and the plan is to be refused: only the other stages
  /// tell what would do for all.
  template <class Way>
  StageNeed first_that_fits(std::span<const Way> ways, Way& chosen, const auto& need_of) {
    StageNeed need;
    for (const Way& way : ways) {
      chosen = way;
      need = need_of(way, memory_.available_bytes);
      if (need.bytes() <= memory_.available_bytes) return need;
    }
    if (!refused_) refused_ = need;
    enough_ = std::max(enough_, need.bytes());
    return need;
  }

  [[noreturn]] void refuse(const StageNeed& need) const {
    const char* work = need.stage == Stage::encode    ? "encoding the prompt"
                       : need.stage == Stage::denoise ? "drawing a picture"
                                                      : "decoding a picture";
    const size_t pool = need.bytes() - std::min(need.bytes(), transformer_.own + memory_.own_bytes);
    fail_option("size {}x{}: {} needs {} of memory, {} are available; {} would do for every stage{}", job_.width,
                job_.height, work, text(need.bytes()), text(memory_.available_bytes), text(enough_ + enough_ / kSlack),
                memory_.held                     ? ", or weights used as they are stored"
                : memory_.weights_copied         ? ", or weights of fewer bits"
                : need.stage == Stage::encode    ? ", or a shorter prompt"
                : pool > memory_.available_bytes ? ", or a smaller size"
                                                 : "");
  }

  const Model& model_;
  const Job& job_;
  const MemoryState& memory_;
  DryRun dry_;
  WeightBytes text_encoder_, transformer_;
  WeightBytes vae_;  // on a device with memory of its own; a process holds them already
  std::vector<FileBlock> layers_, blocks_, modulations_;
  UploadBytes uploads_;
  std::vector<BlockBytes> block_bytes_;
  size_t widening_ = 0;               // that taking LoRAs into weights would take
  Streaming streaming_;               // of the transformer, as chosen
  size_t beside_steps_ = 0;           // what the device took beside the pool for steps; it may stay, if not of a pool
  std::optional<StageNeed> refused_;  // the first stage that does not fit
  size_t enough_ = 0;                 // for all stages
};

}  // namespace

MemoryPlan plan_memory(const Model& model, const VaeWeights& vae, const Job& job, const MemoryState& memory) {
  return Planner(model, vae, job, memory).plan();
}

}  // namespace inkstone
