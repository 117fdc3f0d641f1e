"""Tests of inkstone plan: what it says comes true, and --memory is kept."""
import json
import os
import pathlib
import re
import struct
import unittest

from program import MODEL, PROGRAM, ProgramTest, write_zeros

TOLERANCE = 0.07  # of the kernel's own peak of resident memory, mapped files included

# Size, pictures, and the share of the memory that would be taken without a bound. Pictures below 128x128 take up to 2 MB
# less than is said: the scratch memory of the workers is not all touched.
CONFIGURATIONS = (
    ("192x192", 1, None),
    ("256x256", 1, None),
    ("384x640", 1, None),
    ("512x512", 1, None),
    ("128x128", 8, None),
    ("256x256", 4, None),
    ("512x512", 1, 0.7),
    ("256x256", 8, 0.6),
    ("384x384", 2, 0.8),
    ("192x192", 6, 0.7),
    ("192x192", 1, 0.78),
    ("192x192", 1, 0.74),
)


def lora_of_every_layer(path, rank):
    """A LoRA beside each matrix of the tiny model's blocks."""
    with open(MODEL / "transformer" / "diffusion_pytorch_model.safetensors", "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    shapes = {}
    for name, tensor in header.items():
        if name.startswith("transformer_blocks.") and len(tensor["shape"]) == 2:
            out, inputs = tensor["shape"]
            layer = name.removesuffix(".weight")
            shapes[f"{layer}.lora_down.weight"] = [rank, inputs]
            shapes[f"{layer}.lora_up.weight"] = [out, rank]
    write_zeros(path, shapes)


@unittest.skipIf(b"__asan_init" in pathlib.Path(PROGRAM).read_bytes(), "sanitizers take memory of their own")
class PlanTest(ProgramTest):
    @classmethod
    def setUpClass(cls):
        # Where a file was written in one piece, the system caches and maps it in pieces larger than a program touches.
        cls.forget_cached(MODEL)

    @staticmethod
    def forget_cached(model):
        for file in model.rglob("*.safetensors"):
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)

    def plan(self, *arguments):
        return json.loads(self.run_program("plan", "--prompt", "a red star", "--json", *arguments)[0])

    def peak_of_drawing(self, *arguments):
        return self.peak_of("generate", "--prompt", "a red star", "--seed", "1", "--steps", "2", "--output", "star.png",
                            "--quiet", *arguments)

    def test_says_within_seven_percent_what_the_kernel_measures(self):
        for size, count, share in CONFIGURATIONS:
            with self.subTest(size=size, count=count, share=share):
                arguments = ["--size", size, "--count", str(count)]
                if share:
                    bound = int(share * self.plan(*arguments)["needed_bytes"])
                    arguments += ["--memory", str(bound)]
                needed = self.expect_measured(*arguments)
                if share:
                    self.assertLessEqual(needed, bound)

    def expect_measured(self, *arguments):
        needed, measured = self.plan(*arguments)["needed_bytes"], self.peak_of_drawing(*arguments)
        self.assertLess(abs(needed / measured - 1), TOLERANCE, f"{needed} planned, {measured} measured")
        return needed

    def test_counts_loras_and_what_rounding_to_eight_bits_keeps(self):
        lora_of_every_layer(self.folder / "lora.safetensors", 64)
        lora, rounded, size = ["--lora", "lora.safetensors"], ["--arithmetic", "int8"], ["--size", "256x256"]
        text_too, half = ["--arithmetic", "int8_all"], ["--arithmetic", "half"]

        def denoising(*arguments):
            stage = self.plan(*size, *arguments)["stages"][1]
            return stage["own_bytes"] + stage["mapped_bytes"]

        self.assertGreater(denoising(*lora), 1.05 * denoising())
        self.assertGreater(denoising(*lora, *rounded), 1.05 * denoising(*rounded))
        self.assertLess(denoising(*rounded), 0.95 * denoising(), "what is kept in 8 bits is not mapped beside it")
        for arguments in (lora, rounded, lora + rounded, text_too, half):
            with self.subTest(arguments=arguments):
                self.expect_measured(*size, *arguments)
                self.expect_measured(*size, *arguments, "--count", "4")
                bound = int(0.9 * self.plan(*size, *arguments)["needed_bytes"])
                needed = self.expect_measured(*size, *arguments, "--memory", str(bound))
                self.assertLessEqual(needed, bound)
                if arguments in (rounded, text_too):  # of which it keeps as much as there is room for
                    self.assertGreater(needed, 0.97 * bound)

    def test_counts_no_pages_of_weights_that_were_converted(self):
        # Decoding takes most of what is converted, so that a bound of 0.7 leaves room for little else.
        arguments = ["--dtype", "f32", "--size", "256x256"]
        bound = int(0.7 * self.plan(*arguments)["needed_bytes"])
        self.assertLessEqual(self.expect_measured(*arguments, "--memory", str(bound)), bound)

    def test_counts_weights_that_lie_as_the_kernels_read_them(self):
        self.run_program("quantize", str(MODEL), "--format", "int8", "--layout", "cpu", "--output", "model", "--quiet")
        self.forget_cached(self.folder / "model")
        model, size = ["--model", "model"], ["--size", "256x256"]
        for arithmetic in ("int8", "int8_all", "f32"):
            with self.subTest(arithmetic):
                arguments = [*model, *size, "--arithmetic", arithmetic]
                needed = self.expect_measured(*arguments)
                bound = int(0.9 * needed)
                self.assertLessEqual(self.expect_measured(*arguments, "--memory", str(bound)), bound)
        rounded = ["--arithmetic", "int8"]
        self.assertLess(self.plan(*model, *size, *rounded)["stages"][1]["own_bytes"],
                        self.plan(*size, *rounded)["stages"][1]["own_bytes"])

    def test_a_table_and_json_say_the_same(self):
        arguments = ("--size", "256x256", "--memory", "4G")
        table = self.run_program("plan", *arguments)[0]
        self.assertRegex(table, r"\Astage +own +mapped +together\nencode .*\ndenoise .*\ndecode .*\n")
        self.assertRegex(table, r"\n\d+(\.\d+)? MiB needed, 4\.0 GiB available\n")
        plan = self.plan(*arguments)
        self.assertEqual(plan["available_bytes"], 4 << 30)
        self.assertEqual([stage["stage"] for stage in plan["stages"]], ["encode", "denoise", "decode"])
        self.assertEqual(plan["needed_bytes"], max(s["own_bytes"] + s["mapped_bytes"] for s in plan["stages"]))

    def test_says_when_a_stage_gives_unused_memory_back(self):
        needed = self.plan("--size", "512x512")["needed_bytes"]
        for bound, trimmed in ((needed + (64 << 20), []), (needed - (32 << 20), ["decode"])):
            arguments = ("--size", "512x512", "--memory", str(bound))
            stages = self.plan(*arguments)["stages"]
            self.assertEqual([stage["stage"] for stage in stages if stage["trimmed"]], trimmed)
            self.assertEqual("\ndecode gives unused memory back at once" in self.run_program("plan", *arguments)[0],
                             bool(trimmed))

    def test_says_how_many_blocks_are_streamed_if_not_all_need_be(self):
        size = ("--size", "192x192")
        bound = ("--memory", str(int(0.78 * self.plan(*size)["needed_bytes"])))
        plan = self.plan(*size, *bound)
        streamed, blocks = plan["blocks_streamed"], plan["blocks"]
        self.assertTrue(plan["transformer_streamed"] and 0 < streamed < blocks, plan)
        self.assertIn(f"{blocks - streamed} of the transformer's {blocks} blocks stay in memory, "
                      f"{streamed} are streamed from the disk", self.run_program("plan", *size, *bound)[0])

    def test_what_cannot_fit_is_an_error_that_says_what_would(self):
        for command in ("plan", "generate"):
            error = self.error_of(command, "--prompt", "a red star", "--size", "512x512", "--memory", "4M")
            self.assertRegex(error, r"size 512x512: .* needs .* of memory, 4\.0 MiB are available; .* would do")

    def test_what_would_do_does(self):
        for arguments in ((), ("--arithmetic", "int8"), ("--size", "256x256", "--count", "3"), ("--dtype", "f32")):
            with self.subTest(arguments):
                error = self.error_of("plan", "--size", "128x128", *arguments, "--memory", "4M")
                enough = float(re.search(r"; ([\d.]+) MiB would do", error)[1])
                self.run_program("plan", "--size", "128x128", *arguments, "--memory", f"{enough}MiB")
                self.error_of("plan", "--size", "128x128", *arguments, "--memory", f"{0.9 * enough}MiB")

    def test_a_bound_is_a_size(self):
        for text in ("", "G", "-1G", "0", "nan", "1e30T", "6X", "6GX", "6iB", "GiB"):
            self.error_of("plan", "--memory", text, code=2)
        for text in ("64M", "0.5G", "100000000", "65536K", "64MiB", "0.5GB"):
            self.run_program("plan", "--size", "64x64", "--memory", text)
        for text, size in (("2G", 2 << 30), ("2GiB", 2 << 30), ("2GB", 2 * 10**9)):
            self.assertEqual(self.plan("--memory", text)["available_bytes"], size)

    def test_generate_keeps_quiet_in_a_pipe_unless_asked(self):
        arguments = ("generate", "--prompt", "a red star", "--size", "64x64", "--steps", "2", "--output", "star.png")
        self.assertNotIn("memory:", self.run_program(*arguments)[1])
        messages = self.run_program(*arguments, "--verbose", "--memory", "200M")[1]
        self.assertRegex(messages, r"(?m)^memory: \S+ MiB to encode, \S+ MiB to denoise, \S+ MiB to decode; \S+ MiB needed, "
                         r"200 MiB available; one picture at a time$")


if __name__ == "__main__":
    unittest.main()
