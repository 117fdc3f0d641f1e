#include "model/parity.h"
#include "model/transformer.h"

namespace inkstone {
namespace {

constexpr int32_t kBlockVectors = 6;
constexpr int32_t kHeadVectors = 2;

class TransformerParityTest : public ParityTest {
 protected:
  TransformerParityTest() : checkpoint_(checkpoint(Component::transformer)) {
    ConfigOrigin origin;
    config_ = read_transformer_config(checkpoint_, origin);
    WeightLoader loader(checkpoint_, *device_, held());
    weights_ = load_transformer(config_, loader);
  }

  /// One recorded forward pass: its sequences, each at a time of its own, and the recorded inputs of every part.
  struct Pass {
    std::string name;
    Conditioning condition;
    ModulationTables tables;
    StepRows rows;
  };

  Pass pass(const nlohmann::json& recorded) {
    Pass p;
    p.name = recorded.at("name").get<std::string>() + ".";
    const auto lengths = recorded.at("lengths").get<std::vector<int64_t>>();
    const auto times = recorded.at("times").get<std::vector<float>>();
    const Grid grid = {.height = recorded.at("grid")[0], .width = recorded.at("grid")[1]};
    p.condition = model_.condition(ops_, upload(p.name + "text"), Sequences(lengths), grid);
    p.tables = model_.modulate(ops_, ops_.upload(host_tensor(times)));
    p.rows = {.block = row_of_each(times.size(), kBlockVectors), .head = row_of_each(times.size(), kHeadVectors)};
    return p;
  }

  Tensor row_of_each(size_t sequences, int32_t vectors) {
    std::vector<int32_t> rows(sequences);
    for (size_t s = 0; s < sequences; ++s) rows[s] = static_cast<int32_t>(s) * vectors;
    return ops_.upload(host_tensor(rows));
  }

  void expect_blocks(const Pass& p) {
    Transformer::Streams in = {.txt = upload(p.name + "txt_in"), .img = upload(p.name + "img_in")};
    for (size_t i = 0; i < weights_.blocks.size(); ++i) {
      const std::string block = fmt::format("{}block.{}.", p.name, i);
      const Transformer::Streams out = model_.block(ops_, i, in, p.condition, p.tables, p.rows);
      expect_equal(out.img, block + "img");
      if (i + 1 == weights_.blocks.size()) break;
      expect_equal(out.txt, block + "txt");
      in = {.txt = upload(block + "txt"), .img = upload(block + "img")};
    }
  }

  Checkpoint checkpoint_;
  TransformerConfig config_;
  TransformerWeights weights_;
  Transformer model_{config_, weights_};
};

TEST_P(TransformerParityTest, InputsOfTheBlocks) {
  for (const auto& recorded : expected_.cases("transformer")) {
    const Pass p = pass(recorded);
    expect_equal(model_.embed_image(ops_, upload(p.name + "latents")), p.name + "img_in");
    expect_equal(p.condition.txt, p.name + "txt_in");
  }
}

TEST_P(TransformerParityTest, ModulationOfEveryTime) {
  for (const auto& recorded : expected_.cases("transformer")) {
    const Pass p = pass(recorded);
    for (size_t i = 0; i < weights_.blocks.size(); ++i) {
      const std::string name = fmt::format("{}modulation.{}.", p.name, i);
      expect_equal(p.tables.blocks[i].txt, name + "txt");
      expect_equal(p.tables.blocks[i].img, name + "img");
    }
    expect_equal(p.tables.head, p.name + "modulation.head");
  }
}

TEST_P(TransformerParityTest, EachBlockFromTheOneBefore) {
  for (const auto& recorded : expected_.cases("transformer")) expect_blocks(pass(recorded));
}

TEST_P(TransformerParityTest, OutputHead) {
  for (const auto& recorded : expected_.cases("transformer")) {
    const Pass p = pass(recorded);
    const Tensor img = upload(fmt::format("{}block.{}.img", p.name, weights_.blocks.size() - 1));
    expect_equal(model_.head(ops_, img, p.condition, p.tables, p.rows), p.name + "out");
  }
}

TEST_P(TransformerParityTest, WholeForwardPass) {
  for (const auto& recorded : expected_.cases("transformer")) {
    const Pass p = pass(recorded);
    expect_equal(model_.forward(ops_, upload(p.name + "latents"), p.condition, p.tables, p.rows), p.name + "out");
  }
}

INKSTONE_ON_ALL_MODELS(TransformerParityTest);

INKSTONE_ON_ROUNDED(TransformerParityTest);

}  // namespace
}  // namespace inkstone
