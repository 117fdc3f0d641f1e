"""Tests of inkstone quantize as a program: the memory that it takes."""
import json
import os
import pathlib
import struct
import subprocess
import unittest

from program import PROGRAM, ProgramTest

WIDTH = 1024
TABLE_ROWS = 64 << 10    # 128 MB in BF16, copied as they are
MATRIX_ROWS = 16 << 10   # 32 MB, converted
BESIDE = 64 << 20        # what a large source may take more than a small one


def text_encoder_of_zeros(path, table_rows, matrix_rows):
    """A file with holes in place of numbers."""
    header, end = {}, 0
    for name, rows in (("model.embed_tokens.weight", table_rows), ("model.layers.0.mlp.up_proj.weight", matrix_rows)):
        begin, end = end, end + 2 * rows * WIDTH
        header[name] = {"dtype": "BF16", "shape": [rows, WIDTH], "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    os.truncate(path, path.stat().st_size + end)


@unittest.skipIf(b"__asan_init" in pathlib.Path(PROGRAM).read_bytes(), "sanitizers take memory of their own")
class QuantizeTest(ProgramTest):
    def peak_of(self, name, table_rows, matrix_rows):
        """The most resident memory of a run, as the kernel counts it: mapped files included."""
        text_encoder_of_zeros(self.folder / f"{name}.safetensors", table_rows, matrix_rows)
        process = subprocess.Popen([PROGRAM, "quantize", f"{name}.safetensors", "--format", "int4", "--output", name,
                                    "--threads", "1", "--quiet"], cwd=self.folder, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0)
        return usage.ru_maxrss * 1024

    def test_memory_does_not_grow_with_the_model(self):
        small = self.peak_of("small", 64, 64)
        self.assertLess(self.peak_of("large", TABLE_ROWS, MATRIX_ROWS) - small, BESIDE)


if __name__ == "__main__":
    unittest.main()
