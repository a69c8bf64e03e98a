"""Check the static types of all packages, under the names that they are installed by, and of the benchmarks.

mypy reads the name of a module from where its file lies, and `pipelines` is installed as tfwsss_pipelines: it gets links.
"""

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINKS = ROOT / "build/types"

packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["root_packages"]
LINKS.mkdir(parents=True, exist_ok=True)
folders = {}
for package in packages:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        sys.exit(f"{package} is not installed: make install")
    link, folder = LINKS / package, Path(spec.origin).parent
    if not link.is_symlink() or link.readlink() != folder:
        link.unlink(missing_ok=True)
        link.symlink_to(folder)
    folders[link.relative_to(ROOT)] = folder.relative_to(ROOT)
done = subprocess.run([sys.executable, "-m", "mypy", *folders, "benchmarks"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
for link, folder in folders.items():
    done.stdout = done.stdout.replace(f"{link}/", f"{folder}/")
print(done.stdout, end="")
sys.exit(done.returncode)
