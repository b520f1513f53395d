"""The recipe's [train] section as TRL's arguments. Imported after unsloth where that is used."""

from trl import SFTConfig

from engine.jobs.context import RunContext
from engine.jobs.ranks import is_sharded
from engine.train.all_logits import takes_all_logits
from engine.train.backend import Loaded
from engine.train.optim import resolve_optim
from engine.train.sharded import mixed_precision
from engine.train.trackers import PROJECT

__all__ = ["training_arguments"]


def training_arguments(context: RunContext, loaded: Loaded) -> SFTConfig:
    """The recipe as TRL's arguments: quiet, nothing reported elsewhere, one log line a step."""
    train = context.recipe.train
    cpu = loaded.device == "cpu"
    arguments = SFTConfig(
        output_dir=str(context.folder.checkpoints),
        max_length=train.max_length,
        per_device_train_batch_size=train.per_device_train_batch_size,
        per_device_eval_batch_size=train.per_device_eval_batch_size,
        gradient_accumulation_steps=train.gradient_accumulation_steps,
        num_train_epochs=train.num_train_epochs,
        max_steps=train.max_steps,
        learning_rate=train.learning_rate,
        lr_scheduler_type=train.lr_scheduler_type,
        warmup_steps=train.warmup_steps,
        lr_scheduler_kwargs=train.lr_scheduler_kwargs or None,
        weight_decay=train.weight_decay,
        adam_beta1=train.adam_beta1,
        adam_beta2=train.adam_beta2,
        adam_epsilon=train.adam_epsilon,
        label_smoothing_factor=train.label_smoothing_factor,
        neftune_noise_alpha=train.neftune_noise_alpha or None,
        train_sampling_strategy=train.train_sampling_strategy,
        optim=resolve_optim(context.recipe, loaded.device),
        optim_args=train.optim_args or None,
        max_grad_norm=train.max_grad_norm,
        gradient_checkpointing=train.gradient_checkpointing,
        seed=train.seed,
        full_determinism=train.full_determinism,
        eval_strategy="steps",
        eval_steps=train.eval_steps,
        save_strategy="steps",
        save_steps=train.save_steps,
        save_total_limit=train.save_total_limit,
        metric_for_best_model="loss",
        greater_is_better=False,
        load_best_model_at_end=train.load_best_model_at_end,
        restore_callback_states_from_checkpoint=True,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",  # trackers are ours to guard: engine.train.trackers
        run_name=context.folder.name,
        project=PROJECT,
        disable_tqdm=True,
        use_cpu=cpu,
        bf16=loaded.dtype == "bfloat16",
        fp16=loaded.dtype == "float16",
        dataloader_pin_memory=not cpu,
        # Forked loader processes would hold the run's lock; collating 32 rows takes 1 ms.
        dataloader_num_workers=0,
        packing=False,  # the rows come packed already
        padding_free=False,
        pad_to_multiple_of=loaded.pad_to_multiple_of,
        completion_only_loss=False,  # the labels already say so
        dataset_kwargs={"skip_prepare_dataset": True},
        loss_type="nll" if takes_all_logits(context.recipe) else loaded.loss_type,
        # Every trained weight has a part in every step: looking for others costs a walk over all.
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,  # they are the same everywhere, and stay so
        # Each transformer block is one unit of sharding.
        fsdp=True if is_sharded(context.recipe) else None,
        fsdp_config={"version": 2} if is_sharded(context.recipe) else None,
    )
    if arguments.fsdp_plugin_args is not None:
        arguments.fsdp_plugin_args["mixed_precision_policy"] = mixed_precision(loaded.dtype)
    if arguments.n_gpu > 1:
        # One process trains on one GPU. Where the host shows several, Transformers would multiply
        # the batch by their number and wrap what is not in 4 bits in DataParallel.
        arguments._n_gpu = 1
    return arguments
