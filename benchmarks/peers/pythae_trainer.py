"""Pythae's trainer on the benchmark networks: its own data loader, loss on probabilities, and Adam as it sets it up."""

# pyright: reportMissingImports=false
# (an extra that few install)
from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from typing import Any

import numpy as np
import torch
import workloads
from pythae.data.datasets import BaseDataset, DatasetOutput
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from workloads import Workload

from peers import torch_device
from peers.torch_networks import Autoencoder


class Encoder(BaseEncoder):
    """The network's encoder in Pythae's terms."""

    def __init__(self, net: Autoencoder):
        super().__init__()
        self.net, self._posterior = net.encoder, net.posterior

    def forward(self, x: torch.Tensor) -> ModelOutput:
        mean, log_scale = self._posterior(x)
        return ModelOutput(embedding=mean, log_covariance=2 * log_scale)


class Decoder(BaseDecoder):
    """The network's decoder in Pythae's terms: probabilities."""

    def __init__(self, net: Autoencoder):
        super().__init__()
        self.net = net.decoder

    def forward(self, z: torch.Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=torch.sigmoid(self.net(z)))


class Repeated(BaseDataset):
    """Pythae's data set, ``length`` images long, so that an epoch has the number of steps that is asked for."""

    def __init__(self, images: torch.Tensor, length: int):
        super().__init__(images, torch.zeros(len(images)))
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> DatasetOutput:
        return super().__getitem__(index % len(self.data))


class Trainer:
    """``BaseTrainer.train_step``, which is one epoch; epochs are made as long as the wanted number of steps."""

    def __init__(self, workload: Workload, batch_size: int, precision: str, platform: str):
        device = torch_device(platform)
        logging.disable(logging.INFO)  # each of its modules prints through a logger of its own
        self._net = Autoencoder(workload)
        shape = workload.shape
        config = VAEConfig(input_dim=(shape[2], *shape[:2]), latent_dim=self._net.latents, reconstruction_loss="bce")
        model = VAE(config, Encoder(self._net), Decoder(self._net))
        images = workloads.arrays(workload, batch_size)["x"].astype(np.float32)
        self._images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        self._batch_size, self._epoch = batch_size, 0
        with (
            _quiet(),
            tempfile.TemporaryDirectory() as folder,
        ):  # it makes a folder at once, and writes to it in train() only
            settings = BaseTrainerConfig(
                output_dir=folder, per_device_train_batch_size=batch_size, learning_rate=1e-3, no_cuda=device == "cpu"
            )
            self._trainer = BaseTrainer(model, Repeated(self._images, batch_size), training_config=settings)
            self._trainer.prepare_training()
        self.properties: dict[str, Any] = {"compile_seconds": None, "memory_bytes": None}

    def check(self, parity: dict[str, Any]) -> list[float]:
        """Return the two losses of ``vaex_loop.parity``, by the model's forward pass and the trainer's update."""
        self._net.load(parity["weights"])
        model: Any = self._trainer.model
        x = torch.from_numpy(parity["x"]).permute(0, 3, 1, 2).to(model.device)
        losses = []
        for noise in torch.from_numpy(parity["noise"]).to(model.device):
            model._sample_gauss = lambda mean, scale, noise=noise: (mean + noise * scale, noise)
            output = model(DatasetOutput(data=x))
            losses.append(output.loss.item())
            self._trainer._optimizers_step(output)
        del model._sample_gauss
        return losses

    def run(self, steps: int) -> None:
        """One epoch of ``steps`` steps."""
        with _quiet():
            dataset = Repeated(self._images, steps * self._batch_size)
            self._trainer.train_loader = self._trainer.get_train_dataloader(dataset)
            self._epoch += 1
            self._trainer.train_step(self._epoch)
        if torch.cuda.is_available():
            torch.cuda.synchronize()


@contextlib.contextmanager
def _quiet():
    """Suppress the trainer's progress bars and messages."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
        yield
