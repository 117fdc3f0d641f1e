#include "model/pretokenizer.h"

#include <array>
#include <cstdint>
#include <unicode/uchar.h>
#include <unicode/utf8.h>

namespace inkstone {
namespace {

/// The classes that the pattern tells apart; every code point is in one.
enum class Class : uint8_t { letter, number, newline, space, other, none };

Class class_of(UChar32 c) {
  const uint32_t category = U_GET_GC_MASK(c);
  if ((category & U_GC_L_MASK) != 0) return Class::letter;
  if ((category & U_GC_N_MASK) != 0) return Class::number;
  if (c == '\r' || c == '\n') return Class::newline;
  return u_isUWhiteSpace(c) ? Class::space : Class::other;
}

/// A place in a text; its class is `none` at the end.
class Cursor {
 public:
  Cursor(std::string_view text, size_t at) : text_(text), at_(at), next_(at) { read(); }

  size_t at() const { return at_; }
  UChar32 code() const { return code_; }
  Class kind() const { return kind_; }
  bool is_space() const { return kind_ == Class::space || kind_ == Class::newline; }

  void advance() {
    at_ = next_;
    read();
  }
  void skip(Class kind) {
    while (kind_ == kind) advance();
  }

 private:
  void read() {
    kind_ = Class::none;
    code_ = U_SENTINEL;
    if (at_ == text_.size()) return;
    U8_NEXT_UNSAFE(text_.data(), next_, code_);
    kind_ = class_of(code_);
  }

  std::string_view text_;
  size_t at_, next_;
  UChar32 code_ = U_SENTINEL;
  Class kind_ = Class::none;
};

// Each alternative gives the end of its match, or this.
constexpr size_t kNoMatch = 0;

/// (?i:'s|'t|'re|'ve|'m|'ll|'d). Case folding makes the long s an s, too.
size_t contraction(Cursor c) {
  static constexpr std::array<std::string_view, 7> kEndings = {"s", "t", "re", "ve", "m", "ll", "d"};
  if (c.code() != '\'') return kNoMatch;
  c.advance();
  for (const std::string_view ending : kEndings) {
    Cursor end = c;
    size_t matched = 0;
    while (matched < ending.size() && u_foldCase(end.code(), U_FOLD_CASE_DEFAULT) == ending[matched]) {
      end.advance();
      ++matched;
    }
    if (matched == ending.size()) return end.at();
  }
  return kNoMatch;
}

/// [^\r\n\p{L}\p{N}]?\p{L}+
size_t word(Cursor c) {
  if (c.kind() == Class::space || c.kind() == Class::other) c.advance();
  if (c.kind() != Class::letter) return kNoMatch;
  c.skip(Class::letter);
  return c.at();
}

/// \p{N}
size_t number(Cursor c) {
  if (c.kind() != Class::number) return kNoMatch;
  c.advance();
  return c.at();
}

///  ?[^\s\p{L}\p{N}]+[\r\n]*
size_t punctuation(Cursor c) {
  if (c.code() == ' ') c.advance();
  if (c.kind() != Class::other) return kNoMatch;
  c.skip(Class::other);
  c.skip(Class::newline);
  return c.at();
}

/// \s*[\r\n]+|\s+(?!\S)|\s+: up to the last newline of the run; else all but its last character, so that this one can
/// lead the next piece, unless nothing follows or it is the only one.
size_t spaces(Cursor c) {
  const size_t begin = c.at();
  size_t after_newline = kNoMatch;
  size_t last = begin;
  while (c.is_space()) {
    const bool newline = c.kind() == Class::newline;
    last = c.at();
    c.advance();
    if (newline) after_newline = c.at();
  }
  if (after_newline != kNoMatch) return after_newline;
  return c.kind() == Class::none || last == begin ? c.at() : last;
}

}  // namespace

size_t piece_end(std::string_view text, size_t begin) {
  const Cursor start(text, begin);
  for (const auto alternative : {contraction, word, number, punctuation})
    if (const size_t end = alternative(start); end != kNoMatch) return end;
  return spaces(start);
}

}  // namespace inkstone
