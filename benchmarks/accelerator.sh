#!/usr/bin/env bash
# A new accelerator, in about ten minutes as planned: is what it computes right, how fast is it, and what does PyTorch do beside it.
#
#   bash benchmarks/accelerator.sh OUT [gpu|tpu|cpu]
#
# Leaves OUT/accelerator.md, tables for benchmarks/RESULTS.md with commands and versions, and JSON files beside it. The kind of device is
# what jax finds by default. Ends with 1 where a check fails. Needs jax, numpy, flax and optax; PyTorch is measured where it is installed,
# figures are drawn where matplotlib is. QUICK=1 checks and times the least, to see that all of it runs.
set -uo pipefail

out=${1:?usage: accelerator.sh OUT [gpu|tpu|cpu]}
python=${PYTHON:-python}
cd "$(dirname "$0")/.." || exit 2
kind=${2:-$("$python" -c 'import jax; print(jax.default_backend())')} || exit 2
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$out" || exit 2

peers=""
if [ "$kind" != tpu ] && "$python" -c 'import torch' 2>/dev/null; then
  peers="--peers=torch,torch_compile" # the latter with CUDA graphs on a GPU
fi
check=(--minutes=4)
speed=(--models=mlp,conv64,residual --population=1,8,64,256 --strategies=auto --precision=float32,bfloat16 --repeats=3 --seconds=0.2)
if [ "${QUICK:-}" ]; then
  check=(--minutes=1 --models=vae --loops=small)
  speed=(--models=small --population=1,2 --strategies=auto --batch_sizes=8 --repeats=1 --seconds=0.01)
  peers=""
fi

run() { # title, command: into the report, whatever becomes of it
  local title=$1 code
  shift
  printf '\n## %s\n\n```bash\n%s\n```\n\n' "$title" "$*" >>"$out/accelerator.md"
  "$@" >"$out/output" 2>"$out/errors"
  code=$?
  cat "$out/output" >>"$out/accelerator.md"
  if [ "$code" -ne 0 ]; then
    failed=1
    printf '\nEnded with %s: %s\n' "$code" "$(tail -n 1 "$out/errors")" >>"$out/accelerator.md"
  fi
}

failed=0
{
  printf '# Measured on a %s\n\n' "$kind"
  "$python" - <<'PY'
import importlib.metadata as metadata, platform
import jax
names = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")
found = []
for name in names:
    try:
        found.append(f"{name} {metadata.version(name)}")
    except metadata.PackageNotFoundError:
        pass
print(f"{jax.device_count()} x {jax.devices()[0].device_kind}; Python {platform.python_version()}, {', '.join(found)}")
PY
} >"$out/accelerator.md" || exit 2

run "Checks against the CPU" "$python" benchmarks/accelerators/check.py "${check[@]}" --out="$out"
# shellcheck disable=SC2086
run "Speed" "$python" benchmarks/throughput.py --device="$kind" "${speed[@]}" $peers --out="$out"

rm -f "$out/output" "$out/errors"
cat "$out/accelerator.md"
exit "$failed"
