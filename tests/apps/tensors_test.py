"""Tensors in and out: noise, latents and embeddings."""
import json
import math
import random
import unittest

from program import (MODEL, QUICK, ProgramTest, config_of, latent_shape, png_metadata, png_pixels, read_safetensors,
                     write_safetensors)


def normal_numbers(shape, seed):
    source = random.Random(seed)
    return [source.gauss(0, 1) for _ in range(math.prod(shape))]


class NoiseTest(ProgramTest):
    def noise(self, name, seed, count=1):
        shape = latent_shape(64, 64, count)
        write_safetensors(self.folder / name, "noise", shape, normal_numbers(shape, seed))
        return name

    def test_noise_decides_the_picture_and_the_seed_of_like_does_not(self):
        first = png_pixels(self.draw("a.png", "--noise", self.noise("n1", 1)))
        self.assertNotEqual(png_pixels(self.draw("b.png", "--noise", self.noise("n2", 2))), first)
        self.run_program("generate", "--like", "a.png", "--output", "c.png")
        self.assertEqual(png_pixels(self.folder / "c.png"), first)
        self.draw("seeded.png", "--seed", "1")
        self.run_program("generate", "--like", "seeded.png", "--noise", "n1", "--output", "d.png")
        self.assertEqual(png_pixels(self.folder / "d.png"), first)
        self.assertNotIn("seed", png_metadata(self.folder / "d.png"))

    def test_one_noise_per_picture(self):
        one, two = self.noise("n1", 1), self.noise("n2", 2)
        both = read_safetensors(self.folder / one)["noise"][1] + read_safetensors(self.folder / two)["noise"][1]
        write_safetensors(self.folder / "both", "noise", latent_shape(64, 64, 2), both)
        self.draw("s.png", "--noise", "both", "--count", "2")
        for i, name in enumerate([one, two], start=1):
            self.assertEqual(png_pixels(self.draw("alone.png", "--noise", name)), png_pixels(self.folder / f"s-{i}.png"))

    def test_noise_has_no_seed_and_each_of_its_pictures_is_repeated_alone(self):
        one, two = self.noise("n1", 1), self.noise("n2", 2)
        both = read_safetensors(self.folder / one)["noise"][1] + read_safetensors(self.folder / two)["noise"][1]
        write_safetensors(self.folder / "start.st", "noise", latent_shape(64, 64, 2), both)
        output, messages = self.run_program("generate", "--prompt", "a", *QUICK, "--noise", "start.st", "--count", "2")
        self.assertEqual(output.split(), ["inkstone-start-1.png", "inkstone-start-2.png"])
        self.assertNotIn("seed", messages)
        for name in output.split():
            self.assertNotIn("seed", png_metadata(self.folder / name))
            self.run_program("generate", "--like", name, "--output", "again.png")
            self.assertEqual((self.folder / "again.png").read_bytes(), (self.folder / name).read_bytes())
        self.run_program("generate", "--like", name, "--seed", "3", "--output", "seeded.png")
        self.assertEqual(png_metadata(self.folder / "seeded.png")["seed"], 3)

    def test_latents_are_saved_in_the_shape_of_noise(self):
        self.draw("a.png", "--save-latents", "l", "--seed", "4", "--count", "2")
        (name, (shape, numbers)), = read_safetensors(self.folder / "l").items()
        self.assertEqual((name, shape), ("latents", latent_shape(64, 64, 2)))
        self.assertTrue(all(map(math.isfinite, numbers)))
        spread = math.sqrt(sum(x * x for x in numbers) / len(numbers))
        self.assertTrue(0.1 < spread < 3, spread)
        write_safetensors(self.folder / "n", "noise", shape, numbers)
        self.draw("b.png", "--noise", "n", "--count", "2", "--save-latents", "l2")
        self.assertNotEqual(read_safetensors(self.folder / "l2")["latents"][1], numbers)

    def test_bad_noise(self):
        shape = latent_shape(64, 64)
        numbers = normal_numbers(shape, 1)
        cases = [("noise", shape, [math.nan, *numbers[1:]], "nan"), ("noise", shape, [*numbers[:-1], math.inf], "inf"),
                 ("other", shape, numbers, "noise"), ("noise", [2, *shape[1:]], numbers * 2, str(shape[1:])[1:-1])]
        for name, given, values, word in cases:
            write_safetensors(self.folder / "n", name, given, values)
            error = self.error_of("generate", "--prompt", "x", *QUICK, "--noise", "n", "--output", "a.png")
            self.assertIn("n: ", error)
            self.assertIn(word, error)
        (self.folder / "n").write_bytes(b"short")
        self.assertIn("n: ", self.error_of("generate", "--prompt", "x", *QUICK, "--noise", "n", "--output", "a.png"))

    def test_unwritable_latents_fail_before_the_work(self):
        self.assertIn("nowhere", self.error_of("generate", "--prompt", "x", *QUICK, "--save-latents", "nowhere/l"))


