"""The suite runs in two processes (`make test`): a folder's tests stay in one, so that its costly fixtures are made once."""

import os

from xdist.scheduler import LoadScopeScheduling

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command line does, before TensorFlow is imported

SLOWEST = "pipelines"  # first, or one process would do it at the end while the other has nothing left to do


def _folder(nodeid: str) -> str:
    """Folder below tests/; a file beside this one is one of its own."""
    return nodeid.split("::")[0].split("/")[1]


class _FolderScheduling(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return _folder(nodeid)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: _folder(item.nodeid) != SLOWEST)


def pytest_xdist_make_scheduler(config, log):
    config.option.loadscopereorder = False  # by number of tests, which says little about time
    return _FolderScheduling(config, log)
