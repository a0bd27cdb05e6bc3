"""Makes products anew, each by its own commands, in a work folder that an interrupted run resumes.

WORK/ENCODER'S FINGERPRINT/PRODUCT/ holds product.json (with what it was begun), output/ (what the
commands wrote), printed.txt (what they said) and, when it is complete, files/ (what belongs in the
repository, by its path there).
"""

import dataclasses
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from posenet_jax.encoders import bundled_encoders
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.errors import InputError, shown
from posenet_jax.io import files, run_files

from . import commands, products
from .products import Now, Product, Products, split

_RECORD = "product.json"
_SCHEMA = {"done": bool, "weights": {str: str}, "commands": [[str]]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Remaking:
    """Everything that products are made with.

    encoder, named: it, and the name or path that scripts are given. inputs: {name: path of data or
    None}. work: the work folder; None: nothing is made. root: folder that products' paths are in.
    """

    products: Products
    encoder: Encoder
    named: str
    inputs: Mapping[str, str | None]
    work: Path | None
    root: Path

    def folder(self, product: str) -> Path:
        """A product's folder in the work folder."""
        if self.work is None:
            raise InputError("products are made in a work folder: give --out")
        return self.work / self.encoder.fingerprint / product

    def now(self) -> Now:
        """Weights as they are, with the decoders that are made in the work folder."""
        made = {
            product.name: self.folder(product.name) / "files" / self._named(product.decoder.path)
            for product in self.products.by_name.values()
            if self.work and product.decoder and self._record(product.name).get("done")
        }
        return Now(self.products, self.encoder, self.root, made)

    def networks(self) -> dict[str, str]:
        """Returns what stands for the names of encoders in commands."""
        module: Any = self.encoder.module
        own = {
            "encoder": self.named,
            "name": self.encoder.name,
            "control": f"{type(module).architecture}-random-0",
        }
        return {name: name for name in bundled_encoders.names()} | own

    def chosen(self, names: Sequence[str]) -> list[Product]:
        """Products by name, or `all`, or `stale`, those first that others need.

        Raises InputError for unknown names.
        """
        every = self.products.by_name
        if "all" in names:
            return list(every.values())
        given = [name for name in names if name != "stale"]
        if "stale" in names:
            now = self.now()
            given += [name for name, product in every.items() if now.is_stale(product)]
        return self.products.chosen(given)

    def check(self, chosen: Sequence[Product]) -> None:
        """Raises InputError where the chosen products lack data, or a decoder not chosen."""
        now, coming = self.now(), {product.name for product in chosen}
        for product in chosen:
            if lacking := [name for name, path in self.inputs.items() if not path]:
                names = ", ".join(f"--{name}" for name in lacking if name in product.fields)
                if names:
                    raise InputError(f"{product.name} needs data that is not here: give {names}")
            for name in sorted(product.fields & set(self.products.by_name)):
                if name not in coming and not now.decoder(name):
                    raise InputError(
                        f"{product.name} needs {name} of encoder {self.encoder.name!r}, which is"
                        f" not there: give --run={name},{product.name}"
                    )

    def make(self, product: Product) -> bool:
        """Runs a product's commands unless it is made; returns whether some images were left out.

        Raises InputError where it was begun otherwise, or a command fails.
        """
        now, folder = self.now(), self.folder(product.name)
        values = self._values(product, now)
        commands = [
            [word.format_map(values) for words in split(command) for word in words]
            for command in product.commands
        ]
        record: dict[str, Any] = {"weights": now.weights(product), "commands": commands}
        before = self._record(product.name)
        if before and {name: before[name] for name in record} != record:
            raise InputError(
                f"{shown(folder)} was begun with other weights or flags; remove it, or give"
                " another --out"
            )
        if before.get("done"):
            print(f"{product.name}: already made in {shown(folder)}")
            return False
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(folder / _RECORD, {"done": False, **record})
        left_out = [
            self._run(product.name, words, len(split(command)[0]), folder)
            for words, command in zip(commands, product.commands, strict=True)
        ]
        self._collect(product, folder)
        files.write_json(folder / _RECORD, {"done": True, **record})
        return any(left_out)

    def sentences(self, product: Product) -> list[str]:
        """Lines for a person: which files belong where, and what is to be written by hand."""
        folder = self.folder(product.name)
        lines = []
        for one in product.files:
            path = self._named(one.path)
            if one.made:
                lines.append(f"{product.name}: {shown(folder / 'files' / path)} belongs at {path}")
            else:
                lines.append(f"{product.name}: write {path} by hand: {one.figures}")
        if len(lines) > len([one for one in product.files if one.made]):
            lines.append(f"  from {shown(folder / 'printed.txt')} and {shown(folder / 'output')}")
        return lines

    def install(self, product: Product, records: Path | None) -> list[str]:
        """Copies what was made to its place; returns the paths.

        records: file of the records, where the weights of all files are recorded: the documents are
        this encoder's then. None: nothing is copied but what bears the encoder's name.
        """
        made = [one.path for one in product.files if one.made]
        chosen = made if records else [path for path in made if "{name}" in path]
        copied = [self._copied(product, path) for path in chosen]
        if records:
            made_with = self._record(product.name)["weights"]
            products.record_weights(records, {(product.name, path): made_with for path in made})
        return copied

    def _copied(self, product: Product, path: str) -> str:
        named = self._named(path)
        content = (self.folder(product.name) / "files" / named).read_bytes()
        (self.root / named).parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(self.root / named, lambda file: file.write(content))
        return named

    def _record(self, product: str) -> dict[str, Any]:
        """Returns the record that a product was begun with; empty: it was not begun."""
        path = self.folder(product) / _RECORD
        remedy = f"remove {shown(path.parent)}"
        return run_files.read_json(path, _SCHEMA, remedy=remedy) if path.exists() else {}

    def _named(self, path: str) -> str:
        return path.format(name=self.encoder.name)

    def _values(self, product: Product, now: Now) -> dict[str, str]:
        """Returns what stands for the names in a product's commands."""
        needed = product.fields & set(self.products.by_name)
        out = str(self.folder(product.name) / "output")
        given = {name: str(path) for name, path in self.inputs.items()}
        decoders = {name: str(now.decoder(name)) for name in needed}
        return given | self.networks() | decoders | {"out": out}

    def _run(self, product: str, words: Sequence[str], first: int, folder: Path) -> bool:
        """Runs one command, environment variables `first`; returns whether it left images out."""
        variables, (script, *given) = words[:first], words[first:]
        print(f"{product}: {script}", flush=True)
        # It imports what this process does, whatever lies in the folder that it runs in.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        environment |= dict(word.split("=", 1) for word in variables)
        with open(folder / "printed.txt", "a", encoding="utf-8") as printed:
            printed.write(f"$ {shlex.join(words)}\n")
            printed.flush()
            code = subprocess.run(
                [sys.executable, "-P", "-m", f"{commands.PACKAGE}.{script}", *given],
                cwd=self.root,
                env=environment,
                stdout=printed,
            ).returncode
        if code == 130:
            raise KeyboardInterrupt
        if code not in (0, 1):
            raise InputError(
                f"{product}: {script} ended with exit code {code}; mend what it said, and give the"
                " same command again, which resumes"
            )
        return code == 1

    def _collect(self, product: Product, folder: Path) -> None:
        """Copies what was made to files/, by its path in the repository."""
        for one in product.files:
            if not one.made:
                continue
            source = folder / "output" / self._named(one.made)
            if not source.is_file():
                raise InputError(
                    f"{product.name}: {shown(source)} was not written; see printed.txt"
                )
            place = folder / "files" / self._named(one.path)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
