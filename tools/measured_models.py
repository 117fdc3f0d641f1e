"""Models of random weights, for measure_cuda.py."""

import pathlib
import shutil
import time

from measured_programs import output_of

ALL_BLOCKS = 60
FOLDER_BYTES = {"bf16": 55.5e9, "int4": 16e9}
SPARE_BYTES = 1.5e9


class Models:
    """Folders of random weights, made when they are first asked for."""

    def __init__(self, setting):
        self.setting = setting  # measure_cuda.py's
        self.factor = 1  # of the time of steps, where not all blocks are there

    def folder(self, format_: str) -> pathlib.Path:
        made = self.folder_of(format_)
        if made.exists():
            self.factor = self.factor_of(made)
            return made
        self.clear()
        small = self.setting.preset == "tiny"
        free = shutil.disk_usage(self.setting.work).free
        halved = not small and free < FOLDER_BYTES[format_] + SPARE_BYTES
        layers = ["--layers", ALL_BLOCKS // 2] if halved else []
        part = self.part_of(made)
        begin = time.monotonic()
        preset = ["--preset", self.setting.preset, "--format", format_]
        output_of([self.setting.program, "random-model", *preset, *layers, "--output", part])
        seconds = time.monotonic() - begin
        (part / "blocks").write_text(str(ALL_BLOCKS // 2 if halved else ALL_BLOCKS))
        part.rename(made)
        written = sum(file.stat().st_size for file in made.rglob("*") if file.is_file())
        about = f"{'30' if halved else 'all'} blocks, {written / 1e9:.3g} GB in {seconds:.0f} s"
        print(f"model in {format_} written: {about}", flush=True)
        self.factor = self.factor_of(made)
        return made

    def folder_of(self, format_: str) -> pathlib.Path:
        return self.setting.work / f"measured-{self.setting.preset}-{format_}"

    @staticmethod
    def part_of(made: pathlib.Path) -> pathlib.Path:
        """While it is written."""
        return made.with_name(made.name + ".part")

    def clear(self) -> None:
        """Nothing that somebody else put into the folder."""
        for made in map(self.folder_of, FOLDER_BYTES):
            for folder in (made, self.part_of(made)):
                shutil.rmtree(folder, ignore_errors=True)

    @staticmethod
    def factor_of(made: pathlib.Path) -> float:
        return ALL_BLOCKS / int((made / "blocks").read_text())

    def of(self, text: str, doubled: bool = True) -> str:
        """What a row says where not all blocks were there."""
        return text if self.factor == 1 else f"{text} (30 blocks, {'' if doubled else 'not '}doubled)"
