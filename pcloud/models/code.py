"""Python code of a model of the user: the files it consists of, their hash, and its execution.

The files are read once. What is executed are the bytes that were hashed: neither a file that changes
in between nor compiled code in ``__pycache__`` is used.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from pcloud.errors import InputError

__all__ = ["ModelCode", "read_code", "run_code"]

_SUFFIXES = importlib.machinery.all_suffixes()  # .py, .pyc, and those of compiled extensions
_PACKAGE = Path(__file__).parents[1]


@dataclass
class ModelCode:
    """Code of a ``file:Class``, as read from the disk.

    Attributes
    ----------
    name : str
        The ``file:Class`` or ``module:Class``.
    class_name : str
        Name of the class or function in the module.
    module : str
        Name under which the module is imported.
    path : Path
        File of the module.
    from_file : bool
        True for a file, False for a module that the import system finds.
    files : dict of Path to bytes
        Contents of the file and of the modules beside it that it imports.
    root : Path
        Folder of the file, or of the top package of the module.
    content : str
        SHA-256 of the contents.
    others : set of str
        SHA-256 of other modules outside the installed packages that were imported while it was
        executed, such as from a folder that it added to ``sys.path``.
    """

    name: str
    class_name: str
    module: str
    path: Path
    from_file: bool
    files: dict[Path, bytes] = field(repr=False)
    root: Path
    content: str
    others: set[str] = field(default_factory=set)

    @property
    def digest(self) -> str:
        """SHA-256 of the contents and of the name of the class."""
        return _sha256(f"{self.class_name}\0{self.content}".encode())


def read_code(name: str) -> ModelCode:
    """Read the code of a ``file:Class`` or ``module:Class`` without executing any of it.

    Raises
    ------
    InputError
        If there is no such file or module.
    """
    module, _, class_name = name.rpartition(":")
    file = module if module.endswith(".py") else f"{module}.py"
    path = Path(file).absolute()
    from_file = path.is_file()
    package: tuple[str, ...] = ()
    if from_file:
        module = f"{path.stem}_{_sha256(str(path).encode())[:8]}"
        root = path.parent
    elif file == module or "/" in module:
        raise InputError(f"model {name!r}: no file {file}")
    else:
        path, root, package = _find(name, module, file)
    try:
        files = _files(path, root, package)
    except OSError as error:
        raise InputError(
            f"model {name!r}: cannot read {error.filename}: {error.strerror}"
        ) from None
    beside = sorted(f"{_relative(p, root)}\0{_sha256(files[p])}" for p in files if p != path)
    parts = ["" if from_file else module, _sha256(files[path]), *beside]
    content = _sha256("\0".join(parts).encode())
    return ModelCode(name, class_name, module, path, from_file, files, root, content)


def _find(name: str, module: str, file: str) -> tuple[Path, Path, tuple[str, ...]]:
    """Path of an importable module, the folder of its top package, and the names of its packages.

    `importlib.util.find_spec` would execute the packages that the module is in.
    """
    parts = module.split(".")
    spec = None
    places = None
    for i in range(len(parts)):
        spec = _spec(".".join(parts[: i + 1]), places)
        if spec is None or (i < len(parts) - 1 and spec.submodule_search_locations is None):
            raise InputError(f"model {name!r}: no file {file} here and no module {module!r}")
        places = spec.submodule_search_locations
    assert spec is not None
    if not spec.has_location or spec.origin is None:
        raise InputError(f"model {name!r}: {module} is no module in a file")
    path = Path(spec.origin).absolute()
    is_package = spec.submodule_search_locations is not None
    package = tuple(parts if is_package else parts[:-1])
    return path, path.parents[len(package)], package


def _spec(name: str, places: Any = None) -> importlib.machinery.ModuleSpec | None:
    """Specification of a module from the import system, apart from our own finder."""
    for finder in sys.meta_path:
        if isinstance(finder, _Finder) or not hasattr(finder, "find_spec"):
            continue
        spec = finder.find_spec(name, places)
        if spec is not None:
            return spec
    return None


# The files


def _files(path: Path, root: Path, package: tuple[str, ...]) -> dict[Path, bytes]:
    """Contents of a module and of the modules that it imports, apart from installed ones."""
    files = {path: path.read_bytes()}
    if is_installed(path) and root != Path.cwd():
        return files
    waiting = [(path, package)]
    for i in range(len(package)):  # a package is imported before its modules
        waiting += _new(files, _modules_at(root.joinpath(*package[: i + 1]), package[: i + 1]))
    while waiting:
        module, inside = waiting.pop()
        imports = _imports(files[module]) if module.suffix == ".py" else None
        if imports is None:  # cannot be known
            waiting += _new(files, _tree(module.parent, inside))
            continue
        roots = [root, module.parent, *_search_path()]
        for name, level, star in imports:
            if not level and name.partition(".")[0] == _PACKAGE.name:
                continue  # this package, wherever on the search path there is another copy of it
            waiting += _new(files, _candidates(name, level, star, inside, module, roots))
    return files


def _new(
    files: dict[Path, bytes], found: Iterable[tuple[Path, tuple[str, ...]]]
) -> list[tuple[Path, tuple[str, ...]]]:
    """Read the modules that were not yet read."""
    new = []
    for path, package in found:
        if path not in files and not is_installed(path):
            files[path] = path.read_bytes()
            new.append((path, package))
    return new


def _candidates(
    name: str,
    level: int,
    star: bool,
    inside: tuple[str, ...],
    module: Path,
    roots: Sequence[Path],
) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """All files that an import may find, whichever of them Python prefers."""
    parts = tuple(name.split(".")) if name else ()
    starts: list[tuple[Path, tuple[str, ...]]] = [(folder, ()) for folder in dict.fromkeys(roots)]
    if level:
        folder, base = module.parent, inside
        for _ in range(level - 1):
            folder, base = folder.parent, base[:-1]
        starts = [(folder, base)]
        yield from _modules_at(folder, base)
    for folder, base in starts:
        for i in range(len(parts)):
            yield from _modules_at(folder.joinpath(*parts[: i + 1]), (*base, *parts[: i + 1]))
        whole = folder.joinpath(*parts)
        if star and parts and whole.is_dir():
            yield from _tree(whole, (*base, *parts))


def _modules_at(path: Path, names: tuple[str, ...]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Files of the module or package at a path without suffix."""
    if not path.name:  # above the root of the file system
        return
    for suffix in _SUFFIXES:
        if (file := path.with_name(path.name + suffix)).is_file():
            yield file, names[:-1]
        if (file := path / f"__init__{suffix}").is_file():
            yield file, names


