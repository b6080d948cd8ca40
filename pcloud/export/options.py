"""Options of an export."""

from __future__ import annotations

from dataclasses import dataclass

from pcloud.errors import InputError, UnknownNameError

__all__ = ["ExportOptions"]

FORMS = ("plain", "cms", "atlas")

PRECISIONS = ("float32", "float16", "int8", "static int8")
"""Precisions of the linear maps; the scale of the inputs of static int8 is that of validation jets."""

OPTIONS_FOR_JETS = "--padded, --ragged, --max-particles and --form"

_INT8 = ("dynamic", "static")
_DTYPES = ("float32", "float16")
_ON_LONG_JET = ("drop", "refuse")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Form of an exported network.

    Parameters
    ----------
    padded : bool
        Batches of padded jets with masks, instead of one jet.
    ragged : bool
        Batches of jets of any length without padding, instead of one jet: the particles of all jets
        and the offsets of the jets.
    max_particles : int, optional
        Largest number of particles of a jet; by default any number.
    on_long_jet : {"drop", "refuse"}
        Treatment of a jet of more particles: the softest are removed, or the outputs are NaN.
    calibrated : bool
        Calibrated probabilities, see ``pcloud calibrate``.
    checkpoint : str
        ``"best"`` or ``"last"``.
    form : {"plain", "cms", "atlas"}
        Inputs and outputs: momenta and columns by name, or those of an experiment.
    jets : int
        Number of jets of the test split with which the file is checked.
    dtype : {"float32", "float16"}
        Precision of the linear maps; features and products of momenta keep theirs.
    int8 : {"dynamic", "static"} or bool, optional
        Linear maps with weights and inputs of 8 bits, whose scale is that of each call (``"dynamic"``
        or True), or that of validation jets (``"static"``).

    Raises
    ------
    InputError
        If a number is not positive, the form of an experiment is to be padded, or two precisions are
        given.
    UnknownNameError
        If there is no such form, precision or treatment of long jets.
    """

    padded: bool = False
    ragged: bool = False
    max_particles: int | None = None
    on_long_jet: str = "drop"
    calibrated: bool = False
    checkpoint: str = "best"
    form: str = "plain"
    jets: int = 1000
    dtype: str = "float32"
    int8: bool | str | None = None

    def __post_init__(self) -> None:
        if self.on_long_jet not in _ON_LONG_JET:
            raise UnknownNameError("treatment of long jets", self.on_long_jet, _ON_LONG_JET)
        if self.form not in FORMS:
            raise UnknownNameError("form", self.form, FORMS)
        if self.dtype not in _DTYPES:
            raise UnknownNameError("precision", self.dtype, _DTYPES)
        if isinstance(self.int8, str) and self.int8 not in _INT8:
            raise UnknownNameError("scale of int8", self.int8, _INT8)
        if self.int8 and self.dtype != "float32":
            raise InputError(f"linear maps are either {self.dtype} or int8: leave out one of them")
        for name in ("padded", "ragged"):
            if self.form != "plain" and getattr(self, name):
                raise InputError(f"the form of {self.form.upper()} has one jet: leave out --{name}")
        if self.ragged and self.padded:
            raise InputError("batches are either padded or ragged: leave out --padded or --ragged")
        if self.ragged and self.max_particles is not None:
            raise InputError("ragged batches take jets of any length: leave out --max-particles")
        for name in ("max_particles", "jets"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")

    @property
    def is_for_jets(self) -> bool:
        """True if an option is given that is for jets only, see :data:`OPTIONS_FOR_JETS`."""
        return self.layout != "one jet" or self.max_particles is not None or self.form != "plain"

    @property
    def layout(self) -> str:
        """Arrangement of the jets: ``"one jet"``, ``"padded"`` or ``"ragged"``."""
        return "padded" if self.padded else "ragged" if self.ragged else "one jet"

    @property
    def precision(self) -> str:
        """Precision of the linear maps, one of :data:`PRECISIONS`."""
        if not self.int8:
            return self.dtype
        return "static int8" if self.int8 == "static" else "int8"
