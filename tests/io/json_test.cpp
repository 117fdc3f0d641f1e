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

TEST(JsonFile, ListsTextsObjectsAndEntriesOfAnyKind) {
  const JsonFile f = json_file(R"({"ss": ["a", "b"], "os": [{"i": 1}, {"i": 2}], "mixed": ["a", {}], "i": 3})");
  EXPECT_THAT(f.texts("ss"), ElementsAre("a", "b"));
  ASSERT_EQ(f.children("os").size(), 2u);
  EXPECT_EQ(f.children("os")[1].integer("i", 0, 9), 2);
  EXPECT_EQ(f.array("mixed").size(), 2u);
  EXPECT_THAT(error_of([&] { f.texts("mixed"); }), HasSubstr("field mixed[1] is {}, a string"));
  EXPECT_THAT(error_of([&] { f.children("mixed"); }), HasSubstr("field mixed[0] is \"a\", an object"));
  EXPECT_THAT(error_of([&] { f.children("os")[0].text("i"); }), HasSubstr("field os[0].i is 1, a string"));
  EXPECT_THAT(error_of([&] { f.array("i"); }), HasSubstr("field i is 3, an array"));
}

TEST(JsonFile, AChildOutlivesItsParent) {
  const JsonFile child = json_file(R"({"o": {"i": 4}})").child("o");
  EXPECT_EQ(child.integer("i", 0, 9), 4);
}

TEST(JsonFile, RefusesValuesAndUnknownFieldsByName) {
  const JsonFile f = json_file(R"({"a": 1, "o": {"b\n": 2}})");
  EXPECT_EQ(error_of([&] { f.refuse("a", "two"); }), "a.json: field a is 1, two is needed");
  EXPECT_NO_THROW(f.allow_only({"a", "o", "p"}));
  EXPECT_EQ(error_of([&] { f.allow_only({"a", "p"}); }), "a.json: field \"o\" is unknown; there are a, p");
  EXPECT_THAT(error_of([&] { f.child("o").allow_only({"a"}); }), HasSubstr("field o.\"b\\n\" is unknown"));
}

class JsonFileTest : public FolderTest {};

TEST_F(JsonFileTest, ReadsAFileThatMayBeAbsent) {
  EXPECT_FALSE(JsonFile::read_if_present(at("none.json")));
  EXPECT_FALSE(JsonFile::read_if_present(write("file", "") / "none.json"));
  EXPECT_EQ(JsonFile::read_if_present(write("a.json", R"({"i": 1})"))->integer("i", 1, 1), 1);
  fs::create_symlink(at("gone"), at("link.json"));
  EXPECT_THAT(error_of([&] { JsonFile::read_if_present(at("link.json")); }), HasSubstr("link.json: cannot read"));
}

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