def _tree(folder: Path, package: tuple[str, ...]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """All modules in a folder and its subfolders."""
    seen = {os.path.realpath(folder)}  # links may form a circle
    for place, folders, files in os.walk(folder, followlinks=True):
        inner = Path(place).relative_to(folder).parts
        folders[:] = [name for name in folders if _is_new(Path(place, name), seen)]
        for name in files:
            if name.endswith(tuple(_SUFFIXES)):
                yield Path(place, name), (*package, *inner)


def _is_new(folder: Path, seen: set[str]) -> bool:
    """True for a folder to look into: neither seen before, nor of installed packages."""
    if folder.name == "__pycache__" or is_installed(folder):
        return False
    real = os.path.realpath(folder)
    known = real in seen
    seen.add(real)
    return not known


_DYNAMIC = {"__import__", "builtins", "compile", "eval", "exec", "imp", "importlib", "pkgutil"}
_DYNAMIC |= {"runpy", "site", "zipimport"}


@lru_cache(maxsize=1024)
def _imports(source: bytes) -> list[tuple[str, int, bool]] | None:
    """Imports of a module anywhere in it, as ``(name, level, star)``.

    None where others are possible: a module may import by a name that it computes, or from a folder
    that it adds to ``sys.path``.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []  # cannot be executed either
    found: list[tuple[str, int, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, 0, False) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            for alias in node.names:
                star = alias.name == "*"
                name = base if star else f"{base}.{alias.name}".removeprefix(".")
                found.append((name, node.level, star))
                if (base, alias.name) == ("sys", "path"):
                    return None
        elif _is_dynamic(node):
            return None
    if any(name.partition(".")[0] in _DYNAMIC for name, level, _ in found if not level):
        return None
    return found


def _is_dynamic(node: ast.AST) -> bool:
    """True for a use of a function that runs other code, or of ``sys.path`` and the like."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id == "sys" and node.attr in ("path", "meta_path", "path_hooks")
    return isinstance(node, ast.Name) and node.id in _DYNAMIC


def _search_path() -> list[Path]:
    """Folders of ``sys.path`` whose modules are not installed packages."""
    folders = [Path(entry or ".").absolute() for entry in sys.path]
    return [f for f in folders if f == Path.cwd() or not (is_installed(f) or _has_packages(f))]


@cache
def _has_packages(folder: Path) -> bool:
    """True for a folder into which packages were installed, as by ``pip install --target``."""
    return any(True for _ in folder.glob("*.dist-info")) or folder == _PACKAGE.parent


@cache
def _installed_folders() -> tuple[Path, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = [sysconfig.get_paths()[name] for name in names]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    return tuple(dict.fromkeys(Path(folder).absolute() for folder in folders))


def is_installed(path: Path) -> bool:
    """True for a file of Python itself, of an installed package or of this one."""
    return path.is_relative_to(_PACKAGE) or any(map(path.is_relative_to, _installed_folders()))


def _relative(path: Path, root: Path) -> str:
    """Path without the folder that it is in, so that code may be moved."""
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    around = [f for f in _search_path() if path.is_relative_to(f)]
    return path.relative_to(around[0]).as_posix() if around else path.name


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# Execution


class _Loader(importlib.abc.InspectLoader):
    """Loader of a module from the contents of its file that were read before."""

    def __init__(self, code: ModelCode, path: Path, allowed: set[str] | None) -> None:
        self.code = code
        self.path = path
        self.allowed = allowed
        self.content = code.files[path]

    def get_source(self, fullname: str) -> str:
        """Text of the module."""
        return importlib.util.decode_source(self.content)

    def get_code(self, fullname: str) -> CodeType:
        """Compiled code of the module, never from ``__pycache__``."""
        return self.source_to_code(self.content, str(self.path))

    def is_package(self, fullname: str) -> bool:
        """True for the file ``__init__.py``."""
        return self.path.stem == "__init__"

    def add(self, path: Path) -> None:
        """Read a module that the code imports although its text does not show it."""
        content = path.read_bytes()
        digest = _sha256(content)
        if self.allowed is not None and digest not in self.allowed:
            raise InputError(f"{path} is no part of the code of {self.code.name} that is known")
        self.code.others.add(digest)
        self.code.files[path] = content


class _Finder(importlib.abc.MetaPathFinder):
    """Finder for imports by the code of a model: it loads the contents that were hashed.

    Imports by any other module are not its business.
    """

    def find_spec(
        self, name: str, places: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Specification with our loader, for a module beside the model; otherwise that of Python."""
        importer = _importing_loader()
        if importer is None:
            return None
        code = importer.code
        spec = _spec(name, places)
        if spec is None and places is None:
            spec = importlib.machinery.PathFinder.find_spec(name, [str(code.root)])
        if spec is None or not spec.has_location or spec.origin is None:
            return spec
        path = Path(spec.origin).absolute()
        if path not in code.files and _is_users(path, name):
            importer.add(path)
        if path not in code.files or path.suffix != ".py":
            return spec
        return importlib.util.spec_from_file_location(
            name,
            path,
            loader=_Loader(code, path, importer.allowed),
            submodule_search_locations=spec.submodule_search_locations,
        )


def _importing_loader() -> _Loader | None:
    """Loader of the module whose import statement is being executed, if it is one of ours."""
    frame = sys._getframe(2)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "importlib":
        frame = frame.f_back
    loader = getattr(frame.f_globals.get("__spec__"), "loader", None)
    return loader if isinstance(loader, _Loader) else None


def _is_users(path: Path, name: str) -> bool:
    """True for a module that belongs to no installed package."""
    depth = name.count(".") + (path.stem == "__init__")
    top = path.parents[min(depth, len(path.parents) - 1)]
    return not is_installed(path) and (top == Path.cwd() or not _has_packages(top))


_FINDER = _Finder()


def run_code(code: ModelCode, allowed: set[str] | None) -> ModuleType:
    """Import the module of a model from the contents that were read.

    Parameters
    ----------
    code : ModelCode
        The code.
    allowed : set of str, optional
        SHA-256 of the modules that it may import although its text does not show it; None for any.

    Raises
    ------
    Exception
        Whatever the code raises.
    """
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    _forget_others(code)
    importlib.invalidate_caches()
    if not code.from_file and is_installed(code.path):
        return importlib.import_module(code.module)
    parent = code.module.rpartition(".")[0]
    if not code.from_file:
        if code.module in sys.modules:
            return sys.modules[code.module]
        for i in range(parent.count(".") + 1 if parent else 0):
            _import_package(code, ".".join(parent.split(".")[: i + 1]), allowed)
    return _execute(code, code.module, code.path, allowed)


def _forget_others(code: ModelCode) -> None:
    """Remove modules that were imported by other models, or by an earlier content of this one.

    They would be found under the same names.
    """
    for name, module in list(sys.modules.items()):
        loader = getattr(getattr(module, "__spec__", None), "loader", None)
        if isinstance(loader, _Loader) and loader.path != loader.code.path:
            for inner in [n for n in sys.modules if n == name or n.startswith(f"{name}.")]:
                del sys.modules[inner]


def _import_package(code: ModelCode, name: str, allowed: set[str] | None) -> None:
    if name in sys.modules:
        return
    folder = code.root.joinpath(*name.split("."))
    path = folder / "__init__.py"
    if path in code.files:
        _execute(code, name, path, allowed, [str(folder)])
    else:
        importlib.import_module(name)  # a folder without code of its own


def _execute(
    code: ModelCode,
    name: str,
    path: Path,
    allowed: set[str] | None,
    places: list[str] | None = None,
) -> ModuleType:
    loader = _Loader(code, path, allowed)
    if path == code.path and path.stem == "__init__" and not code.from_file:
        places = [str(path.parent)]
    spec = importlib.util.spec_from_file_location(
        name, path, loader=loader, submodule_search_locations=places
    )
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there for the module of a class
    try:
        loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module
