import torchvision

import converters
import zoo

theirs = torchvision.models.video.r2plus1d_18(weights=None)
ours = zoo.create("r2p1d_18")
ours.load_state_dict(converters.convert(theirs.state_dict(), name="r2p1d_18"))
theirs.load_state_dict(converters.export(ours, target="torchvision"))
