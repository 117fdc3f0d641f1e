// Prompt embeddings on disk, so that a prompt that was encoded before costs no text encoder in another process either.
#pragma once
#include <filesystem>
#include <string>

#include "core/tensor.h"

namespace inkstone {

/// A folder of embeddings under the text that says what they are of. Several processes may use it at once. It is a
/// convenience: a file that is broken or cannot be written is as good as none.
class PromptStore {
 public:
  /// The oldest files go when they take more than `most_bytes` together. An empty `folder`: nothing is kept.
  PromptStore(std::filesystem::path folder, size_t most_bytes);

  bool is_used() const { return !folder_.empty(); }

  /// (rows, width) f32; empty if there is none.
  Tensor find(const std::string& key) const;
  void add(const std::string& key, const Tensor& embeddings) const;

 private:
  std::filesystem::path path_of(const std::string& key) const;
  void remove_oldest() const;

  std::filesystem::path folder_;
  size_t most_bytes_;
};

}  // namespace inkstone