class EncodeTest(ProgramTest):
    def encode(self, prompt, *arguments):
        output, messages = self.run_program("encode", "--prompt", prompt, "--output", "e.safetensors", *arguments)
        self.assertEqual(output, "e.safetensors\n")
        (name, (shape, numbers)), = read_safetensors(self.folder / "e.safetensors").items()
        self.assertEqual(name, "embeds")
        self.assertEqual(shape[1], config_of("text_encoder")["text_config"]["hidden_size"])
        self.assertTrue(all(map(math.isfinite, numbers)))
        return shape[0], numbers, messages

    def template_tokens(self, text):
        return len(json.loads(self.run_program("tokenize", "--template", text)[0]))

    def test_rows_are_the_tokens_after_the_template_s_head(self):
        head = 34  # tokens of the template before the prompt, with any Qwen2.5 tokenizer
        for prompt in ["", "a red star", "naïve – 红色的星星 " * 20]:
            self.assertEqual(self.encode(prompt)[0], self.template_tokens(prompt) - head)

    def test_prompts_are_told_apart(self):
        self.assertNotEqual(self.encode("a red star")[1], self.encode("a red moon")[1])
        self.assertEqual(self.encode("a red star")[1], self.encode("a red star", "--model", str(MODEL))[1])

    def test_8_bit_arithmetic_is_named_first(self):
        exact, rounded = self.encode("a red star"), self.encode("a red star", "--arithmetic", "int8_all")
        self.assertRegex(rounded[2].splitlines()[0], "lossy.*text encoder")
        self.assertNotIn("lossy", exact[2])
        self.assertNotEqual(exact[1], rounded[1])

    def test_16_bit_arithmetic_names_its_kind_first(self):
        exact, rounded = self.encode("a red star"), self.encode("a red star", "--arithmetic", "half")
        first = rounded[2].splitlines()[0]
        self.assertRegex(first, r"arithmetic half( \((fp16|bf16)\), lossy.*text encoder|: f32)")
        self.assertEqual(exact[1] == rounded[1], "lossy" not in first)
        plain = self.encode("a red star", "--arithmetic", "half", "--isa", "scalar")
        self.assertNotIn("lossy", plain[2])

    def test_needs_no_transformer_and_no_vae(self):
        expected = self.encode("a red star")[1]
        (self.folder / "m").mkdir()
        for part in ["text_encoder", "tokenizer"]:
            (self.folder / "m" / part).symlink_to(MODEL / part)
        self.assertEqual(self.encode("a red star", "--model", "m")[1], expected)

    def test_is_silent_in_a_pipe(self):
        _, _, messages = self.encode("a red star")
        self.assertNotIn("\x1b", messages)
        self.assertEqual(self.run_program("encode", "--prompt", "x", "--output", "e", "--quiet"), ("e\n", ""))

    def test_cut_is_said(self):
        rows, numbers, messages = self.encode("a red star on a blue background", "--max-sequence-length", "4")
        self.assertEqual(rows, 4)
        self.assertRegex(messages, r"(?m)^note: .*4 tokens")
        self.assertEqual(len(numbers), 4 * config_of("text_encoder")["text_config"]["hidden_size"])

    def test_faults(self):
        self.assertIn("nowhere", self.error_of("encode", "--prompt", "x", "--output", "nowhere/e"))
        self.assertIn("UTF-8", self.error_of("encode", "--prompt", b"\xff", "--output", "e"))
        self.assertIn("1024", self.error_of("encode", "--prompt", "A" * 1100, "--output", "e"))

    def test_unwritable_output_fails_before_the_work(self):
        _, messages = self.run_program("encode", "--prompt", "x", "--verbose", "--output", "nowhere/e", code=1)
        self.assertEqual(len(messages.splitlines()), 1, "no engine was opened")


if __name__ == "__main__":
    unittest.main()
