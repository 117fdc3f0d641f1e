// The files of a tokenizer, each beside sound ones, and texts.
#include <algorithm>

#include "folder.h"
#include "model/tokenizer.h"

namespace inkstone {
namespace {

constexpr const char* kMerges = "#version: 0.2\na b\nab c\n";
constexpr const char* kText = "abc <|im_end|> d\u0301\u0323\n\n 12 's";

/// Stops the fuzzer if the tokenizer gives an id that it does not have, or none for a text.
void check_ids(const Tokenizer& tokenizer, std::string_view text) {
  const auto ids = tokenizer.encode(text);
  const auto known = [&](int32_t id) { return id >= 0 && id < tokenizer.vocabulary_size(); };
  if (ids.empty() != text.empty() || !std::all_of(ids.begin(), ids.end(), known)) std::abort();
}

/// A folder with kMerges, or without, where each input is written under one name.
class Place {
 public:
  Place(const char* file, const char* merges) : name_(file) {
    if (merges != nullptr) folder_.write("merges.txt", merges);
  }

  void try_file(std::string_view bytes) const {
    folder_.write(name_, bytes);
    attempt([&] { check_ids(Tokenizer::load(folder_.path()), kText); });
  }

 private:
  Folder folder_;
  const char* name_;
};

void try_json_files(std::string_view bytes) {
  static const Place places[] = {{"tokenizer.json", nullptr},
                                 {"vocab.json", kMerges},
                                 {"tokenizer_config.json", kMerges},
                                 {"added_tokens.json", kMerges}};
  for (const Place& place : places) place.try_file(bytes);
}

void try_merges(std::string_view bytes) {
  static const Place place("merges.txt", nullptr);
  place.try_file(bytes);
}

void try_text(std::string_view bytes) {
  static const Tokenizer tokenizer = [] {
    const Folder sound;
    sound.write("merges.txt", kMerges);
    return Tokenizer::load(sound.path());
  }();
  attempt([&] { check_ids(tokenizer, bytes); });
}

}  // namespace
}  // namespace inkstone

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (bytes.starts_with('{')) {
    inkstone::try_json_files(bytes);
  } else {
    inkstone::try_merges(bytes);
    inkstone::try_text(bytes);
  }
  return 0;
}
