#!/bin/sh
# Makes the environment the peer is measured in, apart from ours:  benchmarks/training_speed/setup.sh [FOLDER]
# FOLDER is .venv-trl next to this file unless given. PYTHON names the interpreter; TORCH_INDEX an index to take torch from
# (https://download.pytorch.org/whl/cpu gives the small build without CUDA).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-"$here/.venv-trl"}
"${PYTHON:-python3}" -m venv "$folder"
if [ -n "${TORCH_INDEX:-}" ]; then
    "$folder/bin/pip" install --quiet --index-url "$TORCH_INDEX" "$(grep '^torch==' "$here/peer_requirements.txt")"
fi
"$folder/bin/pip" install --quiet --requirement "$here/peer_requirements.txt"
"$folder/bin/pip" check
"$folder/bin/python" -c "import torch, trl, transformers; print('peer ready: torch', torch.__version__, 'trl', trl.__version__)"
echo "use it with:  python -m benchmarks.training_speed --peer-python $folder/bin/python"
