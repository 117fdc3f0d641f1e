#include "ops/trace.h"

#include "core/quantity.h"

namespace inkstone {
namespace {

std::vector<Shape> shapes_of(std::span<const Tensor> tensors) {
  std::vector<Shape> shapes;
  for (const Tensor& t : tensors) shapes.push_back(t.shape());
  return shapes;
}

size_t bytes_of(std::span<const Tensor> tensors) {
  size_t sum = 0;
  for (const Tensor& t : tensors) sum += t.bytes();
  return sum;
}

}  // namespace

std::string Trace::Entry::text() const {
  std::string line = fmt::format("{} {} -> {}  {}", op, fmt::join(in, " "), fmt::join(out, " "),
                                 quantity(static_cast<double>(bytes), "B"));
  if (flop > 0) line += "  " + quantity(flop, "FLOP");
  return line;
}

Trace::Totals Trace::totals() const {
  Totals totals = {.calls = entries_.size()};
  for (const Entry& entry : entries_) {
    totals.bytes += entry.bytes;
    totals.flop += entry.flop;
  }
  return totals;
}

std::string Trace::text() const {
  std::string text;
  for (const Entry& entry : entries_) text += entry.text() + "\n";
  return text;
}

void Trace::intercept(const Call& call) {
  entries_.push_back({.op = std::string(call.op),
                      .in = shapes_of(call.in),
                      .out = shapes_of(call.out),
                      .bytes = bytes_of(call.in) + bytes_of(call.out),
                      .flop = call.flop});
  if (inner_ != nullptr) call.run(*inner_, call.out);
}

}  // namespace inkstone
