"""Files of the repository that were made with an encoder: records, and which of them are stale.

docs/products.json has a record for each product: the commands that make it, with {names} in them,
and its files, each with the fingerprints of those weights in the commands that it depends on, as
they were when it was made; none: it depends on none. A file is `made` by the commands (its name in
their output folder), or a person writes `figures` into it that the commands give. The names are

    {encoder}, {name}, {control}       the encoder asked for, its name, its untrained control
    {judge}, {rendered}, ...           other encoders of the package
    {decoder-fc5}, ...                 the decoder that the product of this name makes
    {photos}, {facades}, ...           data that is not part of the repository
    {out}                              the output folder
"""

import dataclasses
import graphlib
import json
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from posenet_jax.decoders import decoding
from posenet_jax.encoders import bundled_encoders, weights
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.errors import InputError, shown
from posenet_jax.io import files, run_files

RECORDS = Path(__file__).resolve().parents[2] / "docs" / "products.json"

_FINGERPRINT = re.compile(r"[0-9a-f]{16}")
_FILE = {"path": str, "weights": {str: _FINGERPRINT}}
_PRODUCT = {"name": re.compile(r"[a-z0-9_-]+"), "commands": [str], "files": [_FILE]}
_SCHEMA = {"products": [_PRODUCT], "independent": {str: str}}
# Where documents and weights lie.
_FOLDERS = ("docs", "posenet_jax/pretrained")
_REMEDY = "restore it, or give --products the docs/products.json of a checkout"


@dataclasses.dataclass(frozen=True, kw_only=True)
class File:
    """A file that is made, or that has figures written by hand, and the weights it was made with.

    made: its name in the output folder. weights: {role: fingerprint} of those it depends on.
    """

    path: str
    made: str | None = None
    figures: str | None = None
    weights: Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Product:
    """A record: its name, the commands that make it, and its files."""

    name: str
    commands: Sequence[str]
    files: Sequence[File]

    @property
    def fields(self) -> set[str]:
        """Names that stand in braces in the commands."""
        parsed = (part for command in self.commands for part in string.Formatter().parse(command))
        return {field for _, field, _, _ in parsed if field}

    @property
    def decoder(self) -> File | None:
        """The decoder that it makes, if it makes one."""
        return next((one for one in self.files if one.path.endswith(".safetensors")), None)


@dataclasses.dataclass(frozen=True)
class Products:
    """All records by name, those first that others need, and {pattern: reason} of other files."""

    by_name: Mapping[str, Product]
    independent: Mapping[str, str]

    def unrecorded(self, root: Path) -> list[str]:
        """Files of documents and weights below `root` that no record names, sorted."""
        encoders = bundled_encoders.names()
        recorded = {
            file.path.format(name=name)
            for product in self.by_name.values()
            for file in product.files
            for name in encoders
        }
        found = (path for folder in _FOLDERS for path in (root / folder).rglob("*"))
        paths = sorted(str(path.relative_to(root)) for path in found if path.is_file())
        return [
            path
            for path in paths
            if path not in recorded and not any(fnmatch(path, one) for one in self.independent)
        ]

    def roles(self, product: Product) -> list[str]:
        """Names of the weights that a product depends on."""
        known = {"encoder", *bundled_encoders.names(), *self.by_name}
        return sorted(product.fields & known, key=lambda role: (role != "encoder", role))

    def chosen(self, names: Iterable[str]) -> list[Product]:
        """Products by name, those first that others need. Raises InputError for unknown names."""
        wanted = set(names)
        if unknown := sorted(wanted - set(self.by_name)):
            raise InputError(f"no product {unknown[0]!r}; there are {', '.join(self.by_name)}")
        return [product for name, product in self.by_name.items() if name in wanted]


