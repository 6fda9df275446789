"""Recipes of final training by name. docs/training.md describes each with its source."""

from collections.abc import Mapping

from nas.core.large import LargeSpec
from nas.core.recipe import Recipe
from nas.core.study import TrainingSpec

PRESETS: Mapping[str, Recipe] = {
    # main.py of github.com/stigma0617/VoVNet.pytorch, by the authors of VoVNet
    "paper": Recipe(
        epochs=90,
        average=0.0,
        training=TrainingSpec(
            batch_size=256,
            learning_rate=0.1,
            weight_decay=1e-4,
            label_smoothing=0.0,
            translate=0,
        ),
        large=LargeSpec(optimizer="momentum", schedule="step", decay_epochs=30, micro_batches=4),
    ),
    # procedure A2 of "ResNet strikes back", arXiv 2110.00476
    "modern": Recipe(
        epochs=300,
        average=0.9999,
        training=TrainingSpec(
            batch_size=2048,
            learning_rate=5e-3,
            weight_decay=0.02,
            label_smoothing=0.1,
            translate=0,
        ),
        large=LargeSpec(
            optimizer="lamb",
            schedule="cosine",
            warmup_epochs=5,
            base_batch=2048,
            micro_batches=8,
            loss="bce",
            auto_augment="rand-m7-mstd0.5-inc1",
            mixup=0.1,
            cutmix=1.0,
            test_crop=0.95,
        ),
    ),
    # the method of airbench94, arXiv 2404.00498
    "short": Recipe(epochs=10, training=TrainingSpec(label_smoothing=0.2, translate=2)),
}
