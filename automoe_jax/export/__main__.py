"""Export of a trained network: `python -m automoe_jax.export --workdir=DIR --out=DIR`."""

import pathlib
import sys
import tempfile

from automoe_jax.command.parser import Parser
from automoe_jax.command.run import run_for_people
from automoe_jax.errors import UserError
from automoe_jax.export.settings import FLOAT32, PRECISIONS

FORMATS = ONNX, WEB, SAFETENSORS, STABLEHLO, CTRANSLATE2 = (
    "onnx",
    "web",
    "safetensors",
    "stablehlo",
    "ctranslate2",
)


def main() -> None:
    """Writes the folder according to the flags."""
    parser = Parser("automoe_jax.export", "Export the retrained sub-Transformer of a workdir.")
    parser.add_argument("--workdir", required=True, help="folder of a finished run")
    parser.add_argument("--out", required=True, help="folder to write; a model there is replaced")
    parser.add_argument(
        "--format",
        default=ONNX,
        help="onnx, the default, for translate --model; web: a page that translates in the browser;"
        " safetensors: the weights; stablehlo: the forward pass for XLA; ctranslate2: a dense"
        " translator for CTranslate2",
    )
    parser.add_argument(
        "--precision",
        help="onnx and web: float32 or int8; by default int8 where it passed the evaluation's test",
    )
    parser.add_argument(
        "--ort_web", help="web: a folder of ONNX Runtime Web; by default npm fetches it"
    )
    parser.add_argument("--license", help="licence of the weights, stated in the folder")
    flags = parser.parse()
    if flags.format not in FORMATS:
        raise UserError(f"--format={flags.format!r} must be one of {', '.join(FORMATS)}")
    if flags.ort_web is not None and flags.format != WEB:
        raise UserError(f"--ort_web={flags.ort_web} is for --format={WEB}; leave it out")
    # JAX is imported here, so that help and mistakes are answered at once.
    from automoe_jax.export import workdirs
    from automoe_jax.export.cache import default_precision

    out, license = pathlib.Path(flags.out), flags.license or workdirs.NO_LICENSE
    _check_writable(out)
    if flags.format not in (ONNX, WEB):
        if flags.precision not in (None, FLOAT32):
            raise UserError(
                f"--precision={flags.precision} is for --format={ONNX} and {WEB}; leave it out"
            )
        writers = {
            SAFETENSORS: workdirs.export_safetensors,
            STABLEHLO: workdirs.export_stablehlo,
            CTRANSLATE2: workdirs.export_ctranslate2,
        }
        writers[flags.format](flags.workdir, out, license)
        return
    precision = flags.precision or default_precision(flags.workdir)
    if precision not in PRECISIONS:
        raise UserError(f"--precision={precision!r} must be one of {', '.join(PRECISIONS)}")
    if flags.format == WEB:
        workdirs.export_web(flags.workdir, out, precision, license, flags.ort_web)
    else:
        workdirs.export_onnx(flags.workdir, out, precision, license)


def _check_writable(out: pathlib.Path) -> None:
    """Raises `UserError` for a folder that cannot be made, before the export takes its time."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent):
            pass
    except OSError as error:
        raise UserError(
            f"--out={out} cannot be made ({error.strerror}); name a folder in which you may write"
        ) from None


if __name__ == "__main__":
    sys.exit(run_for_people(main))