def read(path: str | Path) -> Products:
    """Reads the records. Raises InputError where they cannot be used."""
    content = run_files.read_json(path, _SCHEMA, remedy=_REMEDY)
    found = {}
    for record in content["products"]:
        own = [_file(path, record["name"], one) for one in record["files"]]
        found[record["name"]] = Product(name=record["name"], commands=record["commands"], files=own)
    needs = {name: sorted(product.fields & set(found)) for name, product in found.items()}
    try:
        order = list(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as error:
        circle = ", ".join(error.args[1])
        raise InputError(f"{shown(path)}: products need each other: {circle}; {_REMEDY}") from error
    # As they stand in the file, but for those that others need.
    first = [name for name in order if any(name in those for those in needs.values())]
    by_name = {name: found[name] for name in dict.fromkeys([*first, *found])}
    return Products(by_name, content["independent"])


def _file(path: str | Path, product: str, record: Mapping[str, Any]) -> File:
    if ("made" in record) == ("figures" in record):
        where = f"{shown(path)}: {record['path']} of {product}"
        raise InputError(f"{where} must have either `made` or `figures`; {_REMEDY}")
    return File(
        path=record["path"],
        made=record.get("made"),
        figures=record.get("figures"),
        weights=record["weights"],
    )


def record_weights(path: str | Path, made: Mapping[tuple[str, str], Mapping[str, str]]) -> None:
    """Writes other weights, {(product, path): {role: fingerprint}}, into the records.

    A file keeps its roles: of others it does not depend.
    """
    content = run_files.read_json(path, _SCHEMA, remedy=_REMEDY)
    for record in content["products"]:
        for one in record["files"]:
            found = made.get((record["name"], one["path"]), {})
            one["weights"] = {role: found.get(role, old) for role, old in one["weights"].items()}
    text = as_text(content).encode()
    files.write_atomically(path, lambda file: file.write(text))


def as_text(content: Mapping[str, Any]) -> str:
    """The records as they stand in their file: a line for each command and each file."""

    def lines(name: str, items: Sequence[Any]) -> str:
        text = ",\n".join(f"    {json.dumps(item, ensure_ascii=False)}" for item in items)
        return f'   "{name}": [\n{text}\n   ]' if items else f'   "{name}": []'

    records = [
        f'  {{\n   "name": {json.dumps(record["name"])},\n'
        + ",\n".join(lines(name, record[name]) for name in ("commands", "files"))
        + "\n  }"
        for record in content["products"]
    ]
    independent = json.dumps(content["independent"], indent=2, ensure_ascii=False)
    body = ",\n".join(records)
    return f'{{\n "products": [\n{body}\n ],\n "independent": {independent}\n}}\n'


# State --------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class State:
    """A file beside the weights that it would be made with now.

    path: with the encoder's name in it. there: whether it exists. weights: {role: fingerprint} that
    it was made with. stale: {role: fingerprint now, None: no such weights} of those that differ.
    """

    file: File
    path: Path
    there: bool
    weights: Mapping[str, str]
    stale: Mapping[str, str | None]

    @property
    def is_current(self) -> bool:
        """Whether the file is there, made with the weights as they are."""
        return self.there and not self.stale

    def sentence(self) -> str:
        """Returns what a person is told of it, after its path."""
        if not self.there:
            return "not there"
        made_with = self.weights.get("encoder")
        if not self.stale:
            return f"current (encoder {made_with})" if made_with else "current"
        others = (
            f"{role} {self.weights[role]}, now {now or 'none'}" for role, now in self.stale.items()
        )
        return f"stale ({'; '.join(others)})"


class Now:
    """Weights as they are now: of the encoder asked for, other encoders, and decoders.

    root: folder that products' paths are in. decoders: {product: file} of those made elsewhere;
    where there is none, the one in `root` is taken, if it is this encoder's.
    """

    def __init__(
        self, products: Products, encoder: Encoder, root: Path, decoders: Mapping[str, Path]
    ) -> None:
        self.products, self.encoder, self.root = products, encoder, root
        self._decoders = dict(decoders)
        self._fingerprints: dict[str, str | None] = {"encoder": encoder.fingerprint}

    def path(self, file: File) -> Path:
        """Where a file lies."""
        return self.root / file.path.format(name=self.encoder.name)

    def decoder(self, product: str) -> Path | None:
        """The decoder of this encoder that a product makes; None: there is none yet."""
        file = self.products.by_name[product].decoder
        if product in self._decoders or file is None:
            return self._decoders.get(product)
        path = self.path(file)
        fits = path.is_file() and own_record(file, path) == self.encoder.fingerprint
        return path if fits else None

    def fingerprint(self, role: str) -> str | None:
        """Fingerprint of a role's weights; None: there are none yet."""
        if role not in self._fingerprints:
            if role in self.products.by_name:
                path = self.decoder(role)
                found = decoding.load_decoder(path).fingerprint if path else None
            else:
                found = weights.load_encoder(role).fingerprint
            self._fingerprints[role] = found
        return self._fingerprints[role]

    def weights(self, product: Product) -> dict[str, str | None]:
        """{role: fingerprint} of what a product would be made with."""
        return {role: self.fingerprint(role) for role in self.products.roles(product)}

    def states(self, product: Product) -> Iterator[State]:
        """The states of a product's files."""
        for file in product.files:
            path, made_with = self.path(file), dict(file.weights)
            there = path.is_file()
            own = own_record(file, path) if there and "encoder" in made_with else None
            if own and own != made_with["encoder"]:  # the record is that of another encoder's file
                made_with = {"encoder": own}
            now = {role: self.fingerprint(role) for role in made_with}
            stale = {role: one for role, one in now.items() if one != made_with[role]}
            yield State(file, path, there, made_with, stale)

    def written(self, chosen: Sequence[Product]) -> dict[tuple[str, str], dict[str, str]]:
        """{(product, path): {role: fingerprint}} of figures written by hand with these weights.

        Raises InputError where a decoder that they are of is not there.
        """
        found: dict[tuple[str, str], dict[str, str]] = {}
        for product in chosen:
            with_now = self.weights(product)
            for role, fingerprint in with_now.items():
                if fingerprint is None:
                    raise InputError(f"{product.name} needs {role}, which is not there: make it")
            own = {role: one for role, one in with_now.items() if one}
            found |= {(product.name, one.path): own for one in product.files if one.figures}
        return found

    def is_stale(self, product: Product) -> bool:
        """Whether any of its files is."""
        return not all(state.is_current for state in self.states(product))


def own_record(file: File, path: Path) -> str | None:
    """Fingerprint of the encoder that a file itself names: a decoder, or a card of a network's own.

    Files that are no network's own, by their path, are recorded in the products' records alone.
    """
    if "{name}" not in file.path:
        return None
    if path.suffix == ".safetensors":
        return decoding.load_decoder(path).encoder_fingerprint
    if path.suffix != ".md":
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    named = re.search(r"fingerprint\s+`([0-9a-f]{16})`", text)
    return named.group(1) if named else None


def table(now: Now, values: Mapping[str, str]) -> list[str]:
    """Lines for a person: each product with its files, their state, and the commands.

    values: {name in braces: what is shown for it}; others are shown in capitals.
    """
    lines, stale = [], []
    decoders = {
        name: path.stem
        for name, product in now.products.by_name.items()
        if product.decoder and (path := now.decoder(name))
    }
    for product in now.products.by_name.values():
        states = list(now.states(product))
        current = all(state.is_current for state in states)
        if not current:
            stale.append(product.name)
        lines.append(f"{product.name}: {'current' if current else 'stale'}")
        for state in states:
            by_hand = f"; by hand: {state.file.figures}" if state.file.figures else ""
            path = state.path.relative_to(now.root)
            lines.append(f"  {path}: {state.sentence()}{by_hand}")
        lines += [
            f"    {as_shown(command, {**values, **decoders})}" for command in product.commands
        ]
    lines += [f"{path}: in no record" for path in now.products.unrecorded(now.root)]
    names = f": {', '.join(stale)}" if stale else ""
    of = f"encoder {now.encoder.name} ({now.encoder.fingerprint})"
    return [
        *lines,
        f"{len(stale)} of {len(now.products.by_name)} products are stale for {of}{names}",
    ]


def as_shown(command: str, values: Mapping[str, str]) -> str:
    """The command as a person would give it."""
    fields = {field for _, field, _, _ in string.Formatter().parse(command) if field}
    shown_for = {field: values.get(field, field.upper()) for field in fields}
    variables, (script, *flags) = split(command.format_map(shown_for))
    return " ".join([*variables, "posenet-jax", script, *flags])


def split(command: str) -> tuple[list[str], list[str]]:
    """(environment variables as NAME=VALUE, script and flags) of a command."""
    words = command.split()
    first = next(number for number, word in enumerate(words) if "=" not in word)
    return words[:first], words[first:]
