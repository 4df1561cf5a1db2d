import zoo

model = zoo.create("r2p1d_nano", pretrained=True, num_classes=3)  # a new head, and a warning
zoo.save(model, "build/three-classes")
print(zoo.create("local-dir:build/three-classes").record.arguments)
