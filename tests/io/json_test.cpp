#include "io/json.h"

#include "io/files.h"

namespace inkstone {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

JsonFile json_file(const std::string& text) { return {"a.json", parse_json(text, "a.json")}; }

std::string error_of_parsing(const std::string& text) {
  return error_of([&] { parse_json(text, "a.json"); });
}

TEST(ParseJson, RefusesANameGivenTwiceAtAnyDepth) {
  EXPECT_THAT(error_of_parsing(R"({"a": 1, "b": 2, "a": 3})"),
              AllOf(HasSubstr("a.json"), HasSubstr("\"a\" is given twice")));
  EXPECT_THAT(error_of_parsing(R"([{"x": {"b": 1, "b": 1}}])"), HasSubstr("\"b\" is given twice"));
  EXPECT_EQ(parse_json(R"([{"a": 1}, {"a": {"a": 2}}])", "").size(), 2u)
      << "equal names in different objects are right";
}

TEST(ParseJson, RefusesBadSyntaxInOneLine) {
  for (const std::string text : {"", "{", "{\"a\":}", "{} {}", "{'a':1}", "[1,]", "\n\n{\n\"a\" \n", "nul", "1e999"})
    EXPECT_THAT(error_of_parsing(text), HasSubstr("a.json: not valid JSON")) << text;
}

TEST(ParseJson, RefusesBadUtf8InOneLine) {
  EXPECT_THAT(error_of_parsing("{\"\xff\": 1}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_of_parsing("\"\xed\xa0\x80\""), HasSubstr("not valid JSON")) << "a lone surrogate";
}

TEST(ParseJson, RefusesDeepNesting) {
  EXPECT_THAT(error_of_parsing(std::string(100000, '[')), HasSubstr("nested deeper than 64"));
  EXPECT_NO_THROW(parse_json(std::string(60, '[') + std::string(60, ']'), ""));
}

TEST(Shown, IsOneShortPrintableLine) {
  EXPECT_EQ(shown("a\nb"), R"("a\nb")");
  EXPECT_EQ(shown("\xff"), "\"\xef\xbf\xbd\"");
  const std::string cut = shown(std::string(1000, 'x'));
  EXPECT_LT(cut.size(), 100u);
  EXPECT_TRUE(cut.ends_with("...")) << cut;
}

TEST(JsonFile, GivesFieldsOfTheRightKind) {
  const JsonFile f = json_file(R"({"i": 3, "x": 2.5, "b": true, "s": "t", "n": null, "is": [1, 2], "xs": [1, 0.5],
                                   "bs": [true, false], "o": {"i": 4}})");
  EXPECT_EQ(f.integer("i", 0, 3), 3);
  EXPECT_EQ(f.integer_or("none", 7, 0, 3), 7);
  EXPECT_EQ(f.integer_or("n", 7, 0, 3), 7);
  EXPECT_EQ(f.number("x"), 2.5);
  EXPECT_EQ(f.number("i"), 3.0);
  EXPECT_EQ(f.number_or("none", 1.5), 1.5);
  EXPECT_TRUE(f.boolean_or("b", false));
  EXPECT_TRUE(f.boolean_or("none", true));
  EXPECT_EQ(f.text("s"), "t");
  EXPECT_EQ(f.text_or("none", "u"), "u");
  EXPECT_THAT(f.integers("is", 0, 9), ElementsAre(1, 2));
  EXPECT_THAT(f.numbers("xs"), ElementsAre(1.0, 0.5));
  EXPECT_THAT(f.booleans("bs"), ElementsAre(true, false));
  EXPECT_EQ(f.child("o").integer("i", 0, 9), 4);
  EXPECT_TRUE(f.has("i"));
  EXPECT_FALSE(f.has("n"));
}

TEST(JsonFile, ErrorsNameFileFieldValueAndWhatIsRight) {
  const JsonFile f =
      json_file(R"({"i": 3, "x": 2.5, "big": 18446744073709551615, "s": "t", "is": [1, "two"], "o": {"i": "u"}})");
  EXPECT_EQ(error_of([&] { f.integer("none", 0, 9); }), "a.json: field none is missing");
  EXPECT_EQ(error_of([&] { f.integer("i", 4, 9); }), "a.json: field i is 3, an integer from 4 to 9 is needed");
  EXPECT_THAT(error_of([&] { f.integer("x", 0, 9); }), HasSubstr("field x is 2.5"));
  EXPECT_THAT(error_of([&] { f.integer("big", 0, INT64_MAX); }), HasSubstr("18446744073709551615"));
  EXPECT_THAT(error_of([&] { f.number("s"); }), HasSubstr("field s is \"t\", a finite number is needed"));
  EXPECT_THAT(error_of([&] { f.boolean_or("i", true); }), HasSubstr("true or false"));
  EXPECT_THAT(error_of([&] { f.text("i"); }), HasSubstr("a string"));
  EXPECT_THAT(error_of([&] { f.integers("is", 0, 9); }), HasSubstr("field is[1] is \"two\""));
  EXPECT_THAT(error_of([&] { f.numbers("i"); }), HasSubstr("an array"));
  EXPECT_THAT(error_of([&] { f.child("i"); }), HasSubstr("an object"));
  EXPECT_THAT(error_of([&] { f.child("o").integer("i", 0, 9); }), HasSubstr("field o.i is \"u\""));
}

class JsonFileTest : public FolderTest {};

TEST_F(JsonFileTest, ReadsAFileAndRefusesWhatIsNoObject) {
  EXPECT_EQ(JsonFile::read(write("a.json", R"({"i": 1})")).integer("i", 1, 1), 1);
  EXPECT_THAT(error_of([&] { JsonFile::read(write("b.json", "[1]")); }), AllOf(HasSubstr("b.json"), HasSubstr("[1]")));
  EXPECT_THAT(error_of([&] { JsonFile::read(at("none.json")); }), HasSubstr("No such file"));
  EXPECT_THAT(error_of([&] { JsonFile::read(write("empty.json", "")); }), HasSubstr("not valid JSON"));
}

TEST_F(JsonFileTest, RefusesAHugeFile) {
  fs::resize_file(write("big.json", "{}"), size_t{65} << 20);
  EXPECT_THAT(error_of([&] { JsonFile::read(at("big.json")); }), HasSubstr("at most 67108864"));
}

}  // namespace
}  // namespace inkstone
