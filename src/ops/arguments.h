// Checks of an op's arguments, with errors that name the op and the shapes.
#pragma once
#include "ops/device.h"

namespace inkstone {

/// The arguments of one call of `op` on a device.
class Arguments {
 public:
  Arguments(const char* op, const Device& device)
      : op_(op), activation_(device.activation_type()), narrow_(device.narrow_type()) {}

  /// Throws Error beginning with the op's name unless `ok`.
  template <class... Args>
  void need(bool ok, fmt::format_string<Args...> text, Args&&... args) const {
    if (!ok) fail("{}: {}", op_, fmt::format(text, std::forward<Args>(args)...));
  }

  /// An activation of any rank but 0, or of the given one.
  void activation(const char* name, const Tensor& t) const;
  void activation(const char* name, const Tensor& t, int rank) const;
  /// An activation of rank 2, or the form of 8 bits that a device gave to what feeds a layer.
  void layer_input(const char* name, const Tensor& t) const;
  /// An activation of this very shape.
  void activation(const char* name, const Tensor& t, const Shape& shape) const;
  /// A tensor of this very shape and type.
  void tensor(const char* name, const Tensor& t, const Shape& shape, DType dtype) const;

  /// A matrix with all its parts.
  void weight(const char* name, const Weight& weight) const;
  /// Its matrices fit each other and the one that they stand beside.
  void side_branch(const SideBranch& branch, const Weight& beside) const;
  /// At least one slab, all with inputs of width `in`, biases that fit.
  void layer(const Linear& layer, int64_t in) const;
  /// Sequences that cover `rows` rows.
  void sequences(const Sequences* sequences, int64_t rows) const;
  /// One vector of width `d` for each of the sequences that cover `rows` rows.
  void vectors(const char* name, const SequenceRows& vectors, int64_t rows, int64_t d) const;

 private:
  void mixed_weight(const char* name, const Weight& weight) const;
  bool is_activation(const Tensor& t) const { return t && (t.dtype() == activation_ || t.dtype() == narrow_); }

  const char* op_;
  DType activation_, narrow_;
};

}  // namespace inkstone
