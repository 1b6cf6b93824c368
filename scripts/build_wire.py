"""Compile proto/ into the descriptor set and the type stubs of spooled_pipelines.wire.

python scripts/build_wire.py           write them
python scripts/build_wire.py --check   fail if what is in the repo differs
"""

from __future__ import annotations

import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
WIRE = ROOT / "spooled_pipelines" / "wire"
PROTOS = {
    "spooled/v1/spooled.proto": "spooled_v1.pyi",
    "spooled_pipelines/v1/batch.proto": "batch_v1.pyi",
    "spooled_pipelines/v1/keys.proto": "keys_v1.pyi",
    "spooled_pipelines/v1/queue_admin.proto": "queue_admin_v1.pyi",
}
HEADER = (
    "# Made from proto/{proto} by scripts/build_wire.py (`make generate`): change that, not this.\n"
)


def run_protoc(*arguments: str) -> None:
    well_known = resources.files("grpc_tools") / "_proto"
    code = protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"-I{well_known}", *arguments, *PROTOS])
    if code:
        raise SystemExit(f"protoc ended with status {code}")


def build() -> dict[Path, bytes]:
    """Return every generated file with its content."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        descriptors = folder / "descriptors.binpb"
        run_protoc(
            f"--descriptor_set_out={descriptors}", "--include_imports", f"--pyi_out={folder}"
        )
        made = {WIRE / "descriptors.binpb": descriptors.read_bytes()}
        for proto, stub in PROTOS.items():
            text = (folder / proto.replace(".proto", "_pb2.pyi")).read_text()
            for package, module in (("spooled", "spooled"), ("spooled_pipelines", "batch")):
                text = text.replace(
                    f"from {package}.v1 import {module}_pb2",
                    f"from spooled_pipelines.wire import {module}_v1",
                )
            made[WIRE / stub] = (HEADER.format(proto=proto) + text).encode()
        return made


def main() -> None:
    made = build()
    if "--check" not in sys.argv[1:]:
        for path, content in made.items():
            path.write_bytes(content)
        return
    stale = [
        path for path, content in made.items() if not path.exists() or path.read_bytes() != content
    ]
    if stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        raise SystemExit(
            f"{names}: not what proto/ compiles to. Run `make generate` and commit it."
        )


if __name__ == "__main__":
    main()
