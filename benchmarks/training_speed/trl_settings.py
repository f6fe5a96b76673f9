"""What every TRL trainer of the speed benchmarks is given alike. The caller adds rows a step, lengths and the option tried."""

from typing import Any


def common(lr: float) -> dict[str, Any]:
    """Arguments of any of TRL's configurations: one epoch, fused AdamW, constant rate, clipping at 1, nothing saved or reported."""
    return {
        "num_train_epochs": 1,
        "learning_rate": lr,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",
        "gradient_checkpointing": False,
        "bf16": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 0,
    }
