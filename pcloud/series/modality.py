"""Series as a kind of data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from pcloud.datasets import dataset_info, is_dataset, load_dataset
from pcloud.errors import InputError
from pcloud.given_jets import given_sample, is_given
from pcloud.keys import Keys
from pcloud.modality import DataOptions, Modality, Source, register_modality
from pcloud.models.registry import takes_option
from pcloud.series.files import read_schema_of_series, read_series
from pcloud.series.format import SeriesFormat
from pcloud.series.series import Series
from pcloud.uniform import UniformDataset, UniformLoader

__all__ = ["SeriesOfSamples"]


class SeriesOfSamples(Modality[Series, SeriesFormat, UniformDataset]):
    """Records of samples from npz, HDF5 and npy files."""

    kind = "series"
    noun = "records"
    first_argument = "records"
    sample_type = Series

    def own_splits(self, source: Source) -> list[str]:
        """Splits of a data set; files have none."""
        if is_given(source) or not is_dataset(source, self.kind):
            return []
        return list(dataset_info(str(source)).splits)

    def load(
        self, source: Source, split: str, options: DataOptions, limit: int | None = None
    ) -> Series:
        """Read the records of a data set by name, or of files."""
        if is_given(source):
            series = given_sample(str(source))
        elif is_dataset(source, self.kind):
            series = load_dataset(str(source), split)
        else:
            named = not isinstance(source, Mapping)
            series = read_series(
                source, options.schema, on_bad_record=options.on_bad_jet, needs_truth=named
            )
        return self.subsample(series, limit, options.split_seed)

    def keys(self, sample: Series) -> Keys:
        """Keys from the samples."""
        return sample.keys()

    def hashes(self, sample: Series, columns: Sequence[str] = ()) -> Keys:
        """Hashes of samples, labels, weights and targets."""
        return sample.hashes()

    def fits_schema(self, source: Source, schema: Any) -> bool:
        """Return whether files have the array of records that a schema names."""
        if is_given(source) or is_dataset(source, self.kind):
            return False
        try:
            read_series(source, schema, on_bad_record="drop", needs_truth=False)
        except InputError:
            return False
        return True

    def stream(
        self, source: Source, *, chunk_size: int, inputs: SeriesFormat, **reading: Any
    ) -> tuple[int, Iterable[Series]]:
        """Number of records of files, and the records in chunks."""
        on_bad = reading.get("on_bad_jet", "error")
        series = read_series(source, reading.get("schema"), on_bad_record=on_bad, needs_truth=False)
        starts = range(0, len(series), chunk_size)
        return len(series), (series[start : start + chunk_size] for start in starts)

    def check_network(self, name: str, options: DataOptions) -> None:
        """Refuse options of jets, and a schema that is none of series."""
        for option in ("jet_features", "collections"):
            if getattr(options, option) not in (None, "none"):
                raise InputError(f"{option} is for jets: a record has only samples")
        if options.features != "kin":
            raise InputError("features are for jets and tables: a record has only samples")
        if not is_given(options.data) and not is_dataset(options.data, self.kind):
            read_schema_of_series(options.schema)

    def fit_inputs(self, sample: Series, options: DataOptions) -> SeriesFormat:
        """Length and scale of the training records."""
        return SeriesFormat.fit(sample, standardise=options.standardise != "none")

    def describe_inputs(self, inputs: SeriesFormat, options: DataOptions) -> list[str]:
        """Line with the length of the records."""
        return [f"records of {inputs.length:,} samples"]

    def inputs_from_dict(self, values: dict[str, Any]) -> SeriesFormat:
        """Inverse of ``series_format.to_dict()``."""
        return SeriesFormat.from_dict(values)

    def dataset(self, sample: Series, inputs: SeriesFormat) -> UniformDataset:
        """Standardised records."""
        return UniformDataset(inputs(sample), sample, inputs)

    def loader(self, data: UniformDataset, batch_size: int = 512, **options: Any) -> UniformLoader:
        """Loader of batches of records."""
        return UniformLoader(data, batch_size, **options)  # type: ignore[arg-type]

    def arguments(self, batch: Any) -> tuple[Tensor]:
        """Records (B, F, T)."""
        return (batch.x,)

    def model_options(self, name: str, inputs: SeriesFormat) -> dict[str, Any]:
        """Number of samples, for networks with an option `length`."""
        return {"length": inputs.length} if takes_option(name, "length") else {}


register_modality(SeriesOfSamples())
