#include "model/parity.h"
#include "model/text_encoder.h"

namespace inkstone {
namespace {

class TextEncoderParityTest : public ParityTest {
 protected:
  TextEncoderParityTest() : checkpoint_(checkpoint(Component::text_encoder)) {
    ConfigOrigin origin;
    config_ = read_text_encoder_config(checkpoint_, origin);
    WeightLoader loader(checkpoint_, *device_, held());
    weights_ = load_text_encoder(config_, loader);
  }

  /// Encodes prompts in one call and compares each with what transformers gave, template rows dropped.
  void expect_prompts(const std::vector<nlohmann::json>& prompts) {
    std::vector<Tensor> ids;
    std::vector<int64_t> lengths;
    for (const auto& prompt : prompts) {
      ids.push_back(expected_["ids." + prompt.at("name").get<std::string>()]);
      lengths.push_back(ids.back().count());
    }
    const Sequences sequences(lengths);
    std::vector<int32_t> joined;
    for (const Tensor& t : ids) joined.insert(joined.end(), t.span<int32_t>().begin(), t.span<int32_t>().end());
    const Tensor hidden = encode_text(ops_, config_, weights_, ops_.upload(host_tensor(joined)), sequences);
    for (size_t i = 0; i < prompts.size(); ++i) {
      const auto s = static_cast<int64_t>(i);
      const int64_t first = sequences.begin(s) + prompts[i].at("dropped").get<int64_t>();
      expect_equal(hidden.rows(first, sequences.end(s)), "embeds." + prompts[i].at("name").get<std::string>());
    }
  }

  Checkpoint checkpoint_;
  TextEncoderConfig config_;
  TextEncoderWeights weights_;
};

TEST_P(TextEncoderParityTest, PromptsByThemselves) {
  for (const auto& prompt : expected_.cases("prompts")) expect_prompts({prompt});
}

TEST_P(TextEncoderParityTest, PromptsOfSeveralLengthsInOneCall) { expect_prompts(expected_.cases("batch")); }

INKSTONE_ON_ALL_MODELS(TextEncoderParityTest);

}  // namespace
}  // namespace inkstone
