"""The only readers of run.json and record.json."""

from pathlib import Path

from metaloop.errors import UserError
from metaloop.records.schema import IDENTITY, RECORD, SCHEMA, Record, RunIdentity
from metaloop.records.typed_json import decode, read_object


def read_identity(directory: Path) -> RunIdentity:
    """Read run.json: what a run is, written before it starts.

    Raises:
        UserError: the directory holds no run, or the file is broken; names file and key.
    """
    path = directory / IDENTITY
    if directory.suffix == ".ckpt":
        raise UserError(f"{directory} is a checkpoint; name its run, {directory.parent.parent}")
    if not directory.exists():
        raise UserError(f"{directory} is no run directory: there is no such folder; runs are in folders below outputs/")
    if not path.exists():
        raise UserError(f"{directory} is no run directory: it has no {IDENTITY}")
    return decode(RunIdentity, read_object(path, "run description"), str(path))


def read_record(directory: Path) -> Record:
    """Read the record of a finished run, or of a later evaluation.

    Raises:
        UserError: the file is missing, broken or of another schema; names file and key.
    """
    path = directory / RECORD
    content = read_object(path, "record, which a run writes when its meta-test ends")
    schema = content.pop("schema", None)
    if schema != SCHEMA:
        raise UserError(
            f"{path}: written with schema {schema!r}, this version reads {SCHEMA}; "
            "evaluate the run again: metaloop evaluate run=DIR"
        )
    return decode(Record, content, str(path))
