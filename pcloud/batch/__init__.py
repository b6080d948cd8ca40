"""Jets with their features as data sets, and their batches."""

from pcloud.batch.collate import batch_arguments, collate, network_arguments, particles_of
from pcloud.batch.dataset import JetDataset
from pcloud.batch.loader import JetLoader
from pcloud.batch.stream import JetStream
from pcloud.batch.stream_loader import StreamLoader

__all__ = [
    "JetDataset",
    "JetLoader",
    "JetStream",
    "StreamLoader",
    "batch_arguments",
    "collate",
    "network_arguments",
    "particles_of",
]
