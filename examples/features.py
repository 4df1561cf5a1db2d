import zoo

model = zoo.create("r2p1d_nano", pretrained=True, num_classes=0)
clip = zoo.load_clip("examples/clips/coffee-left-to-right.mp4", model, num_clips=3)
print(clip.shape)  # (V, C, T, H, W) = (3, 3, 8, 64, 64)
print(model(clip).shape)  # pooled, (3, 96)
print(model.forward_features(clip).shape)  # (3, 96, 1, 4, 4)
_, levels = model.forward_intermediates(clip)
print([tuple(level.shape) for level in levels])  # stem and four stages, each (V, D, T', H', W')
