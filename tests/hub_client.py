"""The Hub's client in this process, pointed at a server of the tests."""

from collections.abc import Iterator
from contextlib import contextmanager

import huggingface_hub.constants
import pytest
from hub_server import Hub


@contextmanager
def hub_client(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside the block the client is on line, speaks to `hub`, and does not wait between two attempts."""
    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        patch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr("huggingface_hub.hf_api.api.endpoint", hub.endpoint)
        patch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
        patch.delenv("HF_TOKEN", raising=False)
        # transformers keeps a client of its own, which remembers its endpoint.
        patch.setattr("transformers.utils.hub._hf_api", None)
        huggingface_hub.utils.close_session()
        try:
            yield
        finally:
            huggingface_hub.utils.close_session()
