"""Names in a workdir that modules with and without JAX share; imports nothing."""

CONFIG_FILE = "config.json"  # settings of the run
ARCH_FILE = "arch.json"  # an architecture: the search's result, or the one to retrain
SUMMARY_FILE = "summary.json"  # figures of a finished training run, in its folder
RETRAINED_FOLDER = "retrain/subtransformer"  # folder of the training run of the found architecture
DEFAULTS_FILE = "evaluate/defaults.json"  # defaults of `translate`, written by the stage evaluate
VALIDATION = "validation_nll"  # metric record: validation loss, nats per token
