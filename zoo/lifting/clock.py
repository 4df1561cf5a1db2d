"""How a layer inside an image model, which sees frames as a batch, knows which are one clip's."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

__all__ = ["Clock"]


class Clock:
    """The number of frames a clip has at the layer that runs next.

    The lifted model sets it before each pass; a stem with a stride in time sets it anew.

    Attributes:
        num_frames: Frames T of each clip; behind a stem with a stride in time, what it left.
        given: Frames of each clip as the model got it.
        rows: Frames of all clips together, N*T, during a pass; None after it, so that nothing of
            the pass (a symbol, while exporting) is kept, and layers that are recomputed for their
            gradients do not compare.
        places: Windows or heads of each frame that a layer of that name saw as a batch.
    """

    def __init__(self, num_frames: int) -> None:
        self.num_frames = self.given = num_frames
        self.rows: int | None = None
        self.places: dict[str, int] = {}

    def start(self, clips: int, num_frames: int) -> None:
        """Begin a pass over clips of so many frames each."""
        self.num_frames = self.given = num_frames
        self.rows = clips * num_frames
        self.places = {}

    def thin(self, clips: int, num_frames: int) -> None:
        """Go on with fewer frames of each clip."""
        self.num_frames = num_frames
        if self.rows is not None:
            self.rows = clips * num_frames

    def stop(self) -> None:
        """End the pass."""
        self.rows = None

    def recall(self) -> Callable[[Tensor], None]:
        """A hook for the gradient of what a pass gave: its layers may be recomputed after it.

        By then another pass may have set the clock to clips of another length.
        """
        num_frames, given, places = self.num_frames, self.given, self.places

        def hook(_: Tensor) -> None:
            self.num_frames, self.given, self.places = num_frames, given, places

        return hook

    def split(self, x: Tensor, where: str, *, given: bool = False) -> Tensor:
        """Give frames (N*T, ...) their axis of time, (N, T, ...).

        Layers that see k windows or heads of each frame as a batch, (N*T*k, ...), get
        (N*k, T, ...): each place meets itself in other frames.

        Args:
            x: Frames.
            where: Name of the layer that sees them.
            given: Whether these are the frames that the model got, before any stride in time.

        Raises:
            ValueError: The layer sees a batch that is no multiple of the frames.
        """
        frames = self.given if given else self.num_frames
        if self.rows is not None:
            self._note_places(x.shape[0], where)
        places = self.places.get(where, 1)
        if places == 1:
            return x.reshape(-1, frames, *x.shape[1:])
        return x.reshape(-1, frames, places, *x.shape[1:]).transpose(1, 2).flatten(0, 1)

    def join(self, clips: Tensor, where: str) -> Tensor:
        """Inverse of `split`."""
        places = self.places.get(where, 1)
        if places == 1:
            return clips.flatten(0, 1)
        apart = clips.reshape(-1, places, *clips.shape[1:])  # (N, k, T, ...)
        return apart.transpose(1, 2).flatten(0, 2)

    def _note_places(self, batch: int, where: str) -> None:
        assert self.rows is not None
        if batch == self.rows:
            self.places.pop(where, None)
        elif batch % self.rows:
            raise ValueError(
                f"'{where}' sees a batch of {batch} where {self.rows} frames were given, so that "
                f"it cannot tell which belong to one clip; lift this model with framepool:."
            )
        else:
            self.places[where] = batch // self.rows
