#!/bin/bash
# Run after run, each over all GPUs of one host or of several, started by torchrun:
#
#   sbatch --nodes=2 --gpus-per-node=8 slurm/one_run.sh deit --profile paper --results-dir /shared/results
#
# What follows the script's name goes to `python -m vitlib run`; PYTHON says which Python, PROCESSES how many a host, by default one a GPU.
# docs/cluster.md tells more.

#SBATCH --job-name=vitlib-one
#SBATCH --nodes=1 --ntasks-per-node=1 --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue --open-mode=append
#SBATCH --output=vitlib-%j.log

# The processes meet at a port of the first host; another one after a restart, since the old one may not be free yet.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + (SLURM_JOB_ID + 97 * ${SLURM_RESTART_COUNT:-0}) % 20000))
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

srun --kill-on-bad-exit=1 "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="${PROCESSES:-${SLURM_GPUS_ON_NODE:-1}}" \
    --rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="$first:$port" \
    -m vitlib run --executor inline "$@" &
processes=$!

# Some time before the limit this script is sent USR1. Then all processes are told to end: the first one writes the run's checkpoint,
# and the job goes back into the queue, to go on from there.
told=
trap 'told=yes; scancel --signal=TERM "$SLURM_JOB_ID"' USR1

while kill -0 "$processes" 2>/dev/null; do
    wait "$processes" # a signal ends it early
done
wait "$processes"
status=$?

if [ "$told" ] && [ "$status" -ne 0 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 100 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
