"""Write the blocking modules from those for asyncio.

    python scripts/build_sync.py           write it
    python scripts/build_sync.py --check   fail if what is in the repo differs

Every module in an `aio` folder below spooled_pipelines/ becomes the module of the same name in the
`sync` folder beside it, except `runtime.py`: that one is written by hand on both sides, and has all
that really differs (channels, streams, sleeping, threads). A rule that applies nowhere is an error.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "spooled_pipelines"
BY_HAND = {"runtime.py", "__init__.py"}
HEADER = "# Generated from {source} by `make generate`: do not edit.\n"

NAMES = {
    "aclosing": "closing",
    "aclose": "close",
    "aio": "sync",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
}
# Python 3.12 splits f-strings into tokens of their own.
TEXT = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
WORDS_IN_TEXT = [
    (re.compile(r"\bAsync(?=[A-Z])"), ""),
]


def to_sync(source: str, used: set[object]) -> str:
    """Return the blocking form of a module: no `async`, no `await`, every AsyncX an X.

    The rules that apply are added to `used`.
    """
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    lines = source.splitlines(keepends=True)
    for token in reversed(tokens):
        replacement = _replacement(token, used)
        if replacement is None:
            continue
        (first, start), (last, end) = token.start, token.end
        head, tail = lines[first - 1][:start], lines[last - 1][end:]
        if replacement == "":
            tail = tail.removeprefix(" ")
        lines[first - 1 : last] = [head + replacement + tail]
    return "".join(lines)


def _replacement(token: tokenize.TokenInfo, used: set[object]) -> str | None:
    if token.type == tokenize.NAME:
        if token.string in ("async", "await"):
            return ""
        if token.string in NAMES:
            used.add(token.string)
            return NAMES[token.string]
        if re.match(r"_?Async[A-Z]", token.string):
            return token.string.replace("Async", "", 1)
    elif token.type in TEXT:
        text = token.string
        for pattern, by in WORDS_IN_TEXT:
            text, count = pattern.subn(by, text)
            if count:
                used.add(pattern)
        return text if text != token.string else None
    return None


def build() -> dict[Path, str]:
    """Return every generated module with its content."""
    made = {}
    used: set[object] = set()
    for source in sorted(PACKAGE.glob("*/aio/*.py")):
        if source.name in BY_HAND:
            continue
        target = source.parent.parent / "sync" / source.name
        text = HEADER.format(source=source.relative_to(ROOT)) + to_sync(source.read_text(), used)
        made[target] = _formatted(text, target)
    unused = [rule for rule in NAMES if rule not in used]
    unused += [pattern.pattern for pattern, _ in WORDS_IN_TEXT if pattern not in used]
    if unused:
        raise SystemExit(f"scripts/build_sync.py: rules that apply nowhere: {', '.join(unused)}")
    return made


def _formatted(text: str, target: Path) -> str:
    for arguments in (["check", "--fix", "--quiet", "--exit-zero", "--select", "I"], ["format"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(target), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        text = done.stdout
    return text


def main() -> None:
    made = build()
    if "--check" not in sys.argv[1:]:
        for path, text in made.items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return
    there = {p for p in PACKAGE.glob("*/sync/*.py") if p.name not in BY_HAND}
    stale = [p for p in sorted(there | set(made)) if not p.exists() or p.read_text() != made.get(p)]
    if stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        raise SystemExit(
            f"{names}: not what the aio side gives. Run `make generate` and commit it."
        )


if __name__ == "__main__":
    main()
