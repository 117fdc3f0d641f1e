"""Tests of inkstone quantize as a program: the memory that it takes."""
import pathlib
import unittest

from program import PROGRAM, ProgramTest, write_zeros

WIDTH = 1024
TABLE_ROWS = 64 << 10    # 128 MB in BF16, copied as they are
MATRIX_ROWS = 16 << 10   # 32 MB, converted
BESIDE = 64 << 20        # what a large source may take more than a small one


@unittest.skipIf(b"__asan_init" in pathlib.Path(PROGRAM).read_bytes(), "sanitizers take memory of their own")
class QuantizeTest(ProgramTest):
    def peak_of_rounding(self, name, table_rows, matrix_rows):
        write_zeros(self.folder / f"{name}.safetensors", {"model.embed_tokens.weight": [table_rows, WIDTH],
                                                          "model.layers.0.mlp.up_proj.weight": [matrix_rows, WIDTH]})
        return self.peak_of("quantize", f"{name}.safetensors", "--format", "int4", "--output", name, "--threads", "1",
                            "--quiet")

    def test_memory_does_not_grow_with_the_model(self):
        small = self.peak_of_rounding("small", 64, 64)
        self.assertLess(self.peak_of_rounding("large", TABLE_ROWS, MATRIX_ROWS) - small, BESIDE)


if __name__ == "__main__":
    unittest.main()
