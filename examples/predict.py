import zoo

model = zoo.create("r2p1d_nano", pretrained=True)
print(zoo.predict(model, "examples/clips/coffee-left-to-right.mp4", topk=1))
