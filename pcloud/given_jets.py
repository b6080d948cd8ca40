"""Jets that are given to `pcloud.train` and `Run.evaluate` in Python, in the place of files.

A configuration names them by their content. They are found again as long as the user holds the array;
later, and in other processes, the error says that files are needed.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

import awkward as ak

from pcloud.errors import InputError
from pcloud.keys import Fingerprint, fingerprint_hashes
from pcloud.python_jets import as_jets, refuse_bad_jets

__all__ = ["given_jets", "given_sample", "is_given", "name_of"]

_PREFIX = "jets given in Python, with the fingerprint "
_GIVEN: WeakValueDictionary[str, Any] = WeakValueDictionary()


def name_of(source: Any) -> Any:
    """Name of jets that stand in the place of files; any other source itself.

    Raises
    ------
    InputError
        If they are not jets, or bad, or in another array than one of awkward.
    """
    if callable(fingerprint := getattr(source, "fingerprint", None)):  # of tables and series
        name = _PREFIX + fingerprint()
        _GIVEN[name] = source
        return name
    if not isinstance(source, ak.Array):
        _refuse_arrays(source)
        return source
    jets = as_jets(source)
    refuse_bad_jets(jets, jets.attrs.get("classes"))
    columns = [name for name in jets.fields if name not in ("p4", "jet_p4", "label")]
    _refuse_words(jets)
    for truth in ("targets", "particle_labels"):
        columns += [f"{truth}.{name}" for name in (jets[truth].fields if truth in columns else ())]
    name = _PREFIX + Fingerprint.of(fingerprint_hashes(jets, columns)).content
    _GIVEN[name] = source
    return name


def _refuse_words(jets: ak.Array) -> None:
    """Refuse labels of particles that are no numbers."""
    for name in jets.particle_labels.fields if "particle_labels" in jets.fields else ():
        kind = str(ak.type(jets.particle_labels[name]))
        if not any(number in kind for number in ("int", "float", "bool")):
            raise InputError(
                f"particle label {name!r} is not one number per particle, and is {kind}"
            )


def _refuse_arrays(source: Any) -> None:
    """Refuse other arrays, whose content would stand in the configuration."""
    if isinstance(source, list | tuple) and any(isinstance(item, ak.Array) for item in source):
        raise InputError("several arrays of jets are joined by ak.concatenate")
    if hasattr(source, "shape") or hasattr(source, "fields"):
        raise InputError(
            f"data are files, the name of a data set, or jets in one awkward array, not "
            f"{type(source).__name__}"
        )


def is_given(source: Any) -> bool:
    """True for the name of jets that were given in Python."""
    return isinstance(source, str) and source.startswith(_PREFIX)


def given_jets(name: str) -> ak.Array:
    """Jets of a name, in the form of the readers.

    Raises
    ------
    InputError
        If they are no longer in memory.
    """
    return as_jets(given_sample(name))


def given_sample(name: str) -> Any:
    """Data of a name as they were given.

    Raises
    ------
    InputError
        If they are no longer in memory.
    """
    sample = _GIVEN.get(name)
    if sample is None:
        raise InputError(
            f"{name}, are not in memory now: pcloud.write_jets makes a file of such jets, which "
            "training and evaluation in any process can read"
        )
    return sample
