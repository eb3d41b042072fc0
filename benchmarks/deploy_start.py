"""A process that translates one sentence with an exported folder, for `benchmarks.deploy`.

    python -m benchmarks.deploy_start FOLDER

Writes its parts as JSON: seconds of the import, of loading and of the first translation.
"""

import json
import sys
import time

SENTENCE = "Install the package."


def main(folder: str) -> dict[str, float]:
    """Seconds of each part; raises `RuntimeError` if JAX was imported."""
    started = time.perf_counter()
    from automoe_jax.inference.engine.translator import load

    imported = time.perf_counter()
    translator = load(folder)
    loaded = time.perf_counter()
    translator([SENTENCE])
    translated = time.perf_counter()
    if "jax" in sys.modules:
        raise RuntimeError("the engine has imported JAX")
    return {
        "import": imported - started,
        "load": loaded - imported,
        "translation": translated - loaded,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
