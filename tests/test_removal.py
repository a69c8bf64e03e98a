"""Every place in the code that removes or renames something is known, and why it may; the tests named there show that it spares the rest."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMES = {"rmtree", "unlink", "rmdir", "removedirs", "move", "rename", "renames", "remove", "replace", "truncate"}

# (file, function): what it removes. `remove`, `atomic_folder` and `replace_folder` are looked for by their callers, too.
KNOWN = {
    ("tfwsss/storage/atomic.py", "atomic_path"): "its temporary file; tests/storage/test_atomic.py",
    ("tfwsss/storage/atomic.py", "atomic_folder"): "its temporary folder; tests/storage/test_atomic.py",
    ("tfwsss/storage/atomic.py", "replace_folder"): "the folder whose caller knows whose it is; tests/storage/test_atomic.py",
    ("tfwsss/storage/atomic.py", "remove"): "what its callers, listed here, give it; tests/storage/test_atomic.py",
    ("tfwsss/storage/atomic.py", "remove_leftovers"): "temporary files by their exact name; tests/storage/test_atomic.py",
    ("pipelines/engine/ownership.py", "clear"): "files of a stage that its record vouches for; tests/pipelines/engine/test_ownership.py",
    ("pipelines/engine/ownership.py", "_set_aside"): "moves, to a free name; tests/pipelines/engine/test_ownership.py",
    ("pipelines/engine/ownership.py", "_remove_empty"): "empty folders; tests/pipelines/engine/test_ownership.py",
    ("pipelines/engine/tracking.py", "_make_store"): "a store that a kill left half-made, by its exact name; tests/pipelines/engine/test_tracking.py",
    ("pipelines/engine/outbox.py", "_write"): "what has been sent; tests/pipelines/engine/test_outbox.py",
    ("pipelines/executors/attempts.py", "__exit__"): "its own notes, by their exact name; tests/pipelines/executors/test_attempts.py",
    ("pipelines/executors/attempts.py", "_write_anew"): "lines of its own notes; tests/pipelines/executors/test_attempts.py",
    ("pipelines/executors/ray_guard.py", "main"): "the temporary folder that its cluster was made in; tests/chaos/test_kill_ray.py",
    ("pipelines/executors/ray_cluster.py", "_results"): "an empty file of its own, by a random name; tests/pipelines/executors/test_ray_cluster.py",
    ("pipelines/executors/ray_cluster.py", "stop"): "the temporary folder that it made; tests/pipelines/executors/test_ray_cluster.py",
    ("pipelines/deployment/hugging_face.py", "write_hugging_face"): "the copies of an earlier bundle, by their names; tests/pipelines/deployment/test_bundle.py",
    ("pipelines/stages/export.py", "_replace"): "an earlier export of the same version; tests/pipelines/stages/test_replaced_exports.py",
    ("pipelines/stages/export.py", "run"): "export/unchecked, made by the stage; tests/pipelines/stages/test_replaced_exports.py",
    ("pipelines/exchange/exporting.py", "_write"): "its temporary folder, a place that is taken is refused; tests/exchange/test_command.py",
    ("tfwsss/exchange/folders.py", "write_splits"): "its temporary folder, a place that is taken is refused; tests/exchange/test_command.py",
    ("pipelines/stages/train.py", "_save"): "the checkpoint of the training that has just finished",
    ("tfwsss/data/unpacking.py", "_unpacked"): "photos unpacked from other files; tests/data/formats/test_other_tools.py",
    ("tfwsss/data/formats/scenes.py", "read_scenes"): "scenes of other settings; tests/data/formats/test_scenes.py",
    ("tfwsss/export/saved_model.py", "export_saved_model"): "an earlier export of the same version; tests/pipelines/stages/test_replaced_exports.py",
    ("tfwsss/export/accuracy.py", "check_accuracy"): "the file that it writes, when asked to",
    ("tfwsss/export/parity.py", "check_parity"): "the file that it writes, when asked to",
    ("tfwsss/export/fresh_onnx.py", "_outputs"): "arrays in a temporary folder of its own",
    ("tfwsss/weights/importing.py", "_save_keras"): "its temporary file",
}
CALLERS = {"remove", "atomic_folder", "replace_folder"}


def _removals(path: Path):
    def visit(node, function):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            method = isinstance(node.func, ast.Attribute)
            module = method and isinstance(node.func.value, ast.Name) and node.func.value.id in ("os", "shutil")
            # Two arguments: str.replace, dataclasses.replace(value, field=...) and sys.path.remove(one) are none.
            text = called in ("replace", "remove") and method and not module and (len(node.args) != 1 or node.keywords or called == "remove")
            dataclass = called == "replace" and method and isinstance(node.func.value, ast.Name) and node.func.value.id in ("dataclasses", "graphs")
            if (called in NAMES and method and not text and not dataclass) or (called in CALLERS and not method):
                yield function
        for child in ast.iter_child_nodes(node):
            yield from visit(child, function)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), "<module>")


def test_every_removal_is_known():
    found = {
        (str(path.relative_to(ROOT)), function)
        for folder in ("tfwsss", "pipelines", "serving")
        for path in (ROOT / folder).rglob("*.py")
        for function in _removals(path)
    }
    assert found == set(KNOWN)
    for reason in KNOWN.values():
        assert "; " not in reason or (ROOT / reason.rpartition("; ")[2]).is_file(), reason
