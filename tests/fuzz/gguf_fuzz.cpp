// GGUF files: header, names, blocks, and what a text encoder's metadata and tokenizer are made of them.
#include <cstdlib>

#include "folder.h"
#include "io/gguf.h"
#include "model/config.h"
#include "model/tokenizer.h"

namespace inkstone {
namespace {

constexpr int64_t kMostNumbers = 1 << 16;  // of a row that is expanded

/// Stops the fuzzer: the parser let something through.
void require(bool ok) {
  if (!ok) std::abort();
}

/// Expands the last row: the address sanitizer sees bytes that are not the file's.
void expand_last_row(const Checkpoint& checkpoint, const std::string& name) {
  const auto packed = checkpoint.packed(name.substr(0, name.size() - kWeightSuffix.size()));
  if (!packed || packed->weight.in > kMostNumbers) return;
  std::vector<float> row(static_cast<size_t>(packed->weight.in));
  dequantize_rows(packed->weight, packed->weight.out - 1, packed->weight.out, row.data());
}

void check_header(std::span<const std::byte> bytes) {
  size_t end = 0;
  for (const GgufEntry& e : parse_gguf(bytes, "file").entries) {
    require(end <= e.begin && e.begin <= e.end && e.end <= bytes.size());
    require(static_cast<size_t>(e.shape.count()) * size_of(e.dtype) == e.end - e.begin);
    end = e.end;
  }
}

void try_file(const std::filesystem::path& path) {
  ConfigOrigin origin;
  for (const Component component : {Component::transformer, Component::text_encoder, Component::vae})
    attempt([&] {
      const Checkpoint checkpoint = open_checkpoint(path, component);
      for (const auto& item : checkpoint.tensors)
        if (item.first.ends_with(kWeightSuffix)) attempt([&] { expand_last_row(checkpoint, item.first); });
      if (component == Component::text_encoder) read_text_encoder_config(checkpoint, origin);
    });
  attempt([&] { Tokenizer::load(path).encode("a b"); });
}

}  // namespace
}  // namespace inkstone

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace inkstone;
  static const Folder folder;
  attempt([&] { check_header({reinterpret_cast<const std::byte*>(data), size}); });
  folder.write("file.gguf", {reinterpret_cast<const char*>(data), size});
  try_file(folder.path() / "file.gguf");
  return 0;
}
