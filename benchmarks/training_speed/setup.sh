#!/bin/sh
# Makes the environment a peer is measured in, apart from ours:  benchmarks/training_speed/setup.sh [trl|litgpt|llamafactory] [FOLDER]
# FOLDER is .venv-PEER next to this file unless given (transformers' Trainer runs in TRL's). PYTHON names the interpreter; TORCH_INDEX
# an index to take torch from (https://download.pytorch.org/whl/cpu gives the small build without CUDA).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
peer=${1:-trl}
wanted="$here/peer_requirements_$peer.txt"
if [ ! -f "$wanted" ]; then
    echo "setup.sh: no peer '$peer'; wanted trl, litgpt or llamafactory" >&2
    exit 2
fi
folder=${2:-"$here/.venv-$peer"}
"${PYTHON:-python3}" -m venv "$folder"
# torch first: what asks for any torch then takes this one, and no other build with CUDA's libraries
"$folder/bin/pip" install --quiet ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' "$wanted")"
"$folder/bin/pip" install --quiet --requirement "$wanted"
if ! "$folder/bin/python" -c 'import importlib.util as u; u.find_spec("torchvision") and __import__("torchvision")' 2>/dev/null; then
    "$folder/bin/pip" uninstall --quiet --yes torchvision torchaudio # builds for CUDA beside a torch without it; text needs neither
fi
"$folder/bin/python" -c "import importlib.metadata as m, torch; print('peer ready: torch', torch.__version__, '$peer', m.version('$peer'))"
option=$([ "$peer" = trl ] && echo peer || echo "$peer")
echo "use it with:  python -m benchmarks.training_speed --against $peer --$option-python $folder/bin/python"
