"""A loss in your own training loop: torch is all it needs.

python examples/losses_alone.py
"""

import torch

from tametail.losses import create_loss

torch.manual_seed(0)
counts = torch.tensor([900, 80, 20])  # a long tail
target = torch.repeat_interleave(torch.arange(3), counts)
centres = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
points = centres[target] + torch.randn(len(target), 2)

for name in ("alpa", "asl", "focal", "ce"):
    torch.manual_seed(1)
    model = torch.nn.Linear(2, 3)
    loss = create_loss(name, class_counts=counts)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        loss(model(points), target).backward()
        optimizer.step()
    predicted = model(points).argmax(dim=1)
    recalls = [float((predicted[target == c] == c).float().mean()) for c in range(3)]
    print(f"{name:6} recall per class: " + "  ".join(f"{recall:.2f}" for recall in recalls))
