// LoRA files, beside a small transformer.
#include "folder.h"
#include "io/lora.h"

namespace inkstone {
namespace {

/// A transformer with two layers (3, 2).
Checkpoint transformer() {
  Checkpoint files = {.path = "transformer"};
  for (const char* name : {"img_in.weight", "transformer_blocks.0.attn.to_out.0.weight"})
    files.tensors[name] = {host_tensor({3, 2}, DType::f32), files.path, name};
  return files;
}

/// Stops the fuzzer if a branch does not fit beside its layer.
void check_branches(const Checkpoint& files) {
  for (const auto& [layer, branches] : files.branches)
    for (const StoredBranch& branch : branches) {
      const Weight down = dense_weight(branch.down.data), up = dense_weight(branch.up.data);
      if (down.in != 2 || up.out != 3 || up.in != down.out || down.out <= 0) std::abort();
    }
  if (files.branches.empty()) std::abort();
}

}  // namespace
}  // namespace inkstone

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace inkstone;
  static const Folder folder;
  folder.write("lora.safetensors", {reinterpret_cast<const char*>(data), size});
  attempt([] {
    const Lora lora = read_lora(folder.path() / "lora.safetensors");
    for (const Unmatched unmatched : {Unmatched::leave_out, Unmatched::refuse}) {
      Checkpoint files = transformer();
      attach_lora(files, lora, 1, unmatched);
      check_branches(files);
    }
  });
  return 0;
}
