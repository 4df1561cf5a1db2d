import zoo
from zoo.models.video_resnet import VideoResNet

like = zoo.info("r3d_18")


@zoo.register_model(
    order="used", num_classes=10, sampling=like.sampling, preprocess=like.preprocess
)
def r3d_10(**kwargs) -> VideoResNet:
    """R3D with one block a stage."""
    return VideoResNet(("3d",) * 4, "3d", depths=(1, 1, 1, 1), **kwargs)


print(zoo.create("r3d_10", drop_rate=0.5).get_classifier())
