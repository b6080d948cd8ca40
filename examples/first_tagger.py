"""A first tagger, from `import pcloud` to a background rejection with its error.

Run the script as a whole, or line by line like a notebook. It trains a particle flow network on the
embedded sample with a plain PyTorch loop, which shows every step. `pcloud train` does the same with
checkpoints, training curves and a report.

    python examples/first_tagger.py [EPOCHS]
"""

import argparse

import torch

import pcloud

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("epochs", nargs="?", type=int, default=5, help="epochs (default: 5)")
epochs = parser.parse_args().epochs

# Jets are awkward records of any length, with four-momenta in GeV.
jets = pcloud.load_dataset("simulated", "train")
print(jets.type)
print("leading constituents of the first jet, pT in GeV:", jets.p4[0].pt[:5].tolist())

# Features and flat PyTorch Geometric batches, without padding.
train = pcloud.JetDataset(jets, features="kin")
test = pcloud.JetDataset(pcloud.load_dataset("simulated", "test"), features="kin")
print(train[0], train.feature_set.names)

# pcloud.list_models() lists all models.
torch.manual_seed(1)
model = pcloud.build_model("pfn", in_features=7, num_outputs=2)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
for epoch in range(epochs):
    total = 0.0
    for batch in pcloud.JetLoader(train, batch_size=512, shuffle=True, seed=epoch):
        logits = model(batch.x, batch.p4, batch.batch)
        loss = torch.nn.functional.cross_entropy(logits, batch.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * batch.num_graphs
    print(f"epoch {epoch}: loss {total / len(train):.4f}")

# Scores do not depend on the batch, and every result has an error.
with torch.no_grad():
    scores = [model(b.x, b.p4, b.batch).softmax(-1) for b in pcloud.JetLoader(test, 1024)]
print(pcloud.evaluate(test.y, torch.cat(scores), classes=test.classes))
