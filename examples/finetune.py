import torch

import zoo

clips = ["coffee-left-to-right", "cup-right-to-left", "staircase-still"]
model = zoo.create("r2p1d_nano", pretrained=True, labels=("right", "left", "still"))
views = [zoo.load_clip(f"examples/clips/{clip}.mp4", model, num_clips=4) for clip in clips]
inputs, targets = torch.cat(views), torch.arange(3).repeat_interleave(4)  # (12, C, T, H, W), (12,)
optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
model.train()
for _ in range(10):
    loss = torch.nn.functional.cross_entropy(model(inputs), targets)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
zoo.save(model.eval(), "build/right-left-still")
again = zoo.create("local-dir:build/right-left-still")
print(zoo.predict(again, "examples/clips/cup-right-to-left.mp4"))
