"""Images: networks with and without rotational symmetry, jet images, images as graphs.

A network on images is a function ``model(images) -> logits (B, C)`` of ``images (B, C, H, W)``.
"""

from pcloud.images.build import build_network
from pcloud.images.dense import Dense, rotated_dense
from pcloud.images.digit_cnn import DigitCNN, p4cnn
from pcloud.images.digits import balanced, bundled_digits, scatter, turn_at_random
from pcloud.images.files import image_splits, read_images
from pcloud.images.graphs import PixelCloud, grid_graph, pixel_cloud, pixel_graph
from pcloud.images.group_conv import (
    GroupConv2d,
    GroupPool2d,
    LiftingConv2d,
    OrientationPool,
    fit_to_stride,
)
from pcloud.images.groups import GROUPS, PlaneGroup, group_named
from pcloud.images.image_set import (
    ImageDataset,
    ImageFormat,
    ImageLoader,
    ImageSet,
    ScaledNetwork,
)
from pcloud.images.jet_images import JetImages, centre, flip, normalise, pixelate, turn
from pcloud.images.jet_taggers import JetImageTagger, image_cnn, image_resnext, jet_images
from pcloud.images.layers import PLAIN, Layers, group_layers
from pcloud.images.resnet import ResNet, group_resnet34, load_pretrained, resnet34
from pcloud.images.rotations import Rotated, RotationAverage, rotate
from pcloud.images.small_cnn import SmallCNN, group_cnn

__all__ = [
    "GROUPS",
    "PLAIN",
    "Dense",
    "DigitCNN",
    "GroupConv2d",
    "GroupPool2d",
    "ImageDataset",
    "ImageFormat",
    "ImageLoader",
    "ImageSet",
    "JetImageTagger",
    "JetImages",
    "Layers",
    "LiftingConv2d",
    "OrientationPool",
    "PixelCloud",
    "PlaneGroup",
    "ResNet",
    "Rotated",
    "RotationAverage",
    "ScaledNetwork",
    "SmallCNN",
    "balanced",
    "build_network",
    "bundled_digits",
    "centre",
    "fit_to_stride",
    "flip",
    "grid_graph",
    "group_cnn",
    "group_layers",
    "group_named",
    "group_resnet34",
    "image_cnn",
    "image_resnext",
    "image_splits",
    "jet_images",
    "load_pretrained",
    "normalise",
    "p4cnn",
    "pixel_cloud",
    "pixel_graph",
    "pixelate",
    "read_images",
    "resnet34",
    "rotate",
    "rotated_dense",
    "scatter",
    "turn",
    "turn_at_random",
]
