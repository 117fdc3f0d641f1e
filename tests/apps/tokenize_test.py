"""inkstone tokenize."""
import json
import unittest

from program import MODEL, ProgramTest

TEXTS = ["", "a red star", " two  spaces", "STAR 42", "naïve – 红色的星星 🌟", 'quotes " and \\ and\nlines', "<|im_end|>"]


def bytes_of_symbols():
    """Byte-level BPE writes each byte as a printable character (GPT-2's table): {character: byte}."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


class TokenizeTest(ProgramTest):
    def tokenize(self, *arguments):
        output, messages = self.run_program("tokenize", *arguments)
        self.assertEqual(messages, "")
        return [json.loads(line) for line in output.splitlines()]

    def text_of(self, ids):
        entries = json.loads((MODEL / "tokenizer" / "tokenizer.json").read_text())
        words = {id: word for word, id in entries["model"]["vocab"].items()}
        added = {entry["id"]: entry["content"] for entry in entries["added_tokens"]}
        table = bytes_of_symbols()
        return b"".join(added[i].encode() if i in added else bytes(table[c] for c in words[i]) for i in ids).decode()

    def test_ids_spell_the_text(self):
        for text in TEXTS:
            with self.subTest(text):
                (ids,) = self.tokenize("--", text)
                self.assertEqual(self.text_of(ids), text)

    def test_file_gives_one_array_per_line(self):
        lines = [json.dumps(TEXTS[0]), json.dumps(TEXTS[1]) + "\r", *(json.dumps(t, ensure_ascii=False) for t in TEXTS[2:])]
        (self.folder / "texts.jsonl").write_bytes("\n".join(lines).encode())
        self.assertEqual(self.tokenize("--file", "texts.jsonl"), [self.tokenize("--", text)[0] for text in TEXTS])

    def test_template_surrounds_the_text(self):
        (plain,) = self.tokenize("a red star")
        (ids,) = self.tokenize("--template", "a red star")
        self.assertIn(",".join(map(str, plain)), ",".join(map(str, ids)))
        text = self.text_of(ids)
        self.assertTrue(text.startswith("<|im_start|>system\n"), text)
        self.assertTrue(text.endswith("a red star<|im_end|>\n<|im_start|>assistant\n"), text)

    def test_tokenizer_of_another_place(self):
        expected = self.tokenize("a red star")
        for place in [MODEL / "tokenizer", MODEL / "tokenizer" / "tokenizer.json"]:
            self.assertEqual(self.tokenize("--tokenizer", str(place), "a red star"), expected)
        self.assertEqual(self.tokenize("--model", str(MODEL), "a red star"), expected)

    def test_bad_lines_name_file_and_line(self):
        for line in [b"plain words", b"17", b'["a"]', b"", b'"open', b'"\\ud800"']:
            with self.subTest(line):
                (self.folder / "texts.jsonl").write_bytes(b'"good"\n' + line + b"\n")
                output, messages = self.run_program("tokenize", "--file", "texts.jsonl", code=1)
                self.assertEqual(len(output.splitlines()), 1)
                self.assertRegex(messages, r"^error: texts\.jsonl:2: .*JSON string.*\n$")

    def test_lines_that_are_not_utf_8_name_the_byte(self):
        for line, byte in [(b'"\xff"', "byte 1 is 0xff"), (b'"a star \xc3"', "byte 8 is 0xc3"), (b"\xfe", "byte 0 is 0xfe"),
                           ('"★"'.encode() + b"\x80", "byte 5 is 0x80")]:
            with self.subTest(line):
                (self.folder / "texts.jsonl").write_bytes(b'"good"\n"good"\n' + line + b"\n")
                _, messages = self.run_program("tokenize", "--file", "texts.jsonl", code=1)
                self.assertEqual(messages, f"error: texts.jsonl:3: the text is not valid UTF-8: {byte}\n")

    def test_faults(self):
        self.assertIn("nowhere.jsonl: cannot be read: No such", self.error_of("tokenize", "--file", "nowhere.jsonl"))
        self.assertIn(".: is a folder", self.error_of("tokenize", "--file", "."))
        self.assertIn("nowhere", self.error_of("tokenize", "--model", "nowhere", "x"))
        self.assertIn("UTF-8", self.error_of("tokenize", b"a\xffb"))


if __name__ == "__main__":
    unittest.main()
