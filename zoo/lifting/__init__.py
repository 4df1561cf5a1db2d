"""Any image model of timm as a video model that starts where the image model stands."""

from zoo.lifting.methods import RefusedError
from zoo.lifting.model import LiftedModel
from zoo.lifting.naming import build_again, create_lifted, inflate, lifted_architecture

__all__ = [
    "LiftedModel",
    "RefusedError",
    "build_again",
    "create_lifted",
    "inflate",
    "lifted_architecture",
]
