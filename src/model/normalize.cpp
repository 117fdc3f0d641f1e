#include "model/normalize.h"

#include <algorithm>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/utf8.h>
#include <vector>

#include "core/error.h"

namespace inkstone {
namespace {

constexpr size_t kMaxTextBytes = size_t{256} << 20;  // ICU counts in 32 bits, and NFC may triple a text
constexpr UChar32 kFirstCombining = 0x300;           // below, no character combines with the one before
constexpr size_t kLongRun = 256;                     // combining characters in a row

void check_icu(UErrorCode status) { check(U_SUCCESS(status), "ICU cannot normalise text: {}", u_errorName(status)); }

bool combines(UChar32 c) {
  return c >= kFirstCombining && u_getIntPropertyValue(c, UCHAR_LEAD_CANONICAL_COMBINING_CLASS) != 0;
}

/// The end of the run of combining characters that starts at `begin`, and how many they are.
struct Run {
  size_t end = 0, count = 0;
};

Run combining_run(std::string_view text, size_t begin) {
  Run run = {.end = begin};
  for (size_t next = begin; next < text.size(); ++run.count) {
    UChar32 c = 0;
    U8_NEXT_UNSAFE(text.data(), next, c);
    if (!combines(c)) break;
    run.end = next;
  }
  return run;
}

/// Appends a run of combining characters, decomposed and in canonical order.
void append_ordered(std::string_view run, const icu::Normalizer2& nfd, std::string& out) {
  std::vector<UChar32> codes;
  icu::UnicodeString decomposed;
  for (size_t next = 0; next < run.size();) {
    UChar32 c = 0;
    U8_NEXT_UNSAFE(run.data(), next, c);
    if (!nfd.getDecomposition(c, decomposed)) decomposed.setTo(c);
    for (int32_t i = 0; i < decomposed.length(); i = decomposed.moveIndex32(i, 1))
      codes.push_back(decomposed.char32At(i));
  }
  std::stable_sort(codes.begin(), codes.end(),
                   [&](UChar32 a, UChar32 b) { return nfd.getCombiningClass(a) < nfd.getCombiningClass(b); });
  icu::UnicodeString::fromUTF32(codes.data(), static_cast<int32_t>(codes.size())).toUTF8String(out);
}

/// The text with long runs of combining characters in canonical order, which leaves its NFC as it is: ICU moves such
/// characters one by one, so that a run would take quadratic time.
std::string with_ordered_runs(std::string_view text) {
  std::string out;
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* nfd = icu::Normalizer2::getNFDInstance(status);
  check_icu(status);
  for (size_t begin = 0; begin < text.size();) {
    const Run run = combining_run(text, begin);
    size_t end = run.end;
    if (run.count == 0) U8_FWD_1_UNSAFE(text.data(), end);
    const std::string_view part = text.substr(begin, end - begin);
    if (run.count > kLongRun) {
      append_ordered(part, *nfd, out);
    } else {
      out += part;
    }
    begin = end;
  }
  return out;
}

}  // namespace

void check_text(std::string_view text) {
  check(text.size() <= kMaxTextBytes, "the text has {} bytes; at most {} are encoded", text.size(), kMaxTextBytes);
  const auto n = static_cast<int32_t>(text.size());
  for (int32_t i = 0; i < n;) {
    const int32_t start = i;
    UChar32 c = U_SENTINEL;
    U8_NEXT(text.data(), i, n, c);
    check(c >= 0, "the text is not valid UTF-8: byte {} is 0x{:02x}", start,
          static_cast<unsigned char>(text[static_cast<size_t>(start)]));
  }
}

std::string nfc(std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* composer = icu::Normalizer2::getNFCInstance(status);
  check_icu(status);
  const std::string ordered = with_ordered_runs(text);
  std::string out;
  icu::StringByteSink<std::string> sink(&out, static_cast<int32_t>(ordered.size()));
  composer->normalizeUTF8(0, icu::StringPiece(ordered.data(), static_cast<int32_t>(ordered.size())), sink, nullptr,
                          status);
  check_icu(status);
  return out;
}

}  // namespace inkstone
