"""The model zoo for video: `zoo.create("r2p1d_18", pretrained=True)`."""

from typing import TYPE_CHECKING

from zoo._identity import check_identity

check_identity()

from registry import info, list_models, list_pretrained, register_model  # noqa: E402
from registry.lazy import lazy_names  # noqa: E402

if TYPE_CHECKING:
    from zoo.audit import audit_pipeline, audit_sampler
    from zoo.clips import iter_clips, load_clip
    from zoo.counting import flops
    from zoo.factory import create
    from zoo.folder import save
    from zoo.layers import Conv2Plus1D
    from zoo.lifting import LiftedModel, inflate
    from zoo.mirroring import mirror, pull
    from zoo.models._base import VideoModel
    from zoo.models._staged import StagedModel
    from zoo.models._tokens import TokenModel
    from zoo.models.framepool import FramePool
    from zoo.optimizing import optimize
    from zoo.picking import pick
    from zoo.prediction import Prediction, predict
    from zoo.preprocessing import preprocess
    from zoo.publishing import publish, push
    from zoo.video import Video

__all__ = [
    "Conv2Plus1D",
    "FramePool",
    "LiftedModel",
    "Prediction",
    "StagedModel",
    "TokenModel",
    "Video",
    "VideoModel",
    "audit_pipeline",
    "audit_sampler",
    "create",
    "flops",
    "inflate",
    "info",
    "iter_clips",
    "list_models",
    "list_pretrained",
    "load_clip",
    "mirror",
    "optimize",
    "pick",
    "predict",
    "preprocess",
    "publish",
    "pull",
    "push",
    "register_model",
    "save",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "zoo.audit": ("audit_pipeline", "audit_sampler"),
        "zoo.clips": ("iter_clips", "load_clip"),
        "zoo.counting": ("flops",),
        "zoo.factory": ("create",),
        "zoo.folder": ("save",),
        "zoo.layers": ("Conv2Plus1D",),
        "zoo.lifting": ("LiftedModel", "inflate"),
        "zoo.mirroring": ("mirror", "pull"),
        "zoo.models._base": ("VideoModel",),
        "zoo.models._staged": ("StagedModel",),
        "zoo.models._tokens": ("TokenModel",),
        "zoo.models.framepool": ("FramePool",),
        "zoo.optimizing": ("optimize",),
        "zoo.picking": ("pick",),
        "zoo.prediction": ("Prediction", "predict"),
        "zoo.preprocessing": ("preprocess",),
        "zoo.publishing": ("publish", "push"),
        "zoo.video": ("Video",),
    },
)
