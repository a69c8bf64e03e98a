"""The suite runs in two processes (`make test`): a folder's tests stay in one, so that its costly fixtures are made once."""

import os

from xdist.scheduler import LoadScopeScheduling

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command line does, before TensorFlow is imported


class _FolderScheduling(LoadScopeScheduling):
    """Work is handed out by folder below tests/; a file beside this one is one of its own."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.split("::")[0].split("/")[1]


def pytest_xdist_make_scheduler(config, log):
    return _FolderScheduling(config, log)
