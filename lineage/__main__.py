"""`python -m vanilla_transformer.lineage` is `vanilla-transformer lineage`."""

from ..scripts.compare_lineage import main

if __name__ == "__main__":
    raise SystemExit(main())
