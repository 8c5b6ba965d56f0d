"""Python that is started in a clone finds this folder first; the other sub-packages lie beside it."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / "pyproject.toml").is_file():
    sys.modules[__package__].__path__.append(str(ROOT))
