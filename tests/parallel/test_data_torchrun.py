"""The script that chapter 22 prints, run by torchrun on one machine, gives what one process gives."""

import re
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = ROOT / "chapters" / "text" / "22_data_parallelism.md"


def test_the_printed_script_runs_and_equals_one_process(tmp_path):
    chapter = CHAPTER.read_text(encoding="utf-8")
    (script,) = re.findall(r"^```python\n(.*?)^```", chapter, re.S | re.M)
    path = tmp_path / "train.py"
    path.write_text(script, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]

    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = torch.arange(96.0).view(32, 3) / 96
    for _ in range(5):
        optimizer.zero_grad()
        (model(data) - data.sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()
    expected = f"{model.bias.item():.4f}"
    assert f"both ranks print {expected}" in chapter
    found = re.findall(r"rank \d of \d: -?\d\.\d{4}", done.stdout)  # two processes print: lines may run together
    assert sorted(found) == [f"rank {rank} of 2: {expected}" for rank in (0, 1)]
